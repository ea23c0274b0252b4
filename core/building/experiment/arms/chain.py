"""The arm of the saved pipeline."""

from __future__ import annotations

from core.building.experiment.arms import Lesson, Setup, arms


@arms.add(
    "chain",
    "The chain",
    order=2,
    leads=5,
    help="Trains with the chain.",
    label="The chain",
    on=True,
    pipeline=lambda config: config.pipeline,
)
def chain(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with the real images, changed by the chain."""
    return Lesson(trial.subset(pair, size))
