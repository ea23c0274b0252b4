"""A small classifier: it judges generated items, is attacked, and measures what augmentation does.

Reproduce: ``python -m core train --classifier --dataset digits --wait`` ends above 97 % on the test split of digits.
With ``--set classifier.defence=pgd --images 100000``, 98 % are right, and 90 % still are after a change of up to 0.1
per pixel (PGD, 40 steps; 67 % without a defence).

References (used throughout the code):
    [1] Madry et al., 2018, Towards deep learning models resistant to adversarial attacks, https://arxiv.org/abs/1706.06083
    [2] Zhang et al., 2019, Theoretically principled trade-off (TRADES), https://arxiv.org/abs/1901.08573
    [3] Cohen et al., 2019, Certified robustness via randomized smoothing, https://arxiv.org/abs/1902.02918
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.ascent import climb
from core.catalog import Config, UserError, knob
from core.media import media
from core.models import MEMORISES, Curve, Spec
from core.nets import refresh_batch_statistics
from core.norms import LINF, SUITED, Budget
from core.tensors import Batch, Group, Loss, full, rows


class ClassifierConfig(Config):
    """Parameters of the classifier."""

    width: int = knob(
        32,
        "Channels of the first layer of convolutions; they double with each halving of the size.",
        ge=4,
        le=256,
    )
    features: int = knob(
        64,
        "Numbers that describe one item, just before the classes.",
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

    defence: Literal["none", "pgd", "trades", "noise"] = knob(
        "none",
        "What it is hardened against while it learns: pgd shows it attacked images only, trades weighs its accuracy "
        "against its constancy under attack, noise prepares it for a certificate.",
        title="Training against attacks",
    )
    eps: float = knob(
        SUITED,
        "Largest change of a value that pgd and trades train against, of a range of 1; 0 takes what suits the dataset "
        "(images: 38/255 at 8 px, 51/255 grey, 8/255 colour).",
        title="Attack strength trained against (eps)",
        ge=0,
        le=1,
        advanced=True,
    )
    attack_steps: int = knob(
        7,
        "Steps of the attack in each step of the training; each costs as much as one.",
        ge=1,
        le=100,
        unit="steps",
        advanced=True,
    )
    trades_weight: float = knob(
        6.0,
        "What constancy under attack weighs beside accuracy (trades).",
        title="Weight of constancy (trades)",
        ge=0,
        le=100,
        log=True,
        advanced=True,
    )
    sigma: float = knob(
        0.25,
        "Spread of the Gaussian noise that is added, of a range of 1 (noise); certify with the same.",
        title="Noise trained with (sigma)",
        ge=0,
        le=2,
        advanced=True,
    )


SURVIVORS = 100  # of 500 held-out images, those that are attacked to choose the best checkpoint


CURVES = (
    Curve("loss", "Loss", "Cross entropy in nats; lower is better. " + MEMORISES, position="first"),
    Curve(
        "accuracy",
        "Accuracy",
        "Share of items whose class is named rightly.",
        lines={
            "accuracy": "training",
            "valid_accuracy": "held-out",
            "valid_hard_accuracy": "held-out, as it is trained (attacked or noisy)",
        },
        position="first",
    ),
    Curve(
        "inconstancy",
        "Inconstancy under attack (trades)",
        "How far an attack moves the probabilities of the classes, in nats; lower is more constant.",
    ),
)


class Classifier(nn.Module):
    """The medium's body (of images: convolutions), a feature layer, one logit per class."""

    def __init__(self, config: ClassifierConfig, spec: Spec) -> None:
        super().__init__()
        if spec.classes < 2:
            raise UserError(
                f"A classifier needs a dataset with at least 2 classes, got {spec.classes}. "
                "Choose a dataset with labels."
            )
        self.config, self.spec, self.classes = config, spec, spec.classes
        body = media.get(spec.medium).body
        self.body = body(spec.shape, config.width, config.features)
        self.last = nn.Linear(config.features, spec.classes)

    def forward(self, x: Batch) -> Tensor:
        """Gives logits, (N, classes), of images in [0, 1]."""
        return self.last(self.features(x))

    def features(self, x: Batch) -> Tensor:
        """Gives the features, (N, D)."""
        return self.body(x)

    def groups(self) -> list[Group]:
        """Gives all parameters as one group."""
        return [
            Group("classifier", list(self.parameters()), 2e-3, 0.9, 0.99, self.config.weight_decay)
        ]

    def hot(self) -> list[nn.Module]:
        """Lists what compiling speeds up."""
        return [self.body]

    def losses(
        self, x: Batch, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the cross entropy in nats, of images that its defence has made harder; with trades, and constancy."""
        assert y is not None
        ramp = min(1.0, progress / 0.3)  # a strong attack from the start teaches nothing
        hard = self._hardened(x, y, generator, ramp)
        both = self(torch.cat([x, hard])) if self.config.defence == "trades" else self(hard)
        logits, parts = both[: len(x)], {}
        value = F.cross_entropy(logits, y, label_smoothing=self.config.smoothing)
        if self.config.defence == "trades":  # [2], eq. 5
            constancy = divergence(logits, both[len(x) :]).mean()
            value = value + self.config.trades_weight * constancy
            parts = {"inconstancy": constancy.detach()}
        accuracy = (logits.detach().argmax(1) == y).float().mean()
        yield Loss("classifier", value, {"loss": value.detach(), "accuracy": accuracy, **parts})

    def held_out(self, x: Batch, y: Tensor | None, generator: torch.Generator) -> dict[str, Tensor]:
        """Gives cross entropy (decides the best checkpoint) and accuracy on held-out images.

        A hardened classifier is chosen by its cross entropy on images as hard as those it learned from.
        """
        assert y is not None
        logits = self(x)
        loss, accuracy = F.cross_entropy(logits, y), (logits.argmax(1) == y).float().mean()
        if self.config.defence == "none":
            return {"valid_loss": loss, "valid_accuracy": accuracy}
        few, labels = x[:SURVIVORS], y[:SURVIVORS]
        hard = self(self._hardened(few, labels, generator, 1.0))
        return {
            "valid_loss": F.cross_entropy(hard, labels),
            "valid_accuracy": accuracy,
            "valid_hard_accuracy": (hard.argmax(1) == labels).float().mean(),
        }

    def fit(self, x: Batch, y: Tensor | None) -> None:
        """Recomputes the batch statistics for the averaged weights, of images like those that it learned from."""
        parts = list(torch.arange(len(x), device=x.device).tensor_split(-(-len(x) // 256)))
        refresh_batch_statistics(self, (lambda i=i: self(x[i]) for i in parts))
        if self.config.defence == "none" or y is None:
            return
        generator = torch.Generator(x.device).manual_seed(0)
        hard = [self._hardened(x[i], y[i], generator, 1.0) for i in parts[:8]]
        if self.config.defence == "trades":
            hard = [torch.cat([x[i], h]) for i, h in zip(parts, hard, strict=False)]
        refresh_batch_statistics(self, (lambda h=h: self(h) for h in hard))

    def _hardened(self, x: Batch, y: Tensor, generator: torch.Generator, ramp: float) -> Batch:
        """Gives what the defence trains on: what a model sees of items that were changed within their budget.

        Args:
            x: What a model sees, (N, …); its items are what the medium makes of it.
            y: Labels (N,).
            generator: Draws the noise, or where an attack starts.
            ramp: Share of the full strength.
        """
        config, medium = self.config, media.get(self.spec.medium)
        if config.defence == "none":
            return x
        items = medium.from_model(x)
        draw = partial(rows, shape=items.shape, generator=generator, device=x.device)
        if config.defence == "noise":  # [3], section 3.3; never clipped, as in the certificate
            return medium.to_model(items + config.sigma * draw(torch.randn))
        eps = ramp * Budget(LINF, items.shape[1:], medium.name).chosen(config.eps)
        if config.defence == "pgd":
            start = items + eps * (2 * draw(torch.rand) - 1)

            def score(moved: Tensor) -> Tensor:
                return F.cross_entropy(self(medium.to_model(moved)), y, reduction="none")
        else:
            start = items + 1e-3 * draw(torch.randn)
            with torch.no_grad():
                logits = self(x)

            def score(moved: Tensor) -> Tensor:
                return divergence(logits, self(medium.to_model(moved)))

        return medium.to_model(climb(score, items, start, eps, config.attack_steps))


def divergence(logits: Tensor, other: Tensor) -> Tensor:
    """Computes KL(p || q) of the classes in nats, (N,), from the logits of p and of q, (N, K)."""
    return F.kl_div(
        F.log_softmax(full(other), 1),
        F.log_softmax(full(logits), 1),
        reduction="none",
        log_target=True,
    ).sum(1)
