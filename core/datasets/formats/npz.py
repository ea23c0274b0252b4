"""NPZ: arrays of numpy in one file, as MedMNIST and many notebooks write them.

References:
    Yang et al., 2023, MedMNIST v2, Scientific Data 10:41 (the names of the arrays)
    numpy, the format of .npy https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from core.catalog import UserError, reason
from core.datasets.attributes import described, ours
from core.datasets.container import Container, File, Rows, Volume
from core.datasets.files import Archive, allow_number, shown
from core.datasets.formats import Heads, formats
from core.datasets.labels import COLUMNS
from core.datasets.pictures import Refused
from core.datasets.stacks import Stack, StackContainer
from core.ground import scratch
from core.ground.settings import settings

_IMAGES = ("images", "image", "x", "pictures", "data", "arr_0")
_LABELS = ("labels", "label", "y", "targets", "target", "arr_1")
_PAIR = "pair"  # a second image of each
_SPLITS = ("train", "val", "valid", "validation", "test")
_CLASSES = ("classes", "class_names", "label_names", "names")
# A column of texts as two arrays: all of them behind each other in UTF-8, and where each ends.
UTF8, ENDS = "_utf8", "_ends"
_KINDS = "uint8 (N, H, W) or (N, H, W, 3), or uint16 or float32 (N, H, W)"


def told(volume: Volume, heads: Heads) -> Sequence[File]:
    """Lists the NPZ files; a ZIP of nothing but arrays is one by itself."""
    if isinstance(volume, Archive):
        names = [file.name for file in volume.files]
        if names and all(name.endswith(".npy") for name in names):
            return list(volume.files)
    return [
        file
        for file, head in heads
        if head.startswith(b"PK\x03\x04") and file.name.casefold().endswith(".npz")
    ]


@formats.add("npz", "NPZ", told=told, suffixes=("npz",))
def npz(volume: Volume, files: Sequence[File], config: Any) -> Container:
    """Images and labels as arrays, by the names of MedMNIST, or ``x`` and ``y``, ``images`` and ``labels``."""
    arrays: dict[str, tuple[BinaryIO, str]] = {}  # by the name of the array, with its file
    try:
        if isinstance(volume, Archive) and files[0].name.endswith(".npy"):
            for file in files:
                arrays[file.name.removesuffix(".npy")] = (
                    volume.kept(volume.open(file)),
                    volume.name,
                )
        elif len(files) > 1:
            listed = ", ".join(repr(shown(file.name)) for file in files[:3])
            raise UserError(
                f"{volume.name!r} holds {len(files)} NPZ files ({listed}), and one is read. Choose one of them."
            )
        else:
            arrays = _members(volume, files[0])
        return _container(volume, arrays)
    except Refused as why:
        raise UserError(
            f"The NPZ {shown(volume.name)!r} {shown(str(why))}. Save it again."
        ) from None


def _members(volume: Volume, file: File) -> dict[str, tuple[BinaryIO, str]]:
    """Opens the arrays of an NPZ that lies in a folder or in a ZIP, with all checks of a ZIP."""
    if isinstance(file.key, Path):
        return _arrays(volume, file, file.key)
    with scratch.temporary() as folder:
        path = folder / "packed.npz"
        with path.open("wb") as out, volume.open(file) as packed:
            shutil.copyfileobj(packed, out)
        return _arrays(volume, file, path)


def _arrays(volume: Volume, file: File, path: Path) -> dict[str, tuple[BinaryIO, str]]:
    with Archive(path) as archive:
        return {
            member.name.removesuffix(".npy"): (volume.kept(archive.open(member)), file.name)
            for member in archive.files
            if member.name.endswith(".npy")
        }


def stack(stream: BinaryIO, name: str) -> Stack:
    """Reads the head of an array.

    Raises:
        Refused: If it is none, holds objects, or is shorter than it says.
    """
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(stream, max_header_size=10_000)
    except Exception as error:  # whatever a forged head makes the reader raise
        raise Refused(
            f"holds {name!r}, which is no array that can be read ({reason(error)})"
        ) from error
    if dtype.hasobject:
        raise Refused(
            f"holds {name!r}, an array of Python objects: a pickle, which runs code when it is read. Save plain numbers"
        )
    if any(not isinstance(side, int) or side < 0 for side in shape):
        raise Refused(f"holds {name!r}, whose shape {shape} is none")
    if fortran and sum(side > 1 for side in shape) > 1:
        raise Refused(
            f"holds {name!r} column by column (Fortran order), which is not read. Save np.ascontiguousarray of it"
        )
    start, end = stream.tell(), stream.seek(0, 2)
    if start + math.prod(shape) * dtype.itemsize > end:
        raise Refused(f"holds {name!r}, which is cut off: it says that it has the shape {shape}")
    return Stack(stream, start, shape, dtype)


def _values(found: Stack, name: str) -> np.ndarray:
    """Reads an array that is small: labels, names, columns."""
    size = math.prod(found.shape) * found.dtype.itemsize
    if size > 64 * 2**20:
        raise Refused(
            f"holds {name!r} of {size / 2**20:.0f} MB, and at most 64 MB are read of what is no image"
        )
    found.stream.seek(found.start)
    return np.frombuffer(found.stream.read(size), found.dtype).reshape(found.shape)


def _container(volume: Volume, arrays: Mapping[str, tuple[BinaryIO, str]]) -> Container:
    stacks = {name: stack(stream, name) for name, (stream, _) in arrays.items()}
    parts = _parts(stacks)
    if not parts:
        said = ", ".join(f"{name} {found.dtype}{found.shape}" for name, found in stacks.items())
        raise Refused(
            f"has no images under a name that is known (images, x, train_images …): {said[:400] or 'it is empty'}"
        )
    rows = Rows(sentence="the arrays")
    listed: list[File] = []
    images: list[Stack] = []
    seconds: dict[str, File] = {}
    split: list[str] = []
    numbers: list[np.ndarray] = []
    for prefix, image, label in parts:
        found = _pictures(stacks[image], image)
        count = found.shape[0]
        allow_number(len(listed) + count, Path(volume.name))
        width = len(str(max(0, count - 1)))
        listed += [File(f"{image}/{i:0{width}d}", 0, (len(images), i)) for i in range(count)]
        images.append(found)
        pair = f"{prefix}_{_PAIR}" if prefix else _PAIR
        if pair in stacks and stacks[pair].shape[:1] == (count,) and len(stacks[pair].shape) > 2:
            images.append(_pictures(stacks[pair], pair))
            for i, file in enumerate(listed[-count:]):
                seconds[file.name] = File(f"{pair}/{i:0{width}d}", 0, (len(images) - 1, i))
        split += [prefix] * count
        if label:
            numbers.append(_classes_of(_values(stacks[label], label), label, count, image))
    if numbers and len(numbers) < len(parts):
        raise Refused("has labels for some of its splits and not for others")
    used = {name for part in parts for name in part[1:] if name}
    names = next((name for name in _CLASSES if name in stacks and name not in used), "")
    called = _texts(stacks[names], names) if names else []
    about: dict[str, Any] = {}
    if "about" in stacks and stacks["about"].dtype.kind == "U":
        about = described("".join(map(str, _values(stacks["about"], "about").ravel()[:1])).encode())
    if numbers:
        joined = np.concatenate(numbers)
        rows.label, rows.classes = _named(joined, called)
    rows.split = split if any(split) else ()
    pictures = [stacks[part[1]] for part in parts]
    rows.columns = columns = _columns(stacks, {*used, names}, [part[0] for part in parts], pictures)
    own = ours(about, columns)
    rows.terms, rows.group, rows.called = own["terms"], own["group"], own["called"]
    if not any(split) and "split" in rows.columns:
        rows.split = [str(value) for value in rows.columns["split"]]
        rows.columns = {name: v for name, v in rows.columns.items() if name != "split"}
    container = StackContainer(volume, images, listed, rows)
    if len(seconds) == len(listed):  # a set has them for all or for none
        container.pairs = seconds
    return container


def _parts(stacks: Mapping[str, Stack]) -> list[tuple[str, str, str]]:
    """Finds (split, images, labels) by the names of the arrays."""
    low = {name.casefold(): name for name in stacks}
    parts = []
    for split in _SPLITS:
        image, label = (
            next((low[f"{split}_{n}"] for n in names if f"{split}_{n}" in low), "")
            or next((low[f"{n}_{split}"] for n in names if f"{n}_{split}" in low), "")
            for names in (_IMAGES, _LABELS)
        )
        if image:
            parts.append((split, image, label))
    if not parts:
        image, label = (
            next((low[n] for n in names if n in low), "") for names in (_IMAGES, _LABELS)
        )
        if image:
            parts.append(("", image, label))
    return parts


def _pictures(found: Stack, name: str) -> Stack:
    """Checks that an array holds images.

    Raises:
        Refused: If it holds volumes or other things.
    """
    shape, dtype = found.shape, found.dtype.newbyteorder("=")
    if len(shape) == 5 or (
        len(shape) == 4 and 3 not in (shape[1], shape[3]) and 1 not in (shape[1], shape[3])
    ):
        raise Refused(
            f"holds {name!r} of the shape {shape}: volumes of three dimensions, and pictures of two are "
            "read. Save slices"
        )
    found.moved = len(shape) == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3)
    channels = 1 if len(shape) == 3 else shape[1] if found.moved else shape[-1]
    deep = dtype in (np.uint16, np.float32)
    if len(shape) not in (3, 4) or not (dtype in (np.uint8, bool) or (deep and channels == 1)):
        raise Refused(f"holds {name!r} as {dtype} {shape}, and images are {_KINDS}. Convert them")
    if min(shape[1:]) < 1 or math.prod(shape[1:]) > settings().max_megapixels * 3e6:
        raise Refused(
            f"holds {name!r}, whose images have the shape {shape[1:]}, which is not allowed"
        )
    return found


def _classes_of(values: np.ndarray, name: str, count: int, images: str) -> np.ndarray:
    if len(values.shape) == 0 or len(values) != count:
        raise Refused(f"has {count:,} images in {images!r} and {values.size:,} labels in {name!r}")
    if values.ndim == 2 and values.shape[1] > 1:
        raise Refused(
            f"holds several labels for an image in {name!r} {values.shape}, and a picture has one class. Choose a "
            "column"
        )
    values = values.reshape(count)
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == values.round()).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "biuU":
        raise Refused(
            f"holds labels in {name!r} as {values.dtype}, and they are whole numbers or texts"
        )
    return values


def _texts(found: Stack, name: str) -> list[str]:
    values = _values(found, name)
    if values.dtype.kind == "U" and values.ndim == 0:  # names as JSON
        try:
            said = json.loads(str(values))
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, list) and all(isinstance(each, str) for each in said):
            return said
    if values.dtype.kind != "U" or values.ndim != 1:
        raise Refused(
            f"holds the names of classes in {name!r} as {values.dtype} {values.shape}, and they are texts"
        )
    return [str(value) for value in values]


def _named(values: np.ndarray, names: Sequence[str]) -> tuple[list[str | None], tuple[str, ...]]:
    """Names the class of each image; numbers without names are their own."""
    if values.dtype.kind == "U" or not names:
        return [str(value)[:200] or None for value in values.tolist()], ()
    if len(set(names)) < len(names) or (
        values.size and not 0 <= values.min() <= values.max() < len(names)
    ):
        raise Refused(
            f"has {len(names)} names of classes, and labels from {values.min()} to {values.max()}"
        )
    return [names[int(value)] for value in values], tuple(names)


def spelt(packed: np.ndarray, ends: np.ndarray, name: str) -> list[str]:
    """Reads the texts of a column that is kept as their bytes.

    Args:
        packed: All texts behind each other in UTF-8, uint8 (B,).
        ends: Where each ends, whole numbers (n,).
        name: Of the column.

    Raises:
        Refused: If they do not fit together, or are no texts.
    """
    fits = (
        packed.dtype == np.uint8 and packed.ndim == 1 and ends.dtype.kind in "iu" and ends.ndim == 1
    )
    places = [0, *ends.tolist()] if fits else [1]
    if places[0] or places[-1] != len(packed) or any(b < a for a, b in pairwise(places)):
        raise Refused(f"holds texts in '{name}{UTF8}' that do not end where '{name}{ENDS}' says")
    whole = packed.tobytes()
    try:
        return [whole[a:b].decode() for a, b in pairwise(places)]
    except UnicodeDecodeError:
        raise Refused(f"holds bytes in '{name}{UTF8}' that are no UTF-8") from None


def _columns(
    stacks: Mapping[str, Stack], used: set[str], splits: Sequence[str], images: Sequence[Stack]
) -> dict[str, list[Any]]:
    """Reads what else is known of each image: arrays (N,) of the same names for each split."""
    columns: dict[str, list[Any]] = {}
    others = [name for name in stacks if name not in used]
    bare = {
        name.removeprefix(f"{splits[0]}_") if splits[0] else name
        for name in others
        if not splits[0] or name.startswith(f"{splits[0]}_")
    }
    packed = {
        name.removesuffix(UTF8)
        for name in bare
        if name.endswith(UTF8) and name.removesuffix(UTF8) + ENDS in bare
    }
    bare = (bare - {name + end for name in packed for end in (UTF8, ENDS)}) | packed
    for name in sorted(bare)[:COLUMNS]:
        keys = [f"{split}_{name}" if split else name for split in splits]
        if name in packed and all(key + end in stacks for key in keys for end in (UTF8, ENDS)):
            bytes_of, ends_of = (
                [_values(stacks[key + end], key + end) for key in keys] for end in (UTF8, ENDS)
            )
            parts = [*map(spelt, bytes_of, ends_of, keys)]
            if [len(part) for part in parts] == [image.shape[0] for image in images]:
                columns[name] = [text for part in parts for text in part]
            continue
        shapes = [stacks[key].shape if key in stacks else None for key in keys]
        if shapes == [(image.shape[0],) for image in images]:
            values = [_values(stacks[key], key) for key in keys]
            if all(part.dtype.kind in "biufU" for part in values):
                columns[name] = [value for part in values for value in part.tolist()]
    return columns
