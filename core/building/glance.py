"""What images look like at a glance, the main directions of a few pixels: in a second, where others take a minute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.catalog import UserError, unknown
from core.datasets import Dataset, evenly
from core.ground.watch import UNWATCHED, Watch
from core.measure.features import extractors

if TYPE_CHECKING:
    from torch import Tensor

    from core.measure.features import Embedding

NAME = "glance"
_DIRECTIONS, _IMAGES = 32, 5000


def choices() -> list[str]:
    """Lists what can see the images: the glance, and every extractor."""
    return [NAME, *extractors.names()]


@dataclass(frozen=True, eq=False)
class Glance:
    """The main directions of images that are averaged down to a few pixels.

    Attributes:
        name: Of the extractor.
        hash: Tells those of other data apart.
        pictures: Whether it looks at pictures; else at the numbers of another medium.
        mean: Of the pixels, (P,).
        vectors: The directions over their standard deviation, (P, D).
        scale: These deviations, (D,).
    """

    name: str
    hash: str
    pictures: bool
    mean: Tensor
    vectors: Tensor
    scale: np.ndarray

    def features(self, x: Tensor) -> np.ndarray:
        """Gives standardised features of images in [0, 1], float64 (N, D)."""
        import torch

        parts = [
            (_few(part, self.pictures) - self.mean) @ self.vectors for part in x.cpu().split(500)
        ]
        return torch.cat(parts).clamp(-10, 10).double().numpy()


def _few(x: Tensor, pictures: bool) -> Tensor:
    from torch.nn import functional as F

    from core.tensors import coarse

    if not pictures:
        return coarse(x)
    return F.adaptive_avg_pool2d(x, min(x.shape[-1], 14 if x.shape[1] == 1 else 8)).flatten(1)


def glance(dataset: Dataset) -> Glance:
    """Learns the directions from up to 5 000 training images."""
    import torch

    pictures = dataset.medium.model == "picture"
    rows = evenly(dataset.splits["train"], _IMAGES)
    pixels = torch.cat([_few(part, pictures) for part in dataset.batches(rows)])
    mean = pixels.mean(0)
    around = (pixels - mean).double()
    values, axes = torch.linalg.eigh(around.T @ around / max(1, len(pixels) - 1))
    scale = values.clamp_min(0).sqrt().flip(0)
    kept = max(1, min(_DIRECTIONS, int((scale > 0.01 * scale[0].clamp_min(1e-4)).sum())))
    scale = scale[:kept].clamp_min(1e-6)
    vectors = (axes.flip(1)[:, :kept] / scale).float()
    return Glance(NAME, dataset.fingerprint[:16], pictures, mean, vectors, scale.numpy())


def chosen(name: str, dataset: Dataset, watch: Watch = UNWATCHED) -> tuple[Embedding, str]:
    """Opens what sees the images, learned from a dataset; says so in a sentence where another took its place.

    Raises:
        UserError: If there is none of this name.
    """
    from core.measure import features
    from core.tensors import device

    if name == NAME:
        return glance(dataset), ""
    if name not in extractors:
        raise UserError(unknown("extractor", name, choices()))
    return features.choose(name, dataset, device(), watch=watch)
