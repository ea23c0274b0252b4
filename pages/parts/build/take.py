"""Taking a dataset away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pages.parts.data import versions


def draw(dataset: Any, name: str, prepared: Mapping[str, Any]) -> None:
    """Offers the dataset as files."""
    versions.take(dataset)
    versions.terms(dataset)
