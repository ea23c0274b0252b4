"""The arm that all others are compared with."""

from __future__ import annotations

from core.build.experiment.arms import Lesson, Setup, arms
from core.catalog import Config


@arms.add(
    "none",
    "Real images only",
    Config,
    order=0,
)
def none(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with the real images alone."""
    return Lesson(trial.subset(pair, size))
