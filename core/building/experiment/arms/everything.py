"""The arm of all there is."""

from __future__ import annotations

from dataclasses import replace

from core.building.experiment.arms import Lesson, Setup, arms
from core.building.experiment.samples import with_attacked, with_samples


@arms.add(
    "everything",
    "Everything together",
    order=7,
    leads=4,
    help="Also combines the chain, synthetic images and adversarial ones.",
    label="Everything",
    pipeline=lambda config: config.pipeline,
    samples=True,
    nets=1,
)
def everything(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with real images, samples and attacked images, changed by the chain."""
    lesson = with_samples(trial, pair, size)
    return replace(lesson, data=with_attacked(trial, lesson.data, pair))
