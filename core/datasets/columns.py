"""What is known about images, as numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from core.catalog import UserError, unknown
from core.datasets.attributes import LINEAGE
from core.datasets.attributes import unknown as unsaid
from core.datasets.dataset import Dataset, imported

MOST_VALUES = 12  # of an attribute whose every value is a column


@dataclass(frozen=True, eq=False)
class Columns:
    """What is known about the images of a dataset: labels and attributes, as columns of numbers.

    Attributes:
        names: Of the columns.
        values: float32 (N, A): 1 or 0 for yes or no, else the attribute itself.
        binary: Which columns are 0 or 1, bool (A,).
        labels: Which columns are classes, bool (A,).
    """

    names: tuple[str, ...]
    values: np.ndarray = field(repr=False)
    binary: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)

    def index(self, name: str) -> int:
        """Gives the index of a column.

        Raises:
            UserError: If there is none of that name.
        """
        if name not in self.names:
            raise UserError(unknown("label or attribute", name, self.names))
        return self.names.index(name)

    def of(self, index: np.ndarray) -> Columns:
        """Gives the columns of some images (n,)."""
        return Columns(self.names, self.values[index], self.binary, self.labels)


def columns(dataset: Dataset) -> Columns:
    """Lists what a dataset knows about its images: a column per class, per number, and per value of a choice.

    Of what is not known of an image no value is 1. A choice whose first value means ``none`` is one column: whether
    there is any.
    """
    choices: dict[str, tuple[str, ...]] = {}  # what the values 0, 1, … of an attribute stand for
    if dataset.origin == "faces":
        from core.datasets import faces

        choices = dict(faces.NAMES)
    for name, values in (imported(dataset.source, "values") or {}).items():
        choices[name] = tuple(map(str, values))
    listed: list[tuple[str, np.ndarray, bool, bool]] = []  # name, values, binary, label
    if dataset.y is not None and len(dataset.classes) > 1:
        listed += [(name, dataset.y == k, True, True) for k, name in enumerate(dataset.classes)]
    for name, values in (dataset.attributes or {}).items():
        if (
            name in LINEAGE
            or values.dtype.kind not in "biuf"
            or (dataset.y is not None and np.array_equal(values, dataset.y))
        ):
            continue
        if values.dtype.kind == "f":
            if np.isfinite(values).all() and values.std() > 1e-6:
                listed.append((name, values, False, False))
            continue
        if values.dtype.kind == "b":
            if values.any() and not values.all():
                listed.append((name, values, True, False))
            continue
        kinds = np.unique(values[~unsaid(dataset.attributes or {}, name)])
        if not len(kinds):
            continue
        called = choices.get(name, tuple(map(str, range(int(kinds[-1]) + 1))))
        if len(kinds) < 2 or len(kinds) > MOST_VALUES or kinds[0] < 0 or kinds[-1] >= len(called):
            continue
        if called[0] == "none":
            listed.append((name, values > 0, True, False))
        elif len(kinds) == 2:
            listed.append((f"{name}={called[kinds[1]]}", values == kinds[1], True, False))
        else:
            listed += [(f"{name}={called[kind]}", values == kind, True, False) for kind in kinds]
    names, values, binary, labels = zip(*listed, strict=True) if listed else ((), (), (), ())
    stacked = np.stack(values, 1) if listed else np.zeros((len(dataset), 0))
    return Columns(
        tuple(names), stacked.astype(np.float32), np.array(binary, bool), np.array(labels, bool)
    )


def scores(read: np.ndarray, true: np.ndarray, binary: np.ndarray) -> np.ndarray:
    """Scores each column: the share of equal values where they are 0 or 1, else R² (1 is perfect, 0 is the mean)."""
    right = (read.round() == true.round()).mean(0)
    spread = ((true - true.mean(0)) ** 2).mean(0)
    r2 = 1 - ((read - true) ** 2).mean(0) / np.maximum(spread, 1e-12)
    return np.where(binary, right, r2)
