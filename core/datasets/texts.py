"""Texts as a dataset: those that the program writes itself, and a visitor's own.

A file, a ZIP or a folder of texts is read within the bounds of any upload; nothing is unpacked to disk. What cannot be
read is listed with its reason, while the others go on.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from core.catalog import Config, UserError, knob, seed_knob, unknown
from core.datasets import arrow, files, formats, labels, plan, sources
from core.datasets.container import File, Volume
from core.datasets.dataset import (
    FEWEST,
    SPLITS,
    Consent,
    Dataset,
    Own,
    Preview,
    assemble,
    datasets,
    from_digests,
    split_by_content,
)
from core.datasets.layout import role
from core.datasets.pictures import SUFFIXES, Refused
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import many
from core.media import media
from core.media import text as medium

PLAIN = ("txt", "text", "md")
TABLES = ("csv", "tsv", "jsonl", "ndjson", "parquet")
KEYS = ("text", "content", "sentence", "document", "body", "caption", "review", "message")
CLASSES = 1000  # at most
ROWS = 1_000_000  # texts of a table, at most
CELL = 2**24  # characters of one text in a table, at most
FEW = 50  # documents at least that are not divided among splits
PASSAGE = 4  # lengths of an item that paragraphs are joined up to, about
GLANCE = 24  # texts that a preview shows


class SentencesConfig(Config):
    """The choices of the sentences about drawn faces."""

    count: int = knob(
        8_000,
        "How many sentences to write.",
        ge=16,
        le=100_000,
        unit="texts",
        title="Number of texts",
        log=True,
    )
    seed: int = seed_knob(
        "Another seed writes about other faces; the same seed always writes the same."
    )
    length: int = knob(
        160,
        "Bytes of an item; a longer sentence goes on in the next.",
        ge=64,
        le=1024,
        unit="bytes",
    )
    valid_share: float = sources.valid_share_knob("texts")


def _code(*modules: str) -> str:
    specs = [find_spec(name) for name in modules]
    code = b"".join(Path(spec.origin).read_bytes() for spec in specs if spec and spec.origin)
    return hashlib.sha256(code).hexdigest()  # another grammar writes other sentences


@datasets.add(
    "sentences",
    "Sentences about faces",
    SentencesConfig,
    prepare=lambda config: (config, _code("core.datasets.faces", "core.datasets.sentences")),
    medium="text",
    chain="texts",
    weighs=lambda config: config.count * config.length,
    own=lambda data, dataset: own(data, dataset),
    suffixes=PLAIN,
    terms=lambda config: {"licence": "Apache-2.0", "consent": "not needed"},
)
def sentences(config: SentencesConfig, folder: Path, watch: Watch = UNWATCHED) -> Dataset:
    """Sentences about cartoon faces that the program writes itself, in several wordings, with the truth about each.

    The class is the expression of the face, and what else is said of it is kept beside the sentence.
    """
    from core.datasets import faces, sentences

    who = faces.attributes(config.seed, config.count)
    told = sentences.written(who, config.seed)
    windows = [medium.encode(text, config.length) for text in told]
    rows = np.repeat(np.arange(len(told)), [len(part) for part in windows])
    y = who["expression"].astype(np.int64)[rows]
    keys = np.array([_key(text) for text in told], np.uint64)[rows]
    return assemble(
        np.concatenate(windows),
        y,
        faces.CLASSES,
        split_by_content(keys, y, valid_share=config.valid_share, test_share=0.1),
        medium="text",
        attributes={
            name: np.asarray(values)[rows] for name, values in who.items() if name in faces.NAMES
        },
        terms=datasets.get("sentences").terms(config),
        source={"values": {name: list(names) for name, names in faces.NAMES.items()}},
    )


def _key(text: str) -> int:
    return int(from_digests(hashlib.blake2b(text.encode(), digest_size=8).digest())[0])


# --- A visitor's own ------------------------------------------------------------------------------------------------


class TextsConfig(Config):
    """The choices for texts of one's own."""

    path: str = knob(
        "",
        "A text, a table with a column of texts (CSV, JSON lines, Parquet), a ZIP or a directory on the server.",
        path=True,
    )
    length: int = knob(
        256, "Bytes of an item; a longer text goes on in the next.", ge=16, le=4096, unit="bytes"
    )
    column: str = knob(
        "", "The column of a table that holds the texts; empty for the one that looks like it.",
        title="Column of texts",
    )  # fmt: skip
    label: str = knob(
        "auto",
        "What says the classes: file, folder, the name of a column, or none; auto takes the folders, or a column "
        "called label, class or author.",
        title="Classes",
    )
    whole: Literal["auto", "document", "paragraph"] = knob(
        "auto",
        "What lies in one split as a whole; auto takes documents, or paragraphs where there are few of them.",
        title="Keep together by",
        advanced=True,
    )
    valid_share: float = sources.valid_share_knob("texts")
    test_share: float = sources.final_share_knob("texts", 0.1)
    licence: str = knob("", "The licence of the texts; it travels with every version.")
    consent: Consent = knob(
        "unknown",
        "Whether those who wrote them, or are written about, agreed to their use; not needed where it concerns nobody.",
        title="Consent",
    )


@dataclass(frozen=True)
class Document:
    """One text of an import.

    Attributes:
        name: Of its file, with the number of its row in a table.
        text: What it says.
        label: Name of its class; empty for none.
        split: Position in :data:`core.datasets.SPLITS`; 0 where nothing says one.
    """

    name: str
    text: str
    label: str = ""
    split: int = 0


@dataclass
class TextImport:
    """What was found in an import of texts.

    Attributes:
        documents: The texts.
        refused: Names of files that are left out, with the reason.
        kind: What they come in, for people; empty for plain texts.
        by: What says the classes: ``file``, ``folder``, a column, or ``none``.
        columns: Of a table, beside the one of texts.
    """

    documents: list[Document] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    kind: str = ""
    by: str = "none"
    columns: tuple[str, ...] = ()


def found(config: TextsConfig) -> TextImport:
    """Reads all texts of a path.

    Raises:
        UserError: If it cannot be opened, is not to be trusted, or holds no texts.
    """
    path = plan.place(config.path)
    with formats.volume_of(path) as volume:
        pictures = sum(_ending(file) in SUFFIXES for file in volume.files)
        if pictures:
            raise UserError(
                f"{path.name!r} holds {many(pictures, 'picture')}, and is read as pictures. Texts come in files of "
                "their own: take the pictures out."
            )
        reading = _read(volume, config)
    if not reading.documents:
        why = f" ({reading.refused[0][1]})" if reading.refused else ""
        raise UserError(
            f"{path.name!r} holds no text that can be read{why}. Plain texts ({', '.join(PLAIN)}) and tables "
            f"({', '.join(TABLES)}) with a column of texts are read."
        )
    return reading


def _ending(file: File) -> str:
    return file.name.casefold().rpartition(".")[2] if "." in file.name else ""


def _read(volume: Volume, config: TextsConfig) -> TextImport:
    reading, size = TextImport(refused=list(volume.refused)), 0
    plain: list[tuple[File, str]] = []
    tables: list[tuple[File, bytes]] = []
    most = settings().max_unpacked_mb * 2**20
    for file in sorted(volume.files, key=lambda file: file.name):
        ending = _ending(file)
        if ending not in (*PLAIN, *TABLES, ""):
            reading.refused.append((file.name, "is no text by its name"))
            continue
        try:
            size += file.size
            if size > most:
                raise UserError(
                    f"The texts have more than {most >> 20:,} MB together. Take fewer or shorter ones."
                )
            content = volume.read(file, file.size + 1)
            if ending in TABLES:
                tables.append((file, content))
            else:
                plain.append((file, decoded(content)))
        except Refused as why:
            reading.refused.append((file.name, str(why)))
    if len(plain) >= len(tables):
        reading.refused += [(file.name, "is a table beside texts") for file, _ in tables]
        _of_files(plain, config, reading)
    else:
        reading.refused += [(file.name, "lies beside a table of texts") for file, _ in plain]
        for file, content in tables:
            try:
                _of_table(file, content, config, reading)
            except Refused as why:
                reading.refused.append((file.name, str(why)))
    return reading


def decoded(content: bytes) -> str:
    """Reads a file as a text.

    Raises:
        Refused: If it is none.
    """
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise Refused(f"is no UTF-8 text (byte {error.start})") from None
    if "\0" in text:
        raise Refused("holds a zero byte, so it is no text")
    if not text.strip():
        raise Refused("is empty")
    return text.replace("\r\n", "\n")


def _of_files(plain: Sequence[tuple[File, str]], config: TextsConfig, reading: TextImport) -> None:
    paths = [PurePosixPath(file.name) for file, _ in plain]
    splits, folders = [], []
    for path in paths:
        parts = [role(part, strict=True) for part in path.parts[:-1]] + [
            role(path.stem, strict=True)
        ]
        splits.append(next(filter(None, parts), None))
        own = [part for part in path.parts[:-1] if not role(part, strict=True)]
        folders.append(own[-1] if own else "")
    if len(set(splits)) < 2:
        splits = [None] * len(splits)
    by = config.label
    if by == "auto":
        by = "folder" if len(set(folders)) > 1 and all(folders) else "none"
    if by not in ("folder", "file", "none"):
        raise UserError(
            f"dataset.label must be auto, file, folder or none for files of texts, got {by!r}. Choose one of them."
        )
    reading.by = by
    for (file, text), path, split, folder in zip(plain, paths, splits, folders, strict=True):
        label = {"folder": folder, "file": path.stem, "none": ""}[by]
        code = SPLITS.index(split) if split else 0
        reading.documents.append(Document(file.name, text, files.shown(label)[:100], code))


def _of_table(file: File, content: bytes, config: TextsConfig, reading: TextImport) -> None:
    """Reads the texts of a table.

    Raises:
        Refused: If it is none.
        UserError: If it has no column that was named.
    """
    ending = _ending(file)
    if ending == "parquet":
        table = arrow.Parquet(io.BytesIO(content))
        if table.unpacked > settings().max_unpacked_mb * 2**20:
            raise Refused("unpacks to more than is allowed")
        columns = list(table.kinds)
        records: Iterator[dict[str, Any]] = table.records(columns)
        named = table.names
    else:
        records, named = _records(decoded(content), ending), {}
        columns = []
    rows: list[dict[str, Any]] = []
    for record in records:
        if len(rows) >= ROWS:
            raise Refused(f"has more than {ROWS:,} rows")
        rows.append(record)
    columns = columns or list(dict.fromkeys(key for row in rows[:1000] for key in row))
    said = config.column or _texts_in(columns, rows)
    if said not in columns:
        if config.column:
            raise UserError(unknown("column", said, columns))
        raise Refused("has no column of texts; name it as dataset.column")
    low = {name.casefold(): name for name in reversed(columns) if name != said}
    by = config.label
    if by == "auto":
        known = (*labels.LABEL, "author", "speaker", "language")
        by = next((low[key] for key in known if key in low), "none")
    if by not in ("none", *columns):
        raise UserError(unknown("column", by, ["auto", "none", *columns]))
    split = next((low[key] for key in labels.SPLIT if key in low), None)
    reading.by, reading.kind = (
        by,
        {"parquet": "Parquet", "csv": "CSV", "tsv": "TSV"}.get(ending, "JSON lines"),
    )
    reading.columns = tuple(name for name in columns if name != said)
    for number, row in enumerate(rows, 1):
        text = row.get(said)
        if not isinstance(text, str) or not text.strip() or "\0" in text or len(text) > CELL:
            if len(reading.refused) < 1000:
                reading.refused.append((f"{file.name}, row {number}", "holds no text"))
            continue
        value = None if by == "none" else row.get(by)
        if by in named and isinstance(value, int) and 0 <= value < len(named[by]):
            value = named[by][value]
        try:
            label = "" if by == "none" else files.shown(labels.class_name(value))[:100]
        except labels.Malformed as why:
            if len(reading.refused) < 1000:
                reading.refused.append((f"{file.name}, row {number}", str(why)))
            continue
        part = role(str(row[split])) if split and row.get(split) else None
        reading.documents.append(
            Document(
                f"{file.name}, row {number}",
                text.encode("utf-8", "replace").decode(),  # JSON may hold halves of letters
                label or ("" if by == "none" else "none"),
                SPLITS.index(part) if part else 0,
            )
        )


def _records(text: str, ending: str) -> Iterator[dict[str, Any]]:
    """Reads a table of texts, row by row.

    Raises:
        Refused: If it is no such table.
    """
    if ending in ("jsonl", "ndjson"):
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            if line.count("[") + line.count("{") > 1000:
                raise Refused(f"is too deep in line {number}")
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                raise Refused(f"is no JSON in line {number}") from None
            if not isinstance(record, dict):
                raise Refused(f"holds no object in line {number}")
            yield {
                key: value for key, value in record.items() if not isinstance(value, dict | list)
            }
        return
    mark = "\t" if ending == "tsv" else max(",;\t", key=text.partition("\n")[0].count)
    usual = csv.field_size_limit(CELL)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        head = [cell.strip() for cell in next(lines, [])]
        if len(head) > 1000 or len(set(head)) < len(head):
            raise Refused("names more than 1,000 columns, or one of them twice")
        for cells in lines:
            if any(cell.strip() for cell in cells):
                if len(cells) != len(head):
                    raise Refused(
                        f"has {len(cells)} cells in line {lines.line_num}, and {len(head)} in its first line"
                    )
                yield dict(zip(head, cells, strict=True))
    except csv.Error as error:
        raise Refused(f"is no CSV ({error})") from None
    finally:
        csv.field_size_limit(usual)


def _texts_in(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """Finds the column that looks like texts, by its name or else its letters; empty for none."""
    low = {name.casefold(): name for name in columns}
    for key in KEYS:
        if key in low:
            return low[key]
    best, most = "", 12.0  # letters and blanks of a cell on average, at least
    for name in columns:
        cells = [row[name] for row in rows[:200] if isinstance(row.get(name), str)]
        letters = sum(len(re.findall(r"[^\W\d_]", cell)) for cell in cells) / max(1, len(cells))
        if letters > most and sum(" " in cell for cell in cells) * 2 > len(cells):
            best, most = name, letters
    return best


def passages(text: str, length: int) -> list[str]:
    """Cuts a text where a paragraph ends, else a line, into parts of some lengths of an item; joined they are the text.

    >>> passages("a b" + chr(10) * 2 + "c d", 1)
    ['a b\\n\\n', 'c d']
    """
    ends = r"(?<=\n\n)(?=[^\n])" if "\n\n" in text else r"(?<=\n)"
    joined: list[str] = []
    for piece in filter(None, re.split(ends, text)):
        if joined and len(joined[-1]) + len(piece) <= PASSAGE * length:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def preview(config: TextsConfig) -> Preview:
    """Says what an import would make of texts; nothing is written.

    Raises:
        UserError: If it cannot be opened, is not to be trusted, or holds no texts.
    """
    config, _ = prepare(config)
    reading = found(config)
    documents = reading.documents
    parts = Counter(document.split for document in documents)
    windows = [
        medium.encode(document.text[: config.length], config.length)[:1]
        for document in documents[:GLANCE]
    ]
    shown = media.get("text").pictures(np.concatenate(windows))
    said = {
        "none": "without classes",
        "file": "each file is a class",
        "folder": "each folder is a class",
    }
    kind = {"none": "none", "file": "names", "folder": "classes"}.get(reading.by, "file")
    size = sum(len(document.text) for document in documents)
    sentence = (
        f"{many(len(documents), 'text')} with {size:,} letters, "
        f"{said.get(reading.by, f'the column {reading.by} says the classes')}."
    )
    return Preview(
        pictures=len(documents),
        refused=tuple(
            (files.shown(name), files.shown(why)) for name, why in reading.refused[:1000]
        ),
        readings=(
            {
                "kind": kind,
                "sentence": files.shown(sentence),
                "notes": [],
                "folders": [],
                "classes": dict(
                    Counter(d.label for d in documents if reading.by != "none").most_common(CLASSES)
                ),
                "splits": {SPLITS[code]: count for code, count in sorted(parts.items())}
                if len(parts) > 1
                else {},
            },
        ),
        taken=kind,
        samples=tuple(
            (files.shown(document.name), picture)
            for document, picture in zip(documents[:GLANCE], shown, strict=True)
        ),
        format=reading.kind,
        knobs=("length", "column", "label", "whole"),
    )


def prepare(config: TextsConfig) -> tuple[TextsConfig, str]:
    """Finds the path; gives the config with its absolute path, and a hash that changes with its content.

    Raises:
        UserError: If it cannot be opened.
    """
    ready, signature = plan.prepare(plan.FolderConfig(path=config.path))
    return config.model_copy(update={"path": ready.path}), signature


def own(data: bytes | np.ndarray, dataset: Dataset) -> Own:
    """Makes an item of a visitor's own text.

    Raises:
        UserError: If it is no text.
    """
    if not isinstance(data, bytes):
        raise UserError("A text is written, not drawn. Send a file of text.")
    try:
        windows = medium.encode(decoded(data), dataset.shape[-1])
    except Refused as why:
        raise UserError(f"The file {why}. Send a text in UTF-8.") from None
    notes = (
        [f"Its first {dataset.shape[-1]:,} bytes were taken, of {len(data):,}."]
        if len(windows) > 1
        else []
    )
    return windows[0], notes


@datasets.add(
    "texts",
    "Your own texts",
    TextsConfig,
    prepare=prepare,
    check=lambda config: prepare(config)[0],
    medium="text",
    chain="texts",
    own=own,
    suffixes=PLAIN,
    terms=lambda config: {
        "licence": files.shown(config.licence.strip()),
        "consent": config.consent,
    },
    preview=preview,
    upload="Texts in UTF-8 (TXT, MD), one or many, in folders or a ZIP; or a table (CSV, JSON lines, Parquet) with a "
    "column of texts.",
)
def texts(config: TextsConfig, folder: Path, watch: Watch = UNWATCHED) -> Dataset:
    """Your own texts: a file, a table with a column of texts, a ZIP or a directory of files.

    Long texts are cut into items of one length. What lies in one split does so as a whole, a document or some
    paragraphs, so that no item begins in one split and ends in another.

    Raises:
        UserError: If there are fewer than 8 items, or the ZIP is not to be trusted.
    """
    reading = found(config)
    names = (
        sorted({document.label for document in reading.documents}) if reading.by != "none" else []
    )
    if len(names) > CLASSES:
        raise UserError(
            f"There are {len(names):,} classes, and at most {CLASSES:,} are allowed. Choose another dataset.label, "
            "or none."
        )
    by_paragraph = config.whole == "paragraph" or (
        config.whole == "auto" and len(reading.documents) < FEW
    )
    windows: list[np.ndarray] = []
    keys, owner, member, start, y, given = [], [], [], [], [], []
    divided = [
        passages(document.text, config.length) if by_paragraph else [document.text]
        for document in reading.documents
    ]
    held: dict[int, int] = {}  # the last split of each content
    for document, parts in zip(reading.documents, divided, strict=True):
        for part in parts if document.split else ():
            held[_key(part)] = max(document.split, held.get(_key(part), 0))
    repeated = 0
    for number, document in enumerate(watch.each(reading.documents)):
        at = 0
        for place, part in enumerate(divided[number]):
            cut, key = medium.encode(part, config.length), _key(part)
            if held.get(key, 0) > document.split:
                repeated += 1
                at += len(part.encode())
                continue
            windows.append(cut)
            keys += [key] * len(cut)
            owner += [files.shown(document.name)[:200]] * len(cut)
            member += [f"{number}.{place}" if by_paragraph else str(number)] * len(cut)
            start += [at + i * config.length for i in range(len(cut))]
            y += [names.index(document.label) if names else 0] * len(cut)
            given += [document.split] * len(cut)
            at += len(part.encode())
    if len(keys) < FEWEST:
        raise UserError(
            f"A dataset needs at least {FEWEST} items, and these texts make {len(keys)} of {config.length} bytes. "
            "Bring more of them, or make dataset.length smaller."
        )
    x = np.concatenate(windows)
    labels_ = np.array(y, np.int64) if names else None
    splits = split_by_content(
        np.array(keys, np.uint64),
        labels_,
        valid_share=config.valid_share,
        test_share=config.test_share,
        given=np.array(given, np.int8),
    )
    what = "passages of some paragraphs" if by_paragraph else "documents"
    notes = [
        f"{many(len(reading.documents), 'text')} in {len(x):,} items; {what} lie in one split as a whole."
    ]
    if repeated:
        notes.append(
            f"{many(repeated, 'passage' if by_paragraph else 'document')} that a later split holds as well left out."
        )
    if reading.refused:
        notes.append(f"{many(len(reading.refused), 'file')} left out.")
    return assemble(
        x,
        labels_,
        tuple(names),
        splits,
        medium="text",
        attributes={
            "document": np.array(owner, dtype=str),
            "start": np.array(start, np.int64),
            "group": np.array(member, dtype=str),
        },
        refused=tuple(
            (files.shown(name), files.shown(why)) for name, why in reading.refused[:1000]
        ),
        notes=tuple(map(files.shown, notes)),
        terms=datasets.get("texts").terms(config),
        group="passage" if by_paragraph else "document",
    )
