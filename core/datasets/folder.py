"""Pictures from a directory on the server or from a ZIP: hostile until checked, decoded one at a time.

Nothing is unpacked to disk, a file's type is read from its content, and a picture that cannot be used is
listed with its reason while the others go on.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.catalog import Config, UserError, knob
from core.datasets import sources
from core.datasets.dataset import (
    FEWEST,
    Dataset,
    Progress,
    assemble,
    datasets,
    digest,
    from_digests,
    split_by_content,
)
from core.datasets.files import Archive, Directory, File, shown, walk
from core.datasets.pictures import NO_PICTURE, Decoded, Refused, decode, is_picture
from core.datasets.store import Pixels
from core.settings import settings

CLASSES = 1000  # at most
_GIVEN = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}  # splits, not classes
_LISTED = 1000  # refused files that are kept by name


class FolderConfig(Config):
    """The choices for pictures of one's own."""

    path: str = knob("", "A directory on the server, or a ZIP of pictures.", path=True)
    size: int = knob(
        32, "Height and width that every picture is scaled to.", ge=8, le=128, unit="px"
    )
    channels: Literal["auto", "grey", "colour"] = knob(
        "auto", "Grey or colour; auto takes grey if no picture has a colour.", title="Colours"
    )
    fit: Literal["crop", "pad"] = knob(
        "crop", "A picture that is not square loses its edges, or gets white ones."
    )
    count: int = sources.count_knob()
    valid_share: float = sources.valid_share_knob()
    test_share: float = knob(
        0.2,
        "Share of the images that is kept for the final report.",
        ge=0.01,
        le=0.4,
        title="Test share",
        advanced=True,
    )
    licence: str = knob("", "The licence of the pictures; it travels with every version.")
    consent: Literal["unknown", "given", "not needed"] = knob(
        "unknown",
        "Whether the people on the pictures agreed to their use; not needed where there are none.",
        title="Consent",
    )


def _prepare(config: FolderConfig) -> tuple[FolderConfig, str]:
    settings().allow_change("import images")
    sources.allow_count(config.count)
    if not config.path.strip():
        raise UserError(
            "dataset.path must name a directory or a ZIP of pictures, got ''. "
            "For example path=~/birds.zip."
        )
    try:
        path = Path(config.path).expanduser().absolute()
        found = path.stat()
        config = config.model_copy(update={"path": str(path)})
        if stat.S_ISDIR(found.st_mode):
            files, links = walk(path)
            listing = sorted((file.name, file.size, file.key.stat().st_mtime_ns) for file in files)
            return config, hashlib.sha256(ascii((str(path), listing, links)).encode()).hexdigest()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(
                f"{config.path!r} must be a directory or a ZIP, and is neither. Choose another path."
            )
        return config, _sha(path, found.st_size, found.st_mtime_ns, found.st_ino)
    except FileNotFoundError:
        raise UserError(
            f"There is no file or folder {config.path!r}. A directory or a ZIP of pictures on the server "
            "is read; check the path for a typing error."
        ) from None
    except PermissionError as error:
        raise UserError(
            f"This program may not read {error.filename or config.path!r}. A directory or a ZIP that it "
            "may read is needed; give it the permission, or copy the pictures elsewhere."
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{config.path!r} cannot be opened ({error}). A directory or a ZIP of pictures is read; "
            "check the path."
        ) from error


@functools.lru_cache(maxsize=64)
def _sha(path: Path, size: int, mtime: int, inode: int) -> str:
    mark = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            mark.update(piece)
    return mark.hexdigest()


@datasets.add("folder", "Your own pictures", FolderConfig, prepare=_prepare)
def folder(config: FolderConfig, place: Path, progress: Progress | None = None) -> Dataset:
    """Your own pictures, from a directory or a ZIP: one folder per class, or all in one.

    PNG, JPEG, WebP and BMP of any size, grey or colour, scaled to one size. Folders around all pictures are
    skipped; ``train``, ``valid`` and ``test`` at the top are taken as the splits. If most pictures lie beside the
    folders, there are no classes.

    Raises:
        UserError: If fewer than 8 pictures can be read, or the ZIP is not to be trusted.
    """
    path = Path(config.path)
    with Directory(path) if path.is_dir() else Archive(path) as source:
        refused: list[tuple[str, str]] = list(source.refused)
        pictures = []
        for file in source.files:
            try:
                if not is_picture(source.read(file, 16)):
                    raise Refused(NO_PICTURE)
                pictures.append(file)
            except Refused as reason:
                refused.append((file.name, str(reason)))
        placed, notes = _arrange(pictures, refused)
        names = {label for _, label, _ in placed if label is not None}
        if len(names) > CLASSES:
            raise UserError(
                f"{path.name!r} has {len(names)} folders of pictures, and at most {CLASSES} classes "
                "are allowed. Put several folders together, or all pictures into one for a set without classes."
            )
        if 0 < config.count < len(placed):
            notes.append(f"{config.count} of {len(placed)} pictures are used.")
            chosen = sorted(
                placed, key=lambda item: hashlib.blake2b(ascii(item[0].name).encode()).digest()
            )
            placed = chosen[: config.count]
        # test first: a training picture that repeats one of them is then known before it is written
        placed.sort(key=lambda item: (-item[2], _natural(item[0].name)))
        settings().allow_disk(len(placed) * 3 * config.size**2 / 2**20)
        labels, keys, given, repeated = [], [], [], 0
        files, sizes, spoke = [], [], {"none": 0, "some": 0, "position": 0}
        seen: dict[int, set[bytes]] = {0: set(), 1: set(), 2: set()}
        wide = 3 if config.channels == "colour" else 1
        with Pixels(place / "x.npy", wide, config.size) as pixels:
            for (file, label, code), decoded in _decoded(source, placed, config, progress):
                if isinstance(decoded, str):
                    refused.append((file.name, decoded))
                    continue
                image = decoded.pixels
                spoke[decoded.metadata] += 1
                mark = digest(image)
                if any(mark in seen[later] for later in range(code + 1, 3)):
                    repeated += 1
                    continue
                seen[code].add(mark)
                if len(image) > pixels.channels:
                    pixels.widen()
                pixels.add(image)
                labels.append(label)
                keys.append(mark)
                given.append(code)
                files.append(shown(file.name))
                sizes.append(decoded.was)
    if len(keys) < FEWEST:
        raise _too_few(path.name, len(keys), refused)
    if repeated:
        notes.append(f"{repeated} pictures that a later split holds as well were left out.")
    classes = tuple(sorted(names & set(labels), key=_natural))
    number = {label: i for i, label in enumerate(classes)}
    y = np.array([number[label] for label in labels], np.int64) if classes else None
    if names - set(classes):
        missing = _some("class", sorted(names - set(classes), key=_natural))
        notes.append(f"{missing} without a readable picture: left out.")
    hashes, codes = from_digests(b"".join(keys)), np.array(given, np.int8)
    splits = split_by_content(
        hashes, y, valid_share=config.valid_share, test_share=config.test_share, given=codes
    )
    notes += _class_notes(hashes, y, classes, splits)
    notes += [
        f"There is no image for {split}: the set is too small."
        for split in splits
        if not len(splits[split])
    ]
    if refused:
        notes.append(
            f"{len(refused):,} file{'s were' if len(refused) > 1 else ' was'} left out"
            + (f"; the first {_LISTED} are listed." if len(refused) > _LISTED else ".")
        )
    small, large = (
        f"{w} × {h}" for w, h in (f(sizes, key=lambda s: s[0] * s[1]) for f in (min, max))
    )
    notes.append(
        f"The pictures had {small}"
        + (f" to {large}" if large != small else "")
        + " pixels before they were scaled."
    )
    if held := spoke["some"] + spoke["position"]:
        notes.append(
            f"Metadata was removed from {held:,} picture{'s' if held > 1 else ''}; "
            f"{spoke['position']:,} of them held a position."
            if spoke["position"]
            else f"Metadata was removed from {held:,} picture{'s' if held > 1 else ''}; none held a position."
        )
    wide, high = (np.array(side, np.int64) for side in zip(*sizes, strict=True))
    listed = tuple((shown(name), shown(reason)) for name, reason in refused[:_LISTED])
    return assemble(
        np.load(place / "x.npy", mmap_mode="r"),
        y,
        tuple(map(shown, classes)),
        splits,
        attributes={"picture": np.array(files, dtype=str), "width": wide, "height": high},
        refused=listed,
        notes=tuple(map(shown, notes)),
        terms={"licence": shown(config.licence.strip()), "consent": config.consent},
    )


def _class_notes(
    keys: np.ndarray,
    y: np.ndarray | None,
    classes: tuple[str, ...],
    splits: Mapping[str, np.ndarray],
) -> list[str]:
    if y is None:
        return []
    pairs = np.unique(np.stack([keys, y.astype(np.uint64)], 1), axis=0)[:, 1].astype(np.int64)
    once = np.flatnonzero(np.bincount(pairs, minlength=len(classes)) == 1)
    trained = np.unique(y[splits["train"]])
    notes = []
    if lonely := [classes[i] for i in np.intersect1d(once, trained)]:
        has = "has one image: it is" if len(lonely) == 1 else "have one image each: these are"
        notes.append(f"{_some('class', lonely)} {has} used for training only.")
    if missing := [classes[i] for i in np.setdiff1d(y, trained)]:
        notes.append(f"{_some('class', missing)} without an image for training.")
    return notes


def _arrange(
    pictures: list[File], refused: list[tuple[str, str]]
) -> tuple[list[tuple[File, str | None, int]], list[str]]:
    """Finds each picture's class (or None) and the split that its folder names (0 where none does)."""
    parts = [file.name.split("/") for file in pictures]
    while parts and all(len(part) > 1 for part in parts) and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]  # a folder around everything
    tops = {part[0].casefold() if len(part) > 1 else "" for part in parts}
    codes, notes = [0] * len(parts), []
    if len(tops) > 1 and "train" in tops and tops <= set(_GIVEN):
        codes = [_GIVEN[part[0].casefold()] for part in parts]
        parts = [part[1:] for part in parts]
        notes.append(f"The folders {', '.join(sorted(tops))} are taken as the splits.")
    beside = sum(len(part) == 1 for part in parts)
    labelled = beside <= len(parts) / 2
    placed = []
    for file, part, code in zip(pictures, parts, codes, strict=True):
        if labelled and len(part) == 1:
            refused.append(
                (file.name, "lies beside the folders of the classes, so it has no class")
            )
        else:
            placed.append((file, part[0] if labelled else None, code))
    return placed, notes


def _decoded(
    source: Directory | Archive,
    placed: list[Any],
    config: FolderConfig,
    progress: Progress | None,
) -> Iterator[tuple[Any, Decoded | str]]:
    """Yields every item with its picture, or with the reason why there is none."""
    limits = settings()
    most = int(limits.max_megapixels * 8e6) + 2**20  # four channels of 16 bits, unpacked

    def start(item: Any) -> Callable[[], Decoded | str]:
        try:
            if item[0].size > most:
                raise Refused(
                    f"has {item[0].size / 2**20:.0f} MB, and at most {most / 2**20:.0f} MB are allowed"
                )
            data = source.read(item[0], most)
        except Refused as reason:
            refusal = str(reason)
            return lambda: refusal
        return lambda: decode(data, config.size, config.channels, config.fit, limits.max_megapixels)

    told = 0.0
    for done, (item, image) in enumerate(_ahead(placed, start), 1):
        yield item, image
        if progress and (done == len(placed) or time.monotonic() - told > 0.1):
            told = time.monotonic()
            progress(done, len(placed))


def _ahead(
    items: Iterable[Any], start: Callable[[Any], Callable[[], Any]]
) -> Iterator[tuple[Any, Any]]:
    """Runs what ``start(item)`` returns on a few threads, never more than a few items ahead, in order."""
    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[Any, Future]] = deque()
        for item in items:
            waiting.append((item, pool.submit(start(item))))
            if len(waiting) > 2 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _too_few(name: str, read: int, refused: list[tuple[str, str]]) -> UserError:
    read_words = (
        "No picture" if not read else "Only one picture" if read == 1 else f"Only {read} pictures"
    )
    text = f"{read_words} in {name!r} could be read, and at least {FEWEST} are needed."
    if refused:
        first = "; ".join(f"{shown(file)} {shown(reason)}" for file, reason in refused[:3])
        text += f" Left out: {first}{f'; and {len(refused) - 3} more' if len(refused) > 3 else ''}."
    return UserError(text + " Add PNG, JPEG, WebP or BMP pictures.")


def _some(kind: str, names: list[str]) -> str:
    if len(names) == 1:
        return f"{kind} {names[0]!r}"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} {kind}es ({', '.join(map(repr, names[:3]))}{more})"


def _natural(name: str) -> tuple[list[Any], str]:
    """Sorts ``class 2`` before ``class 10``."""
    return [
        int(part) if i % 2 else part.casefold()
        for i, part in enumerate(re.split(r"([0-9]+)", name))
    ], name
