"""What must not be used, in building: items of the list, and runs that have learned from one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from core import datasets, fitted, jobs, runs
from core.catalog import UserError
from core.datasets import Dataset
from core.datasets.optout import OptOut, listed, matches, stamp, without
from core.ground.cache import Cache
from core.ground.writing import many

__all__ = ["OptOut", "allow_run", "listed", "matches", "retrain", "staying", "without"]


def staying(dataset: Dataset) -> str:
    """Says how many items of a dataset stay out of whatever leaves; empty for none.

    Raises:
        UserError: If the list is damaged.
    """
    count = len(matches(dataset))
    return (
        f"{many(count, 'item')} {'stay' if count > 1 else 'stays'} out of every export, new version and build, "
        f"because {'they are' if count > 1 else 'it is'} on the list of what must not be used."
        if count
        else ""
    )


def retrain(run: jobs.Job) -> str:
    """Says why a run must be trained again: it has learned from an item that must not be used; empty if not.

    Items are known by their digests, and pictures that were no items by their look among those of the run's dataset,
    as far as that is still here; an item that was imported at another size is not found.

    Raises:
        UserError: If the list is damaged.
    """
    entries = listed()
    keys = [entry.digest for entry in entries if entry.digest is not None]
    count = int(fitted.of(run).seen(np.array(keys, np.uint64)).sum()) if keys else 0
    if len(keys) < len(entries):
        count = max(count, _alike(run))
    if not count:
        return ""
    return (
        f"The run {run.name} has learned from {many(count, 'item')} that must not be used any more, so its "
        "samples may carry them on. Train it again on the images without them."
    )


_looked = Cache[int](64)


def _alike(run: jobs.Job) -> int:
    """Counts what a run has learned from that is, or is nearly, on the list; 0 where its dataset is gone or another."""

    def count() -> int:
        dataset = datasets.load(source["name"], source["config"])
        if dataset.fingerprint != source["fingerprint"]:
            return 0
        return len(set(matches(dataset)) - set(dataset.splits["test"].tolist()))

    with suppress(UserError):
        source = runs.record(run)["dataset"]
        return _looked.get((source["fingerprint"], stamp()), count)
    return 0


def allow_run(run: jobs.Job, dataset: Dataset, overrides: Mapping[str, str]) -> None:
    """Refuses a run whose samples must not join a dataset.

    Args:
        run: That made them, or would.
        dataset: Which they join.
        overrides: ``seen`` says why a run may be used whose own data nobody knows.

    Raises:
        UserError: If it has learned from what is held out there or must not be used; or nobody knows, and nobody says
            why it may be used all the same.
    """
    if why := retrain(run):
        raise UserError(why)
    cleared = fitted.clearance(run, dataset)
    if cleared.leaks or (cleared.unknown and not overrides.get("seen", "").strip()):
        raise UserError(cleared.sentence)
