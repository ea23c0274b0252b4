"""Projected gradient ascent: many small steps, from random places.

References:
    Madry et al., 2018, Towards deep learning models resistant to adversarial attacks, https://arxiv.org/abs/1706.06083
    Dong et al., 2018, Boosting adversarial attacks with momentum, https://arxiv.org/abs/1710.06081
"""

from __future__ import annotations

from typing import Literal

import torch

from core.attacks import Problem, Proposal, Steps, attacks
from core.catalog import Config, knob
from core.threat import NORMS, Climb, Target, steepest, wide, within


class PGDConfig(Config):
    """Parameters of projected gradient ascent."""

    steps: int = knob(40, "Steps from each start.", ge=1, le=10_000, unit="steps")
    restarts: int = knob(1, "Starts, each from another random place.", ge=1, le=1000)
    loss: Literal["ce", "margin", "dlr"] = knob(
        "ce", "What it climbs: cross entropy, lead of a wrong class, or that lead over the spread."
    )
    step_size: float = knob(
        2.5, "Length of a step, as a multiple of eps / steps.", gt=0, le=1000, advanced=True
    )
    momentum: float = knob(
        0.0, "Share of the past gradients that is kept at each step.", ge=0, le=1, advanced=True
    )
    random_start: bool = knob(
        True, "Starts from a random place within the budget instead of the image.", advanced=True
    )


@attacks.add(
    "pgd",
    "PGD",
    PGDConfig,
    norms=NORMS,
    gradient=True,
    passes=lambda config, classes: config.restarts * (2 * config.steps + 1),
)
def pgd(config: PGDConfig, target: Target, problem: Problem) -> Steps:
    """Climbs the loss in many small steps, each cut back to the budget."""
    size = config.step_size * problem.eps / config.steps
    for restart in range(config.restarts):
        moved = problem.start(f"start {restart}") if config.random_start else problem.x
        past = torch.zeros_like(moved)
        for _ in range(config.steps):
            goal = Climb(config.loss, problem.y, problem.towards)
            logits, value, slope = target.climb(moved, goal)
            keep = yield Proposal(moved, logits, value)
            if not bool(keep.all()):
                problem.keep(keep)
                moved, slope, past = moved[keep], slope[keep], past[keep]
            if config.momentum:
                slope = slope / wide(slope.abs().flatten(1).mean(1).clamp_min(1e-30))
                past = slope = config.momentum * past + slope
            ahead = moved + size * steepest(slope, problem.norm, moved)
            moved = within(problem.x, ahead, problem.eps, problem.norm)
        keep = yield Proposal(moved)
        problem.keep(keep)
