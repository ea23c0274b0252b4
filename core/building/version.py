"""Versions of a dataset: where each item comes from, and what made one different from its parent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from core.datasets import Dataset
from core.datasets.attributes import LINEAGE, ORIGINS, generator, joined, lineage

COLUMNS = LINEAGE


def provenance(dataset: Dataset) -> dict[str, np.ndarray]:
    """Gives :data:`COLUMNS` of all items, as :func:`core.datasets.attributes.lineage` reads them."""
    return lineage(dataset.attributes or {}, len(dataset))


def kinds(dataset: Dataset) -> np.ndarray:
    """Gives the kind of each item, text (N,): its origin, but ``joined`` for a real one of another dataset."""
    columns = provenance(dataset)
    return np.where(joined(columns["origin"], columns["parameters"]), "joined", columns["origin"])


def generators(dataset: Dataset) -> np.ndarray:
    """Gives the run whose model has made each item, or had a part in it, text (N,); empty where none has.

    The run of an adversarial item is the attacked classifier; its parameters name the ``generator`` of what it was made
    from, :func:`generator`.
    """
    columns = provenance(dataset)
    made = columns["run"].astype(str).astype(object)
    for row in np.flatnonzero(columns["origin"] == "adversarial"):
        made[row] = generator(str(columns["parameters"][row]))
    return made.astype(str)


def roots(dataset: Dataset) -> np.ndarray:
    """Gives the row that each item goes back to over its parents, int64 (N,): its own where it was made from none."""
    own, parent = np.arange(len(dataset)), provenance(dataset)["parent"]
    up = np.where((parent >= 0) & (parent < len(own)), parent, own)
    for _ in range(len(own).bit_length()):  # each round goes twice as far, and ends on a circle too
        up = up[up]
    return up


def inherited(
    dataset: Dataset, rows: np.ndarray, parameters: Callable[[], str]
) -> list[tuple[str, int, str, int, str]]:
    """Gives a value of each of :data:`COLUMNS` for items (n,) that move to another dataset, without their parents.

    ``parameters`` writes what is said of one whose dataset says nothing.
    """
    origin, _, run, seed, said = (column[rows] for column in provenance(dataset).values())
    return [
        (str(origin[i]), -1, str(run[i]), int(seed[i]), str(said[i]) or parameters())
        for i in range(len(rows))
    ]


def origins(dataset: Dataset) -> dict[str, int]:
    """Counts the items of each of :data:`ORIGINS`."""
    column = provenance(dataset)["origin"]
    return {name: int((column == name).sum()) for name in ORIGINS}


def added(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Counts, by origin, the training items that were made (``n``), and the items that they go back to (``of``)."""
    columns, train = provenance(dataset), dataset.splits["train"]
    origin, root, found = columns["origin"], roots(dataset), {}
    for name in ORIGINS[1:]:
        rows = train[origin[train] == name]
        if len(rows):
            above = root[rows]
            found[name] = {"n": len(rows), "of": len(np.unique(above[above != rows]))}
    return found


def changes(dataset: Dataset) -> Mapping[str, Any]:
    """Says what made a version different from its parent: the decisions or the plan, in plain values."""
    source: Mapping[str, Any] = dataset.source.get("origin", dataset.source)
    return {key: source[key] for key in ("changes", "build", "plan") if key in source}


def lengthened(column: np.ndarray, more: np.ndarray, told: np.ndarray, signed: bool) -> np.ndarray:
    """Adds to a column what is told of new items; others are unknown, :func:`core.datasets.attributes.unknown`.

    Args:
        column: Of the items so far, (N,).
        more: Of the new ones, (n,), of the same kind; it counts where ``told``, (n,), says so.
        told: Of which the value is known.
        signed: Whether a negative number is a value of it.
    """
    if column.dtype.kind in "US" or told.all():
        return np.concatenate([column, more])
    if column.dtype.kind == "f" or signed:
        return np.concatenate([column, np.where(told, more, np.nan)])
    return np.concatenate([column.astype(np.int64), np.where(told, more.astype(np.int64), -1)])
