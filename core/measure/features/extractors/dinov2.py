"""A large network for photographs."""

from __future__ import annotations

import torch

from core.datasets import Dataset
from core.ground.watch import UNWATCHED, Watch
from core.measure.features.extractors import extractors
from core.measure.features.published import Published, published


@extractors.add("dinov2", "DINOv2", takes=("picture",))
def dinov2(
    dataset: Dataset, device: torch.device, weights: str = "", watch: Watch = UNWATCHED
) -> Published:
    """A large self-supervised network for photographs; nearer to human judgement than Inception."""
    return published("dinov2", "dinov2-vit-s-14", "dinov2", device, weights)
