"""What the Data page shows of a dataset as it is, and how pictures are brought."""

from __future__ import annotations

from typing import Any

from core import datasets
from pages.parts.show import Bar


def load(name: str, values: dict[str, Any]) -> datasets.Dataset:
    """Opens a dataset, with a bar while it is made for the first time."""
    bar = Bar()
    try:
        return datasets.load(name, values, bar)
    finally:
        bar.close()
