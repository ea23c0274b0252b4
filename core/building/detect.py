"""What is known of a picture, or of a whole export: marks in the file and in the pixels, and whether their run is here.

A mark can be forged, and is lost when a picture is saved anew: that nothing is found proves nothing.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core import jobs
from core.building import signing, watermark
from core.catalog import UserError, reason
from core.datasets import pictures
from core.datasets.files import Archive, Directory, File
from core.datasets.formats import npz
from core.datasets.pictures import Refused
from core.ground import scratch, untrusted, xmp
from core.ground.settings import settings
from core.ground.writing import many, one_line

SEARCHED = 100  # pictures of an export that are searched for the watermark, of either kind
RECALL = ("simulacra", "simulacra.view")  # texts of our PNGs that say how they were made
_WORDS = {
    "trainedAlgorithmicMedia": "was made by a trained generator",
    "compositeWithTrainedAlgorithmicMedia": "was made in part by a trained generator",
    "algorithmicallyEnhanced": "was changed by an algorithm, as an augmentation or an attack does",
}
_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_NOTHING = (
    "Nothing is known of it: it carries no mark. "
    "That proves nothing, for a picture that is saved anew loses its marks."
)
_TEXT = untrusted.Limits(characters=400_000, values=4_000)
_SIGNS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")


def meaning(source: str) -> str:
    """Says what a digital source type means; empty for one that is not known."""
    return _WORDS.get(source, "")


@dataclass(frozen=True)
class Trace:
    """One thing that a file says of its making.

    Attributes:
        kind: ``xmp``, ``recall`` (our own text), ``c2pa``, ``watermark`` (in the pixels), or ``column`` (of a table of
            items).
        says: What it says: a digital source type, an origin, or a sentence.
        run: The run that it names; empty for none.
        count: How many pictures or rows say so.
        program: What made it, as far as that is said.
    """

    kind: str
    says: str
    run: str = ""
    count: int = 1
    program: str = ""


@dataclass(frozen=True)
class Detected:
    """What is known of a file.

    Attributes:
        file: Its name.
        made_here: True if a run of this computer made it or its pixels carry its watermark, False if a mark names
            another maker; None if nobody knows.
        run: The run that is named, of several the most frequent one; empty for none.
        marks: What the file says.
        sentence: All in words.
        items: Pictures and rows that were looked at: 1 for a picture, more for an export.
        marked: How many of the pictures carry a mark.
        not_real: How many rows of its tables call themselves made; None without a table.
    """

    file: str
    made_here: bool | None
    run: str
    marks: tuple[Trace, ...]
    sentence: str
    items: int = 1
    marked: int = 0
    not_real: int | None = None

    def record(self) -> dict[str, Any]:
        """Gives it in plain values."""
        return vars(self) | {"marks": [vars(mark) for mark in self.marks]}


class TraceCounter(Counter[Trace]):
    """What pictures and tables say, counted.

    Attributes:
        watermark: Of this server; None where no picture was ever marked here.
        searched: Pictures whose pixels were searched for it, by whether the file calls itself generated; at most
            :data:`SEARCHED` of either: that takes its time.
    """

    def __init__(self) -> None:
        """Has seen nothing yet."""
        super().__init__()
        self.watermark = watermark.kept()
        self.searched = Counter[bool]()

    def look(self, data: bytes) -> None:
        """Adds what a picture says; nobody vouches for it."""
        said = list(traces(data))
        self.update(said)
        generated = any(
            each.says in _WORDS and each.says != "algorithmicallyEnhanced" for each in said
        )
        if self.watermark is None or self.searched[generated] >= SEARCHED:
            return
        with contextlib.suppress(Refused), pictures.explained():
            size = pictures.look(data, settings().max_megapixels)
            if min(size.width, size.height) >= watermark.SMALLEST * 0.8:
                seen = pictures.upright(data, settings().max_megapixels)
                self.searched[generated] += 1
                if self.watermark.found(seen):
                    self[Trace("watermark", "of this server", program=xmp.PROGRAM)] += 1


def picture(name: str, data: bytes) -> Detected:
    """Says what is known of one picture; nobody vouches for it, so its size is known before a pixel is decoded."""
    found = TraceCounter()
    found.look(data)
    return _told(name, found, 1)


def file(path: Path, name: str = "") -> Detected:
    """Says what is known of a picture, a ZIP, a folder, or a Parquet, tar or NPZ file.

    Args:
        path: Where it lies.
        name: What messages call it; the path without one.

    Raises:
        UserError: If it cannot be read, or unpacks to more than is allowed.
    """
    name = name or str(path)
    found = TraceCounter()
    try:
        if path.is_dir():
            with Directory(path) as source:
                return _told(name, found, sum(_inside(found, source, one) for one in source.files))
        with path.open("rb") as opened:
            head = opened.read(512)
        if head.startswith(b"PK\3\4") and not _npz(path):
            with Archive(path) as source:
                return _told(name, found, sum(_inside(found, source, one) for one in source.files))
        return _told(name, found, _entered(found, name, path, None))
    except OSError as error:
        raise UserError(
            f"{name!r} cannot be read ({error.strerror or error}). Name a picture, a folder, a ZIP, or an export."
        ) from None


def upload(name: str, data: bytes) -> Detected:
    """Says what is known of a file that a visitor sends: a picture, or an export packed into one file.

    Raises:
        UserError: As :func:`file`.
    """
    if data.startswith(_SIGNS) or data[4:8] == b"ftyp":
        return picture(name, data)
    end = name.lower().rpartition(".")[2]
    with scratch.temporary() as folder:
        kept = folder / f"upload.{end if end in ('zip', 'parquet', 'tar', 'npz') else 'dat'}"
        kept.write_bytes(data)
        return file(kept, name)


def traces(data: bytes) -> Iterator[Trace]:
    """Lists what a picture says of its making."""
    mark = xmp.read(data)
    if mark is not None:
        yield Trace("xmp", mark.source, mark.run, program=mark.program)
    if data.startswith(b"\x89PNG"):
        for name, content in xmp.chunks(data):
            if name == b"tEXt":
                key, _, text = content.partition(b"\0")
                if key.decode("latin-1") in RECALL:
                    yield from _recalled(key.decode("latin-1"), text)
            elif name == b"caBX":
                yield _c2pa(data)
    elif data.startswith(b"\xff\xd8"):
        if any(code == 0xEB and b"jumb" in data[a:b][:64] for code, a, b in xmp.segments(data)):
            yield _c2pa(data)
    elif data[:4] == b"RIFF":
        if any(name == b"C2PA" for name, _, _ in xmp.blocks(data)):
            yield _c2pa(data)
    elif data[4:8] == b"ftyp" and any(
        name == b"uuid" and data.startswith(_C2PA, start) for name, start, _ in xmp.boxes(data)
    ):
        yield _c2pa(data)


def _c2pa(data: bytes) -> Trace:
    return Trace("c2pa", signing.validated(data))


def _recalled(key: str, text: bytes) -> Iterator[Trace]:
    """Reads our own text of a PNG: the metadata of a sheet, or the view of a latent space."""
    try:
        said = untrusted.read_json(text.decode("latin-1"), "The text of the PNG", _TEXT)
        if key == RECALL[1]:
            said = untrusted.read_json(said["view"], "The view in the PNG", _TEXT)
        run = said.get("run")
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    if isinstance(run, str) and run:
        yield Trace("recall", "the settings that drew it", one_line(run)[:200], program=xmp.PROGRAM)


# --- Exports ----------------------------------------------------------------------------------------------------------


def _most() -> int:
    return settings().max_upload_mb * 2**20


def _npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _inside(found: TraceCounter, source: Directory | Archive, one: File) -> int:
    """Adds what a file of a folder or ZIP says; one that cannot be read says nothing."""
    try:
        if isinstance(source, Directory):
            return _entered(found, one.name, one.key, None)
        return _entered(found, one.name, None, source.read(one, _most()))
    except (Refused, OSError):
        return 0


def _entered(found: TraceCounter, name: str, path: Path | None, data: bytes | None) -> int:
    """Adds what one file says, a picture or a table of items; gives how many pictures it holds."""
    end = name.lower().rpartition(".")[2]
    if read := {"parquet": _parquet, "tar": _tar, "npz": _arrays}.get(end):
        try:
            return read(found, path if data is None else io.BytesIO(data))
        except UserError:  # what reads it is not installed
            raise
        except Exception as error:  # whatever a forged file makes its reader raise
            raise UserError(
                f"{name!r} cannot be read as .{end}: {reason(error)}. Name a whole file."
            ) from error
    if data is None:
        assert path is not None
        with path.open("rb") as opened:
            data = opened.read(_most())
    if not (data.startswith(_SIGNS) or data[4:8] == b"ftyp"):
        return 0
    found.look(data)
    return 1


def _allow(size: int, items: int = 0) -> None:
    """Refuses what is too large to be looked at: that it carried no mark would not be true."""
    most = settings()
    if size > most.max_unpacked_mb * 2**20 or items > most.max_files:
        raise UserError(
            f"It holds more than {most.max_unpacked_mb:,} MB or {most.max_files:,} items, and no more are looked at. "
            "Name a part of it."
        )


def _parquet(found: TraceCounter, source: Any) -> int:
    from pyarrow import parquet as pq

    table = pq.ParquetFile(source)
    meta = table.metadata
    size = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
    _allow(size, meta.num_rows)
    names = table.schema_arrow.names
    wanted = [name for name in ("image", "origin", "run") if name in names]
    pictured = False
    for batch in table.iter_batches(200, columns=wanted):
        columns = {name: batch.column(name).to_pylist() for name in wanted}
        if "origin" in columns:
            empty = [""] * len(batch)
            _rows(found, columns["origin"], columns.get("run", empty))
        for cell in columns.get("image", ()):
            data = cell.get("bytes") if isinstance(cell, Mapping) else cell
            if isinstance(data, bytes):
                found.look(data)
                pictured = True
    return meta.num_rows if pictured else 0


def _tar(found: TraceCounter, source: Any) -> int:
    n, read = 0, 0
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        packed = stack.enter_context(tarfile.open(fileobj=out, mode="r:"))
        for member in packed:
            read += member.size
            _allow(read, n)
            if (
                not member.isreg()
                or member.size > _most()
                or (body := packed.extractfile(member)) is None
            ):
                continue
            if member.name.endswith(".json"):
                said = untrusted.read_json(body.read().decode(), "A row", _TEXT)
                if isinstance(said, dict) and "origin" in said:
                    _rows(found, [said["origin"]], [said.get("run", "")])
            else:
                data = body.read()
                if data.startswith(_SIGNS):
                    found.look(data)
                    n += 1
    return n


def _arrays(found: TraceCounter, source: Any) -> int:
    with zipfile.ZipFile(source) as packed:
        _allow(sum(info.file_size for info in packed.infolist()))
    if not isinstance(source, Path):
        source.seek(0)
    with np.load(source, allow_pickle=False) as arrays:
        for name in arrays.files:
            plain = name.removesuffix(npz.UTF8)
            if plain.rpartition("_")[2] == "origin":
                origin = _texts(arrays, plain) or []
                run = _texts(arrays, plain.removesuffix("origin") + "run")
                _rows(found, origin, [""] * len(origin) if run is None else run)
    return 0


def _texts(arrays: Any, name: str) -> list[str] | None:
    """Reads a column of texts of an NPZ; None where there is none."""
    if name in arrays.files:
        return arrays[name].astype(str).tolist()
    pair = [name + end for end in (npz.UTF8, npz.ENDS)]
    if not set(pair) <= {*arrays.files}:
        return None
    packed, ends = (arrays[each] for each in pair)
    return npz.spelt(packed, ends, name)


def _rows(found: TraceCounter, origins: Iterable[Any], runs: Iterable[Any]) -> None:
    for origin, run in zip(origins, runs, strict=True):
        found[Trace("column", one_line(str(origin))[:40], one_line(str(run or ""))[:200])] += 1


# --- In words ---------------------------------------------------------------------------------------------------------


def _told(name: str, found: TraceCounter, items: int) -> Detected:
    marks = tuple(
        Trace(each.kind, each.says, each.run, n, each.program) for each, n in found.most_common(50)
    )
    named = Counter[str]()
    for each, n in found.items():
        named[each.run] += n if each.run else 0
    run = next((id for id, n in named.most_common() if n), "")
    job: jobs.Job | None = None
    if run:
        with contextlib.suppress(UserError):
            job = jobs.get(run)
    ours = any(each.program == xmp.PROGRAM for each in found)
    made_here = True if job is not None else False if run or (found and not ours) else None
    if any(each.kind == "watermark" for each in found):
        made_here = True
    if not any(each.kind != "column" or each.says != "real" for each in found):
        made_here = None
    marked = sum(n for each, n in found.items() if each.kind == "xmp")
    columns = [(each, n) for each, n in found.items() if each.kind == "column"]
    items = max(items, sum(n for _, n in columns))
    not_real = sum(n for each, n in columns if each.says != "real") if columns else None
    sentence = " ".join(_said(found, items, marked, not_real, run, job)) if found else _NOTHING
    return Detected(name, made_here, run, marks, sentence, items, marked, not_real)


def _said(
    found: TraceCounter,
    items: int,
    marked: int,
    not_real: int | None,
    run: str,
    job: jobs.Job | None,
) -> Iterator[str]:
    sources = Counter[str]()
    for each, n in found.items():
        if each.kind == "xmp":
            sources[each.says] += n
    if items == 1 and not_real is None:
        for source in sources:
            yield f"Its mark says that it {_WORDS.get(source, f'is of the kind {one_line(source)!r:.80}')}."
        if not sources and any(each.kind == "recall" for each in found):
            yield "It holds the settings that drew it on a page or by a command of this program."
    else:
        listed = ", ".join(
            f"{n:,} of the kind {one_line(source)[:60]}" for source, n in sources.items()
        )
        yield f"{many(items, 'picture')}: {f'{marked:,} carry a mark ({listed})' if marked else 'none carries a mark'}."
        if not_real is not None:
            yield f"By their column origin {not_real:,} are not real."
    if run:
        where = (
            f"which is on this computer ({one_line(job.name)})"
            if job
            else "which is not on this computer"
        )
        yield f"The run is {run}, {where}."
    if n := sum(n for each, n in found.items() if each.kind == "watermark"):
        which = (
            "Its pixels carry"
            if items == 1
            else f"The pixels of {n:,} of {found.searched.total():,} that were searched carry"
        )
        yield f"{which} the watermark of this server; by chance one picture in a thousand would seem to, at most."
    yield from list(dict.fromkeys(each.says for each in found if each.kind == "c2pa"))[:3]
    yield "A mark can be forged."
