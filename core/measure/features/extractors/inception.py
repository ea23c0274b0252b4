"""The network of published figures."""

from __future__ import annotations

import torch

from core.datasets import Dataset
from core.ground.watch import UNWATCHED, Watch
from core.measure.features.extractors import extractors
from core.measure.features.published import Published, published


@extractors.add("inception", "Inception", frechet="FID", takes=("picture",))
def inception(
    dataset: Dataset, device: torch.device, weights: str = "", watch: Watch = UNWATCHED
) -> Published:
    """The network of published figures, trained on ImageNet: the only features whose distance is called FID."""
    return published("inception", "inception-v3-compat", "2048", device, weights)
