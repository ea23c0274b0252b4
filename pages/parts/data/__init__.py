"""What the Data page shows of a dataset, mends in it and imports."""

from __future__ import annotations

from collections.abc import Iterable
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


def titles(dataset: datasets.Dataset, index: Iterable[int]) -> list[str]:
    """Names images by their number, and their class if they have one."""
    y, classes = dataset.y, dataset.classes
    return [f"image {i}" + ("" if y is None else f": {classes[y[i]]}") for i in index]
