"""CIFAR-10 and CIFAR-100 in their binary version: each image is its label and its colours, one after the other.

References:
    Krizhevsky, 2009, Learning multiple layers of features from tiny images
    https://www.cs.toronto.edu/~kriz/cifar.html (binary version)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from core.catalog import UserError
from core.datasets.container import Container, File, Rows, Volume
from core.datasets.files import allow_number, shown
from core.datasets.formats import Heads, formats
from core.datasets.pictures import Refused
from core.datasets.stacks import Stack, StackContainer

_PIXELS = 3 * 32 * 32
_NAMES = {1: ("batches.meta.txt",), 2: ("coarse_label_names.txt", "fine_label_names.txt")}
_MOST = {1: (10,), 2: (20, 100)}  # labels of an image, and how many classes each has
_PICKLES = {"data_batch", "test_batch", "batches", "meta", "train", "test"}
PICKLE = (
    "is a pickle, as CIFAR's Python version is, and a pickle runs code when it is read. Take the binary version "
    "(cifar-10-binary.tar.gz or cifar-100-binary.tar.gz), whose numbers are the same."
)


def told(volume: Volume, heads: Heads) -> Sequence[File]:
    """Lists the batches by the length and the labels of their records, and the pickles of the Python version."""
    found = []
    for file, head in heads:
        name = PurePosixPath(file.name).name
        if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
            if name.rstrip("_0123456789").partition(".")[0] in _PICKLES:
                found.append(file)
        elif name.casefold().endswith(".bin") and (head[:1] < b"d") and _labels(volume, file):
            found.append(file)
    return found


@formats.add("cifar", "CIFAR (binary version)", told=told, suffixes=("bin",))
def cifar(volume: Volume, files: Sequence[File], config: Any) -> Container:
    """Small pictures in colour, 32 by 32 pixels, as CIFAR-10 and CIFAR-100 are given away."""
    files = sorted(files, key=lambda file: file.name)
    widths = {file.name: _labels(volume, file) for file in files}
    for file in files:
        if not widths[file.name]:
            raise UserError(f"{shown(file.name)!r} {PICKLE}")
    if len(set(widths.values())) > 1:
        raise UserError(
            f"{volume.name!r} mixes batches of CIFAR-10 and CIFAR-100. Take one of them."
        )
    [width] = set(widths.values())
    names = _class_names(volume, width)
    stacks, listed, split, numbers = [], [], [], []
    for number, file in enumerate(files):
        count = file.size // (width + _PIXELS)
        allow_number(len(listed) + count, Path(volume.name))
        stream = volume.kept(volume.open(file))
        stacks.append(
            Stack(stream, width, (count, 3, 32, 32), np.dtype(np.uint8), True, width + _PIXELS)
        )
        stem = PurePosixPath(file.name).stem
        listed += [File(f"{stem}/{i:05d}", 0, (number, i)) for i in range(count)]
        split += ["test" if "test" in stem else "train"] * count
        for i in range(count):
            stream.seek(i * (width + _PIXELS))
            numbers.append(stream.read(width))
    found = np.frombuffer(b"".join(numbers), np.uint8).reshape(-1, width)
    for column, most in enumerate(_MOST[width]):
        if found[:, column].max() >= most:
            raise UserError(
                f"{volume.name!r} has a label {int(found[:, column].max())}, and CIFAR-{_MOST[width][-1]} has at most "
                f"{most - 1}. It is damaged, or no CIFAR; get it again."
            )
    rows = Rows(
        label=[names[-1][k] if names[-1] else str(k) for k in found[:, -1].tolist()],
        classes=tuple(names[-1]),
        split=split if len(set(split)) > 1 else (),
        sentence="the batches of CIFAR",
    )
    if width == 2:
        rows.columns = {"coarse": [names[0][k] if names[0] else k for k in found[:, 0].tolist()]}
    return StackContainer(volume, stacks, listed, rows)


def _labels(volume: Volume, file: File) -> int:
    """Gives how many labels lie before each image, by the first of them; 0 where it is no batch."""
    for width, most in _MOST.items():
        size = width + _PIXELS
        if not file.size or file.size % size:
            continue
        try:
            data = volume.read(file, 200 * size, count=False)
        except Refused:
            return 0
        first = np.frombuffer(data[: len(data) // size * size], np.uint8).reshape(-1, size)
        if len(first) and (first[:, :width].max(0) < most).all():
            return width
    return 0


def _class_names(volume: Volume, width: int) -> list[list[str]]:
    """Reads the names of the classes beside the batches; empty where they are not there."""
    found: list[list[str]] = []
    for wanted, most in zip(_NAMES[width], _MOST[width], strict=True):
        names: list[str] = []
        for file in volume.files:
            if PurePosixPath(file.name).name == wanted:
                text = volume.read(file, 2**16).decode("utf-8", "replace")
                names = [
                    shown(" ".join(line.split()))[:200]
                    for line in text.splitlines()
                    if line.strip()
                ]
        if names and (len(names) != most or len(set(names)) < most):
            raise UserError(
                f"{wanted!r} in {volume.name!r} must name {most} classes, each once, and names {len(names)}. Mend it, "
                "or take it out."
            )
        found.append(names)
    return found
