"""What became of a dataset between two versions: what went, came, or has another label, split or other pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from core.datasets import SPLITS, Dataset
from core.datasets.attributes import lineage, repaired_of
from core.datasets.dataset import digests
from core.ground import paper, sheets
from core.ground.cache import Cache
from core.ground.writing import many

KINDS = {
    "gone": "Went",
    "came": "Came",
    "label": "Another label",
    "pixels": "Other pixels",
    "split": "Another split",
}
SHOWN = 60  # images of one kind that are shown as pictures


@dataclass(frozen=True, eq=False)
class Difference:
    """How a version differs from another; every image of both is counted once.

    Attributes:
        pairs: By kind, a name of :data:`KINDS`, the rows of the images in the version before and in the one after,
            int64 (n, 2); -1 where there is none.
        same: Images with the same pixels, label and split.
    """

    pairs: Mapping[str, np.ndarray]
    same: int

    @property
    def counts(self) -> dict[str, int]:
        """How many images there are of each kind, and how many are the same."""
        return {kind: len(pairs) for kind, pairs in self.pairs.items()} | {"same": self.same}

    @property
    def sentence(self) -> str:
        """What differs, in words."""
        words = {
            "gone": ("went", "went"),
            "came": ("came", "came"),
            "label": ("has another label", "have another label"),
            "pixels": ("has other pixels", "have other pixels"),
            "split": ("is in another split", "are in another split"),
        }
        parts = [
            f"{n:,} {words[kind][n != 1]}" for kind, n in self.counts.items() if n and kind in words
        ]
        if not parts:
            return f"Nothing differs: {many(self.same, 'image')} with the same labels and splits."
        is_same = "is" if self.same == 1 else "are"
        return f"{', '.join(parts)}; {many(self.same, 'image')} {is_same} the same."


_compared = Cache[Difference](8)


def compare(before: Dataset, after: Dataset) -> Difference:
    """Finds every image of one version in the other: by its pixels, and else by the name of its file.

    Several images with the same pixels are told apart by label, split and file as far as that goes. The name of a file
    is what an import has kept; where it holds other pixels than before, the picture was changed. An image that a model
    has repaired says itself which one it was.
    """
    said = lineage(after.attributes or {}, len(after))["parameters"]
    beside = (_files(before), _files(after), said)  # fingerprints leave them out
    digests_of = (hashlib.sha256(column.tobytes()).digest() for column in beside)
    key = (before.name, before.fingerprint, after.fingerprint, *digests_of)
    return _compared.get(key, lambda: _compare(before, after))


def _compare(before: Dataset, after: Dataset) -> Difference:
    pixels = [digests(np.asarray(each.x)).astype(np.int64) for each in (before, after)]
    labels, splits, files = (
        [what(each) for each in (before, after)] for what in (_labels, Dataset.split_of, _files)
    )
    left = [np.arange(len(before)), np.arange(len(after))]

    def agreeing(*values: list[np.ndarray]) -> np.ndarray:
        pairs = np.concatenate([_take(left, *values, files), _take(left, *values)])
        return pairs[np.argsort(pairs[:, 0])]

    same, split = agreeing(pixels, labels, splits), agreeing(pixels, labels)
    label = agreeing(pixels)
    # an image that came without a file has no namesake
    named = [np.where(file == "", mark, file) for file, mark in zip(files, "\1\2", strict=True)]
    redrawn = np.concatenate([_repaired(left, before, after), _take(left, named)])
    redrawn = redrawn[np.argsort(redrawn[:, 0])]
    none = [np.full(len(rows), -1) for rows in left]
    return Difference(
        {
            "gone": np.stack([left[0], none[0]], 1),
            "came": np.stack([none[1], left[1]], 1),
            "label": label,
            "pixels": redrawn,
            "split": split,
        },
        len(same),
    )


def _labels(dataset: Dataset) -> np.ndarray:
    """Names the class of each image, str (N,); empty without labels."""
    if dataset.y is None:
        return np.full(len(dataset), "")
    return np.array(dataset.classes, dtype=str)[dataset.y]


def _files(dataset: Dataset) -> np.ndarray:
    """Names the file of each image, str (N,); empty where none is known."""
    files = (dataset.attributes or {}).get("picture")
    return np.full(len(dataset), "") if files is None else files.astype(str, copy=False)


def _take(left: list[np.ndarray], *values: list[np.ndarray]) -> np.ndarray:
    """Takes the rows out of ``left`` that agree in all values, each with one of the other version; int64 (n, 2)."""
    cut = len(left[0])
    codes = np.zeros(cut + len(left[1]), np.int64)
    for before, after in values:
        column = np.concatenate([before[left[0]], after[left[1]]])
        code = np.unique(column, return_inverse=True)[1]
        codes = np.unique(codes * (len(codes) + 1) + code, return_inverse=True)[1]
    # the first of equal ones goes with the first, the second with the second
    first, second = (part * (len(codes) + 1) + _ranked(part) for part in np.split(codes, [cut]))
    _, first, second = np.intersect1d(first, second, return_indices=True)
    pairs = np.stack([left[0][first], left[1][second]], 1)
    left[0], left[1] = np.delete(left[0], first), np.delete(left[1], second)
    return pairs


def _repaired(left: list[np.ndarray], before: Dataset, after: Dataset) -> np.ndarray:
    """Takes the images that were repaired out of ``left``, each with the one that it was; int64 (n, 2)."""
    said = lineage(after.attributes or {}, len(after))["parameters"]
    there = dict.fromkeys(left[0].tolist())
    pairs = []
    for row in left[1].tolist():
        name, was = repaired_of(str(said[row]))
        if name == before.name and was in there:
            del there[was]
            pairs.append((was, row))
    taken = np.array(pairs, np.int64).reshape(-1, 2)
    for side in (0, 1):
        left[side] = np.setdiff1d(left[side], taken[:, side])
    return taken


def _ranked(codes: np.ndarray) -> np.ndarray:
    """Counts for each value how many equal ones stand before it, (n,).

    >>> _ranked(np.array([7, 3, 7, 7])).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(codes, kind="stable")
    _, starts, counts = np.unique(codes[order], return_index=True, return_counts=True)
    rank = np.empty(len(codes), np.int64)
    rank[order] = np.arange(len(codes)) - np.repeat(starts, counts)
    return rank


class ChangedItem(NamedTuple):
    """What became of one image; None for a version that has it not.

    Attributes:
        what: A name of :data:`KINDS`.
        before, after: Its row.
        file: The name of its file, as far as it is known; of the later version if they differ.
        label_before, label_after: The name of its class; None without labels as well.
        split_before, split_after: The split.
    """

    what: str
    before: int | None
    after: int | None
    file: str | None
    label_before: str | None
    label_after: str | None
    split_before: str | None
    split_after: str | None

    def __str__(self) -> str:
        """Says it in a line."""
        row = f"{self.after if self.before is None else self.before}"
        if None not in (self.before, self.after) and self.before != self.after:
            row += f" (now {self.after})"
        name, label = self.file or f"image {row}", self.label_after or self.label_before
        if self.what == "label":
            return f"{name}: {self.label_before or 'none'} → {self.label_after or 'none'}"
        if self.what == "split":
            return f"{name}: {self.split_before} → {self.split_after}"
        return name + (f": {label}" if label else "")


def changes(
    difference: Difference, before: Dataset, after: Dataset, kind: str, most: int | None = None
) -> list[ChangedItem]:
    """Lists what became of each image of one kind of difference, or of the first so many."""
    facts = [(_labels(each), each.split_of(), _files(each)) for each in (before, after)]
    found = []
    for pair in difference.pairs[kind][:most].tolist():
        (row, label, split, file), (new_row, new_label, new_split, new_file) = (
            (row, str(labels[row]) or None, SPLITS[splits[row]], str(files[row]) or None)
            if row >= 0
            else (None, None, None, None)
            for row, (labels, splits, files) in zip(pair, facts, strict=True)
        )
        found.append(
            ChangedItem(kind, row, new_row, new_file or file, label, new_label, split, new_split)
        )
    return found


def origin(dataset: Dataset) -> tuple[str, Mapping[str, Any]] | None:
    """Names the dataset that a version was made from, and its parameters; None for one without a parent."""
    source = dataset.source.get("origin")
    if dataset.parent is None or not isinstance(source, Mapping):
        return None
    return str(source["name"]), dict(source.get("config") or {})


def html(difference: Difference, before: Dataset, after: Dataset) -> bytes:
    """Writes a difference as one HTML file with pictures inside, at most :data:`SHOWN` of a kind."""

    def drawn(dataset: Dataset, row: int | None) -> bytes | None:
        if row is None:
            return None
        x = dataset.pictures([row])
        return sheets.png(x, 1, scale=max(1, 64 // x.shape[-1]))

    parts = []
    for kind, title in KINDS.items():
        mine = changes(difference, before, after, kind)
        figures = [
            {
                "old": drawn(before, change.before) if kind in ("gone", "pixels") else None,
                "new": drawn(after, change.after),
                "says": str(change),
            }
            for change in mine[:SHOWN]
        ]
        if mine:
            parts.append({"title": title, "count": len(mine), "figures": figures})
    page = paper.render(
        "building/difference.html",
        f"{before.name} → {after.name}",
        sentence=difference.sentence,
        parts=parts,
        prints=(before.fingerprint[:16], after.fingerprint[:16]),
    )
    return page.encode()
