"""Decodes the pictures of an import, a few at a time and in order, and writes them into one file."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from core.catalog import UserError
from core.datasets.container import Container, File
from core.datasets.dataset import digest
from core.datasets.files import content, header, shown
from core.datasets.pairing import half_of
from core.datasets.pictures import Decoded, Half, Refused, Span, decode, extent
from core.datasets.plan import FolderConfig, Picture
from core.datasets.store import PixelFile
from core.ground.settings import settings
from core.ground.watch import Watch

T = TypeVar("T")
_TOGETHER, _PIXELS = 16, 2**16  # pictures that a thread gets at once, and how many pixels they have


@dataclass
class Written:
    """The pictures that were decoded, in the order in which they were written.

    Attributes:
        pictures: Each as it was planned.
        keys: Hashes of their pixels.
        sizes: Width and height that they had.
        metadata: How many held nothing, something, or a position beside the pixels.
        refused: Names of files that cannot be decoded, with the reason.
        repeated: How many were left out because a later split holds them as well.
        brightest: The largest value in pictures of 8 bits, or one above 1.
    """

    pictures: list[Picture] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    metadata: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, str]] = field(default_factory=list)
    repeated: int = 0
    brightest: int = 0


def write(
    source: Container,
    pictures: Sequence[Picture],
    config: FolderConfig,
    span: Span | None,
    file: Path,
    watch: Watch,
) -> Written:
    """Decodes pictures, those of later splits first, and writes them one after the other into an ``.npy`` file.

    Raises:
        UserError: If a ZIP unpacks to more than it may.
    """
    limit = settings().max_megapixels

    def start(picture: Picture) -> Callable[[], tuple[Decoded, bytes] | str]:
        try:
            data = content(source, picture.file)
        except Refused as reason:
            refusal = str(reason)
            return lambda: refusal

        def made() -> tuple[Decoded, bytes] | str:
            half = half_of(config.pair)
            decoded = decode(data, config.size, config.channels, config.fit, limit, span, half)
            return decoded if isinstance(decoded, str) else (decoded, digest(decoded.pixels))

        return made

    written = Written()
    seen: dict[int, set[bytes]] = {0: set(), 1: set(), 2: set()}
    channels = 3 if config.channels == "colour" else 1
    with PixelFile(file, (channels, config.size, config.size)) as pixels:
        for done, (picture, made) in enumerate(_ahead(pictures, start), 1):
            watch.count("Reading", done, len(pictures), "pictures")
            if isinstance(made, str):
                written.refused.append((picture.file.name, made))
                continue
            decoded, key = made
            image = decoded.pixels
            written.metadata[decoded.metadata] += 1
            if written.brightest <= 1 and not picture.header.deep:
                written.brightest = max(written.brightest, int(image.max()))
            if any(key in seen[later] for later in range(picture.split + 1, 3)):
                written.repeated += 1
                continue
            seen[picture.split].add(key)
            if len(image) > pixels.shape[0]:
                pixels.widen()
            pixels.add(image)
            written.pictures.append(picture)
            written.keys.append(key)
            written.sizes.append(decoded.was)
    return written


def seconds(
    source: Container,
    pictures: Sequence[Picture],
    config: FolderConfig,
    file: Path,
    watch: Watch,
) -> None:
    """Decodes the second image of each picture, in their order, and writes them into an ``.npy`` file.

    Raises:
        UserError: If one cannot be read, or a ZIP unpacks to more than it may.
    """
    limit, half = settings().max_megapixels, half_of(config.pair, second=True)

    def start(picture: Picture) -> Callable[[], Decoded | str]:
        try:
            if half:
                data = content(source, picture.file)
            else:
                data = content(source.pairs_in or source, source.pairs[picture.file.name])
        except Refused as reason:
            refusal = str(reason)
            return lambda: refusal
        return lambda: decode(data, config.size, "auto", config.fit, limit, half=half)

    with PixelFile(file, (1, config.size, config.size)) as pixels:
        for done, (picture, decoded) in enumerate(_ahead(pictures, start), 1):
            watch.count("Reading second images", done, len(pictures), "pictures")
            if isinstance(decoded, str):
                raise UserError(
                    f"The second image of {shown(picture.file.name)!r} {decoded}. Mend it, or take the two out."
                )
            if len(decoded.pixels) > pixels.shape[0]:
                pixels.widen()
            pixels.add(decoded.pixels)


def ends(source: Container, pictures: Sequence[Picture]) -> tuple[float, float]:
    """Finds the smallest and the largest value of pictures; one that cannot be read counts as 0."""
    limit = settings().max_megapixels

    def start(picture: Picture) -> Callable[[], tuple[float, float]]:
        data = b""
        with suppress(Refused):
            data = content(source, picture.file, count=False)

        def find() -> tuple[float, float]:
            try:
                return extent(data, limit)
            except Refused:
                return 0.0, 0.0

        return find

    lows, highs = zip(*(pair for _, pair in _ahead(pictures, start)), strict=True)
    return min(lows), max(highs)


def samples(
    source: Container,
    pictures: Sequence[Picture],
    size: int,
    span: Span | None,
    half: Half = "",
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name and the pixels, uint8 (1 or 3, size, size), of each picture that can be decoded."""
    limit = settings().max_megapixels

    def start(picture: Picture) -> Callable[[], Decoded | str]:
        data = b""
        with suppress(Refused):
            data = content(source, picture.file, count=False)
        return lambda: decode(data, size, megapixels=limit, span=span, half=half)

    for picture, decoded in _ahead(pictures, start):
        if not isinstance(decoded, str):
            yield picture.file.name, decoded.pixels


def span_of_files(source: Container, files: Sequence[File]) -> Span | None:
    """Finds the range of the pictures with more than 8 bits among files; None where there are none."""
    deep = []
    for file in files:
        with suppress(Refused):
            if (head := header(source, file)).deep:
                deep.append(Picture(file, head))
    return Span(ends(source, deep)[1] or 1.0) if deep else None


def _ahead(
    pictures: Iterable[Picture], start: Callable[[Picture], Callable[[], T]]
) -> Iterator[tuple[Picture, T]]:
    """Runs what ``start(picture)`` returns on a few threads, never more than some pictures ahead, in order."""
    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[list[Picture], Future[list[T]]]] = deque()
        for part in _parts(pictures):
            waiting.append((part, pool.submit(_run, [start(picture) for picture in part])))
            if len(waiting) > 2 * workers:
                first, future = waiting.popleft()
                yield from zip(first, future.result(), strict=True)
        for first, future in waiting:
            yield from zip(first, future.result(), strict=True)


def _run(calls: Sequence[Callable[[], T]]) -> list[T]:
    return [call() for call in calls]


def _parts(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """Yields small pictures a few at a time: to hand a thread one costs as much as decoding it."""
    part: list[Picture] = []
    pixels = 0
    for picture in pictures:
        part.append(picture)
        pixels += picture.header.pixels
        if len(part) == _TOGETHER or pixels > _PIXELS:
            yield part
            part, pixels = [], 0
    if part:
        yield part
