"""A network that learned from the images alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.classifier import Classifier, ClassifierConfig
from core.datasets import Dataset
from core.ground.watch import UNWATCHED, Watch
from core.measure.features.embedding import LENGTHS, bounded, spread
from core.measure.features.extractors import extractors
from core.models import Spec
from core.nets import refresh_batch_statistics
from core.tensors import Group, Images, Loss
from core.training import TrainConfig, Trainer, spec_of
from core.training.trained import file_of, once


class ContrastNet(nn.Module):
    """Features that find an image again after a shift, a turn, a zoom, and a change of light, among all others.

    References:
        Chen et al., 2020, A simple framework for contrastive learning, https://arxiv.org/abs/2002.05709
    """

    name = "self"
    hash = ""
    centre: Tensor
    scale: Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        any_classes = replace(spec, shares=(0.5, 0.5))
        self.body = Classifier(ClassifierConfig(), any_classes)
        self.body.last = nn.Identity()  # type: ignore[assignment]
        self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
        self.register_buffer("centre", torch.zeros(64))
        self.register_buffer("scale", torch.ones(64))

    def forward(self, x: Images) -> Tensor:
        """Gives raw features, (N, 64)."""
        return self.body.features(x)

    @torch.inference_mode()
    def features(self, x: Images) -> np.ndarray:
        """Gives standardised features of images in [0, 1], float64 (N, D)."""
        parts = [
            (self(part.to(self.scale.device)) - self.centre) / self.scale for part in x.split(500)
        ]
        return bounded(parts)

    def groups(self) -> list[Group]:
        """Gives all parameters as one group."""
        return [Group("contrast", list(self.parameters()), 2e-3, 0.9, 0.99, 0.01)]

    def losses(
        self, x: Images, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the cross entropy of finding the other view of each image among the batch, in nats."""
        views = torch.cat([_view(x, generator), _view(x, generator)])
        z = F.normalize(self.head(self(views)), dim=1)
        alike = z @ z.T / 0.2
        alike.fill_diagonal_(-math.inf)
        partner = torch.arange(2 * len(x), device=x.device).roll(len(x))
        value = F.cross_entropy(alike, partner)
        yield Loss("contrast", value, {"loss": value.detach()})

    def fit(self, x: Images, y: Tensor | None) -> None:
        """Recomputes the batch statistics for the averaged weights, then centre and scale of the features."""
        parts = x.tensor_split(-(-len(x) // 256))
        refresh_batch_statistics(self, (lambda part=part: self(part) for part in parts))
        self.eval()
        with torch.no_grad():
            raw = torch.cat([self(part) for part in parts])
        self.centre.copy_(raw.mean(0))
        self.scale.copy_(spread(raw))


def _view(x: Images, generator: torch.Generator) -> Images:
    """Turns, zooms, shifts, brightens and hides a patch of each image, at random."""
    u = torch.rand(len(x), 8, generator=generator, device=x.device) * 2 - 1
    angle, zoom = u[:, 0] * 0.25, 1 + u[:, 1] * 0.2
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    turn = torch.stack([cos, -sin, u[:, 2] * 0.2, sin, cos, u[:, 3] * 0.2], 1).view(-1, 2, 3)
    grid = F.affine_grid(turn, list(x.shape), align_corners=False)
    seen = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    light = u[:, 4:6, None, None, None]
    middle = seen.mean((1, 2, 3), keepdim=True)
    seen = (seen - middle) * (1 + 0.4 * light[:, 0]) + middle + 0.15 * light[:, 1]
    where = torch.linspace(-1, 1, x.shape[-1], device=x.device)
    row = (where - u[:, 6, None]).abs() < 0.25
    column = (where - u[:, 7, None]).abs() < 0.25
    hidden = (row[:, :, None] & column[:, None]).unsqueeze(1)
    return torch.where(hidden, middle, seen)


def self_supervised(
    dataset: Dataset, device: torch.device, watch: Watch = UNWATCHED
) -> ContrastNet:
    """Opens the self-supervised extractor of a dataset; the first time it is trained, which takes about a minute."""
    spec = spec_of(dataset)
    train = TrainConfig(images=LENGTHS["other"], batch=256, precision="float32", average=100)
    recipe = {
        "train": train.record(),
        "spec": spec.record(),
        "data": dataset.fingerprint,
        "kind": 1,
    }
    file = file_of("contrasts", recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251 - the first weights, inside the fork
        model = ContrastNet(spec)
    weights = once(
        file,
        f"the network that compares images of {dataset.name}",
        lambda: Trainer(model, dataset, train, device),
        lambda net: net.state_dict(),
        watch,
    )
    model.load_state_dict(weights)
    model.hash = file.stem
    return model.to(device).eval().requires_grad_(False)


@extractors.add("self", "Self-supervised", takes=("picture",))
def _self(
    dataset: Dataset, device: torch.device, weights: str = "", watch: Watch = UNWATCHED
) -> ContrastNet:
    """A small network that learned without labels to recognise an image after shifts and changes of light."""
    return self_supervised(dataset, device, watch)
