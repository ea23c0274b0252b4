"""A small image classifier: it judges generated images, is attacked, and proves what augmentation does.

Reproduce: ``python -m core train --classifier --dataset digits --wait`` ends above 97 % on the test split of digits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.catalog import Config, UserError, knob
from core.models import Spec
from core.nets import BatchNorm2d, pad, plan, refresh_batch_statistics
from core.tensors import Group, Images, Loss


class ClassifierConfig(Config):
    """Parameters of the classifier."""

    width: int = knob(
        32, "Channels of the first layer; they double with each halving of the image.", ge=4, le=256
    )
    features: int = knob(
        64,
        "Numbers that describe one image, just before the classes.",
        ge=8,
        le=1024,
        advanced=True,
    )
    smoothing: float = knob(
        0.0,
        "Share of each label that is spread over the other classes.",
        ge=0,
        le=0.5,
        advanced=True,
    )
    weight_decay: float = knob(
        0.01, "Pull of the weights towards zero.", ge=0, le=1, log=True, advanced=True
    )


class Classifier(nn.Module):
    """Convolutions with batch norm down to 4 to 8 px, a feature layer, one logit per class."""

    def __init__(self, config: ClassifierConfig, spec: Spec) -> None:
        super().__init__()
        if spec.classes < 2:
            raise UserError(
                f"A classifier needs a dataset with at least 2 classes, got {spec.classes}. "
                "Choose a dataset with labels."
            )
        self.config, self.spec, self.classes = config, spec, spec.classes
        base, doublings = plan(spec.size)
        self.inner = base * 2**doublings
        width = config.width
        layers: list[nn.Module] = []
        before = spec.channels
        for level in range(doublings):
            after = min(width * 2**level, 4 * width)
            layers += [
                nn.Conv2d(before, after, 3, 1, 1, bias=False),
                BatchNorm2d(after),
                nn.ReLU(),
            ]
            layers += [
                nn.Conv2d(after, after, 4, 2, 1, bias=False),
                BatchNorm2d(after),
                nn.ReLU(),
            ]
            before = after
        self.body = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(before * base**2, config.features), nn.ReLU()
        )
        self.last = nn.Linear(config.features, spec.classes)

    def forward(self, x: Images) -> Tensor:
        """Gives logits, (N, classes), of images in [0, 1]."""
        return self.last(self.features(x))

    def features(self, x: Images) -> Tensor:
        """Gives the features, (N, D)."""
        return self.body(pad(x * 2 - 1, self.inner))

    def groups(self) -> list[Group]:
        """Gives all parameters as one group."""
        return [
            Group("classifier", list(self.parameters()), 2e-3, 0.9, 0.99, self.config.weight_decay)
        ]

    def hot(self) -> list[nn.Module]:
        """Lists what compiling speeds up."""
        return [self.body]

    def losses(
        self, x: Images, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the cross entropy in nats."""
        assert y is not None
        logits = self(x)
        value = F.cross_entropy(logits, y, label_smoothing=self.config.smoothing)
        accuracy = (logits.detach().argmax(1) == y).float().mean()
        yield Loss("classifier", value, {"loss": value.detach(), "accuracy": accuracy})

    def held_out(
        self, x: Images, y: Tensor | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Gives cross entropy (decides the best checkpoint) and accuracy on held-out images."""
        assert y is not None
        logits = self(x)
        return {
            "valid_loss": F.cross_entropy(logits, y),
            "valid_accuracy": (logits.argmax(1) == y).float().mean(),
        }

    def fit(self, x: Images, y: Tensor | None) -> None:
        """Recomputes the batch statistics for the averaged weights."""
        refresh_batch_statistics(
            self, (lambda part=part: self(part) for part in x.tensor_split(-(-len(x) // 256)))
        )


def build(config: ClassifierConfig, spec: Spec) -> Classifier:
    """Trains a small convolutional network to name the class of an image."""
    return Classifier(config, spec)
