"""The smallest change in any norm, quickly: one run gives the whole curve of accuracy against strength.

References:
    Pintor et al., 2021, Fast minimum-norm adversarial attacks (FMN), https://arxiv.org/abs/2102.12827
"""

from __future__ import annotations

import math

import torch

from core.catalog import Config, knob
from core.norms import L2, NORMS, wide
from core.robustness.attacks import Problem, Proposal, Steps, attacks
from core.target import Climb, Target, decide


class FMNConfig(Config):
    """Parameters of FMN."""

    steps: int = knob(40, "How often the change is improved.", ge=2, le=10_000, unit="steps")
    change: float = knob(
        0.05,
        "Share by which the budget shrinks when fooled, and grows when not, at the start.",
        gt=0,
        lt=1,
        advanced=True,
    )


@attacks.add(
    "fmn",
    "FMN (smallest change)",
    FMNConfig,
    norms=NORMS,
    smallest=True,
    gradient=True,
    passes=lambda config, classes: 2 * config.steps,
)
def fmn(config: FMNConfig, target: Target, problem: Problem) -> Steps:
    """Shrinks the budget while the classifier is fooled, widens it while it is not: the smallest change per image."""
    x, y, norm = problem.x, problem.y, problem.norm
    change = torch.zeros_like(x)
    best = x.new_full((len(x),), torch.inf)
    eps = x.new_full((len(x),), torch.inf)
    for step in range(config.steps):
        share = (1 + math.cos(math.pi * step / config.steps)) / 2
        rate = 0.01 + 0.99 * share
        grow = 1e-3 + (config.change - 1e-3) * share
        moved = x + change
        logits, value, slope = target.climb(moved, Climb("margin", y))
        yield Proposal(moved, logits, value)
        stuck = ((moved <= 0) & (slope < 0)) | ((moved >= 1) & (slope > 0))
        slope = slope.masked_fill(stuck, 0.0)  # what the range would cut off leads nowhere
        fooled, size = decide(logits) != y, norm.length(change)
        best = torch.where(fooled & (size < best), size, best)
        # just past where the boundary would be if the classifier were linear, until it was fooled once
        reach = size + 1.001 * value.abs() / norm.dual.length(slope).clamp_min(1e-12) + 1e-5
        grown = torch.where(best.isinf(), reach, eps * (1 + grow))
        eps = torch.where(fooled, torch.minimum(eps * (1 - grow), best * (1 - grow)), grown)
        eps = torch.minimum(eps, best)
        ahead = x + change + rate * slope / wide(L2.length(slope).clamp_min(1e-12), x)
        change = norm.within(x, ahead, eps) - x
    yield Proposal(x + change)
