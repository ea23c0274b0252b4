"""Who is on the items of a dataset, and for whom a classifier is right: by class and by attribute, with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.building.version import COLUMNS
from core.catalog import UserError
from core.datasets import Dataset
from core.datasets.attributes import unknown
from core.datasets.columns import MOST_VALUES
from core.ground.stats import Estimate, proportion
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import one_line, percent, percents

FEWEST = 30  # items from which a share is worth saying
_NO_GROUP = {"picture", "width", "height", *COLUMNS} - {"origin"}  # of a file, not of who is on it


@dataclass(frozen=True)
class GroupShare:
    """One group of items.

    Attributes:
        column: What it is a group by: ``class``, or the name of an attribute.
        value: Which one, in words.
        n: How many items it has.
        share: Which part of all items that is, with Wilson's interval.
        accuracy: How often a classifier is right on those of them that it was asked about; None where none was asked.
    """

    column: str
    value: str
    n: int
    share: Estimate
    accuracy: Estimate | None = None

    @property
    def verdict(self) -> str:
        """What can be said of it; where it is too small, that nothing can."""
        if self.n < FEWEST:
            return f"cannot tell: {self.n} of {FEWEST} items"
        if self.accuracy is not None and self.accuracy.n < FEWEST:
            return f"accuracy: cannot tell, {self.accuracy.n} of {FEWEST} items"
        return ""

    def record(self) -> dict[str, Any]:
        """Gives it in plain values."""
        found = self.accuracy
        return {
            "column": self.column,
            "value": self.value,
            "n": self.n,
            "share": self.share.value,
            "share_interval": list(self.share.interval),
            "accuracy": found.value if found and found.n else None,
            "accuracy_interval": list(found.interval) if found and found.n else None,
            "accuracy_n": found.n if found else 0,
            "verdict": self.verdict,
        }


def groups(dataset: Dataset) -> Iterator[tuple[str, str, np.ndarray]]:
    """Lists the groups of a dataset: by what, which one, and its items, bool (N,).

    An attribute with more than :data:`core.datasets.columns.MOST_VALUES` values, and one of measured numbers, makes no
    groups; an item of which one is not known is in none of it.
    """
    if dataset.y is not None:
        for number, name in enumerate(dataset.classes):
            yield "class", name, dataset.y == number
    called: dict[str, tuple[str, ...]] = {}
    if dataset.origin == "faces":
        from core.datasets import faces

        called = faces.NAMES
    for column, values in (dataset.attributes or {}).items():
        if column in _NO_GROUP or values.dtype.kind not in "biuUO":
            continue
        if dataset.y is not None and np.array_equal(values, dataset.y):
            continue  # the class once more
        kinds = np.unique(values[~unknown(dataset.attributes or {}, column)])
        if not 2 <= len(kinds) <= MOST_VALUES:
            continue
        names = called.get(column, ())
        for kind in kinds:
            whole = values.dtype.kind in "iu"
            name = names[kind] if whole and 0 <= kind < len(names) else str(kind)
            if values.dtype.kind == "b":
                name = "yes" if kind else "no"
            yield column, name or "(none)", values == kind


def table(dataset: Dataset, right: np.ndarray | None = None) -> list[GroupShare]:
    """Counts the groups of a dataset.

    Args:
        dataset: Which one.
        right: Whether a classifier was right on each item, float (N,): 1, 0, or nan where it was not asked.
    """
    rows = []
    for column, value, inside in groups(dataset):
        accuracy = None
        if right is not None:
            asked = right[inside & ~np.isnan(right)]
            accuracy = proportion(int(asked.sum()), len(asked))
        n = int(inside.sum())
        rows.append(GroupShare(column, value, n, proportion(n, len(dataset)), accuracy))
    return rows


def sentences(rows: list[GroupShare], right: np.ndarray | None = None) -> list[str]:
    """Says what stands out: groups far smaller than the largest of their kind, and those with surely lower accuracy."""
    found = []
    by: dict[str, list[GroupShare]] = {}
    for row in rows:
        by.setdefault(row.column, []).append(row)
    for named, of in by.items():
        column = named.replace("_", " ")
        largest = max(of, key=lambda row: row.n)
        small = [row for row in of if row.share.high * 3 < largest.share.low]
        for row in sorted(small, key=lambda row: row.n)[:3]:
            found.append(
                f"{column} {one_line(row.value)}: {row.n:,} items, {percents(*row.share.interval)} of all; the "
                f"largest, {one_line(largest.value)}, has {largest.n:,}."
            )
    if right is None or not (asked := right[~np.isnan(right)]).size:
        return found
    whole = proportion(int(asked.sum()), len(asked))
    for row in rows:
        got = row.accuracy
        if got is not None and got.n >= FEWEST and got.high < whole.low:
            found.append(
                f"{row.column.replace('_', ' ')} {one_line(row.value)}: right in {percent(got.value)} "
                f"({percents(*got.interval)}) of {got.n:,}, and in {percent(whole.value)} of all {whole.n:,}."
            )
    return found


def right_of(dataset: Dataset, classifier: str, watch: Watch = UNWATCHED) -> np.ndarray:
    """Asks a classifier about the test items, or the validation items where there are none.

    Args:
        dataset: With labels.
        classifier: Id of a run, or of what was brought; empty for the plain one of the dataset.
        watch: Follows it.

    Returns:
        Whether it was right on each item, float (N,), as :func:`table` takes it.

    Raises:
        UserError: If it does not fit, or there are no labels.
    """
    if dataset.y is None:
        raise UserError(
            f"{dataset.name} has no labels, so nobody can say whether a classifier is right. Choose another dataset."
        )
    from core.robustness import classifiers

    target = classifiers.target_of(classifier, dataset, watch)
    right = np.full(len(dataset), np.nan)
    held = dataset.splits["test"] if len(dataset.splits["test"]) else dataset.splits["valid"]
    for part in watch.each(np.array_split(held, max(1, len(held) // 1000))):
        if len(part):
            right[part] = target.predict(dataset.items(part)).cpu().numpy() == dataset.y[part]
    return right
