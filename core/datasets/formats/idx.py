"""IDX: the files of MNIST and its kin, plain or packed by gzip; images in one, their labels in another.

References:
    LeCun, Cortes and Burges, The MNIST database, the format of the files http://yann.lecun.com/exdb/mnist
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.catalog import UserError
from core.datasets.container import Container, File, Rows, Volume
from core.datasets.files import allow_number, shown
from core.datasets.formats import Heads, formats
from core.datasets.layout import of_shards
from core.datasets.pictures import Refused
from core.datasets.stacks import Stack, StackContainer
from core.datasets.tape import beginning, unpacked
from core.ground.settings import settings

_KINDS = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}


def told(volume: Volume, heads: Heads) -> Sequence[File]:
    """Lists the files that begin like one of IDX: two zeros, a type, and a number of dimensions."""
    found = []
    for file, packed in heads:
        head = beginning(packed)
        if head[:2] == b"\0\0" and len(head) >= 8 and head[2] in _KINDS and 1 <= head[3] <= 4:
            found.append(file)
    return found


@formats.add("idx", "IDX", told=told, suffixes=("gz", "idx", "ubyte"))
def idx(volume: Volume, files: Sequence[File], config: Any) -> Container:
    """Images as bytes in one file, and their labels in another, as MNIST has them."""
    stacks: dict[str, Stack] = {}
    for file in files:
        try:
            stacks[file.name] = _stack(volume, file)
        except Refused as why:
            raise _refused(file.name, str(why)) from None
    images = [name for name, stack in stacks.items() if len(stack.shape) > 1]
    labels = [name for name in stacks if name not in images]
    if not images:
        raise _refused(labels[0], "holds labels, and no file with their images is with it")
    pairs = {_key(name): name for name in labels}
    if len(images) == len(labels) == 1:
        pairs = {_key(images[0]): labels[0]}
    listed: list[File] = []
    label: list[str | None] = []
    split: list[str] = []
    for number, (name, part) in enumerate(zip(images, of_shards(images), strict=True)):
        stack = stacks[name]
        count = stack.shape[0]
        allow_number(len(listed) + count, Path(volume.name))
        stem = Path(name).name.partition(".")[0]
        listed += [File(f"{stem}/{i:06d}", 0, (number, i)) for i in range(count)]
        split += [part] * count
        if (other := pairs.get(_key(name))) is None:
            continue
        if stacks[other].shape[0] != count:
            raise _refused(
                name,
                f"holds {count:,} images, and {shown(other)!r} {stacks[other].shape[0]:,} labels",
            )
        stacks[other].stream.seek(stacks[other].start)
        label += map(str, np.frombuffer(stacks[other].stream.read(count), np.uint8).tolist())
    if label and len(label) < len(listed):
        raise _refused(images[0], "and others of its set do not all have labels")
    rows = Rows(label=label, split=split if any(split) else (), sentence="the IDX file of labels")
    return StackContainer(volume, [stacks[name] for name in images], listed, rows)


def _stack(volume: Volume, file: File) -> Stack:
    stream = volume.kept(unpacked(volume.kept(volume.open(file)), file.name))
    head = stream.read(4)
    dims = [int.from_bytes(stream.read(4), "big") for _ in range(head[3])]
    start, end = stream.tell(), stream.seek(0, 2)
    if head[2] != 8:
        raise Refused(f"holds numbers of the type {_KINDS[head[2]]}, and only bytes are read")
    size = math.prod(dims)
    if start + size > end:
        raise Refused(f"is cut off: it says that it holds {' × '.join(map(str, dims))} bytes")
    if start + size < end:
        raise Refused(
            f"is longer than the {' × '.join(map(str, dims))} bytes that it says it holds"
        )
    if len(dims) == 2 or (len(dims) == 4 and dims[3] not in (1, 3)):
        raise Refused(f"has the shape {' × '.join(map(str, dims))}, which is none of images")
    if len(dims) > 1 and not 0 < math.prod(dims[1:]) <= settings().max_megapixels * 3e6:
        raise Refused(f"holds images of {' × '.join(map(str, dims[1:]))}, which is not allowed")
    return Stack(stream, start, tuple(dims), np.dtype(np.uint8))


def _key(name: str) -> str:
    """Gives a file of images and that of its labels the same name."""
    stem = Path(name).name.casefold().removesuffix(".gz")
    return re.sub(r"images?|labels?|idx[0-9]|[^a-z0-9]", "", stem)


def _refused(name: str, why: str) -> UserError:
    return UserError(f"The IDX file {shown(name)!r} {shown(why)}. Get it again, or take it out.")
