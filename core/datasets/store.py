"""Datasets on disk: one folder each, written whole or not at all, opened as a memory map.

``x.npy``, ``pair.npy``, ``y.npy``, ``splits.npz``, ``attributes.npz`` and ``meta.json``; nothing in them is a pickle.
The same format serves the cache (by content, can be computed again) and the sets that a person saved by name.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from core.catalog import Config, UserError, plain
from core.datasets import optout
from core.datasets.dataset import SPLITS, Dataset, SecondImages, Source, chunks, datasets
from core.ground import machine
from core.ground.cache import Cache
from core.ground.files import new_folder
from core.ground.settings import settings
from core.ground.watch import Watch
from core.media import media

_BUFFER = 2**20  # bytes; a write of each small item would take half as long as its decoding
VERSION = 1  # raise it when the format or the way of decoding changes


class Damaged(Exception):
    """Says which file of a stored dataset cannot be used, and why."""

    def __init__(self, file: Path, why: object) -> None:
        super().__init__(f"{file}: {why}")
        self.file, self.why = file, why


class Unwritable(UserError):
    """Says that this program may not write to a folder."""


class PixelFile:
    """Writes items of one shape, one after the other, into an ``.npy`` file.

    It writes plainly, not through a memory map: on a full disk a write raises an error, and a map kills the process.
    """

    def __init__(self, file: Path, shape: tuple[int, ...], dtype: str = "uint8") -> None:
        self.file, self.shape, self.dtype, self.count = file, shape, np.dtype(dtype), 0
        self._out = file.open("wb", buffering=_BUFFER)
        self._header()

    def add(self, image: np.ndarray) -> None:
        """Appends an item (…) or a batch of them (n, …); grey images fill three channels if need be."""
        batch = image.reshape(-1, *image.shape[-len(self.shape) :])
        if batch.shape[1] < self.shape[0]:
            batch = np.repeat(batch, self.shape[0], axis=1)
        self._out.write(np.ascontiguousarray(batch).data)
        self.count += len(batch)

    def widen(self) -> None:
        """Goes from grey to colour, with the images written so far."""
        self.close()
        grey = self.file.rename(self.file.with_suffix(".grey"))
        self.shape, self.count, self._out = (
            (3, *self.shape[1:]),
            0,
            self.file.open("wb", buffering=_BUFFER),
        )
        self._header()
        for chunk in chunks(np.load(grey, mmap_mode="r")):
            self.add(chunk)
            del chunk  # a view of the file, which must be closed before it is deleted
        grey.unlink()

    def close(self) -> None:
        """Writes the final number of images into the header."""
        if not self._out.closed:
            try:
                self._out.seek(0)
                self._header()
                _sync(self._out)
            finally:
                self._out.close()

    def __enter__(self) -> PixelFile:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def _header(self) -> None:  # numpy pads it, so that a larger number of images fits in later
        shape = (self.count, *self.shape)
        np.lib.format.write_array_header_1_0(
            self._out, {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        )


def write(dataset: Dataset, folder: Path) -> None:
    """Writes a dataset into an existing folder; what its source has streamed there already stays.

    These are ``x.npy``, and ``pair.npy`` of a set with pairs.
    """
    if not (folder / "x.npy").exists():
        settings().allow_disk(dataset.x.nbytes / 2**20)
        with PixelFile(folder / "x.npy", dataset.shape, dataset.medium.dtype) as pixels:
            for chunk in chunks(dataset.x):
                pixels.add(chunk)
    if (y := dataset.y) is not None:
        _put(folder / "y.npy", lambda out: np.save(out, y, allow_pickle=False))
    _put(folder / "splits.npz", lambda out: np.savez(out, allow_pickle=False, **dataset.splits))
    if dataset.attributes is not None:
        columns = {
            name: np.asarray(column, dtype=str) if column.dtype == object else column
            for name, column in dataset.attributes.items()
        }
        _put(folder / "attributes.npz", lambda out: _columns(out, columns))
    pair = dataset.pair
    if pair is not None and not _streamed(pair.x, folder / "pair.npy"):
        settings().allow_disk(pair.x.nbytes / 2**20)
        with PixelFile(folder / "pair.left", pair.x.shape[1:]) as pixels:
            for chunk in chunks(pair.x):
                pixels.add(chunk)
        (folder / "pair.left").replace(folder / "pair.npy")
    meta = {
        field.name: getattr(dataset, field.name)
        for field in dataclasses.fields(dataset)
        if field.name not in ("medium", "x", "y", "splits", "attributes", "pair")
    }
    meta |= {
        "version": VERSION,
        "modality": dataset.medium.name,
        "shape": dataset.x.shape,
        "labelled": dataset.labelled,
        "attributes": None if dataset.attributes is None else list(dataset.attributes),
    }
    if pair is not None:
        meta["pair"] = {"levels": pair.levels, "name": pair.name}
    _put(folder / "meta.json", lambda out: out.write(json.dumps(meta, indent=1).encode()))


def _streamed(x: np.ndarray, file: Path) -> bool:
    """Tells whether items are those that a source has written into a file already."""
    return isinstance(x, np.memmap) and Path(str(x.filename)).resolve() == file.resolve()


def read_meta(folder: Path) -> dict[str, Any]:
    """Reads what a stored dataset says about itself.

    Raises:
        Damaged: If that file is missing or not what it should be.
    """
    file = folder / "meta.json"
    try:
        meta = json.loads(file.read_bytes())
        if meta["version"] != VERSION:
            raise ValueError(f"it has format {meta['version']}, this program reads {VERSION}")
        meta["shape"] = tuple(map(int, meta["shape"]))
        return meta
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(file, error) from error


def read(folder: Path) -> Dataset:
    """Opens a stored dataset; its pixels stay on disk, as a read-only memory map.

    Raises:
        Damaged: If a file is missing, cut off or does not fit the others.
    """
    meta = read_meta(folder)
    file = folder
    try:
        file = folder / "x.npy"
        x = np.load(file, mmap_mode="r", allow_pickle=False)
        if x.shape != meta["shape"]:
            raise ValueError(f"it has shape {x.shape}, meta.json says {meta['shape']}")
        file = folder / "y.npy"
        y = np.load(file, allow_pickle=False) if meta["labelled"] else None
        file = folder / "splits.npz"
        splits = _table(file, SPLITS)
        file = folder / "attributes.npz"
        attributes = None if meta["attributes"] is None else _table(file, meta["attributes"])
        file = folder / "pair.npy"
        pair = None
        if about := meta.get("pair"):
            second = np.load(file, mmap_mode="r", allow_pickle=False)
            pair = SecondImages(second, int(about["levels"]), str(about["name"]))
        file = folder
        stored = {
            field.name: meta[field.name]
            for field in dataclasses.fields(Dataset)
            if field.name in meta
        }
        stored |= {
            "medium": media.get(meta["modality"]),
            "x": x,
            "y": y,
            "classes": tuple(meta["classes"]),
            "attributes": attributes,
            "splits": splits,
            "refused": tuple(map(tuple, meta["refused"])),
            "notes": tuple(meta["notes"]),
            "pair": pair,
        }
        return Dataset(**stored)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise Damaged(file, error) from error


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Says in a sentence why the disk refuses to write a folder.

    Raises:
        UserError: If the disk is full or may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk of {folder.parent} is full, so the dataset was not written; nothing of it is "
                "left behind. Delete old runs, or set SIMULACRA_HOME to a larger disk."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise Unwritable(
                f"This program may not write to {folder.parent}. "
                "Give it the permission, or set SIMULACRA_HOME to a folder that it may write."
                + (" On Windows it may also be that a file in it is open." if machine.HOLDS else "")
            ) from error
        raise


memo = Cache[Dataset](16)  # they are memory maps and cost next to nothing


# parameters that came later, with the value that stands for what was done before
_LATER = {"pair": "none", "rare": False}


def cached(entry: Source, config: Config, watch: Watch) -> Dataset:
    """Opens a source's dataset from the cache, and builds it first if it is not there or damaged.

    Where nothing may be written, a small embedded one is made in memory instead; see :func:`_in_memory`.

    Raises:
        UserError: If it is not prepared, and cannot be prepared here.
    """
    config, signature = entry.prepare(config)
    paths = {name for name, knob in config.knobs().items() if knob.path}
    values = {name: value for name, value in config.record().items() if name not in paths}
    for (
        name,
        before,
    ) in _LATER.items():  # what was prepared before there was a parameter is found again
        if values.get(name) == before:
            del values[name]
    # what was opted out since is left out of an import, which is therefore made anew
    left_out = [stamp] if entry.preview is not None and (stamp := optout.stamp()) else []
    text = json.dumps([VERSION, entry.name, values, signature, *left_out], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    folder = settings().cache / "datasets" / key
    source = {"name": entry.name, "config": config.record()}
    dataset = memo.peek(str(folder)) or _opened(folder)
    if dataset is None and settings().view_only:
        dataset = _in_memory(key, entry, config, source, watch)
    elif dataset is None:
        try:
            dataset = _prepared(folder, entry, config, source, watch)
        except Unwritable:
            if not _fits(entry, config):
                raise
            dataset = _in_memory(key, entry, config, source, watch)
    elif not settings().view_only:
        with suppress(OSError):
            os.utime(folder)  # used now
    whole = {**dataset.source, **source}
    if dataset.source != whole:  # the same ZIP under another path
        dataset = dataclasses.replace(dataset, source=whole)
    if isinstance(dataset.x, np.memmap):
        memo.put(str(folder), dataset)
    return dataset


def _prepared(
    folder: Path, entry: Source, config: Config, source: Mapping[str, Any], watch: Watch
) -> Dataset:
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_suffix(".lock"))
        lock.acquire()
    try:  # two processes at once: the second waits, then opens what the first has built
        dataset = _opened(folder)
        if dataset is None:
            with explained(folder), new_folder(folder, replace=True) as new:
                fill(new, lambda: made(entry, config, new, watch), entry.name, source)
            dataset = read(folder)
            _make_room(folder)
        return dataset
    finally:
        lock.release()


def made(entry: Source, config: Config, folder: Path, watch: Watch) -> Dataset:
    """Makes the dataset of a source; one that imports leaves out what must not be used."""
    dataset = entry.make(config, folder, watch)
    if entry.preview is None:
        return dataset
    return optout.without(dataset, lambda rows: _rewritten(dataset, rows, folder))


def _rewritten(dataset: Dataset, rows: np.ndarray, folder: Path) -> np.ndarray:
    """Writes the items that stay into the folder, where all of them may have been streamed to."""
    with PixelFile(folder / "x.left", dataset.shape, dataset.medium.dtype) as pixels:
        for part in np.array_split(rows, max(1, len(rows) // 1000)):
            pixels.add(np.asarray(dataset.x[part]))
    (folder / "x.left").replace(folder / "x.npy")
    return np.load(folder / "x.npy", mmap_mode="r", allow_pickle=False)


def fill(
    folder: Path, make: Callable[[], Dataset], name: str, source: Mapping[str, Any] | None = None
) -> None:
    """Writes the dataset of ``make`` under a name; no file stays open, else Windows could not move the folder.

    Args:
        folder: An existing folder, where ``make`` may have streamed its pixels.
        make: Makes the dataset.
        name: Of the dataset.
        source: Where it comes from; None keeps the source of the dataset as the origin of the new one.
    """
    dataset = make()
    origin = {"name": name, "config": {}, "origin": dict(dataset.source)}
    source = origin if source is None else {**dataset.source, **source}
    write(dataclasses.replace(dataset, name=name, source=source), folder)


def forget(folder: Path) -> None:
    """Closes the dataset of a folder that is about to be deleted: Windows deletes no file that is open."""
    file = str((folder / "x.npy").resolve())
    memo.drop(lambda dataset: str(getattr(dataset.x, "filename", "")) == file)


_in_memory_cache = Cache[Dataset](
    lambda: 2 * settings().memory_mb * 2**20,
    lambda dataset: dataset.x.nbytes + (dataset.pair.x.nbytes if dataset.pair else 0),
)
_making = threading.Lock()


def _fits(entry: Source, config: Config) -> bool:
    weighs = entry.weighs
    return weighs is not None and weighs(config) <= settings().memory_mb * 2**20


def _in_memory(
    key: str, entry: Source, config: Config, source: Mapping[str, Any], watch: Watch
) -> Dataset:
    """Makes an embedded dataset without a file, one at a time; the last two that fit are kept.

    Raises:
        UserError: If it is none that comes with the program, or takes more than ``memory_mb``.
    """
    if not _fits(entry, config):
        raise _unprepared(entry, config)

    def make() -> Dataset:
        dataset = entry.make(config, settings().cache, watch)
        dataset.x.flags.writeable = False
        if dataset.pair is not None:
            dataset.pair.x.flags.writeable = False
        return dataclasses.replace(dataset, name=entry.name, source={**dataset.source, **source})

    with _making:
        return _in_memory_cache.get(key, make)


def _unprepared(entry: Source, config: Config) -> UserError:
    weighs = entry.weighs
    why = (
        f", which would take {weighs(config) / 2**20:.0f} MB: at most {settings().memory_mb} MB are made in memory"
        if weighs
        else ""
    )
    listed = prepared()
    more = f"; and {len(listed) - 12} more" if len(listed) > 12 else ""
    ways = "Ask for fewer or smaller images, choose" if weighs else "Choose"
    return UserError(
        f"This server is for viewing only, so it prepares no {_called(entry, config)}{why}. "
        f"Prepared are: {'; '.join(listed[:12]) + more or 'none yet'}. {ways} what is prepared, or run your own copy."
    )


def prepared() -> list[str]:
    """Lists what the cache holds ready: names of sources, each with the parameters that differ from the defaults."""
    listed = set()
    with suppress(OSError):
        for folder in (settings().cache / "datasets").iterdir():
            if folder.is_dir() and folder.name[0] != ".":
                with suppress(Damaged, KeyError, TypeError, UserError):
                    source = read_meta(folder)["source"]
                    entry = datasets.get(source["name"])
                    listed.add(_called(entry, entry.config.of(source["config"])))
    return sorted(listed)


def _called(entry: Source, config: Config) -> str:
    knobs = config.knobs()
    changed = ", ".join(
        f"{name}={plain(value)}"
        for name, value in config.record().items()
        if value != knobs[name].default and not knobs[name].path
    )
    return f"{entry.name} with {changed}" if changed else entry.name


def _make_room(keep: Path) -> None:
    """Deletes the datasets that were not used for longest, until the cache fits its limit; ``keep`` stays."""
    folders = []
    for path in keep.parent.iterdir():
        with suppress(OSError):  # somebody else may clear up too
            if path.is_dir() and path.name[0] != ".":
                size = sum(file.stat().st_size for file in path.iterdir())
                folders.append((path == keep, path.stat().st_mtime, size, path))
    total = sum(size for _, _, size, _ in folders)
    for mine, _, size, path in sorted(folders):
        if mine or total <= settings().cache_mb * 2**20:
            return
        shutil.rmtree(path, ignore_errors=True)
        total -= size


def _opened(folder: Path) -> Dataset | None:
    try:
        return read(folder)
    except Damaged:
        return None


def _table(file: Path, columns: Any) -> Mapping[str, np.ndarray]:
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
        return {name: stored[name] for name in columns}


def _columns(out: io.BytesIO, columns: Mapping[str, np.ndarray]) -> None:
    """Writes what ``np.savez`` writes, which takes no column that is called like one of its arguments."""
    with zipfile.ZipFile(out, "w") as packed:
        for name, column in columns.items():
            with packed.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, column, allow_pickle=False)


def _put(file: Path, fill: Any) -> None:
    memory = io.BytesIO()  # numpy's own writing hides that the disk is full
    fill(memory)
    with file.open("wb") as out:
        out.write(memory.getbuffer())
        _sync(out)


def _sync(out: Any) -> None:
    out.flush()
    os.fsync(out.fileno())
