"""What this computer knows of what runs have seen, and of what must not be used any more."""

from __future__ import annotations

import numpy as np

from core import fitted, jobs
from core.building import optout
from core.datasets import Dataset


class KeptMemory:
    """Reads it from what lies beside the runs, and from the list of what was opted out of."""

    def seen(self, run: jobs.Job, dataset: Dataset) -> tuple[int, str]:
        """Counts the held-out items of a dataset that a run has learned from, and says why that is not known."""
        cleared = fitted.clearance(run, dataset)
        return cleared.leaks, cleared.unknown

    def opted_out(self, dataset: Dataset) -> np.ndarray:
        """Lists the items that somebody has opted out of, int64 (n,)."""
        return np.array(sorted(optout.matches(dataset)), np.int64)

    def tainted(self, run: jobs.Job) -> bool:
        """Tells whether a run has learned from an item that somebody has opted out of."""
        return bool(optout.retrain(run))


KEPT = KeptMemory()
