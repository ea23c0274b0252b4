"""Parquet: one file, or a folder of shards, as Hugging Face's ``datasets`` and this program write them.

References:
    Hugging Face datasets, the names of shards https://huggingface.co/docs/datasets/repository_structure
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from core.catalog import Config, UserError, knob
from core.datasets import labels
from core.datasets.arrow import MAGIC, Parquet
from core.datasets.attributes import ours
from core.datasets.container import Container, File, Rows, Volume
from core.datasets.files import RATIO, SMALL, allow_number, shown
from core.datasets.formats import Heads, formats
from core.datasets.layout import of_shards
from core.datasets.pairing import FOLDER as PAIR
from core.datasets.pictures import Refused
from core.ground.writing import many

# the hub has put a hash of each shard behind its number
_OF = re.compile(r"(.*?)-?(\d+)-of-(\d+)(?:-[0-9a-f]{16})?(.*)")


class ParquetConfig(Config):
    """How a Parquet file is read."""

    label: str = knob(
        "",
        "The column that says the class of each picture; empty takes the one that is called or declared so.",
        title="Column of the class",
        advanced=True,
    )


@dataclass
class Shard:
    """A Parquet file that is open.

    Attributes:
        file: Where it lies.
        table: Its content.
        split: As its name says it; empty for none.
    """

    file: File
    table: Parquet
    split: str = ""


def told(volume: Volume, heads: Heads) -> Sequence[File]:
    """Lists the Parquet files, unless they hold no pictures and lie beside some."""
    files = [file for file, head in heads if head.startswith(MAGIC)]
    if len(files) == len(heads) or not files:
        return files
    for file in files[:20]:
        try:
            table = _opened(volume, file)
        except Refused:
            return files
        with suppress(Exception):
            table.close()
        if table.pictures:
            return files
    return [] if len(volume.files) > len(heads) else files


@formats.add("parquet", "Parquet", ParquetConfig, told=told, suffixes=("parquet",))
def parquet(volume: Volume, files: Sequence[File], config: Any) -> Container:
    """Pictures in the rows of a table, with their labels and whatever else is known of each."""
    return ParquetContainer(volume, files, config)


class ParquetContainer(Container):
    """Rows of Parquet files; each picture is read with its batch, never the whole table.

    Raises:
        UserError: If a shard is missing or damaged, holds no pictures, or does not fit the others.
    """

    def __init__(self, volume: Volume, files: Sequence[File], config: Any) -> None:
        self.volume, self.refused = volume, list(volume.refused)
        self._shards: list[Shard] = []
        self._column = ""
        self._at: dict[str, tuple[int, Iterator[tuple[int, Any]], int, Any]] = {}
        try:
            self._open(sorted(files, key=lambda file: file.name))
            self.files, self.rows = self._read(config.label.strip())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes all files."""
        self._at.clear()
        for shard in self._shards:
            with suppress(Exception):
                shard.table.close()
        self.volume.close()

    def read(self, file: File, most: int, count: bool = True) -> bytes:
        """Reads a picture.

        Raises:
            Refused: If it is not there, or its file is damaged.
        """
        shard, row, column = file.key
        at = self._at.get(column)
        if at is None or at[0] != shard or row < at[2]:
            at = (shard, self._shards[shard].table.values(column, row), 0, ())
        number, batches, first = at[:3]
        batch: Any = at[3]
        while row >= first + len(batch):
            try:
                first, batch = next(batches)
            except StopIteration:
                self._at.pop(column, None)
                raise Refused("is cut off (truncated)") from None
            except Refused:
                self._at.pop(column, None)
                raise
            self._at[column] = (number, batches, first, batch)
        value = batch[row - first].as_py()
        if value is None:
            raise Refused("has no picture in its row")
        return value[:most]

    def _open(self, files: Sequence[File]) -> None:
        _complete([file.name for file in files])
        for file in files:
            try:
                self._shards.append(Shard(file, _opened(self.volume, file)))
            except Refused as why:
                raise _refused(file, f"{why}. Take it out, or get it again.") from None
        allow_number(sum(shard.table.rows for shard in self._shards), Path(self.volume.name))
        first = self._shards[0]
        if not first.table.pictures:
            raise _refused(
                first.file,
                "has no column of pictures (bytes of a picture file, alone or with a path). Its columns: "
                f"{', '.join([*first.table.kinds, *first.table.left_out]) or 'none'}.",
            )
        self._column = first.table.pictures[0]
        for shard in self._shards:
            unpacked = shard.table.unpacked
            if unpacked > SMALL and unpacked > RATIO * shard.file.size:
                raise _refused(
                    shard.file,
                    f"unpacks to {unpacked / shard.file.size:.0f} times its size, and at most {RATIO} times is "
                    "allowed. Nothing of it was kept.",
                )
            if self._column not in shard.table.pictures:
                raise _refused(
                    shard.file,
                    f"has no column {self._column!r} of pictures, as {first.file.name!r} has. Files of one set have "
                    "the same columns; take out the others.",
                )
        for shard, split in zip(
            self._shards, of_shards([s.file.name for s in self._shards]), strict=True
        ):
            shard.split = split

    def _read(self, wished: str) -> tuple[list[File], Rows]:
        """Reads everything but the pictures."""
        first = self._shards[0].table
        label = _label(first, wished, self.volume.name)
        names = first.names.get(label, [])
        for shard in self._shards:
            if set(shard.table.names.get(label, [])) != set(names):
                raise _refused(
                    shard.file,
                    f"names other classes in {label!r} than {self._shards[0].file.name!r}. Files of one set have the "
                    "same classes; take one of them out.",
                )
        split = next(
            (
                n
                for n, kind in first.kinds.items()
                if n.casefold() in labels.SPLIT and kind == "text"
            ),
            "",
        )
        others = [name for name in first.kinds if name not in (label, split)][: labels.COLUMNS]
        columns: dict[str, list[Any]] = {name: [] for name in others}
        said: list[str | None] = []
        splits: list[str] = []
        listed: list[File] = []
        seconds: dict[str, File] = {}
        second = PAIR if all(PAIR in shard.table.pictures[1:] for shard in self._shards) else ""
        taken: set[str] = set()
        for number, shard in enumerate(self._shards):
            known = shard.table.names.get(label, [])
            path = self._column if shard.table.has_path(self._column) else ""
            wanted = [name for name in (label, split, *others) if name in shard.table.kinds]
            classes = {
                name: shard.table.names[name] for name in others if name in shard.table.names
            }
            stem = PurePosixPath(shard.file.name).stem
            try:
                for row, record in enumerate(shard.table.records(wanted, path)):
                    for name, values in columns.items():
                        value = record.get(name)
                        if name in classes and value is not None:
                            value = _named(value, classes[name])
                        values.append(value[:10_000] if isinstance(value, str) else value)
                    said.append(_class(record.get(label), known) if label else None)
                    splits.append(str(record.get(split) or "") if split else shard.split)
                    own = (
                        str(record.get(path) or "").replace("\\", "/").strip("/")[-200:]
                        if path
                        else ""
                    )
                    name = own if own and own not in taken else f"{stem}/{row:06d}"
                    taken.add(name)
                    listed.append(File(name, 0, (number, row, self._column)))
                    if second:
                        seconds[name] = File(f"{name} ({second})", 0, (number, row, second))
            except Refused as why:
                raise _refused(shard.file, f"{why}. Take it out, or get it again.") from None
        if not label and (label := _whole(first, columns)):
            said = [None if v is None or v != v else str(int(v)) for v in columns.pop(label)]
        notes = []
        if len(self._shards) > 1:
            notes.append(f"{many(self._shards, 'Parquet file')} are one set.")
        if len(first.pictures) > 1:
            unread = [name for name in first.pictures[1:] if name != second]
            more = ", ".join(map(repr, map(shown, unread)))
            notes.append(
                f"The pictures are those of the column {shown(self._column)!r}"
                + (f"; {more} was left out." if more else ".")
            )
        if label:
            notes.append(f"The classes are those of the column {shown(label)!r}.")
        left = self._shards[0].table.left_out
        if left:
            notes.append(
                f"Columns of lists and the like are left out: {', '.join(map(shown, left[:8]))}."
            )
        rows = Rows(
            label=said if label and any(name is not None for name in said) else (),
            classes=tuple(names),
            split=splits if any(splits) else (),
            columns=columns,
            notes=notes,
            sentence="the Parquet file",
            **ours(first.about, columns),
        )
        self.pairs = seconds
        return listed, rows


def _refused(file: File, why: str) -> UserError:
    return UserError(f"The Parquet file {shown(file.name)!r} {shown(why)}")


def _opened(volume: Volume, file: File) -> Parquet:
    return Parquet(file.key if isinstance(file.key, Path) else volume.open(file))


def _complete(names: Sequence[str]) -> None:
    """Refuses a set of which a shard is missing: ``-00000-of-00003`` says how many there are.

    Raises:
        UserError: With those that are missing.
    """
    groups: dict[tuple[str, int, str], set[int]] = defaultdict(set)
    for name in names:
        if match := _OF.fullmatch(name):
            groups[match[1], int(match[3]), match[4]].add(int(match[2]))
    for (stem, total, _), there in groups.items():
        if len(there) < total:
            missing = [i for i in range(min(total, 10_000)) if i not in there][:3]
            raise UserError(
                f"Of the {total:,} Parquet files {shown(stem)!r} only {len(there):,} are here; missing is number "
                f"{', '.join(map(str, missing))}{' …' if total - len(there) > 3 else ''}. Get all of them."
            )


def _label(table: Parquet, wished: str, name: str) -> str:
    """Chooses the column of the class; empty where there is none.

    Raises:
        UserError: If the one that is wished for is not there.
    """
    kinds = {key: kind for key, kind in table.kinds.items() if kind in ("bool", "int", "text")}
    if wished:
        if wished not in kinds:
            raise UserError(
                f"dataset.label={wished!r:.80} must be a column of {name!r} with a class. "
                f"Columns: {', '.join(map(shown, kinds)) or 'none'}. Choose one of them, or leave it out."
            )
        return wished
    low = {key.casefold(): key for key in reversed(kinds)}
    called = [low[key] for key in labels.LABEL if key in low]
    declared = [key for key in called if key in table.names] or list(table.names)
    return next(iter([*declared, *called]), "")


def _whole(table: Parquet, columns: Mapping[str, Sequence[Any]]) -> str:
    """Finds a column of classes that a gap in it has turned into floats, as pandas does; empty for none."""
    for name, values in columns.items():
        if table.kinds[name] == "float" and name.casefold() in labels.LABEL:
            known = [v for v in values if v is not None and v == v]
            if known and all(float(v).is_integer() for v in known):
                return name
    return ""


def _class(value: Any, names: Sequence[str]) -> str | None:
    if names:
        return _named(value, names)
    return None if value is None else labels.class_name(value) or None


def _named(value: Any, names: Sequence[str]) -> str | None:
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
