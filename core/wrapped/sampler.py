"""A sampler from outside: it draws images, and has nothing to walk in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from core.catalog import Config
from core.nets import labels_for
from core.tensors import Batch, Ids
from core.wrapped import Wrapped, as_items, rows_of, shares


class SamplerSampling(Config):
    """Choices when a sampler from outside draws images: there are none."""


class SamplerModel(Wrapped):
    """A network that draws the images of ids."""

    def raw(self, ids: Ids, y: Tensor | None, seed: int, sampling: SamplerSampling) -> Any:
        """Gives what the network itself draws."""
        y = shares(labels_for(self, ids, y, seed), self.classes)
        return self.net.sample(rows_of(ids), y, seed, sampling)

    @torch.no_grad()
    def sample(self, ids: Ids, y: Tensor | None, seed: int, sampling: SamplerSampling) -> Batch:
        """Makes the images with these ids of this seed, (N, C, H, W) in [0, 1]."""
        return as_items(self.raw(ids, y, seed, sampling))
