"""What this computer knows of what runs have seen, and of what must not be used any more."""

from __future__ import annotations

import numpy as np

from core import jobs
from core.building.version import foreign
from core.catalog import UserError
from core.datasets import Dataset


class KeptMemory:
    """Reads it from the records of the runs and from their datasets."""

    def seen(self, run: jobs.Job, dataset: Dataset) -> tuple[int, str]:
        """Counts the held-out items of a dataset that a run has learned from, and says why that is not known."""
        try:
            return int(bool(foreign(run, dataset))), ""
        except UserError:
            return 0, "its dataset has changed since"

    def opted_out(self, dataset: Dataset) -> np.ndarray:
        """Lists no item: nobody has opted out of any."""
        return np.zeros(0, np.int64)

    def tainted(self, run: jobs.Job) -> bool:
        """Tells that no run has learned from such an item."""
        return False


KEPT = KeptMemory()
