"""Items that must not be used any more: one list for who opted out and for what is to be forgotten.

``optout.jsonl`` in the home folder holds a line for each: the digest of its pixels, and a coarse look in colour
(3 × 32 × 32; grey, 32 × 32, in older lines), by which near copies are known again: lighter or darker, mirrored, a
little moved, as JPEG, larger. What is on the list
is left out of every later import, build and export.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from core.catalog import UserError
from core.datasets import pictures
from core.datasets.attributes import of_rows
from core.datasets.dataset import SPLITS, Dataset, assemble, chunks, digests
from core.ground import files
from core.ground.cache import Cache
from core.ground.settings import settings
from core.ground.writing import many, one_line

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 32  # of a look, in values
_REACH = 2  # values by which a picture may have been moved
# Difference of two looks, as a share of their contrast, up to which they are the same picture. Measured on 1,800 faces
# of 32 px: about 1 % are this near to another one; of copies that are lighter, mirrored or JPEG, over 90 % are.
NEAR = 0.062
_COLOUR = 0.25  # weight of colour, which JPEG changes more than light
_INNER = SIDE - 2 * _REACH
_BRIGHT = np.array([0.299, 0.587, 0.114], np.float32)
_FLAT = 0.02  # contrast below which a picture has no look


@dataclass(frozen=True)
class OptOut:
    """An item that must not be used.

    Attributes:
        digest: Of its pixels; None of a file that was never an item.
        look: uint8 (3, 32, 32) 0 … 255, grey (32, 32) of an older line; None where only the very pixels count.
        source: Where it was, ``digits:5`` or the name of a file.
        reason, who: Why it is left out, and who says so.
        when: Seconds since 1970.
    """

    digest: int | None
    look: np.ndarray | None = field(repr=False)
    source: str
    reason: str
    who: str = ""
    when: float = 0.0


def file() -> Path:
    """Gives the place of the list."""
    return settings().home.absolute() / "optout.jsonl"


_listed = Cache[tuple[OptOut, ...]](4)


def listed() -> tuple[OptOut, ...]:
    """Reads the list.

    Raises:
        UserError: If it is damaged: nothing goes on without knowing what must be left out.
    """
    try:
        stat = file().stat()
    except FileNotFoundError:
        return ()
    return _listed.get((str(file()), stat.st_mtime_ns, stat.st_size, stat.st_ino), _read)


def _read() -> tuple[OptOut, ...]:
    entries = []
    for number, line in enumerate(file().read_bytes().splitlines(), 1):
        try:
            record = json.loads(line)
            digest, look = record["digest"], record["look"]
            if look is not None:
                look = np.frombuffer(base64.b64decode(look), np.uint8)
                look = look.reshape((SIDE, SIDE) if look.size == SIDE * SIDE else (3, SIDE, SIDE))
            entries.append(
                OptOut(
                    None if digest is None else int(digest, 16),
                    look,
                    source=str(record["source"]),
                    reason=str(record["reason"]),
                    who=str(record["who"]),
                    when=float(record["when"]),
                )
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{file()} is damaged in line {number} ({type(error).__name__}), so it is not known what must be left "
                "out. Restore it."
            ) from None
    return tuple(entries)


def stamp() -> str:
    """Names the content of the list; empty for an empty one."""
    entries = listed()
    said = [
        (entry.digest, None if entry.look is None else entry.look.tobytes()) for entry in entries
    ]
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16] if entries else ""


def forget(
    dataset: Dataset, rows: Sequence[int], reason: str, who: str = "", near: bool = True
) -> int:
    """Puts items of a dataset on the list; gives how many were not there.

    Args:
        dataset: Which holds them.
        rows: Which.
        reason, who: Why, and who says so.
        near: Whether near copies count, too; else only the very pixels.

    Raises:
        UserError: If the server is view-only, there is no reason or no such item.
    """
    index = np.asarray(rows, np.int64)
    if not len(index) or index.min() < 0 or index.max() >= len(dataset):
        raise UserError(
            f"{dataset.name} has the rows 0 to {len(dataset) - 1:,}, got {', '.join(map(str, rows)) or 'none'}. "
            "Choose one of them."
        )
    x = np.asarray(dataset.x[index])
    keys, seen = digests(x), _looks(dataset, index) if near else None
    return _add([
        OptOut(int(key), None if seen is None else seen[i], f"{dataset.name}:{row}", "")
        for i, (key, row) in enumerate(zip(keys, index.tolist(), strict=True))
    ], reason, who)  # fmt: skip


def forget_file(data: bytes, name: str, reason: str, who: str = "") -> int:
    """Puts a picture on the list that need not be in any dataset; gives how many were not there (0 or 1).

    Raises:
        UserError: As :func:`forget`, or if it is no picture.
    """
    import torch

    side = 64
    with suppress(pictures.Refused), pictures.explained():
        seen = pictures.look(data, settings().max_megapixels)
        side = min(
            side, seen.width, seen.height
        )  # a small one as it is: enlarged, it looks smoother
    decoded = pictures.decode(data, side, megapixels=settings().max_megapixels)
    if isinstance(decoded, str):
        raise UserError(f"{one_line(name)} {decoded}. Choose another file.")
    x = torch.as_tensor(np.array(decoded.pixels))[None].float() / 255
    look = _coarse(x)
    if not _patterns(look[..., _REACH:-_REACH, _REACH:-_REACH]).any():
        raise UserError(
            f"{one_line(name)} is of nearly one colour, so it could not be told from other such ones. Name the item "
            "by its row instead, as digits:5."
        )
    return _add([OptOut(None, look[0], name, "")], reason, who)


def _add(entries: Sequence[OptOut], reason: str, who: str) -> int:
    settings().allow_change("put items on the list of what must not be used")
    reason = one_line(reason)[:300]
    if not reason:
        raise UserError(
            "An item is left out for a reason, got ''. Say why, for example: asked by mail."
        )
    with files.full_disk_told():
        file().parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file().with_suffix(".lock")):
            old = listed()
            known = {_key(entry) for entry in old}
            new = {key: entry for entry in entries if (key := _key(entry)) not in known}
            records = [
                {
                    "digest": None if entry.digest is None else f"{entry.digest:016x}",
                    "look": None
                    if entry.look is None
                    else base64.b64encode(entry.look.tobytes()).decode(),
                    "source": one_line(entry.source)[:300],
                    "reason": reason,
                    "who": one_line(who)[:100],
                    "when": time.time(),
                }
                for entry in new.values()
            ]
            before = file().read_bytes() if old else b""
            lines = "".join(json.dumps(record) + "\n" for record in records).encode()
            if records:
                files.write_atomic(file(), before + lines)
    return len(new)


def undo(sources: Sequence[str]) -> int:
    """Takes items off the list, by where they were, as :attr:`OptOut.source` says; gives how many.

    Raises:
        UserError: If the server is view-only, or one is not on the list.
    """
    settings().allow_change("take items off the list of what must not be used")
    if not file().exists():
        raise UserError(
            "Nothing is on the list of what must not be used, so nothing can be taken off."
        )
    with files.full_disk_told(), FileLock(file().with_suffix(".lock")):
        entries = listed()
        there = {entry.source for entry in entries}
        if missing := [name for name in sources if name not in there]:
            raise UserError(
                f"{missing[0]!r} is not on the list of what must not be used. See: python -m core forget --list."
            )
        lines = [line for line in file().read_bytes().splitlines(keepends=True) if line.strip()]
        stay = [
            line
            for line, entry in zip(lines, entries, strict=True)
            if entry.source not in set(sources)
        ]
        files.write_atomic(file(), b"".join(stay))
    return len(lines) - len(stay)


def near_copies(dataset: Dataset, row: int) -> list[int]:
    """Lists the other items of a dataset that are nearly one of it, by their look.

    They count only once somebody has confirmed them: :func:`forget` with ``near``.
    """
    index = np.array([row])
    look = _looks(dataset, index)
    if look is None:
        return []
    views, _ = _views([OptOut(None, look[0], "", "")])
    found: list[int] = []
    for start in range(0, len(dataset) if len(views) else 0, 2000):
        looks = _looks(dataset, np.arange(start, min(start + 2000, len(dataset))))
        assert looks is not None
        away, _ = _nearest(looks, views)
        found += (np.flatnonzero(away < NEAR) + start).tolist()
    return [other for other in found if other != row]


def _key(entry: OptOut) -> Any:
    return entry.digest if entry.digest is not None or entry.look is None else entry.look.tobytes()


def matches(dataset: Dataset) -> dict[int, OptOut]:
    """Finds the items of a dataset that are on the list, or near copies of one that is: by row, what it is.

    Raises:
        UserError: If the list is damaged.
    """
    entries = listed()
    found: dict[int, OptOut] = {}
    if not entries:
        return found
    by_digest = {entry.digest: entry for entry in entries if entry.digest is not None}
    if by_digest:
        keys = np.concatenate([digests(part) for part in chunks(dataset.x)] or [np.zeros(0)])
        for row in np.flatnonzero(np.isin(keys, np.array(list(by_digest), np.uint64))):
            found[int(row)] = by_digest[int(keys[row])]
    for colour in (True, False):
        seen = [e for e in entries if e.look is not None and (e.look.ndim == 3) == colour]
        views, owner = _views(seen)
        if not len(views):
            continue
        for start in range(0, len(dataset), 2000):
            index = np.arange(start, min(start + 2000, len(dataset)))
            looks = _looks(dataset, index)
            if looks is None:
                break
            away, which = _nearest(looks if colour else looks.mean(1), views)
            for i in np.flatnonzero(away < NEAR):
                found.setdefault(start + int(i), seen[int(owner[which[i]])])
    return dict(sorted(found.items()))


def matches_row(dataset: Dataset, row: int) -> OptOut | None:
    """Finds out whether one item of a dataset is on the list, or is nearly one that is; None where it is not."""
    if not listed():
        return None
    one = np.array([row], np.int64)
    alone = dict.fromkeys(SPLITS[1:], one[:0]) | {SPLITS[0]: np.zeros(1, np.int64)}
    single = assemble(
        np.asarray(dataset.x[one]),
        None,
        (),
        alone,
        levels=dataset.levels,
        medium=dataset.medium.name,
    )
    return matches(single).get(0)


def without(dataset: Dataset, write: Callable[[np.ndarray], np.ndarray] | None = None) -> Dataset:
    """Leaves out the items that are on the list, with a note; the dataset itself if there is none.

    Args:
        dataset: What may hold some.
        write: Gives the levels of the rows that stay, for a set that does not fit into memory.

    Raises:
        UserError: If the list is damaged, or nothing is left.
    """
    out = matches(dataset)
    if not out:
        return dataset
    rows = np.setdiff1d(np.arange(len(dataset)), np.array(list(out)))
    if not len(rows):
        raise UserError(
            f"Every item of {dataset.name} is on the list of what must not be used ({file()}). Choose other items."
        )
    note = (
        f"{many(len(out), 'item')} left out, because {'they are' if len(out) > 1 else 'it is'} on the list of what "
        "must not be used."
    )
    return kept(dataset, rows, note, None if write is None else write(rows))


def kept(dataset: Dataset, rows: np.ndarray, note: str, x: np.ndarray | None = None) -> Dataset:
    """Keeps some items of a dataset, each in its split; ``x`` are their levels, where they were written already."""
    split_of = dataset.split_of()[rows]
    return assemble(
        np.asarray(dataset.x[rows]) if x is None else x,
        None if dataset.y is None else dataset.y[rows],
        dataset.classes,
        {
            split: np.flatnonzero(split_of == code).astype(np.int64)
            for code, split in enumerate(SPLITS)
        },
        levels=dataset.levels,
        attributes=of_rows(dataset, rows),
        name=dataset.name,
        parent=dataset.parent,
        refused=dataset.refused,
        notes=(*dataset.notes, note),
        source={**dataset.source, "moved": True},  # rows have other numbers than in the parent
        terms=dataset.terms,
        medium=dataset.medium.name,
        group=dataset.group,
        pair=dataset.pair and dataset.pair.at(rows),
    )


# --- How a picture looks ----------------------------------------------------------------------------------------------


def _looks(dataset: Dataset, rows: np.ndarray) -> np.ndarray | None:
    """Gives the coarse looks of items, uint8 (n, 3, 32, 32); None of a medium that is not of pictures."""
    if dataset.medium.item != "picture":
        return None
    return _coarse(dataset.items(rows))


def _coarse(x: Tensor) -> np.ndarray:
    """Gives the coarse looks of pictures (N, C, H, W) in [0, 1], uint8 (N, 3, 32, 32)."""
    from torch.nn import functional as F

    if x.shape[1] != 3:
        x = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return (F.adaptive_avg_pool2d(x, SIDE) * 255).round().byte().numpy()


def _views(entries: Sequence[OptOut]) -> tuple[np.ndarray, np.ndarray]:
    """Gives the patterns (V, D) of entries as they may have been moved, and whose each is, (V,)."""
    views, owner = [], []
    for place, entry in enumerate(entries):
        assert entry.look is not None
        for turned in (entry.look, entry.look[..., ::-1]):
            for down in range(2 * _REACH + 1):
                for right in range(2 * _REACH + 1):
                    views.append(turned[..., down : down + _INNER, right : right + _INNER])
                    owner.append(place)
    if not views:
        return np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
    patterns, plain = _patterns(np.stack(views)), np.array(owner)
    shown = np.abs(patterns).sum(1) > 0
    return patterns[shown], plain[shown]


def _patterns(looks: np.ndarray) -> np.ndarray:
    """Gives looks (N, 3, H, W), grey (N, H, W), at the same light and contrast, float32 (N, D); of flat ones zeros.

    Brightness has length one; red and blue against it follow, softer, as far as they count.
    """
    x = looks.astype(np.float32) / 255
    grey = x if x.ndim == 3 else np.einsum("nchw,c->nhw", x, _BRIGHT)
    shape = _soft(grey, 1).reshape(
        len(x), -1
    )  # a grid between the pixels or another size changes little
    shape = shape - shape.mean(1, keepdims=True)
    contrast, length = shape.std(1, keepdims=True), np.linalg.norm(shape, axis=1, keepdims=True)
    if x.ndim == 4:
        tint = _soft(x[:, [0, 2]] - grey[:, None], 8).reshape(len(x), -1)
        shape = np.concatenate([shape, _COLOUR * tint], 1)
    return np.where(contrast > _FLAT, shape / np.maximum(length, 1e-9), 0).astype(np.float32)


def _soft(x: np.ndarray, times: int) -> np.ndarray:
    """Blurs the last two axes of an array."""
    for axis in (x.ndim - 2, x.ndim - 1):
        for _ in range(times):
            edge = np.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)], "edge")
            a, b = (np.take(edge, np.arange(x.shape[axis]) + k, axis) for k in (0, 2))
            x = (a + 2 * x + b) / 4
    return x


def _nearest(looks: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest view of each look: the distance of their patterns (N,), and which it is (N,)."""
    mine = _patterns(looks[..., _REACH:-_REACH, _REACH:-_REACH])
    best, which = np.full(len(mine), np.inf, np.float32), np.zeros(len(mine), np.int64)
    for start in range(0, len(views), 10_000):
        part = views[start : start + 10_000]
        away = np.square(part).sum(1) - 2 * (mine @ part.T)  # (N, V), and the square of the look
        first = away.argmin(1)
        better = away[np.arange(len(mine)), first] < best
        which[better] = first[better] + start
        best[better] = away[better, first[better]]
    away = np.sqrt(np.maximum(0.0, best + np.square(mine).sum(1)))
    return np.where(np.abs(mine).sum(1) > 0, away, np.inf), which
