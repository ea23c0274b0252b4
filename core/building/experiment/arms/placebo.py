"""An arm that must not help."""

from __future__ import annotations

import numpy as np

from core.building.experiment.arms import Lesson, Setup, arms


@arms.add(
    "placebo",
    "Placebo: real images twice",
    order=1,
    help="Also trains on the real images twice: it must not help.",
    on=True,
)
def placebo(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with the same images twice, in an order of their own."""
    data = trial.subset(pair, size)
    assert data.y is not None
    twice = trial.dataset_of(np.concatenate([data.x, data.x]), np.concatenate([data.y, data.y]))
    return Lesson(twice, order=1)
