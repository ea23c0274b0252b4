"""Files that say which class each picture has: ``metadata.csv`` and ``.jsonl``, ``labels.csv``, ``dataset.json``.

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
from dataclasses import dataclass, field
from typing import Any

NAMES = ("metadata.csv", "metadata.jsonl", "labels.csv", "labels.jsonl", "dataset.json")
_FILE = (
    "file_name", "filename", "file", "image", "image_name", "image_id", "img", "name", "path", "filepath",
    "file_path", "picture", "id",
)  # fmt: skip
_LABEL = ("label", "labels", "class", "class_name", "label_name", "category", "target", "y")
_SPLIT = ("split", "subset", "partition")
COLUMNS = 200  # that are kept by name
_WHOLE = re.compile(r"[+-]?[0-9]+(\.0+)?")


class Malformed(Exception):
    """Says what is wrong with a file of labels."""


@dataclass(frozen=True)
class LabelRow:
    """What a file of labels says of one picture; an empty label is none, and so is an empty group."""

    file: str
    label: str
    split: str = ""
    group: str = ""


@dataclass
class Table:
    """A file of labels.

    Attributes:
        rows: What it says of each picture.
        columns: Names of what it says beside file, label and split; of JSON Lines in the first one.
    """

    rows: list[LabelRow] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)

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
        group: By the position of the picture, where the column that was asked for says one.
        columns: Names of what any file says beside file, label and split.
        missing: Files that are named and not there.
        torn: Positions of pictures that are named with two labels.
    """

    label: dict[int, str] = field(default_factory=dict)
    split: dict[int, str] = field(default_factory=dict)
    group: dict[int, str] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    torn: set[int] = field(default_factory=set)


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
        Its rows; without labels where it says nothing of classes (captions, for example: the first of them), one
        without a file where it says that no picture has a label.

    Raises:
        Malformed: If it is not what its name says.
    """
    if len(data) > most_bytes(pictures):
        raise Malformed(
            f"it is larger than {most_bytes(pictures) / 2**20:.1f} MB, the most for {pictures:,} pictures"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"it is no UTF-8 text (byte {error.start})") from None
    if "\0" in text:
        raise Malformed("it holds a zero byte, so it is no text")
    kind = name.casefold().rpartition(".")[2]
    most = 2 * pictures + 1000
    made = Table()
    read = {"csv": _csv, "jsonl": _lines}.get(kind)
    rows = read(text, group, made.columns) if read else _pairs(text, pictures)
    made.rows += itertools.islice(rows, most + 1)
    if len(made.rows) > most and made.labelled:
        raise Malformed(f"it has more than {most:,} rows, the most for {pictures:,} pictures")
    return made


def match(
    files: Sequence[tuple[str, Table]],
    pictures: Sequence[str],
    others: Sequence[str] = (),
) -> Labels:
    """Finds the picture that each row is about.

    A row's path counts from the folder of its file, else from the top; else its last part does, if only one picture has
    it; each also without an ending. Where all labels are whole numbers, ``1.0`` is ``1``: a table with gaps in its
    column of numbers is written so.

    Args:
        files: Each file of labels, with its name.
        pictures: Names of the pictures.
        others: Names of the files that are no pictures; a row about one of them is no mistake of the file of labels.
    """
    known = {_plain(name) for name in others}
    places: dict[str, list[int]] = defaultdict(list)
    short: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(pictures):
        plain = _plain(name)
        for key in {plain, _bare(plain)}:
            places[key].append(i)
        last = plain.rpartition("/")[2]
        for key in {last, _bare(last)}:
            short[key].append(i)
    found = Labels(columns=list(dict.fromkeys(name for _, said in files for name in said.columns)))
    whole = all(_WHOLE.fullmatch(row.label) for _, said in files for row in said.rows if row.label)
    for file, said in files:
        folder = _plain(file).rpartition("/")[0]
        for row in said.rows:
            path = _plain(row.file)
            near = f"{folder}/{path}" if folder else path
            at = next(
                (
                    hit
                    for hit in (places.get(near), places.get(path), _single(short, path))
                    if hit is not None and len(hit) == 1
                ),
                None,
            )
            if at is None:
                if said.labelled and near not in known and path not in known:
                    found.missing.append(row.file)
                continue
            if row.group:
                found.group.setdefault(at[0], row.group)
            if said.labelled:
                _put(found, at[0], row, row.label.partition(".")[0] if whole else row.label)
    for i in found.torn:
        found.label.pop(i, None)
    return found


def _single(short: Mapping[str, list[int]], path: str) -> list[int] | None:
    return short.get(path.rpartition("/")[2])


def _put(found: Labels, at: int, row: LabelRow, label: str) -> None:
    if row.split:
        found.split[at] = row.split
    if not label:
        return
    if found.label.setdefault(at, label) != label:
        found.torn.add(at)


def _csv(text: str, group: str, columns: list[str]) -> Iterator[LabelRow]:
    labelled = True
    try:
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        head = [cell.strip() for cell in next(lines, [])]
        low = [cell.casefold() for cell in head]
        if not head or len(head) < 2:
            raise Malformed("its first line must name at least two columns, a file and a label")
        file = next((low.index(name) for name in _FILE if name in low), None)
        label = next((low.index(name) for name in _LABEL if name in low), None)
        split = next((low.index(name) for name in _SPLIT if name in low), None)
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
        columns += [name for i, name in enumerate(names) if i not in known | {file}][:COLUMNS]
        kept = names.index(group) if group in columns else None
        if label is None and len(head) == 2 and kept is None:
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
                "" if kept is None else _text(cells[kept]),
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
            said = json.loads(line)
        except (ValueError, RecursionError):
            raise Malformed(f"line {number} is no JSON") from None
        if not isinstance(said, dict):
            raise Malformed(f"line {number} is no JSON object")
        low = {str(key).casefold(): value for key, value in said.items()}
        file = next((low[name] for name in _FILE if name in low), None)
        if not isinstance(file, str):
            raise Malformed(f"line {number} names no file: it needs the key file_name with a text")
        label = next((low[name] for name in _LABEL if name in low), None)
        split = next((low[name] for name in _SPLIT if name in low), "")
        others = {
            _text(key): _text(str(value))
            for key, value in said.items()
            if isinstance(value, str | int) and key.casefold() not in (*_FILE, *_LABEL, *_SPLIT)
        }
        columns += [] if columns else list(others)[:COLUMNS]
        try:
            yield LabelRow(
                file,
                _label(label),
                split if isinstance(split, str) else "",
                others.get(group, ""),
            )
        except Malformed as error:
            raise Malformed(f"line {number}: {error}") from None


def _pairs(text: str, pictures: int) -> Iterator[LabelRow]:
    if text.count("[") + text.count("{") > 2 * pictures + 1000:
        raise Malformed(f"it holds more lists than {pictures:,} pictures can have")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Malformed(f"it is no JSON{where}") from None
    if not isinstance(said, dict):
        raise Malformed('it must be an object with the key "labels"')
    found = said.get("labels")
    if "labels" in said and not found:
        yield LabelRow("", "")  # no picture has one
        return
    if found is None:
        return
    pairs = found.items() if isinstance(found, dict) else found
    if not isinstance(found, list | dict):
        raise Malformed('"labels" must be a list of pairs: a file, and its class')
    for number, pair in enumerate(pairs, 1):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise Malformed(f"entry {number} of its labels must be a file and its class")
        try:
            yield LabelRow(pair[0], _label(pair[1]))
        except Malformed as error:
            raise Malformed(f"entry {number} of its labels: {error}") from None


def _label(value: Any) -> str:
    """Writes a label as the name of a class."""
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
            return _label(value[0])
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
