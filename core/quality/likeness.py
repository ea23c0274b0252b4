"""Which items of a dataset are alike, and how bright each is: for a person who looks through them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.datasets import Dataset
from core.ground.cache import Cache
from core.ground.watch import UNWATCHED, Watch

BATCH = 500


@dataclass(frozen=True)
class Likeness:
    """What one pass over a dataset has found.

    Attributes:
        rows: Vectors by whose distances items are alike, float32 (N, P).
        brightness: Mean of what a model sees of each item, float32 (N,), 0 to 1 for images.
    """

    rows: Tensor
    brightness: np.ndarray

    def alike(self, item: int) -> np.ndarray:
        """Orders all items by how alike they are to one, which comes first, int64 (N,)."""
        away = (self.rows - self.rows[item]).square().sum(1)
        away[item] = -1.0  # before its copies
        return away.argsort(stable=True).numpy()


_kept = Cache[Likeness](2e8, lambda likeness: likeness.rows.nbytes)


def likeness(dataset: Dataset, watch: Watch = UNWATCHED) -> Likeness:
    """Looks at every item once; kept by content, so that a page asks for it as often as it likes."""
    return _kept.get(dataset.fingerprint, lambda: _looked(dataset, watch))


@torch.inference_mode()
def _looked(dataset: Dataset, watch: Watch) -> Likeness:
    rows, brightness = [], []
    for start in range(0, len(dataset), BATCH):
        x = dataset.items(slice(start, start + BATCH))
        brightness.append(dataset.medium.to_model(x).flatten(1).mean(1))
        if dataset.medium.item == "picture":  # of a picture the layout is enough
            side = min(x.shape[-1], 14 if x.shape[1] == 1 else 10)
            x = F.adaptive_avg_pool2d(x, side)
        rows.append(dataset.medium.near(x))
        watch.count("Comparing", min(start + BATCH, len(dataset)), len(dataset), "items")
    return Likeness(torch.cat(rows), torch.cat(brightness).numpy())
