"""The pixels themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.datasets import Dataset, evenly
from core.ground.watch import UNWATCHED, Watch
from core.measure.features.extractors import extractors
from core.tensors import Batch, coarse

IMAGES = 5000  # of the training images, at most


@dataclass(frozen=True)
class Pixels:
    """The pixels, centred and over their common spread.

    Attributes:
        name: Of the extractor.
        hash: Tells pixels of other data apart.
        mean: Of the training images, (P,).
        scale: Their spread around it, one number.
    """

    name: str
    hash: str
    mean: Tensor
    scale: Tensor

    @torch.inference_mode()
    def features(self, x: Batch) -> np.ndarray:
        """Gives centred pixels of images in [0, 1], float64 (N, D)."""
        parts = [
            (coarse(part.to(self.mean.device)) - self.mean) / self.scale for part in x.split(500)
        ]
        return torch.cat(parts).double().cpu().numpy()


@extractors.add("pixels", "Pixels")
def pixels(
    dataset: Dataset, device: torch.device, weights: str = "", watch: Watch = UNWATCHED
) -> Pixels:
    """The pixels themselves, at most 32 a side: a shift by one of them counts as a large change."""
    pick = evenly(dataset.splits["train"], IMAGES)
    values = torch.cat([coarse(part) for part in dataset.batches(pick, device=device)])
    scale = (values - values.mean(0)).square().mean().sqrt().clamp_min(1e-3)
    return Pixels("pixels", dataset.fingerprint[:16], values.mean(0), scale)
