"""The arm of attacked images."""

from __future__ import annotations

from core.building.experiment.arms import Lesson, Setup, arms
from core.building.experiment.samples import with_attacked


@arms.add(
    "adversarial",
    "Adversarial images",
    order=6,
    leads=1,
    help="Also attacks a classifier of each arm's real images, and adds what fools it, under the right label.",
    label="Adversarial images",
    nets=1,
)
def adversarial(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with the real images, and with these after an attack on a net that has seen only those."""
    return Lesson(with_attacked(trial, trial.subset(pair, size), pair))
