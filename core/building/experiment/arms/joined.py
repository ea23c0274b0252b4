"""The arm of the real images of this version that came from another dataset."""

from __future__ import annotations

from core.building.experiment.arms import Lesson, Setup, arms

ORIGINS = ("joined",)


@arms.add(
    "joined",
    "The real images from other datasets",
    order=15,
    leads=6,
    help="Trains with the real images that joined this version from other datasets, beside its own.",
    label="Those of other datasets",
    origins=ORIGINS,
    whole=True,
)
def joined(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with the real images, and with those that joined from another dataset."""
    return Lesson(trial.with_items(pair, size, ORIGINS))
