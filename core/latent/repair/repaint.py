"""A path from noise on which what is known is put back at every step: the quick preview."""

from __future__ import annotations

from collections.abc import Sequence

from core.latent.repair import TOGETHER, Damaged, Made, repairs
from core.models import Repairs


@repairs.add(
    "repaint",
    "RePaint",
    fits=lambda space: isinstance(space.model, Repairs),
    needs="a model that repairs along a path from noise",
    order=40,
)
def repaint(damaged: Damaged) -> Made:
    """Follows a path from noise, with what is known put back at every step: quick, and less exact."""
    yield from damaged.by_batches(lambda ids: _batch(damaged, ids))


def _batch(damaged: Damaged, ids: Sequence[int]) -> Made:
    space, known = damaged.space, damaged.known
    path = space.model.repair(
        damaged.x, known.part, ids, damaged.y(TOGETHER), damaged.seed, space.sampling, quick=True
    )
    for made in path:  # noqa: B007
        damaged.watch.check()
    yield made, 1.0
