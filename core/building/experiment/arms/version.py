"""The arm of this version as it is."""

from __future__ import annotations

from core.building.experiment.arms import Lesson, Setup, arms

ORIGINS = ("joined", "augmented", "synthetic", "adversarial")


@arms.add(
    "version",
    "This version as it is",
    order=19,
    leads=9,
    help="Trains with everything that this version has.",
    label="All of it",
    origins=ORIGINS,
    whole=True,
)
def version(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with all real images, and with everything that was added to them."""
    return Lesson(trial.with_items(pair, size, ORIGINS))
