"""What an opened extractor offers, and the features of a dataset's images, computed once."""

from __future__ import annotations

import hashlib
import io
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from core.datasets import Dataset
from core.ground import files
from core.ground.settings import settings
from core.tensors import Batch

# images seen in training, until the accuracy rises no more; another number makes another judge, with another hash
LENGTHS = {"digits": 60_000, "sound": 40_000, "sentences": 30_000, "other": 150_000}
_FAR = 10.0  # standard deviations at which a feature is cut: one that hardly ever varies would outweigh all others


@runtime_checkable
class Embedding(Protocol):
    """Turns images into features.

    Attributes:
        name: Of the extractor.
        hash: Tells those of other data, training or weights apart.
    """

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str: ...

    def features(self, x: Batch) -> np.ndarray:
        """Gives features of images in [0, 1], float64 (N, D)."""
        ...


def bounded(parts: list[Tensor]) -> np.ndarray:
    """Joins standardised features and keeps each within ten standard deviations, float64 (N, D)."""
    return torch.cat(parts).clamp(-_FAR, _FAR).double().cpu().numpy()


def spread(reference: Tensor) -> Tensor:
    """Gives the standard deviation of each feature, (D,), and 1 for one that is constant over the reference.

    Divided by next to nothing, such a feature would outweigh all others as soon as one sample changes it.
    """
    std = reference.std(0)
    return torch.where(std < 1e-3, 1.0, std)


def of_split(embedding: Embedding, dataset: Dataset, index: np.ndarray) -> np.ndarray:
    """Gives the features of images of a dataset, float32 (N, D); computed once, then from the cache.

    The name in the cache holds the dataset's fingerprint and the extractor's hash, so that neither an older version
    of the data nor another training is ever taken for this one.
    """
    mark = hashlib.sha256(np.ascontiguousarray(index, "<i8").tobytes()).hexdigest()[:12]
    name = f"{dataset.fingerprint[:16]}-{embedding.name}-{embedding.hash}-{mark}.npy"
    file = settings().cache / "features" / name
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError):  # not there, or damaged: computed again
        pass
    parts = dataset.batches(index, 2000)
    values = np.concatenate([embedding.features(x).astype(np.float32) for x in parts])
    memory = io.BytesIO()
    np.save(memory, values, allow_pickle=False)
    files.keep(file, memory.getvalue())
    return values
