"""Particles along a path from noise, by the model's own way of repairing."""

from __future__ import annotations

import torch

from core.latent.repair import Incomplete, Made, repairs
from core.models import Repairs
from core.tensors import Batch


@repairs.add(
    "particles",
    "Particles",
    fits=lambda space: isinstance(space.model, Repairs),
    needs="a model that repairs along a path from noise",
    order=10,
    preview="repaint",
)
def particles(item: Incomplete) -> Made:
    """Draws many paths from noise for each fill, and keeps those that lead to what is known."""
    space, known = item.space, item.known
    ready: list[Batch] = []
    for number in range(item.fills):  # one at a time: each has a population of its own
        path = space.model.repair(
            item.x, known.part, [number], item.y(1), item.seed, space.sampling
        )
        for step, made in enumerate(path, start=1):  # noqa: B007
            item.watch.check()
        ready.append(made)
        yield torch.cat(ready), (number + 1) / item.fills
