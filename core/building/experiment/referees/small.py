"""The referee that needs nothing else."""

from __future__ import annotations

from typing import Any

from core.building.experiment.referees import Bench, Pupil, referees
from core.datasets import Dataset


@referees.add("small", "A small net from nothing", order=0, short="the small net")
def small(bench: Bench, data: Dataset, pair: int, transform: Any, order: int) -> Pupil:
    """Trains a small network of convolutions from random weights."""
    net = bench.fit(data, pair, transform, order)
    return Pupil(lambda x: net(x).argmax(1), net)
