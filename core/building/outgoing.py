"""A dataset on its way out: its rows split by split, each with its file, its label and where it comes from."""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from core.building import card
from core.building.marks import mark
from core.building.version import COLUMNS, origins, provenance
from core.building.watermark import Watermark
from core.datasets import Dataset
from core.datasets.annotations import text
from core.datasets.attributes import BEFORE, unknown
from core.datasets.files import hidden
from core.datasets.labels import LABEL
from core.ground.watch import UNWATCHED, Watch
from core.media import media

SPLIT_NAMES = {"train": "train", "valid": "validation", "test": "test"}  # outside
SHARD = 500 * 2**20  # bytes of a file, about
# names that have a meaning, and those that readers take for the class of a set without classes
_OURS = ("image", "images", "file_name", "id", "label", "labels", "split", *COLUMNS)
_CLASS = {*LABEL, "class_id", "label_id", "targets"}
_READ, _AT_ONCE = 8 * 2**20, 250  # bytes of pixels, and items, that one thread encodes at a time
_THREADS = min(4, os.cpu_count() or 1)
# what readers of folders take for a split, wherever in a path it stands between such signs
_SPLIT_WORDS = {
    "train", "training", "valid", "validation", "val", "dev", "test", "testing", "eval", "evaluation",
}  # fmt: skip

Parts = Iterator[tuple[np.ndarray, list[bytes]]]  # rows (n,), and the file of each


@dataclass(frozen=True)
class Outgoing:
    """What every layout writes of a dataset, so that it is the same in all of them.

    Attributes:
        dataset: What leaves.
        purpose: What for; empty where nobody said.
        overrides: By the name of a check at the door, why it was overridden.
        watermark: What the pixels of its synthetic items carry; None for nothing.
    """

    dataset: Dataset
    purpose: str = ""
    overrides: Mapping[str, str] = field(default_factory=dict)
    watermark: Watermark | None = None

    @cached_property
    def ids(self) -> np.ndarray:
        """Names every row by its number, with zeros in front, str (N,)."""
        width = len(str(max(0, len(self.dataset) - 1)))
        return np.char.zfill(np.arange(len(self.dataset)).astype(str), width)

    @cached_property
    def folders(self) -> list[str]:
        """Names a folder for each class; the only one of a set without labels has no name."""
        return folder_names(self.dataset.classes) or [""]

    @cached_property
    def further(self) -> dict[str, np.ndarray]:
        """Gives what is known beside lineage, by the name of its column: int64, float64, bool or str (N,)."""
        found: dict[str, np.ndarray] = {}
        known = self.dataset.attributes or {}
        sized = {"picture", "width", "height"} <= known.keys()  # of an import: before it was scaled
        for own, values in known.items():
            if own in COLUMNS:
                continue
            name = text(own) or "column"
            if sized and own in ("width", "height"):
                name += BEFORE
                if name in known:
                    continue  # that of the first import, which an export has told
            while (
                name in _OURS
                or name in found
                or (self.dataset.y is None and name.casefold() in _CLASS)
            ):
                name += BEFORE
            unsaid = unknown(known, own)
            if sized and own in ("width", "height") and values.dtype.kind in "iuf":
                unsaid = unsaid | (values <= 0)  # of what was never imported
            found[name] = _column(np.asarray(values), unsaid)
        return found

    @cached_property
    def _lineage(self) -> dict[str, np.ndarray]:
        columns = provenance(self.dataset)
        parent = columns["parent"].astype(np.int64)
        columns["parent"] = np.where(parent >= 0, self.ids[np.maximum(parent, 0)], "")
        return columns

    def splits(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the name outside and the rows (n,) of each split that is not empty."""
        for name, outside in SPLIT_NAMES.items():
            if len(rows := self.dataset.splits[name]):
                yield outside, rows

    def file(self, row: int | np.integer) -> str:
        """Names the file of an item below the folder of its split: class and id."""
        y, suffix = self.dataset.y, self.dataset.medium.suffix
        folder = "" if y is None else f"{self.folders[int(y[row])]}/"
        return f"{folder}{self.ids[row]}{suffix}"

    def columns(
        self, rows: np.ndarray, named: bool = False, only: Collection[str] = ()
    ) -> dict[str, np.ndarray]:
        """Gives the columns of rows (n,): id, label, split, lineage, and what else is known of each.

        Args:
            rows: Which.
            named: Whether labels are the names of their classes instead of their numbers.
            only: Names of those that are wanted beside these three; empty for all.
        """
        columns = {"id": self.ids[rows]}
        if (y := self.dataset.y) is not None:
            columns["label"] = np.array(self.dataset.classes)[y[rows]] if named else y[rows]
        names = np.array(list(SPLIT_NAMES.values()))
        columns["split"] = names[self.dataset.split_of()[rows]]
        return columns | {
            name: values[rows]
            for name, values in {**self._lineage, **self.further}.items()
            if not only or name in only
        }

    def records(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """Gives the columns of rows (n,) as JSON: never null but for a number that is none, so that types stay."""
        columns = {
            name: [None if value != value else value for value in values.tolist()]
            for name, values in self.columns(rows, named=True).items()
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def table(self, rows: np.ndarray, schema: Any, **first: Any) -> Any:
        """Gives the columns of rows (n,) as a table of :meth:`schema`; ``first`` are those that only the layout has."""
        import pyarrow as pa

        named = "label" in schema.names and pa.types.is_string(schema.field("label").type)
        columns = {name: cells(values) for name, values in self.columns(rows, named).items()}
        columns["seed"] = cells(seed := self._lineage["seed"][rows], seed >= 0)
        columns |= first
        return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)

    def schema(self, first: Any, named: bool = False) -> Any:
        """Gives the explicit schema of :meth:`table`, which says what :meth:`about` says, too."""
        import pyarrow as pa

        kinds = {"i": pa.int64(), "f": pa.float64(), "b": pa.bool_()}
        columns = self.columns(np.arange(0), named)
        fields = [
            pa.field(name, kinds.get(values.dtype.kind, pa.string()))
            for name, values in columns.items()
        ]
        fields = [pa.field("seed", pa.int64()) if f.name == "seed" else f for f in fields]
        return pa.schema([first, *fields], {"simulacra": json.dumps(self.about())})

    def seconds(self, rows: np.ndarray) -> list[bytes]:
        """Encodes the second images of rows (n,) as PNG; none where the dataset has no pairs."""
        pair = self.dataset.pair
        if pair is None:
            return []
        return media.get("image").files(np.asarray(pair.x[rows]), pair.levels)

    def batches(
        self,
        rows: np.ndarray,
        watch: Watch = UNWATCHED,
        put: Callable[[int, bytes], object] | None = None,
    ) -> Parts:
        """Yields rows (n,) part by part with the files of their items, encoded side by side; memory stays bounded.

        Args:
            rows: Which.
            watch: May end it.
            put: What is done with the row and the file of each item where it was encoded, side by side.
        """
        step = max(1, min(_AT_ONCE, _READ // max(1, self.dataset.x[:1].nbytes)))
        waiting: deque[tuple[np.ndarray, Future[list[bytes]]]] = deque()
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                for start in range(0, len(rows), step):
                    part = rows[start : start + step]
                    waiting.append((part, pool.submit(self._files, part, put)))
                    if len(waiting) > _THREADS:
                        watch.check()
                        part, encoded = waiting.popleft()
                        yield part, encoded.result()
                while waiting:
                    part, encoded = waiting.popleft()
                    yield part, encoded.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def shards(
        self, rows: np.ndarray, most: int = SHARD, watch: Watch = UNWATCHED
    ) -> Iterator[tuple[int, Parts]]:
        """Divides what :meth:`batches` yields among files of at most so many bytes of items.

        Yields:
            The number of a file, and its parts, which must be read to their end before the next.
        """
        batches = self.batches(rows, watch)
        ahead = next(batches, None)

        def one() -> Parts:
            nonlocal ahead
            size = 0
            while ahead is not None:
                more = sum(map(len, ahead[1]))
                if size and size + more > most:
                    return
                size += more
                yield ahead
                ahead = next(batches, None)

        number = 0
        while ahead is not None:
            yield number, one()
            number += 1

    def _files(
        self, rows: np.ndarray, put: Callable[[int, bytes], object] | None = None
    ) -> list[bytes]:
        medium, levels = self.dataset.medium, self.dataset.levels
        files = medium.files(self.pixels(rows), levels)
        if medium.suffix == ".png":
            known = (self._lineage[name][rows].tolist() for name in ("origin", "run", "parameters"))
            files = [mark(file, *row) for file, *row in zip(files, *known, strict=True)]
        if put is not None:
            for row, file in zip(rows.tolist(), files, strict=True):
                put(row, file)
        return files

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Gives the items of rows (n,) as they leave, (n, …): synthetic ones with the watermark, where there is one."""
        x = np.asarray(self.dataset.x[rows])
        if self.watermark is None:
            return x
        made = self._lineage["origin"][rows] == "synthetic"
        marked = x.copy()
        for i in np.flatnonzero(made):
            marked[i] = self.watermark.write(x[i])
        return marked

    @property
    def watermarked(self) -> int:
        """Counts the items with the watermark."""
        return 0 if self.watermark is None else origins(self.dataset)["synthetic"]

    def about(self) -> dict[str, Any]:
        """Says what the dataset is as a whole, in plain values."""
        dataset = self.dataset
        return {
            "name": dataset.name,
            "images": len(dataset),
            "classes": list(dataset.classes),
            "fingerprint": dataset.fingerprint,
            "parent": dataset.parent,
            "levels": dataset.levels,
            "medium": dataset.medium.name,
            "terms": dict(dataset.terms),
            "origins": origins(dataset),
            "notes": list(dataset.notes),
            **({"watermarked": self.watermarked} if self.watermark else {}),
            **({"group": dataset.group} if dataset.group else {}),
        }

    def describe(
        self,
        folder: Path,
        files: Mapping[str, str],
        features: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Writes README.md, the card of the dataset, with its figures beside it; takes what :meth:`readme` takes."""
        for name, picture in self.figures.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(picture)
        text = self.readme(files, features, self.figures)
        (folder / "README.md").write_text(text, "utf-8")

    def readme(
        self,
        files: Mapping[str, str],
        features: Mapping[str, Mapping[str, Any]] | None = None,
        figures: Iterable[str] = (),
    ) -> str:
        """Gives the card of the dataset.

        Args:
            files: The pattern of the files of each split, for readers of folders as the Hugging Face hub has them.
            features: The columns of these files, as the ``huggingface`` schema names them.
            figures: Names of the pictures beside it.
        """
        return card.readme(
            self.dataset,
            files=files,
            features=features,
            figures=figures,
            purpose=self.purpose,
            overrides=self.overrides,
            watermarked=self.watermarked,
        )

    @cached_property
    def figures(self) -> dict[str, bytes]:
        """Gives the pictures that belong to the card, by the name of the file."""
        return card.figures(self.dataset)


def _column(values: np.ndarray, unsaid: np.ndarray) -> np.ndarray:
    """Gives a column as bool, int64, float64 or str; what no file of numbers can hold becomes text.

    Args:
        values: Of every row, (N,).
        unsaid: Of which rows nothing is known; in a file that is null or nan, never a number.
    """
    kind = values.dtype.kind
    if kind == "u" and values.size and int(values.max()) >= 2**63:
        return np.where(unsaid, "", values.astype(str))
    if kind == "f" and np.isinf(values).any():  # JSON has no sign for it
        return np.where(unsaid, "", values.astype(str))
    if unsaid.any():
        return np.where(unsaid, np.nan, values.astype(np.float64))
    return values.astype({"b": bool, "i": np.int64, "u": np.int64, "f": np.float64}.get(kind, str))


def cells(values: np.ndarray | Sequence[bytes], known: np.ndarray | None = None) -> Any:
    """Makes a column of a table, of int64, float64, bool or str (n,), or of bytes.

    Arrow's own way asks pandas whether the values are its own, and imports it for that.

    Args:
        values: What it holds.
        known: Where it holds something, bool (n,); None for everywhere.
    """
    import pyarrow as pa

    holes = None if known is None else pa.py_buffer(np.packbits(known, bitorder="little"))
    if isinstance(values, np.ndarray) and values.dtype.kind != "U":
        if values.dtype == bool:
            kind, content = pa.bool_(), np.packbits(values, bitorder="little")
        else:
            kind = pa.float64() if values.dtype.kind == "f" else pa.int64()
            content = np.ascontiguousarray(values, "<f8" if values.dtype.kind == "f" else "<i8")
        return pa.Array.from_buffers(kind, len(values), [holes, pa.py_buffer(content)])
    kind = pa.binary()
    if isinstance(values, np.ndarray):
        kind, values = pa.string(), [text.encode() for text in values.tolist()]
    ends = np.zeros(len(values) + 1, "<i4")
    np.cumsum([len(value) for value in values], out=ends[1:])
    parts = [holes, pa.py_buffer(ends), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(kind, len(values), parts)


def folder_names(classes: Sequence[str]) -> list[str]:
    """Turns class names into names of folders that any system can hold, each its own, none of them like a split."""
    folders: list[str] = []
    taken: set[str] = set()
    for number, name in enumerate(classes):
        plain = "".join(c if c.isalnum() or c in " -_.()" else "_" for c in name)[:60].strip(" .")
        if (
            not plain
            or hidden(plain)
            or _SPLIT_WORDS & set(re.split(r"[-._ 0-9]+", plain.casefold()))
            or re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", plain.casefold())
        ):
            plain = f"class {number}"
        while plain.casefold() in taken:
            plain = f"{plain} {number}"
        taken.add(plain.casefold())
        folders.append(plain)
    return folders
