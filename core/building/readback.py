"""What was written is read again as any import would read it, and compared with what it should be.

Nothing here knows how a layout was written: the readers are those of :mod:`core.datasets.formats`, which take anybody's
files. So a fault of a writer is not repeated by its check.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core.building.outgoing import SPLIT_NAMES, Outgoing
from core.datasets import plan
from core.datasets.container import Container
from core.datasets.pictures import Refused, most_bytes
from core.datasets.plan import Picture
from core.ground import sheets
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import many

_THREADS = min(4, os.cpu_count() or 1)
_SPLIT = re.compile(r"(train|val|test)")  # what the name of a file begins with
_BESIDE = ("README.md", ".json")  # of what lies beside the items


@dataclass
class Readback:
    """What was found in what was written.

    Attributes:
        rows: How many items.
        pixels: sha-256 over the sha-256 of the pixels of each item, in the order of the dataset.
        splits: Items by split.
        compared: Columns that were compared.
        differences: Sentences; none where all is equal.
    """

    rows: int = 0
    pixels: str = ""
    splits: dict[str, int] = field(default_factory=dict)
    compared: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """Says what was compared."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.splits.items())
        return (
            f"{many(self.rows, 'item')} read back ({counts}): pixels, classes, splits and "
            f"{', '.join(self.compared)} {'are equal' if not self.differences else 'were compared'}."
        )


@dataclass
class Found:
    """Items as a reader finds them; every list is in one order.

    Attributes:
        label: Name of the class, or None.
        split: Position in :data:`core.datasets.SPLITS`.
        columns: What else is known, by name.
        items: Yields the bytes of each file.
        classes: All names in order, where the reader knows an order.
        refused: Files that were left out, with the reason.
        names: Of the files.
    """

    label: list[str | None]
    split: list[int]
    columns: dict[str, list[Any]]
    items: Iterator[bytes]
    classes: tuple[str, ...] = ()
    refused: Sequence[tuple[str, str]] = ()
    names: Sequence[str] = ()


def compare(going: Outgoing, folder: Path, watch: Watch = UNWATCHED) -> Readback:
    """Reads a layout, and compares counts, splits, names of classes, lineage and pixels with the dataset.

    Args:
        going: What was written.
        folder: Where to.
        watch: Told how far it is; may end it.

    Raises:
        UserError: If it cannot be read at all.
    """
    if going.dataset.medium.name != "image":
        return _compared(going, _plain(going, folder), watch)
    config = plan.FolderConfig(path=str(folder))
    with plan.opened(config) as source:
        tree = plan.planned(config, source)
        placed = tree.placed
        most = most_bytes(settings().max_megapixels)
        items = (source.read(picture.file, most) for picture in placed)
        found = Found(
            [picture.label for picture in placed],
            [picture.split for picture in placed],
            {
                name: [values[picture.row] for picture in placed]
                for name, values in tree.columns.items()
            },
            items,
            tree.classes,
            [(name, reason) for name, reason in tree.refused if not name.endswith(_BESIDE)]
            + [(tree.pictures[i].file.name, reason) for i, reason in tree.reading.refused],
            [picture.file.name for picture in placed],
        )
        told = _compared(going, found, watch)
        if source.pairs and not told.differences:
            _seconds(going, source, placed, found.columns["id"], told)
        return told


def _seconds(
    going: Outgoing,
    source: Container,
    placed: Sequence[Picture],
    ids: Sequence[Any],
    told: Readback,
) -> None:
    """Compares the second image of each item, one at a time."""
    pair, most = going.dataset.pair, most_bytes(settings().max_megapixels)
    if pair is None:
        told.differences.append("There are second images, and the dataset has none.")
        return
    row_of = {str(id): row for row, id in enumerate(going.ids)}
    wrong = 0
    try:
        for picture, id in zip(placed, ids, strict=True):
            second = (source.pairs_in or source).read(source.pairs[picture.file.name], most)
            wanted = _bare(sheets.as_bytes(pair.x[row_of[str(id)]], pair.levels))
            wrong += _decoded(second) != wanted
    except (Refused, KeyError) as error:
        told.differences.append(f"A second image cannot be read: {error}.")
    if wrong:
        told.differences.append(f"{many(wrong, 'second image')} differ{'s' * (wrong == 1)}.")
    told.compared.append("second images")


def _bare(x: np.ndarray) -> bytes:
    return (x[0] if len(x) == 1 else x.transpose(1, 2, 0)).tobytes()


def _plain(going: Outgoing, folder: Path) -> Found:
    """Reads items that are no pictures: files by the tables beside them, or of a table or a tar."""
    from pyarrow import parquet as pq

    if (folder / "data").is_dir():
        return _tabled(going, folder)
    if any(folder.glob("*.tar")):
        return _taped(going, folder)
    rows, files = [], []
    for code, name in enumerate(SPLIT_NAMES.values()):
        table = folder / name / "metadata.parquet"
        if table.exists():
            for row in pq.read_table(table).to_pylist():
                files.append(folder / name / row.pop("file_name"))
                rows.append((code, row))
    columns = {name: [row[name] for _, row in rows] for name in (rows[0][1] if rows else ())}
    return Found(
        columns.pop("label", [None] * len(rows)),
        [code for code, _ in rows],
        columns,
        (file.read_bytes() for file in files),
    )


def _tabled(going: Outgoing, folder: Path) -> Found:
    """Reads tables with a column of texts."""
    from pyarrow import parquet as pq

    rows: list[tuple[int, dict[str, Any]]] = []
    names: Sequence[str] = ()
    for code, split in enumerate(SPLIT_NAMES.values()):
        for file in sorted((folder / "data").glob(f"{split}-*.parquet")):
            read = pq.read_table(file)
            told = json.loads(read.schema.metadata[b"huggingface"])["info"]["features"]
            names = told.get("label", {}).get("names", ())
            rows += [(code, row) for row in read.to_pylist()]
    columns = {name: [row[name] for _, row in rows] for name in (rows[0][1] if rows else ())}
    items = [text if isinstance(text, bytes) else text.encode() for text in columns.pop("text", [])]
    labels = columns.pop("label", None)
    label: list[Any] = [None] * len(rows) if not labels else [names[at] for at in labels]
    return Found(label, [code for code, _ in rows], columns, iter(items), tuple(names))


def _taped(going: Outgoing, folder: Path) -> Found:
    """Reads tars with a file and a record for each item."""
    suffix = going.dataset.medium.suffix
    codes, records, items = [], [], []
    for code, split in enumerate(SPLIT_NAMES.values()):
        for file in sorted(folder.glob(f"{split}-*.tar")):
            with tarfile.open(file) as tar:
                for member in tar:
                    stream = tar.extractfile(member)
                    assert stream is not None
                    if member.name.endswith(suffix):
                        codes.append(code)
                        items.append(stream.read())
                    elif member.name.endswith(".json"):
                        records.append(json.load(stream))
    columns = {
        name: [record[name] for record in records] for name in (records[0] if records else ())
    }
    return Found(columns.pop("label", [None] * len(codes)), codes, columns, iter(items))


def _compared(going: Outgoing, found: Found, watch: Watch) -> Readback:
    dataset = going.dataset
    told = Readback(rows=len(found.split))
    counts = Counter(found.split)
    told.splits = {outside: counts[i] for i, outside in enumerate(SPLIT_NAMES.values())}
    say = told.differences.append
    if found.refused:
        first = "; ".join(f"{name} {reason}" for name, reason in found.refused[:3])
        say(f"{many(len(found.refused), 'file')} cannot be read: {first}.")
    for code, (name, outside) in enumerate(SPLIT_NAMES.items()):
        if counts[code] != len(dataset.splits[name]):
            say(
                f"The split {outside} has {counts[code]:,} items instead of {len(dataset.splits[name]):,}."
            )
    row_of = {str(id): row for row, id in enumerate(going.ids)}
    rows = np.array([row_of.get(str(id), -1) for id in found.columns.get("id", ())], np.int64)
    if not np.array_equal(np.sort(rows), np.arange(len(dataset))):
        say(
            f"{len(set(rows.tolist()) - {-1}):,} of {len(dataset):,} ids are there, so rows cannot be compared."
        )
        return told
    line = _line if len(set(map(_line, dataset.classes))) == len(dataset.classes) else str
    if found.classes and [*map(line, found.classes)] != [*map(line, dataset.classes)]:
        say(f"The classes are {found.classes[:5]} instead of {dataset.classes[:5]}.")
    for name, given, wanted in _columns(going, found, rows, line):
        told.compared.append(name)
        if wrong := [i for i in range(len(rows)) if not _same(given[i], wanted[i])]:
            i, of = wrong[0], many(len(wrong), "row")
            say(
                f"{name} differs in {of}: {going.ids[rows[i]]} has {given[i]!r:.80} instead of {wanted[i]!r:.80}."
            )
    outside = list(SPLIT_NAMES.values())
    # a column may say the split, and readers that know no columns go by the file
    astray = [
        (going.ids[row], said[1])
        for row, name, code in zip(rows, found.names, found.split, strict=False)
        if (said := _SPLIT.match(name)) and not outside[code].startswith(said[1])
    ]
    if astray:
        id, where = astray[0]
        of = f"{many(len(astray), 'item')} {'lies' if len(astray) == 1 else 'lie'}"
        say(f"{of} in a file of another split than its own: {id} in {where}.")
    told.compared = [name for name in told.compared if name not in ("class", "split", "id")]
    _pixels(going, found, rows, told, watch)
    return told


def _columns(
    going: Outgoing, found: Found, rows: np.ndarray, line: Callable[[Any], str]
) -> Iterator[tuple[str, Sequence[Any], Sequence[Any]]]:
    """Yields each column as it was found, and as it should be."""
    dataset, wanted = going.dataset, going.columns(rows, named=True)
    if dataset.y is not None:
        yield "class", [*map(line, found.label)], [*map(line, wanted.pop("label"))]
    outside = list(SPLIT_NAMES.values())
    yield "split", [outside[code] for code in found.split], wanted.pop("split").tolist()
    for name, values in wanted.items():
        yield name, found.columns.get(name, [_Missing()] * len(rows)), values.tolist()


def _line(name: Any) -> str:
    """Writes a name in one line, as readers of tables do; what they do not keep apart is no difference."""
    return " ".join(str(name).split())


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


def _same(given: Any, wanted: Any) -> bool:
    """Compares a cell: what is not there may be None, "", nan, or of a seed -1, as a format has it."""
    if given is None:
        return wanted in ("", -1) or wanted != wanted
    if isinstance(wanted, str) and isinstance(given, bytes):
        given = given.decode()
    return given == wanted or (given != given and wanted != wanted)


def _pixels(going: Outgoing, found: Found, rows: np.ndarray, told: Readback, watch: Watch) -> None:
    """Compares the pixels of every item, decoded side by side in bounded memory."""
    dataset = going.dataset
    picture = dataset.medium.name == "image"

    def wanted(row: int) -> bytes:
        x = going.pixels(np.array([row]))[0]
        if not picture:
            return dataset.medium.alone(x, dataset.levels)
        x = sheets.as_bytes(x, dataset.levels)
        return _bare(x)

    def check(part: list[tuple[int, bytes]]) -> list[tuple[int, bytes, bool]]:
        done = []
        for row, data in part:
            got = _decoded(data) if picture else data
            done.append((row, hashlib.sha256(got).digest(), got == wanted(row)))
        return done

    digests, wrong, step = [b""] * len(dataset), [], 100
    pairs = zip(rows.tolist(), found.items, strict=True)
    try:
        for count, (row, digest, equal) in enumerate(_ahead(_parts(pairs, step), check), 1):
            digests[row] = digest
            if not equal:
                wrong.append(row)
            if count % step == 0:
                watch.count("Reading back", count, len(rows), "items")
    except Refused as reason:
        told.differences.append(f"A file {reason}.")
        return
    if wrong:
        told.differences.append(
            f"The pixels of {many(len(wrong), 'item')} differ, first of row {going.ids[min(wrong)]}."
        )
    told.pixels = hashlib.sha256(b"".join(digests)).hexdigest()


def _decoded(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as picture:
        return (picture if picture.mode in ("L", "RGB") else picture.convert("RGB")).tobytes()


def _parts(pairs: Iterable[tuple[int, bytes]], size: int) -> Iterator[list[tuple[int, bytes]]]:
    part: list[tuple[int, bytes]] = []
    for pair in pairs:
        part.append(pair)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _ahead(
    parts: Iterable[list[tuple[int, bytes]]],
    work: Callable[[list[tuple[int, bytes]]], list[tuple[int, bytes, bool]]],
) -> Iterator[tuple[int, bytes, bool]]:
    """Works on parts side by side, never more than a few ahead, in order."""
    waiting: deque[Future[list[tuple[int, bytes, bool]]]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > _THREADS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
