"""Files that say which class each picture has: ``metadata.csv``, ``.jsonl``, ``.parquet``, ``dataset.json`` …

References:
    Hugging Face datasets, imagefolder with metadata https://huggingface.co/docs/datasets/image_dataset
    NVIDIA, StyleGAN3, dataset_tool https://github.com/NVlabs/stylegan3 (``dataset.json``: pairs of file and class)
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.datasets import arrow, attributes

NAMES = (
    "metadata.csv", "metadata.jsonl", "metadata.parquet", "labels.csv", "labels.jsonl", "labels.parquet",
    "dataset.json",
)  # fmt: skip
FILE = (
    "file_name", "filename", "file", "image", "image_name", "image_id", "img", "name", "path", "filepath",
    "file_path", "picture", "id",
)  # fmt: skip
LABEL = ("label", "labels", "class", "class_name", "label_name", "category", "target", "y")
SPLIT = ("split", "subset", "partition")
COLUMNS = 200  # at most
_WHOLE = re.compile(r"[+-]?[0-9]+(\.0+)?")


class Malformed(Exception):
    """Says what is wrong with a file of labels."""


@dataclass(frozen=True)
class LabelRow:
    """What a file of labels says of one picture; where it says nothing, the text is empty."""

    file: str
    label: str
    split: str = ""
    group: str = ""
    others: tuple[Any, ...] = ()  # of the columns of its table


@dataclass
class Table:
    """A file of labels.

    Attributes:
        rows: What it says of each picture.
        columns: Names of its columns beside file, label and split; of JSON Lines, the keys of the first line.
        about: What an export of this program says of the whole set.
    """

    rows: list[LabelRow] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def labelled(self) -> bool:
        """Whether it says anything of classes."""
        return any(row.label for row in self.rows)


@dataclass
class Labels:
    """What all files of labels of a set say together.

    Attributes:
        label: By the position of the picture.
        split: By the position of the picture, where a column says one.
        group: By the position of the picture, where the column of groups says one.
        columns: What else is said, by the name of the column, then by the position of the picture.
        about: What an export of this program says of the whole set; its classes are those of all files.
        missing: Files that are named and not there.
        torn: Positions of pictures that are named with two labels.
        two_groups: Positions of pictures that are named with two groups.
    """

    label: dict[int, str] = field(default_factory=dict)
    split: dict[int, str] = field(default_factory=dict)
    group: dict[int, str] = field(default_factory=dict)
    columns: dict[str, dict[int, Any]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    torn: set[int] = field(default_factory=set)
    two_groups: set[int] = field(default_factory=set)


def is_labels(name: str) -> bool:
    """Tells by its name whether a file may hold labels."""
    return name.rpartition("/")[2].casefold() in NAMES


def most_bytes(pictures: int) -> int:
    """Bounds a file of labels by the pictures that it can be about."""
    return min(2**26, 2**20 + 2048 * pictures)


def parse(name: str, data: bytes, pictures: int, group: str = "") -> Table:
    """Reads a file of labels.

    Args:
        name: Of the file; its ending says the form.
        data: Its content.
        pictures: How many pictures there are, which bounds what is built from it.
        group: The column whose values keep pictures together; it is not the label.

    Returns:
        Its rows. They have no labels where it says nothing of classes (captions, for example, of which only the first
        are read); where it says that no picture has a label, it is one row without a file.

    Raises:
        Malformed: If it is not what its name says.
    """
    if len(data) > most_bytes(pictures):
        raise Malformed(
            f"it is larger than {most_bytes(pictures) / 2**20:.1f} MB, the most for {pictures:,} pictures"
        )
    kind = name.casefold().rpartition(".")[2]
    most, table = 2 * pictures + 1000, Table()
    parquet = kind == "parquet"
    rows = _parquet(data, group, table) if parquet else _texts(kind, data, pictures, group, table)
    table.rows += itertools.islice(rows, most + 1)
    if len(table.rows) > most and table.labelled:
        raise Malformed(f"it has more than {most:,} rows, the most for {pictures:,} pictures")
    if kind == "csv" and table.columns:
        cells = zip(*(row.others for row in table.rows), strict=True)
        values = zip(*map(attributes.parsed, cells), strict=True)
        table.rows = [
            replace(row, others=others) for row, others in zip(table.rows, values, strict=True)
        ]
    return table


def _texts(kind: str, data: bytes, pictures: int, group: str, table: Table) -> Iterator[LabelRow]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"it is no UTF-8 text (byte {error.start})") from None
    if "\0" in text:
        raise Malformed("it holds a zero byte, so it is no text")
    read = {"csv": _csv, "jsonl": _lines}.get(kind)
    return read(text, group, table.columns) if read else _pairs(text, pictures)


def _parquet(data: bytes, group: str, table: Table) -> Iterator[LabelRow]:
    read = arrow.Parquet(io.BytesIO(data))
    table.about = read.about
    for number, record in enumerate(read.records(list(read.kinds)), 1):
        yield _row(f"row {number}", record, group, table.columns, read.names)


def match(
    files: Sequence[tuple[str, Table]],
    pictures: Sequence[str],
    others: Sequence[str] = (),
) -> Labels:
    """Finds the picture that each row is about.

    A row's path is looked for from the folder of its file, then from the top; then its last part, if only one picture
    has that name; each also without its ending. Where all labels are whole numbers, ``1.0`` is ``1``: programs write
    a column of numbers with gaps like that.

    Args:
        files: Each file of labels, with its name.
        pictures: Names of the pictures.
        others: Names of the files that are no pictures; a row about one of them does not count as missing.
    """
    known = {_plain(name) for name in others}
    by_path: dict[str, list[int]] = defaultdict(list)
    by_name: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(pictures):
        path = _plain(name)
        for index, key in ((by_path, path), (by_name, path.rpartition("/")[2])):
            for form in {key, _bare(key)}:
                index[form].append(i)
    labels = Labels(columns={name: {} for _, table in files for name in table.columns})
    labels.about = next((dict(table.about) for _, table in files if table.about), {})
    named = {row.label for _, table in files for row in table.rows} - {""}
    whole_names = attributes.whole_names(named, labels.about.get("classes", ()))
    if not whole_names:
        labels.about["classes"] = []
    given = [row.label for _, table in files for row in table.rows if row.label]
    whole = not whole_names and all(map(_WHOLE.fullmatch, given))
    for file, table in files:
        folder, labelled = _plain(file).rpartition("/")[0], table.labelled
        for row in table.rows:
            path = _plain(row.file)
            near = f"{folder}/{path}" if folder else path
            hits = (by_path.get(near), by_path.get(path), by_name.get(path.rpartition("/")[2]))
            i = next((hit[0] for hit in hits if hit and len(hit) == 1), None)
            if i is None:
                if labelled and not known & {near, path}:
                    labels.missing.append(row.file)
                continue
            for name, value in zip(table.columns, row.others, strict=False):
                if value is not None:
                    labels.columns[name].setdefault(i, value)
            if row.group and labels.group.setdefault(i, row.group) != row.group:
                labels.two_groups.add(i)
            if labelled and row.split:
                labels.split[i] = row.split
            label = row.label.partition(".")[0] if whole else row.label
            if label and labels.label.setdefault(i, label) != label:
                labels.torn.add(i)
    for i in labels.torn:
        del labels.label[i]
    if whole_names:
        labels.label = {i: whole_names[name] for i, name in labels.label.items()}
    return labels


def _csv(text: str, group: str, columns: list[str]) -> Iterator[LabelRow]:
    labelled = True
    try:
        mark = max(",;\t", key=text.partition("\n")[0].count)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        head = [cell.strip() for cell in next(lines, [])]
        if len(head) < 2:
            raise Malformed("its first line must name at least two columns, a file and a label")
        low = {head[i].casefold(): i for i in reversed(range(len(head)))}
        file, label, split = (_first(keys, low) for keys in (FILE, LABEL, SPLIT))
        first: list[LabelRow] = []
        names = [_text(cell) for cell in head]
        known = {file, label, split}
        if file is None and label is None:  # no head: a file and its label in every line
            if len(head) != 2 or "." not in head[0]:
                raise Malformed(
                    "its first line must name the columns, for example file_name,label, got "
                    + ",".join(head)[:80]
                )
            file, label, first = 0, 1, [LabelRow(head[0], names[1])]
            known = {0, 1}
        if file is None:
            file = next(i for i in range(len(head)) if i != label)
        others = [i for i in range(len(names)) if i not in known | {file}][:COLUMNS]
        columns += [names[i] for i in others]
        member = names.index(group) if group in columns else None
        if label is None and len(head) == 2 and member is None:
            label = 1 - file
        labelled = label is not None  # else captions, boxes
        yield from first
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(head):
                if not labelled:
                    return
                raise Malformed(
                    f"line {lines.line_num} has {len(cells)} cells, and its first line has {len(head)}"
                )
            yield LabelRow(
                cells[file].strip(),
                "" if label is None else _text(cells[label]),
                "" if split is None else cells[split].strip(),
                "" if member is None else _text(cells[member]),
                tuple(cells[i].strip() for i in others),
            )
    except csv.Error as error:
        if not labelled:
            return
        raise Malformed(f"line {lines.line_num} is no CSV ({error})") from None


def _lines(text: str, group: str, columns: list[str]) -> Iterator[LabelRow]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if line.count("[") + line.count("{") > 1000:
            raise Malformed(f"line {number} is too deep")
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise Malformed(f"line {number} is no JSON") from None
        if not isinstance(record, dict):
            raise Malformed(f"line {number} is no JSON object")
        yield _row(f"line {number}", record, group, columns)


def _row(
    where: str,
    record: Mapping[str, Any],
    group: str,
    columns: list[str],
    names: Mapping[str, Sequence[str]] | None = None,
) -> LabelRow:
    """Reads what a record says of a picture; the first one names the ``columns``.

    Raises:
        Malformed: If it names no file, or no class where it should.
    """
    low = {key.casefold(): key for key in reversed(list(record))}
    file, label, split = (_first(keys, low) or "" for keys in (FILE, LABEL, SPLIT))
    if not isinstance(record.get(file), str):
        raise Malformed(f"{where} names no file: it needs the key file_name with a text")
    others = {
        _text(key): value
        for key, value in record.items()
        if (value is None or isinstance(value, str | int | float))
        and key not in (file, label, split)
    }
    columns += [] if columns else list(others)[:COLUMNS]
    of, said = record.get(label), record.get(split)
    if names and label in names and isinstance(of, int):  # a number of a class that has a name
        of = names[label][of] if 0 <= of < len(names[label]) else None
    member = others.get(group)
    try:
        name = class_name(of)
    except Malformed as error:
        raise Malformed(f"{where}: {error}") from None
    return LabelRow(
        record[file],
        name,
        said if isinstance(said, str) else "",
        "" if member is None or isinstance(member, float) else _text(str(member)),
        tuple(others.get(name) for name in columns),
    )


def _pairs(text: str, pictures: int) -> Iterator[LabelRow]:
    if text.count("[") + text.count("{") > 2 * pictures + 1000:
        raise Malformed(f"it holds more lists than {pictures:,} pictures can have")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Malformed(f"it is no JSON{where}") from None
    if not isinstance(content, dict):
        raise Malformed('it must be an object with the key "labels"')
    if "labels" not in content:
        return
    if not (pairs := content["labels"]):
        yield LabelRow("", "")  # no picture has one
        return
    if not isinstance(pairs, list | dict):
        raise Malformed('"labels" must be a list of pairs: a file, and its class')
    pairs = pairs.items() if isinstance(pairs, dict) else pairs
    for number, pair in enumerate(pairs, 1):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise Malformed(f"entry {number} of its labels must be a file and its class")
        try:
            yield LabelRow(pair[0], class_name(pair[1]))
        except Malformed as error:
            raise Malformed(f"entry {number} of its labels: {error}") from None


def _first(keys: Sequence[str], record: Mapping[str, Any]) -> Any:
    """Gives the value of the first of some keys that a record has."""
    return next((record[key] for key in keys if key in record), None)


def class_name(value: Any) -> str:
    """Writes a label as the name of a class; nothing is empty.

    Raises:
        Malformed: If it is no text, no whole number, and no list that says one of many.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | str):
        return _text(str(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list) and value and all(isinstance(v, int | float) for v in value):
        if len(value) == 1:
            return class_name(value[0])
        if sorted(value)[-2:] == [0, 1] and sum(value) == 1:  # one of many, as a vector
            return str(value.index(1))
    raise Malformed("a label must be a text or a whole number, and a picture has one")


def _text(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(text.split()))[:200]


def _plain(path: str) -> str:
    path = unicodedata.normalize("NFC", path.strip().replace("\\", "/")).casefold()
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _bare(path: str) -> str:
    head, slash, last = path.rpartition("/")
    return head + slash + (last.rpartition(".")[0] or last)
