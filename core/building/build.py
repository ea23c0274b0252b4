"""Makes a dataset of a plan: pins what it names, says what it will cost, and builds it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from core import datasets
from core.building.gate import REASONS
from core.building.makers import Row, Work, makers
from core.building.optout import without
from core.building.plan import Plan, PlannedSource
from core.building.version import COLUMNS, ORIGINS, lengthened, provenance
from core.catalog import UserError
from core.datasets import Dataset
from core.datasets.attributes import unknown
from core.datasets.dataset import assemble, digests, split_by_content, together
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import many

WHY: Mapping[str, str] = {**REASONS, "harmless": "recognised all the same"}
_LINEAGE = 1000  # bytes that it takes to say where an item comes from
RIGHTS = ("licence", "consent")  # columns that the door asks of each item
SHOWN = 64  # rejected items that are kept to look at, in all


def opened(plan: Plan, watch: Watch = UNWATCHED) -> Dataset:
    """Opens the dataset that a plan starts from.

    Raises:
        UserError: If it cannot be opened, or has changed since the plan was pinned.
    """
    dataset = datasets.load(plan.dataset, plan.values, watch)
    if plan.fingerprint and plan.fingerprint != dataset.fingerprint:
        raise UserError(
            f"The dataset {plan.dataset} has changed since the plan was made, so the same items cannot be had. "
            "Restore it, or take dataset.fingerprint out of the plan to make it for the dataset of today."
        )
    return dataset


def pinned(plan: Plan, dataset: Dataset | None = None) -> Plan:
    """Writes into a plan what its names stand for: content, checkpoints, chains; and refuses what cannot be built.

    Args:
        plan: As a person wrote it.
        dataset: The one that it starts from, if it is open.

    Raises:
        UserError: If something that it names does not exist, or must not be used.
    """
    dataset = opened(plan) if dataset is None else dataset
    plan.wanted(dataset)
    values = plan.values
    if plan.dataset in datasets.datasets:  # what is left out is said, so that one plan has one hash
        config = datasets.config_of(plan.dataset)
        values = config.of(values, f"parameters of {plan.dataset}").record()
    sources = []
    for source in plan.sources:
        entry = makers.get(source.kind)
        config = entry.config.of(source.config, source.kind)
        config = entry.pin(config, dataset, plan.overrides)
        sources.append(replace(source, config=config.record()))
    return plan.with_(values=values, sources=tuple(sources), fingerprint=dataset.fingerprint)


@dataclass
class _Mix:
    """What joins the training items so far."""

    x: list[np.ndarray] = field(default_factory=list)
    y: list[np.ndarray] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    attributes: list[tuple[int, Mapping[str, np.ndarray]]] = field(
        default_factory=list
    )  # from a row on
    refused: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    drawn: int = 0
    notes: list[str] = field(default_factory=list)


def build(
    plan: Plan, watch: Watch = UNWATCHED, dataset: Dataset | None = None
) -> tuple[Dataset, dict[str, Any], dict[str, np.ndarray]]:
    """Builds what a plan says; the same plan gives the same items.

    Args:
        plan: What is wanted; names are pinned first.
        watch: Told how far it is; may end it.
        dataset: The one that it starts from, if it is open; it stays as it is.

    Returns:
        The new dataset (not saved), what was done in plain values, and some rejected items by reason, (n, …) as they
        would be stored.

    Raises:
        UserError: If the plan cannot be built, or nothing that it asks for passed.
    """
    dataset = opened(plan, watch.aside()) if dataset is None else dataset
    if not len(dataset.splits["train"]):
        raise UserError(
            f"{dataset.name} has no training image, and only those have copies. Choose another dataset."
        )
    plan = pinned(plan, dataset)
    with _threads(plan.threads):
        return _built(plan, dataset, watch)


def _built(
    plan: Plan, dataset: Dataset, watch: Watch
) -> tuple[Dataset, dict[str, Any], dict[str, np.ndarray]]:
    start = _chosen(plan, _split(plan, without(dataset)))
    wanted, mix = plan.wanted(dataset), _Mix()
    adding = [i for i, source in enumerate(plan.sources) if plan.adds(source)]
    size = sum(int(wanted[i].clip(0).sum()) for i in adding) * (dataset.x[:1].nbytes + _LINEAGE)
    settings().allow_disk((size + dataset.x.nbytes) / 2**20)
    for place, i in enumerate(adding):
        source = plan.sources[i]
        part = watch.part(place / len(adding), (place + 1) / len(adding))
        _add(mix, source, wanted[i], plan, start, i, part)
    asked = sum(int((wanted[i] != 0).any()) for i in adding)
    if asked and not mix.rows:
        raise UserError(
            "No sample passed the filters: "
            + (
                ", ".join(f"{n:,} refused by {name}" for name, n in mix.refused.items() if n)
                or "none came"
            )
            + ". Lower gate.confidence (build.confidence), or choose a better model."
        )
    version = _joined(plan, start, mix, len(start) < len(dataset))
    added = Counter(row[0] for row in mix.rows)
    record = {
        "images": len(version),
        "added": {name: added[name] for name in ORIGINS[1:]}
        | ({"real": n} if (n := added["real"]) else {}),
        "refused": {name: mix.refused[name] for name in WHY},
        "drawn": mix.drawn,
        "per_class": {name: parts["train"] for name, parts in version.counts().items()},
        "by_origin": counted(version),
        "notes": mix.notes,
        "plan": plan.record(),
        "plan_hash": plan.hash,
        "overrides": dict(plan.overrides),
        "sentence": version.notes[-1] if not mix.notes else version.notes[-1 - len(mix.notes)],
    }
    rejected = {
        reason: np.stack(pictures)[:SHOWN] for reason, pictures in mix.rejected.items() if pictures
    }
    return version, record, rejected


def counted(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Counts the training items of each class by origin."""
    train = dataset.splits["train"]
    origin = provenance(dataset)["origin"][train]
    y = np.zeros(len(train), np.int64) if dataset.y is None else dataset.y[train]
    return {
        name: {kind: int(((y == k) & (origin == kind)).sum()) for kind in ORIGINS}
        for k, name in enumerate(dataset.classes or ("all",))
    }


def _add(
    mix: _Mix,
    source: PlannedSource,
    wanted: np.ndarray,
    plan: Plan,
    dataset: Dataset,
    place: int,
    watch: Watch,
) -> None:
    if not (wanted != 0).any():
        return
    entry = makers.get(source.kind)
    # two sources of one kind must not draw the same
    twins = sum(other.kind == source.kind for other in plan.sources[:place])
    work = Work(
        dataset,
        wanted,
        source.where,
        source.why,
        plan.gate,
        (plan.seed + 7919 * twins) % 2**31,
        plan.batch,
        plan.overrides,
        watch,
        mix.notes.append,
    )
    for items in entry.make(entry.config.of(source.config, source.kind), work):
        mix.refused.update(items.refused)
        mix.drawn += items.drawn
        for reason, pictures in items.rejected.items():
            mix.rejected[reason] += list(pictures)[: max(0, SHOWN - len(mix.rejected[reason]))]
        if len(items.rows):
            mix.x.append(items.x)
            mix.attributes.append((len(mix.rows), items.attributes))
            mix.rows += items.rows
            if items.y is not None:
                mix.y.append(items.y)
        watch.check()


def _split(plan: Plan, dataset: Dataset) -> Dataset:
    """Splits the dataset anew where the plan says so.

    Raises:
        UserError: If it holds items that were made of others.
    """
    rules = plan.splits
    if rules.rule == "keep":
        return dataset
    if (provenance(dataset)["origin"] != "real").any():
        raise UserError(
            f"{dataset.name} holds items that were made of others, which stay where their parents are, so it cannot be "
            'split anew. Write "splits": {"rule": "keep"}.'
        )
    keys = together(digests(np.asarray(dataset.x)), dataset.members)
    splits = split_by_content(
        keys, dataset.y, valid_share=rules.valid_share, test_share=rules.test_share
    )
    fresh = _assembled(dataset, splits)
    for source in plan.sources:  # a run may have learned from what is held out now
        entry = makers.get(source.kind)
        entry.pin(entry.config.of(source.config, source.kind), fresh, plan.overrides)
    return fresh


def _chosen(plan: Plan, dataset: Dataset) -> Dataset:
    """Keeps as many of the dataset's own training items as the plan says; all without a word of it."""
    sources = [i for i, source in enumerate(plan.sources) if not plan.adds(source)]
    if not sources:
        return dataset
    from core.building.makers import having

    train = dataset.splits["train"]
    y = np.zeros(len(train), np.int64) if dataset.y is None else dataset.y[train]
    kept = np.zeros(len(train), bool)
    for i in sources:
        source, wanted = plan.sources[i], plan.wanted(dataset)[i]
        fits = having(dataset, source.where)[train] if source.where else np.ones(len(train), bool)
        for label, count in enumerate(wanted):
            mine = np.flatnonzero((y == label) & fits & ~kept)
            if count >= 0:
                order = np.random.default_rng([plan.seed, i, label]).permutation(len(mine))
                mine = mine[order[: int(count)]]
            kept[mine] = True
    if kept.all():
        return dataset
    if not kept.any():
        raise UserError(
            "The plan keeps no real training item, and a dataset needs some. Keep some."
        )
    rows = np.sort(np.concatenate([train[kept], dataset.splits["valid"], dataset.splits["test"]]))
    from core.datasets.optout import kept as keeping

    out = int((~kept).sum())
    return keeping(dataset, rows, f"{many(out, 'training item')} left out by the plan.")


def _assembled(dataset: Dataset, splits: Mapping[str, np.ndarray], **changes: Any) -> Dataset:
    given = {
        "x": np.asarray(dataset.x),
        "y": dataset.y,
        "attributes": dataset.attributes,
        "parent": dataset.parent,
        "notes": dataset.notes,
        "source": dataset.source,
        "pair": dataset.pair,
    } | changes
    return assemble(
        given.pop("x"),
        given.pop("y"),
        dataset.classes,
        splits,
        levels=dataset.levels,
        name=dataset.name,
        refused=dataset.refused,
        terms=dataset.terms,
        medium=dataset.medium.name,
        group=dataset.group,
        **given,
    )


def _joined(plan: Plan, start: Dataset, mix: _Mix, moved: bool) -> Dataset:
    """Puts the new items behind those of the dataset, for training; ``moved`` if some of these were left out."""
    count, more, known = len(start), len(mix.rows), start.attributes or {}
    attributes = {
        name: _lengthened(column, mix, name, unknown(known, name))
        for name, column in known.items()
        if name not in COLUMNS
    }
    for name in RIGHTS:  # of items of another dataset, also where nobody has said it of those here
        if name not in attributes and any(name in theirs for _, theirs in mix.attributes):
            attributes[name] = _lengthened(np.full(count, ""), mix, name, np.zeros(count, bool))
    columns = provenance(start)
    for name, column in columns.items():
        values = [row[COLUMNS.index(name)] for row in mix.rows]
        kind = np.int64 if name in ("parent", "seed") else str
        attributes[name] = np.concatenate([column, np.array(values, kind)]) if values else column
    origins = Counter(row[0] for row in mix.rows)
    words = [f"{origins[name]:,} {name}" for name in (*ORIGINS[1:], ORIGINS[0]) if origins[name]]
    sentence = f"{count:,} images of {start.name}"
    sentence += f", and for training {' and '.join(words)} ones" if words else ""
    out = sum(mix.refused.values())
    sentence += f"; {out:,} samples were refused." if out else "."
    pair = start.pair
    if pair and more:  # nobody has drawn what belongs to a new item
        pair, sentence = (
            None,
            f"{sentence} The second images ({pair.name}) are left out, because the new ones have none.",
        )
    train = np.concatenate([start.splits["train"], np.arange(count, count + more)])
    return _assembled(
        start,
        {**start.splits, "train": train.astype(np.int64)},
        x=np.concatenate([np.asarray(start.x), *mix.x]),
        y=None if start.y is None else np.concatenate([start.y, *mix.y]),
        attributes=attributes,
        parent=plan.fingerprint,
        pair=pair,
        notes=(*start.notes, sentence, *mix.notes),
        source={
            **start.source,
            "plan": plan.record(),
            "plan_hash": plan.hash,
            "moved": moved,
        },
    )


def _lengthened(column: np.ndarray, mix: _Mix, name: str, unsaid: np.ndarray) -> np.ndarray:
    """Adds to an attribute that of the new items: a copy's is its parent's, but for numbers that were measured."""
    parents = np.array([row[1] for row in mix.rows], np.int64)
    more, told = np.zeros(len(parents), column.dtype), np.zeros(len(parents), bool)
    if column.dtype.kind != "f":
        told = parents >= 0
        more = np.where(told, column[parents], more)
    for first, known in mix.attributes:
        if name in known and (known[name].dtype.kind == column.dtype.kind):
            values = known[name]
            more = more.astype(np.result_type(more, values))
            more[first : first + len(values)] = values
            told[first : first + len(values)] = True
    whole = column.dtype.kind == "i"
    return lengthened(column, more, told, whole and bool((column[~unsaid] < 0).any()))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Computes with so many threads, so that the same plan gives the same bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def expected(plan: Plan, dataset: Dataset) -> dict[str, Any]:
    """Says what a plan will give and cost before it is built.

    Returns:
        ``by_origin`` (training items by class and origin), ``images``, ``megabytes`` and ``notes``; what is drawn until
        it passes may turn out fewer.

    Raises:
        UserError: If the plan cannot be built.
    """
    start = _chosen(plan, dataset)
    table = counted(start)
    notes = []
    total = 0
    for source, row in zip(plan.sources, plan.wanted(dataset), strict=True):
        if not plan.adds(source):
            continue
        if (row < 0).any():
            notes.append(f"All training items of {source.config.get('dataset')} join.")
        for name, n in zip(table, row.clip(0).tolist(), strict=True):
            table[name]["real" if source.kind == "real" else source.kind] += n
            total += n
        if makers.get(source.kind).draws and row.any():
            notes.append(
                f"{makers.get(source.kind).title}: at most {plan.gate.tries} are drawn for each, so there may be fewer."
            )
    megabytes = ((len(start) + total) * dataset.x[:1].nbytes + total * _LINEAGE) / 2**20
    return {
        "by_origin": table,
        "images": len(start) + total,
        "added": total,
        "megabytes": round(megabytes, 2),
        "notes": notes,
    }
