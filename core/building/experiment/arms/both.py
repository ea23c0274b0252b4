"""The arm of the chain and of generated images together."""

from __future__ import annotations

from core.building.experiment.arms import Lesson, Setup, arms
from core.building.experiment.samples import with_samples


@arms.add(
    "both",
    "The chain and synthetic images",
    order=5,
    leads=4,
    help="Also combines the chain with the synthetic images.",
    pipeline=lambda config: config.pipeline,
    samples=True,
)
def both(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with real images and samples, changed by the chain."""
    return with_samples(trial, pair, size)
