"""The arm of the augmented images of this version."""

from __future__ import annotations

from core.building.experiment.arms import Lesson, Setup, arms

ORIGINS = ("augmented",)


@arms.add(
    "augmented",
    "The augmented images of this version",
    order=16,
    leads=6,
    help="Trains with the augmented images that this version has, beside the real ones that they were made from.",
    label="Its augmented images",
    origins=ORIGINS,
    whole=True,
)
def augmented(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with the real images, and with the copies that were made from them."""
    return Lesson(trial.with_items(pair, size, ORIGINS))
