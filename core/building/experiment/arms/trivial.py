"""The arm of an augmentation that needs no tuning."""

from __future__ import annotations

from core.building.experiment.arms import Lesson, Setup, arms


@arms.add(
    "trivial",
    "TrivialAugment",
    order=3,
    leads=2,
    help="Also trains with TrivialAugment, which needs no tuning.",
    label="TrivialAugment",
    on=True,
    pipeline=lambda config: "trivial",
)
def trivial(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with the real images, changed by TrivialAugment."""
    return Lesson(trial.subset(pair, size))
