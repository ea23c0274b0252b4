"""Particles along a path from noise, by the model's own way of repairing."""

from __future__ import annotations

import torch

from core.latent.repair import Damaged, Made, repairs
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
def particles(damaged: Damaged) -> Made:
    """Draws many paths from noise for each fill, and keeps those that lead to what is known."""
    space, known = damaged.space, damaged.known
    ready: list[Batch] = []
    for number in range(damaged.fills):  # one at a time: each has a population of its own
        path = space.model.repair(
            damaged.x, known.part, [number], damaged.y(1), damaged.seed, space.sampling
        )
        for step, made in enumerate(path, start=1):  # noqa: B007
            damaged.watch.check()
        ready.append(made)
        yield torch.cat(ready), (number + 1) / damaged.fills
