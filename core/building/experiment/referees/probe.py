"""The referee that only reads off what a brought network sees."""

from __future__ import annotations

from typing import Any

from core.building.experiment import backbone
from core.building.experiment.referees import Bench, Pupil, referees
from core.datasets import Dataset


@referees.add(
    "probe",
    "Linear probe on a brought network",
    order=1,
    short="the linear probe",
    check=backbone.check,
)
def probe(bench: Bench, data: Dataset, pair: int, transform: Any, order: int) -> Pupil:
    """Trains one linear layer on the features of a brought network, which stays as it is."""
    return backbone.taught(bench, data, pair, transform, order, frozen=True)
