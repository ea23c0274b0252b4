"""Principal components of the pixels, or of which bytes stand in a row in a text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.datasets import Dataset, evenly
from core.ground.watch import UNWATCHED, Watch
from core.measure.features.embedding import bounded
from core.measure.features.extractors import extractors
from core.media import EVERY, Medium
from core.tensors import Batch, coarse

IMAGES = 5000  # of the training images, at most


@dataclass(frozen=True)
class Components:
    """The first principal components of the pixels: for sets without a judge.

    Attributes:
        name: Of the extractor.
        hash: Tells components of other data apart.
        mean: Of the pixels, (P,).
        vectors: The components over their standard deviation, (P, D).
        medium: Of the data.
    """

    name: str
    hash: str
    mean: Tensor
    vectors: Tensor
    medium: Medium

    @torch.inference_mode()
    def features(self, x: Batch) -> np.ndarray:
        """Gives standardised features of images in [0, 1], float64 (N, D)."""
        parts = [
            (_vectors(part.to(self.mean.device), self.medium) - self.mean) @ self.vectors
            for part in x.split(500)
        ]
        return bounded(parts)


def components(dataset: Dataset, device: torch.device, count: int = 64) -> Components:
    """Computes the principal components of up to 5 000 training images, on at most 32 px."""
    pick = evenly(dataset.splits["train"], IMAGES)
    medium = dataset.medium
    pixels = torch.cat([_vectors(part, medium) for part in dataset.batches(pick, device=device)])
    mean = pixels.mean(0)
    _, scale, vectors = torch.linalg.svd((pixels - mean).double(), full_matrices=False)
    scale = scale / max(1, len(pixels) - 1) ** 0.5  # standard deviations along the components
    kept = min(count, int((scale > 0.01 * scale[0].clamp_min(1e-4)).sum()))
    vectors = (vectors[:kept].T / scale[:kept]).float()
    return Components("pca", dataset.fingerprint[:16], mean, vectors, medium)


def _vectors(x: Batch, medium: Medium) -> Tensor:
    """Gives numbers that a mean makes sense of, (N, P); of tokens, which are symbols, those that tell copies."""
    return medium.near(medium.from_model(x)) if medium.model == "tokens" else coarse(x)


@extractors.add("pca", "Principal components", takes=EVERY)
def pca(
    dataset: Dataset, device: torch.device, weights: str = "", watch: Watch = UNWATCHED
) -> Components:
    """The 64 directions in which the pixels vary most: nothing to train, blind to shapes."""
    return components(dataset, device)
