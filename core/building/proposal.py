"""A plan that fills what is missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.building.axes import MOST_VALUES
from core.building.coverage import Coverage
from core.building.plan import Plan
from core.building.shares import filled
from core.datasets import Dataset, columns
from core.ground.writing import percent


def shared_out(found: Coverage, budget: int) -> np.ndarray:
    """Shares a budget out over the slices, the shortest first; int64 (S,)."""
    counts = np.array([each.n for each in found.slices])
    return filled(counts, np.array([each.target for each in found.slices]), budget)


def within(found: Coverage, classes: Mapping[int, int]) -> np.ndarray:
    """Shares what each class gets out over its slices; int64 (S,).

    Args:
        found: Slices of classes.
        classes: Items by class number; -1 for all where classes are not counted.
    """
    given = np.zeros(len(found.slices), np.int64)
    for label, budget in classes.items():
        rows = [k for k, each in enumerate(found.slices) if each.label == label]
        if not rows or not budget:
            continue
        target = np.array([found.slices[k].target for k in rows])
        if not target.sum():
            target = np.ones(len(rows))
        given[rows] = filled(np.array([found.slices[k].n for k in rows]), target, budget)
    return given


def proposal(
    dataset: Dataset,
    found: Coverage,
    given: np.ndarray,
    *,
    start: str,
    values: Mapping[str, Any] | None = None,
    pipeline: str = "",
    run: str = "",
    copies: float = 1.0,
    seed: int = 0,
) -> Plan:
    """Writes the plan that adds items to the slices.

    Args:
        dataset: What it starts from.
        found: Its coverage.
        given: Items that each slice gets, (S,).
        start, values: The name of the dataset, and its parameters.
        pipeline: The chain that makes changed copies.
        run: The run whose samples join; empty for none.
        copies: Share of the items that are changed copies, where there is a run.
        seed: Of what is drawn.

    Raises:
        UserError: If something in it is not allowed.
    """
    attributes = [
        place
        for place, name in enumerate(found.axes)
        if name in (dataset.attributes or {})
        and len(np.unique((dataset.attributes or {})[name])) <= MOST_VALUES
    ][:1]  # a source has one attribute
    asked: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    why: dict[str, dict[str, str]] = defaultdict(dict)
    for each, n in zip(found.slices, given.tolist(), strict=True):
        if not n:
            continue
        name = dataset.classes[each.label] if each.label >= 0 else "all"
        where = each.values[attributes[0]] if attributes else ""
        asked[where][name] += n
        why[where][name] = (
            f"gap: {each.name} has {each.n:,} items, {percent(each.share.value)} where {percent(each.target)} is wanted"
        )
    if "class" not in found.axes and dataset.labelled:  # spread over the classes as they are
        asked = {where: _spread(dataset, sum(counts.values())) for where, counts in asked.items()}
        why.clear()
    table = columns(dataset)  # a sample is chosen by what can be read off it
    able = {"", *(name for name, yes in zip(table.names, table.binary, strict=True) if yes)}
    sources: list[dict[str, Any]] = []
    for where, counts in asked.items():
        sampled = bool(run) and where in able
        drawn = {n: round(k * (1 - copies)) if sampled else 0 for n, k in counts.items()}
        copied = {n: k - drawn[n] for n, k in counts.items()}
        for kind, parameters, wanted in (
            ("augmented", {"pipeline": pipeline}, copied),
            ("synthetic", {"run": run}, drawn),
        ):
            wanted = {n: k for n, k in wanted.items() if k}
            if wanted:
                reasons = {n: why[where][n] for n in wanted if n in why[where]}
                sources.append(
                    {"kind": kind, "parameters": parameters, "counts": wanted, "where": where, "why": reasons}
                )  # fmt: skip
    return Plan.of(
        {
            "dataset": {
                "name": start,
                "config": dict(values or {}),
                "fingerprint": dataset.fingerprint,
            },
            "sources": sources,
            "seed": seed,
        }
    )


def of_rounds(
    dataset: Dataset,
    asked: Mapping[str, int],
    *,
    start: str,
    values: Mapping[str, Any] | None = None,
    pipeline: str,
    seed: int = 0,
) -> Plan:
    """Writes the plan of what adaptive rounds have asked for, as changed copies.

    Args:
        dataset: What it starts from.
        asked: Items by class.
        start, values: The name of the dataset, and its parameters.
        pipeline: The chain that makes the copies.
        seed: Of the copies.

    Raises:
        UserError: If something in it is not allowed.
    """
    counts = {name: int(n) for name, n in asked.items() if n}
    why = dict.fromkeys(counts, "asked for by what a referee got wrong")
    source = {
        "kind": "augmented",
        "parameters": {"pipeline": pipeline},
        "counts": counts,
        "why": why,
    }
    return Plan.of(
        {
            "dataset": {
                "name": start,
                "config": dict(values or {}),
                "fingerprint": dataset.fingerprint,
            },
            "sources": [source],
            "seed": seed,
        }
    )


def _spread(dataset: Dataset, count: int) -> dict[str, int]:
    from core.building.shares import apportioned

    assert dataset.y is not None
    y = dataset.y[dataset.splits["train"]]
    there = np.bincount(y, minlength=len(dataset.classes)).astype(float)
    return dict(zip(dataset.classes, apportioned(there, count).tolist(), strict=True))


def names_of(given: np.ndarray, found: Coverage) -> dict[str, int]:
    """Names what each slice gets, those with nothing left out."""
    named: Sequence[tuple[str, int]] = [
        (each.name, int(n)) for each, n in zip(found.slices, given, strict=True) if n
    ]
    return dict(named)
