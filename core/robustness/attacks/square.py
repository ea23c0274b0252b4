"""Random search with squares: it needs no gradient, so that no masked gradient hides anything from it.

References:
    Andriushchenko et al., 2020, Square attack, https://arxiv.org/abs/1912.00049
"""

from __future__ import annotations

import math

import torch

from core import tensors
from core.catalog import Config, knob
from core.norms import NORMS
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
    """Repaints random squares at full strength and keeps what helps; it sees outputs only.

    For L2 and L1 a square is added and the change cut back to the budget, which is simpler than the paper's way.
    """
    channels, size = problem.x.shape[1:3]
    sign = (problem.uniform("stripes")[:, :, :1, :] - 0.5).sign()
    best = problem.norm.within(problem.x, problem.x + problem.eps * sign, problem.eps)
    lead = torch.full((len(best),), -math.inf, device=best.device)
    moved = best
    rows = torch.arange(size, device=best.device)
    for query in range(config.queries):
        logits = target.logits(moved)
        now = Climb("margin", problem.y, problem.towards)(logits)
        now = now.nan_to_num(math.inf)
        better = now >= lead
        best = torch.where(better[:, None, None, None], moved, best)
        lead = torch.where(better, now, lead)
        keep = yield Proposal(moved, logits, lead)
        if not bool(keep.all()):
            problem.keep(keep)
            best, lead = best[keep], lead[keep]
        halved = sum(query * 10_000 >= mark * config.queries for mark in HALVINGS)
        edge = max(1, min(size - 1, round(math.sqrt(config.share / 2**halved) * size)))
        u = tensors.noise(
            problem.seed,
            problem.ids,
            (2 + channels,),
            f"square {query}",
            uniform=True,
            device=best.device,
        )
        corner = (u[:, :2] * (size - edge + 1)).long()
        down = (rows >= corner[:, :1]) & (rows < corner[:, :1] + edge)
        across = (rows >= corner[:, 1:]) & (rows < corner[:, 1:] + edge)
        patch = (down[:, :, None] & across[:, None, :])[:, None]
        colour = problem.eps * (u[:, 2:] - 0.5).sign()[:, :, None, None]
        if problem.norm.box:
            moved = torch.where(patch, problem.x + colour, best)
        else:  # a square of one colour, of length eps
            moved = best + patch * colour / edge ** (2 / problem.norm.order)
        moved = problem.norm.within(problem.x, moved, problem.eps)
