"""What is on record of a dataset: drift, where models fail on it, its plan, and what privacy was promised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from core import jobs, runs
from core.building.version import generators, provenance
from core.catalog import UserError
from core.datasets import Dataset
from core.ground.stats import proportion
from core.ground.writing import percent, percents

FEWEST = 30  # images from which a share of failures is worth saying
PRIVACY: Mapping[str, Any] = {"epsilon": None, "delta": None, "unit": None}
_DRIFTS = 3  # the newest ones


def drifts(dataset: Dataset) -> list[str]:
    """Says how far other datasets lie from this very content, by the newest comparisons."""
    found = []
    for job in jobs.listing("drift"):
        try:
            result = job.result()
        except UserError:
            continue
        if result and result.get("fingerprint") == dataset.fingerprint:
            found.append(str(result["sentence"]))
            if result.get("worth"):
                found.append(str(result["worth"]["sentence"]))
    return found[: 2 * _DRIFTS]


def failing(dataset: Dataset) -> list[str]:
    """Says on which share of its images models fail, and on which class most of all."""
    return list(_failing(dataset))


def _failing(dataset: Dataset) -> Iterator[str]:
    if not jobs.listing("evaluate", "attack"):
        return  # without the import of what reads them
    from core.building.failures import failures

    for failure in failures(dataset):
        whole = proportion(int(failure.failed.sum()), len(failure.index))
        said = f"{percent(whole.value)} ({percents(*whole.interval)}) of {whole.n:,} images are {failure.title}"
        rows = []
        for number, name in enumerate(dataset.classes if dataset.y is not None else ()):
            inside = dataset.y[failure.index] == number  # type: ignore[index]
            if inside.sum() >= FEWEST:
                rows.append(
                    (proportion(int(failure.failed[inside].sum()), int(inside.sum())), name)
                )
        if rows and (worst := max(rows, key=lambda row: row[0].low))[0].low > whole.high:
            share, name = worst
            said += f"; most of all {name}: {percent(share.value)} ({percents(*share.interval)}) of {share.n:,}"
        yield f"{said}."


def plan_of(dataset: Dataset) -> tuple[str, dict[str, str]]:
    """Gives the hash of the plan that a version was built by, empty without one, and what was overridden in it."""
    plan = dataset.imported("plan")
    overrides = plan.get("overrides", {}) if isinstance(plan, Mapping) else {}
    said = {str(name): str(why) for name, why in dict(overrides).items()}
    return str(dataset.imported("plan_hash") or ""), said


def privacy(dataset: Dataset) -> dict[str, Any]:
    """Gives the privacy that the runs promise together whose items are in it; None where one promises nothing.

    They may have learned from the same people, so that their promises add up (basic composition).
    """
    made = provenance(dataset)["run"].astype(str)
    promised = []
    for id in np.unique(np.concatenate([made, generators(dataset)])):
        if id:
            try:
                promised.append(dict(runs.record(jobs.get(str(id))).get("privacy") or PRIVACY))
            except UserError:
                return dict(PRIVACY)
    # real items are as they are: a promise holds for a set only if nothing but such samples is in it
    if not promised or (made == "").any() or any(one.get("epsilon") is None for one in promised):
        return dict(PRIVACY)
    units = {one.get("unit") for one in promised}
    if len(units) > 1:
        return dict(PRIVACY)
    sums = {
        name: sum(float(one.get(name) or 0) for one in promised) for name in ("epsilon", "delta")
    }
    return {**sums, "unit": units.pop()}
