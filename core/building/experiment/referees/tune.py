"""The referee that goes on from a brought network."""

from __future__ import annotations

from typing import Any

from core.building.experiment import backbone
from core.building.experiment.referees import Bench, Pupil, referees
from core.datasets import Dataset


@referees.add(
    "tune",
    "Fine-tuning of a brought network",
    order=2,
    short="fine-tuning",
    check=backbone.check,
)
def tune(bench: Bench, data: Dataset, pair: int, transform: Any, order: int) -> Pupil:
    """Trains all weights of a brought network further, with a new last layer."""
    return backbone.taught(bench, data, pair, transform, order, frozen=False)
