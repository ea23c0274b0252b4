"""The arm of generated images."""

from __future__ import annotations

from core.building.experiment.arms import Lesson, Setup, arms
from core.building.experiment.samples import with_samples


@arms.add(
    "synthetic",
    "Synthetic images",
    order=4,
    leads=3,
    help=("Also trains a generative model on each arm's real images, and adds its samples."),
    label="Synthetic images",
    samples=True,
)
def synthetic(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with the real images, and with samples of a model that has seen only those."""
    return with_samples(trial, pair, size)
