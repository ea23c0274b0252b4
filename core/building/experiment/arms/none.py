"""The arm that all others are compared with."""

from __future__ import annotations

from core.building.experiment.arms import Lesson, Setup, arms


@arms.add(
    "none",
    "Real images only",
    order=0,
)
def none(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with the real images alone."""
    return Lesson(trial.subset(pair, size))
