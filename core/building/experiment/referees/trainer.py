"""The referee that somebody else has written."""

from __future__ import annotations

from typing import Any

from core.building.experiment import outside
from core.building.experiment.referees import Bench, Pupil, referees
from core.datasets import Dataset


@referees.add(
    "trainer",
    "Your own training, by code",
    order=3,
    short="your own training",
    check=outside.check,
)
def trainer(bench: Bench, data: Dataset, pair: int, transform: Any, order: int) -> Pupil:
    """Calls package.module:fit of this machine in a process of its own."""
    return outside.taught(bench, data, pair, transform, order)
