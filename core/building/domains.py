"""Two datasets as the two classes of one: what a model needs that turns an item of one into an item of the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.building.optout import without
from core.building.version import COLUMNS, inherited
from core.catalog import UserError
from core.datasets import SPLITS, Dataset, assemble, evenly
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import many
from core.tensors import Images, luminance

CONTENT = "content"  # the attribute that keeps the class which an item had in its own dataset
TIMES = 4  # items of the larger set for each of the smaller: a model learns a domain by its items
LOOKED = 2000  # items that say where a dataset's content lies
PLAIN = 0.05  # spread of a border up to which it is ground, in [0, 1]
INK = 0.3  # how far content is from the ground, in [0, 1]


@dataclass(frozen=True)
class Extent:
    """Where the content of a dataset lies in its pictures, all lengths as shares of their side.

    Attributes:
        side: The longer side of the content, in the median picture.
        row, column: Of its middle, on average.
    """

    side: float
    row: float
    column: float


def extent_of(dataset: Dataset) -> Extent | None:
    """Finds where a dataset's content lies; None unless nearly all pictures have a plain ground around it."""
    x = dataset.images(evenly(dataset.splits["train"], LOOKED))  # (N, C, H, W)
    border = torch.cat([x[..., [0, -1], :].flatten(2), x[..., [0, -1]].flatten(2)], 2)
    ground = border.median(2).values[..., None, None]  # (N, C, 1, 1)
    # content may reach the border, so that only most of it has to be ground
    plain = ((border - ground[..., 0]).abs() < PLAIN).float().mean(2).amin(1) > 0.5
    ink = ((x - ground).abs() > INK).any(1)  # (N, H, W)
    some = plain & ink.flatten(1).any(1)
    if not len(some) or float(some.float().mean()) < 0.9:
        return None
    ink = ink[some]
    spans = []
    for axis in (2, 1):  # of rows, then of columns
        there = ink.any(axis).float()  # (n, H or W)
        size = there.shape[1]
        first, last = there.argmax(1), size - there.flip(1).argmax(1)
        spans.append(((last - first) / size, (first + last) / (2 * size)))
    (high, row), (wide, column) = spans
    side = torch.maximum(high, wide).median()
    return Extent(float(side), float(row.mean()), float(column.mean()))


def fitted_into(x: Images, size: int, ours: Extent | None, theirs: Extent | None) -> Tensor:
    """Scales pictures (N, C, H, W) in [0, 1] to (N, C, size, size), their content to another's extent, on their ground.

    Without both frames the whole picture fills the new one.
    """
    side, top, left = size, 0, 0
    if ours is not None and theirs is not None:
        side = max(1, round(size * theirs.side / ours.side))
        top = round(size * theirs.row - side * ours.row)
        left = round(size * theirs.column - side * ours.column)
    scaled = F.interpolate(x, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    border = torch.cat([x[..., [0, -1], :].flatten(2), x[..., [0, -1]].flatten(2)], 2)
    field = border.median(2).values[..., None, None].expand(*x.shape[:2], size, size).clone()
    rows = slice(max(0, top), min(size, top + side))
    columns = slice(max(0, left), min(size, left + side))
    field[..., rows, columns] = scaled[
        ..., rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    return field


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [part for part in np.array_split(rows, max(1, len(rows) // 1000)) if len(part)]


def _brought(x: Images, like: Dataset, ours: Extent | None, theirs: Extent | None) -> Tensor:
    if x.shape[1] > like.channels:
        x = luminance(x)
    return fitted_into(x.expand(-1, like.channels, -1, -1), like.size, ours, theirs)


def joined(
    first: Dataset,
    second: Dataset,
    names: Sequence[str] = (),
    *,
    watch: Watch = UNWATCHED,
) -> Dataset:
    """Joins two datasets as the two classes of one; every item keeps its split, its terms and what is known of it.

    Pictures of the first take the channels, size and frame of the second: where both show something on a plain
    ground, it becomes equally large and lies at the same place. The class that an item had becomes its attribute
    :data:`CONTENT`. Of the larger set at most :data:`TIMES` items join for each of the smaller one.

    Args:
        first, second: Of pictures.
        names: Of the two classes; those of the datasets without.
        watch: Told how far it is.

    Raises:
        UserError: If one holds no pictures, both are the same, or a name is empty or taken twice.
    """
    sets = tuple(without(each) for each in (first, second))
    names = tuple(name.strip() for name in names) or (first.name, second.name)
    for each in sets:
        if each.medium.name != "image":
            raise UserError(
                f"Domains are two sets of images, and {each.name} holds {each.medium.title.lower()}. "
                "Choose a set of images."
            )
        if not len(each.splits["train"]):
            raise UserError(
                f"{each.name} has no training item, so nothing can be learned of it. Choose another set."
            )
    if first.fingerprint == second.fingerprint:
        raise UserError(
            f"{first.name} and {second.name} hold the same items, so there is nothing to translate. "
            "Choose two different sets."
        )
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise UserError(
            f"Two domains need two different names, got {', '.join(map(repr, names))}. Write two."
        )
    chosen = _balanced(sets)
    count = sum(map(len, chosen))
    settings().allow_disk(count * second.x[:1].nbytes / 2**20)
    ours, theirs = extent_of(sets[0]), extent_of(sets[1])
    x = np.empty((count, *second.shape), second.x.dtype)
    done = 0
    for each, rows in zip(sets, chosen, strict=True):
        for part in _parts(rows):
            watch.count("Joining", done, count, "images")
            if each is sets[1]:
                x[done : done + len(part)] = each.x[part]
            else:
                brought = _brought(each.images(part), second, ours, theirs)
                x[done : done + len(part)] = second.medium.write(brought, second.levels)
            done += len(part)
    sizes = [len(rows) for rows in chosen]
    splits = {
        split: np.concatenate(
            [
                np.flatnonzero(np.isin(rows, each.splits[split])) + start
                for each, rows, start in zip(sets, chosen, (0, sizes[0]), strict=True)
            ]
        ).astype(np.int64)
        for split in SPLITS
    }
    contents, attributes = _content(sets, chosen)
    return assemble(
        x,
        np.repeat(np.arange(2), sizes).astype(np.int64),
        names,
        splits,
        levels=second.levels,
        attributes=attributes | _lineage(sets, chosen) | _terms(sets, sizes),
        name=f"{names[0]}-{names[1]}",
        parent=second.fingerprint,
        notes=(_sentence(sets, sizes, ours, theirs),),
        source={
            "domains": [
                {"name": each.name, "fingerprint": each.fingerprint, "source": dict(each.source)}
                for each in (first, second)
            ],
            "values": {CONTENT: list(contents)} if contents else {},
            "chain": second.chain,
        },
        terms=_shared_terms(sets),
    )


def _balanced(sets: Sequence[Dataset]) -> list[np.ndarray]:
    """Chooses rows (n,) of each set, split by split, so that neither is forgotten beside the other."""
    chosen: list[list[np.ndarray]] = [[], []]
    for split in SPLITS:
        sizes = [len(each.splits[split]) for each in sets]
        most = TIMES * min(sizes) if min(sizes) else max(sizes)
        for place, each in enumerate(sets):
            chosen[place].append(evenly(each.splits[split], most))
    return [np.sort(np.concatenate(parts)) for parts in chosen]


def _content(
    sets: Sequence[Dataset], chosen: Sequence[np.ndarray]
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Gives the names of the classes that both sets have, and for each item the number of its own; -1 for none."""
    names = tuple(dict.fromkeys(name for each in sets for name in each.classes))
    if not names:
        return (), {}
    columns = []
    for each, rows in zip(sets, chosen, strict=True):
        place = np.array([names.index(name) for name in each.classes], np.int64)
        columns.append(np.full(len(rows), -1) if each.y is None else place[each.y[rows]])
    return names, {CONTENT: np.concatenate(columns).astype(np.int64)}


def _lineage(sets: Sequence[Dataset], chosen: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    told = [
        row
        for each, rows in zip(sets, chosen, strict=True)
        for row in inherited(each, rows, partial(json.dumps, {"dataset": each.name}))
    ]
    return {
        name: np.array([row[k] for row in told], np.int64 if name in ("parent", "seed") else str)
        for k, name in enumerate(COLUMNS)
    }


def _terms(sets: Sequence[Dataset], sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Gives each item the licence and the consent of its own set."""
    return {
        right: np.repeat([str(each.terms.get(right, "")) for each in sets], sizes)
        for right in ("licence", "consent")
    }


def _shared_terms(sets: Sequence[Dataset]) -> dict[str, str]:
    """Gives the terms of the whole: what both say alike, else both licences; the weaker of two consents."""
    licences = [str(each.terms.get("licence", "")) for each in sets]
    consents = [str(each.terms.get("consent", "")) or "unknown" for each in sets]
    weakest = next(
        (said for said in ("withdrawn", "unknown", "given") if said in consents), "not needed"
    )
    whole = " and ".join(dict.fromkeys(filter(None, licences))) if all(licences) else ""
    return {"licence": whole, "consent": weakest}


def _sentence(
    sets: Sequence[Dataset], sizes: Sequence[int], ours: Extent | None, theirs: Extent | None
) -> str:
    first, second = sets
    said = f"{many(sizes[0], 'image')} of {first.name} and {sizes[1]:,} of {second.name}, as two classes."
    if ours is None or theirs is None:
        if first.size != second.size:
            said += f" Those of {first.name} were scaled to {second.size} px."
        return said
    side = round(second.size * theirs.side / ours.side)
    return said + (
        f" Those of {first.name} were scaled to {side} px and set into the frame of {second.size} px, so that "
        "what both show is equally large."
    )


def domains_of(dataset: Dataset) -> tuple[str, ...]:
    """Names the two domains that a dataset was joined of; empty for any other."""
    return dataset.classes if dataset.imported("domains") else ()
