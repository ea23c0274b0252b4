"""What this computer knows of what runs have seen, and of what must not be used any more."""

from __future__ import annotations

import numpy as np

from core import datasets, jobs, runs
from core.catalog import UserError
from core.datasets import Dataset
from core.datasets.dataset import digests

_NONE = np.zeros(0, np.uint64)


class KeptMemory:
    """Reads it from the records of the runs and from their datasets."""

    def learned(self, run: jobs.Job) -> np.ndarray | None:
        """Gives the content hashes of the training images of a run's dataset; None where that has changed since."""
        try:
            source = runs.record(run)["dataset"]
            trained = datasets.load(source["name"], source["config"] or None)
        except UserError:
            return None
        if trained.fingerprint != source["fingerprint"]:
            return None
        return digests(np.asarray(trained.x[trained.splits["train"]]))

    def opted_out(self, dataset: Dataset) -> np.ndarray:
        """Marks no item: nobody has opted out of any."""
        return np.zeros(len(dataset), bool)

    def forgotten(self) -> np.ndarray:
        """Gives no hash."""
        return _NONE


KEPT = KeptMemory()
