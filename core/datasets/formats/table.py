"""A table of any name beside pictures: one of its columns names files that are here, another says their class."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.catalog import UserError
from core.datasets import attributes
from core.datasets.annotations import finder
from core.datasets.container import Container, File, Rows, Volume
from core.datasets.files import shown
from core.datasets.formats import formats
from core.datasets.formats.parquet import ParquetConfig
from core.datasets.labels import COLUMNS, LABEL, SPLIT, is_labels, most_bytes
from core.datasets.pictures import Refused

SUFFIX = ("csv", "tsv")
# what else columns of classes are called, beside the usual names
_CALLED = (
    *LABEL,
    "diagnosis",
    "dx",
    "finding",
    "finding labels",
    "species",
    "breed",
    "type",
    "tag",
    "emotion",
)
_KINDS = 50  # values of a column that may be classes, at most
_SHARE = 0.5  # of the rows that name a file that is here, at least


@dataclass
class Sheaf:
    """A table that was read.

    Attributes:
        head: Names of its columns.
        rows: Their cells.
        file: Position of the column of files.
        pictures: For each row the position of the file in the volume, or None.
    """

    head: list[str]
    rows: list[list[str]]
    file: int = 0
    pictures: list[int | None] = field(default_factory=list)


@formats.add(
    "table",
    "A table beside pictures",
    ParquetConfig,
    told=lambda volume, heads: [file for file, _ in _read(volume, _tables(volume))],
    beside=True,
    suffixes=SUFFIX,
)
def opened(volume: Volume, files: Sequence[File], config: Any) -> Container:
    """Pictures with a CSV or TSV of any name beside them, of which a column names the files."""
    return Tabled(volume, files, config)


def _tables(volume: Volume) -> list[File]:
    """Lists the tables; none where one has a name that says what it is, since that is read as it always was."""
    if any(is_labels(file.name) for file in volume.files):
        return []
    return [file for file in volume.files if _ending(file) in SUFFIX]


def _ending(file: File) -> str:
    return file.name.casefold().rpartition(".")[2]


def _read(volume: Volume, tables: Sequence[File]) -> list[tuple[File, Sheaf]]:
    """Reads those tables of which a column names files that are here."""
    if not tables:
        return []
    pictures = [at for at, file in enumerate(volume.files) if _ending(file) not in SUFFIX]
    find = finder([volume.files[at].name for at in pictures])  # once: there may be a table for each
    found = ((file, _sheaf(volume, file, pictures, find)) for file in tables)
    return [(file, sheaf) for file, sheaf in found if sheaf]


def _sheaf(
    volume: Volume,
    file: File,
    pictures: Sequence[int],
    find: Callable[[str, str], int | None],
) -> Sheaf | None:
    """Reads a table; None if it is none, or no column names files that are here."""
    most = most_bytes(len(pictures))
    try:
        data = volume.read(file, most + 1, count=False)
        text = data.decode("utf-8-sig")
    except (Refused, UnicodeDecodeError):
        return None
    if len(data) > most or "\0" in text:
        return None
    first = text.partition("\n")[0]
    mark = max(",;\t", key=first.count)
    try:
        lines = [
            line
            for line in csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
            if any(line)
        ]
    except csv.Error:
        return None
    if len(lines) < 2 or not 2 <= len(lines[0]) <= COLUMNS or len(lines) > 2 * len(pictures) + 1000:
        return None
    if any(len(line) != len(lines[0]) for line in lines):
        return None
    folder = file.name.rpartition("/")[0]
    found = [
        [find(folder, line[k]) if line[k].strip() else None for line in lines]
        for k in range(len(lines[0]))
    ]
    hits = [len({at for at in column if at is not None}) for column in found]
    best = max(range(len(hits)), key=lambda k: hits[k])
    if hits[best] < 2 or sum(at is not None for at in found[best]) < _SHARE * (len(lines) - 1):
        return None
    headed = found[best][0] is None
    names = lines[0] if headed else [f"column {k + 1}" for k in range(len(lines[0]))]
    where = [None if at is None else pictures[at] for at in found[best]]
    head = [" ".join(name.split())[:200] or f"column {k + 1}" for k, name in enumerate(names)]
    return Sheaf(head, lines[headed:], best, where[headed:])


class Tabled(Container):
    """Pictures that a table says the classes of.

    Raises:
        UserError: If the column of the class is not there, or two tables name the same pictures.
    """

    def __init__(self, volume: Volume, files: Sequence[File], config: Any) -> None:
        self.volume, self.refused = volume, list(volume.refused)
        sheaves = {file.name: sheaf for file, sheaf in _read(volume, files)}
        # one table says what the pictures are: the one that names most of them
        name = max(sheaves, key=lambda name: len(set(sheaves[name].pictures)))
        sheaf = sheaves[name]
        self.refused += [
            (other, f"names fewer pictures than {name!r}") for other in sheaves if other != name
        ]
        label = self._label(sheaf, name, config.label.strip())
        split = next((k for k, called in enumerate(sheaf.head) if called.casefold() in SPLIT), None)
        said: dict[int, list[str]] = {}
        for row, at in zip(sheaf.rows, sheaf.pictures, strict=True):
            if at is None:
                self.refused.append((row[sheaf.file], f"is named in {name!r}, and is not here"))
            elif at in said and label is not None and said[at][label] != row[label]:
                said[at] = []
            elif said.get(at) != []:
                said[at] = row
        for at, row in said.items():
            if not row:
                self.refused.append(
                    (volume.files[at].name, f"is named with two classes in {name!r}")
                )
        if label is not None:
            self.refused += [
                (file.name, f"has no row in {name!r}")
                for at, file in enumerate(volume.files)
                if at not in said and file.name not in sheaves
            ]
        rows = {at: row for at, row in said.items() if row}
        # where it says no class, the folders still may
        taken = list(rows) if label is not None else list(range(len(volume.files)))
        self.files = [volume.files[at] for at in taken]
        others = [k for k in range(len(sheaf.head)) if k not in (sheaf.file, label, split)]
        notes = [f"The table {shown(name)!r} names the pictures in {sheaf.head[sheaf.file]!r}."]
        if label is None:
            listed = ", ".join(shown(sheaf.head[k]) for k in others)[:200]
            notes.append(
                f"Which of its columns says the class is not clear ({listed}): choose one (dataset.label) if it is one."
            )
        else:
            notes.append(f"The classes are those of its column {shown(sheaf.head[label])!r}.")

        def cells(column: int) -> list[str]:
            return [rows[at][column].strip() if at in rows else "" for at in taken]

        self.rows = Rows(
            label=[] if label is None else [_class(cell) for cell in cells(label)],
            split=[] if split is None else cells(split),
            columns={sheaf.head[k]: attributes.parsed(cells(k)) for k in others},
            notes=notes,
            sentence=f"the table {shown(name)!r}",
            beside=label is None,
        )

    def close(self) -> None:
        """Closes what they lie in."""
        self.volume.close()

    def read(self, file: File, most: int, count: bool = True) -> bytes:
        """Reads a picture.

        Raises:
            Refused: If it cannot be read.
            UserError: If what it lies in unpacks to more than it may.
        """
        return self.volume.read(file, most, count)

    def _label(self, sheaf: Sheaf, name: str, wanted: str) -> int | None:
        """Finds the column of the class: the one that is asked for, or that is called so, or the only other one."""
        low = [called.casefold() for called in sheaf.head]
        others = [k for k in range(len(low)) if k != sheaf.file and low[k] not in SPLIT]
        if wanted:
            if wanted.casefold() not in low or low.index(wanted.casefold()) == sheaf.file:
                raise UserError(
                    f"dataset.label={wanted!r:.80} must be a column of {name!r}: "
                    f"{', '.join(shown(sheaf.head[k]) for k in others)}. Choose one of them, or leave it out."
                )
            return low.index(wanted.casefold())
        if called := [k for k in others if low[k] in _CALLED]:
            return min(called, key=lambda k: _CALLED.index(low[k]))
        if len(others) == 1 and 2 * len({row[others[0]] for row in sheaf.rows}) <= len(sheaf.rows):
            return others[0]
        alike = [k for k in others if self._kinds(sheaf, k)]
        return alike[0] if len(alike) == 1 else None

    @staticmethod
    def _kinds(sheaf: Sheaf, column: int) -> bool:
        """Tells whether a column holds a few words again and again, as classes do."""
        counts = Counter(row[column].strip() for row in sheaf.rows)
        words = not any(map(_is_number, counts))
        return (
            words
            and 2 <= len(counts) <= min(_KINDS, len(sheaf.rows) // 2)
            and min(counts.values()) > 1
        )


def _class(cell: str) -> str | None:
    return " ".join(cell.split())[:200] or None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
