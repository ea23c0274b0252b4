"""The arm of the synthetic images of this version."""

from __future__ import annotations

from core.building.experiment.arms import Lesson, Setup, arms

ORIGINS = ("synthetic",)


@arms.add(
    "generated",
    "The synthetic images of this version",
    order=17,
    leads=7,
    help="Trains with the synthetic images that this version has, beside all real ones.",
    label="Its synthetic images",
    origins=ORIGINS,
    whole=True,
)
def generated(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with all real images, and with the samples of a model that has seen only those."""
    return Lesson(trial.with_items(pair, size, ORIGINS))
