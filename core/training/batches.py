"""The images of a training: where they lie, and how a batch of them is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from core.catalog import UserError
from core.datasets import Dataset
from core.ground.settings import settings
from core.models import Spec
from core.tensors import Batch, rows, to_float

Transform = Callable[[Tensor, torch.Generator], Tensor]


def spec_of(dataset: Dataset) -> Spec:
    """Describes the images of a dataset to a model.

    Raises:
        UserError: If the dataset has less than two training images.
    """
    index = dataset.splits["train"]
    if len(index) < 2:
        raise UserError(
            f"Training needs at least 2 images, {dataset.name} has {len(index)}. Choose a larger dataset."
        )
    shares: tuple[float, ...] = ()
    if dataset.y is not None:
        labels = torch.as_tensor(np.asarray(dataset.y[index]))
        counts = torch.bincount(labels, minlength=len(dataset.classes)).double()
        shares = tuple((counts / counts.sum()).tolist())
    condition = dataset.pair.channels if dataset.pair else 0
    return Spec(dataset.medium.name, dataset.seen, dataset.levels, shares, condition)


class Split:
    """A part of a dataset where it is trained, or on the disk if it is too large for that.

    Attributes:
        medium: What it is a part of.
        x: Stored items, (N, …).
        y: Labels (N,), or None.
        levels: Values that a pixel can take.
        seen: What a model sees of the items, (N, …), where that is costly, is computed once and fits; else None.
        pair: Second images of the items, (N, …), for a network that is told them; else None.
    """

    def __init__(
        self,
        dataset: Dataset,
        part: str,
        device: torch.device,
        limit: int = 0,
        told: bool = False,
        once: bool = False,
    ) -> None:
        index = dataset.splits[part][: limit or None]
        self.medium, self.levels, self.device = dataset.medium, dataset.levels, device
        self.y = None
        if dataset.y is not None:
            self.y = torch.as_tensor(np.asarray(dataset.y[index])).to(device)
        pair = dataset.pair if told else None
        self.pair_levels = pair.levels if pair else 0
        budget = settings().data_mb * 2**20
        if device.type == "cuda":  # the networks want room too
            budget = min(budget, torch.cuda.mem_get_info(device)[0] // 2)
        size = math.prod(dataset.shape) * dataset.x.itemsize
        if pair:
            size += math.prod(pair.x.shape[1:])
        fits = len(index) * size <= budget

        def placed(x: np.ndarray) -> Tensor | Streamed:
            if fits:
                return torch.as_tensor(np.asarray(x[index])).to(device)
            return Streamed(x, index, device)

        self.x = placed(dataset.x)
        self.seen = None
        if once and self.medium.costly and len(index):
            seen = math.prod(dataset.seen) * 4
            if fits and len(index) * (size + seen) <= budget:
                parts = self.x.split(250)  # type: ignore[union-attr]
                self.seen = torch.cat([self.medium.seen(part, self.levels) for part in parts])
        self.pair = placed(pair.x) if pair else None

    def __len__(self) -> int:
        return len(self.x)

    def at(self, index: Tensor) -> tuple[Batch, Tensor | None]:
        """Gives what a model sees of the items of an index (n,), with their labels."""
        if self.seen is not None:
            return self.seen[index], None if self.y is None else self.y[index]
        x, y = self.items(index)
        x = self.medium.to_model(x)
        if self.pair is not None:
            # (n, C, H, W) -> (n, C + K, H, W)
            x = torch.cat([x, to_float(self.pair[index], self.pair_levels)], 1)
        return x, y

    def items(self, index: Tensor) -> tuple[Batch, Tensor | None]:
        """Gives the items of an index (n,) in [0, 1], with their labels."""
        x = self.medium.read(self.x[index], self.levels)
        return x, None if self.y is None else self.y[index]

    def draw(self, count: int, generator: torch.Generator) -> tuple[Batch, Tensor | None]:
        """Draws items in [0, 1] with their labels: of a draw that all processes make, this one's ``count``."""
        return self.items(self.chosen(count, generator))

    def chosen(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws places of items, (count,), as :meth:`draw` does."""
        draw = partial(torch.randint, len(self.x))
        return rows(draw, (count,), generator=generator, device=self.device)


class Streamed:
    """Items that stay on the disk, of which batches are read as they are needed."""

    def __init__(self, x: np.ndarray, index: np.ndarray, device: torch.device) -> None:
        self.x, self.index, self.device = x, index, device

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Reads the images of an index (n,), uint8 (n, C, H, W)."""
        batch = torch.from_numpy(self.x[self.index[index.cpu().numpy()]])
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=True)
