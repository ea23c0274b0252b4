"""A path from noise on which what is known is put back at every step: the quick preview."""

from __future__ import annotations

from collections.abc import Sequence

from core.latent.repair import TOGETHER, Incomplete, Made, repairs
from core.models import Repairs


@repairs.add(
    "repaint",
    "RePaint",
    fits=lambda space: isinstance(space.model, Repairs),
    needs="a model that repairs along a path from noise",
    order=40,
)
def repaint(item: Incomplete) -> Made:
    """Follows a path from noise, with what is known put back at every step: quick, and less exact."""
    yield from item.by_batches(lambda ids: _batch(item, ids))


def _batch(item: Incomplete, ids: Sequence[int]) -> Made:
    space, known = item.space, item.known
    path = space.model.repair(
        item.x, known.part, ids, item.y(TOGETHER), item.seed, space.sampling, quick=True
    )
    for made in path:  # noqa: B007
        item.watch.check()
    yield made, 1.0
