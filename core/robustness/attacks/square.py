"""Random search with squares: it needs no gradient, so that no masked gradient hides anything from it.

References:
    Andriushchenko et al., 2020, Square attack, https://arxiv.org/abs/1912.00049
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from core import tensors
from core.catalog import Config, knob
from core.norms import NORMS, wide
from core.robustness.attacks import Problem, Proposal, Steps, attacks
from core.target import Climb, Target

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10 000 queries


class SquareConfig(Config):
    """Parameters of the random search."""

    queries: int = knob(
        1000, "Images that the classifier is shown, for each.", ge=1, le=100_000, log=True
    )
    share: float = knob(
        0.8, "Share of the image that the first squares cover.", gt=0, le=1, advanced=True
    )


@attacks.add(
    "square",
    "Square (no gradient)",
    SquareConfig,
    norms=NORMS,
    gradient=False,
    passes=lambda config, classes: config.queries,
)
def square(config: SquareConfig, target: Target, problem: Problem) -> Steps:
    """Repaints random squares (of a sequence, stretches) at full strength and keeps what helps; it sees outputs only.

    For L2 and L1 a square is added and the change cut back to the budget, which is simpler than the paper's way.
    """
    channels, *sides = problem.x.shape[1:] if problem.x.ndim > 2 else (1, problem.x.shape[1])
    stripes = problem.uniform("stripes")
    sign = ((stripes[:, :, :1] if len(sides) > 1 else stripes) - 0.5).sign()
    best = problem.norm.within(problem.x, problem.x + problem.eps * sign, problem.eps)
    lead = torch.full((len(best),), -math.inf, device=best.device)
    moved = best
    for query in range(config.queries):
        logits = target.logits(moved)
        now = Climb("margin", problem.y, problem.towards)(logits).nan_to_num(math.inf)
        better = now >= lead
        best = torch.where(wide(better, best), moved, best)
        lead = torch.where(better, now, lead)
        keep = yield Proposal(moved, logits, lead)
        if not bool(keep.all()):
            problem.keep(keep)
            best, lead = best[keep], lead[keep]
        halved = sum(query * 10_000 >= mark * config.queries for mark in HALVINGS)
        share = (config.share / 2**halved) ** (1 / len(sides))
        edges = [max(1, min(side - 1, round(share * side))) for side in sides]
        u = tensors.noise(
            problem.seed,
            problem.ids,
            (len(sides) + channels,),
            f"square {query}",
            uniform=True,
            device=best.device,
        )
        patch = _patch(u, sides, edges).view(len(best), *(1,) * (best.ndim > 2), *sides)
        colour = problem.eps * (u[:, len(sides) :] - 0.5).sign()
        colour = colour.view(*colour.shape, *(1,) * (best.ndim - 2))
        if problem.norm.box:
            moved = torch.where(patch, problem.x + colour, best)
        else:  # a square of one colour, of length eps
            moved = best + patch * colour / math.prod(edges) ** (1 / problem.norm.order)
        moved = problem.norm.within(problem.x, moved, problem.eps)


def _patch(u: Tensor, sides: Sequence[int], edges: Sequence[int]) -> Tensor:
    """Marks one box in each item, bool (N, *sides), of numbers in (0, 1) that place it, (N, 2) or more."""
    inside = u.new_ones((len(u), *sides), dtype=torch.bool)
    for axis, (side, edge) in enumerate(zip(sides, edges, strict=True)):
        position = torch.arange(side, device=u.device)
        corner = (u[:, axis : axis + 1] * (side - edge + 1)).long()
        held = (position >= corner) & (position < corner + edge)  # (N, side)
        inside &= held.view(len(u), *(side if axis == k else 1 for k in range(len(sides))))
    return inside
