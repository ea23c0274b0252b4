"""What must not be used, in building: items of the list, and runs that have learned from one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from core import fitted, jobs
from core.catalog import UserError
from core.datasets import Dataset
from core.datasets.optout import OptOut, listed, matches, without
from core.ground.writing import many

__all__ = ["OptOut", "allow_run", "listed", "matches", "retrain", "without"]


def retrain(run: jobs.Job) -> str:
    """Says why a run must be trained again: it has learned from an item that must not be used; empty if not.

    Items are known by their digests here, so one that was imported at another size is not found.

    Raises:
        UserError: If the list is damaged.
    """
    keys = [entry.digest for entry in listed() if entry.digest is not None]
    if not keys:
        return ""
    seen = fitted.of(run).seen(np.array(keys, np.uint64))
    if not seen.any():
        return ""
    return (
        f"The run {run.name} has learned from {many(int(seen.sum()), 'item')} that must not be used any more, so its "
        "samples may carry them on. Train it again on the images without them."
    )


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
