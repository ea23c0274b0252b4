"""The smallest L2 change by decoupling its direction from its length.

References:
    Rony et al., 2019, Decoupling direction and norm (DDN), https://arxiv.org/abs/1811.09600
"""

from __future__ import annotations

import math

import torch

from core.catalog import Config, knob
from core.norms import L2, wide
from core.robustness.attacks import Problem, Proposal, Steps, attacks
from core.target import Climb, Target, decide


class DDNConfig(Config):
    """Parameters of DDN."""

    steps: int = knob(100, "How often the change is improved.", ge=1, le=10_000, unit="steps")
    first: float = knob(1.0, "Length of the first change.", gt=0, le=100, advanced=True)
    change: float = knob(
        0.05,
        "Share by which the length shrinks when fooled, and grows when not.",
        gt=0,
        lt=1,
        advanced=True,
    )


@attacks.add(
    "ddn",
    "DDN (smallest L2 change)",
    DDNConfig,
    norms=(L2,),
    smallest=True,
    gradient=True,
    passes=lambda config, classes: 2 * config.steps,
)
def ddn(config: DDNConfig, target: Target, problem: Problem) -> Steps:
    """Follows the gradient on a sphere that shrinks while the classifier is fooled and grows while it is not."""
    x, y = problem.x, problem.y
    change = torch.zeros_like(x)
    radius = x.new_full((len(x),), config.first)
    for step in range(config.steps):
        rate = 0.01 + 0.99 * (1 + math.cos(math.pi * step / config.steps)) / 2
        moved = x + change
        logits, value, slope = target.climb(moved, Climb("ce", y))
        yield Proposal(moved, logits, value)
        size = L2.length(slope)
        empty = size == 0
        if bool(empty.any()):  # no gradient: any direction is as good
            slope = torch.where(wide(empty, x), problem.normal(f"direction {step}"), slope)
            size = L2.length(slope)
        change = change + rate * slope / wide(size, x)
        fooled = decide(logits) != y
        radius = radius * torch.where(fooled, 1 - config.change, 1 + config.change)
        change = change * wide(radius / L2.length(change).clamp_min(1e-12), x)
        change = (x + change).clamp(0, 1) - x
    yield Proposal(x + change)
