"""Multi-targeted gradient ascent: the screening attack, nearly as strong as AutoAttack for a small part of its time.

References:
    Gowal et al., 2019, An alternative surrogate loss for PGD-based adversarial testing, https://arxiv.org/abs/1910.09338
    Croce and Hein, 2020, Reliable evaluation (the momentum step), https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

import math

import torch

from core.attacks import Problem, Proposal, Steps, attacks
from core.catalog import Config, knob
from core.threat import NORMS, Climb, Target, others, steepest, within


class QuickConfig(Config):
    """Parameters of the screening attack."""

    steps: int = knob(20, "Steps towards each class.", ge=2, le=1000, unit="steps")
    targets: int = knob(
        9,
        "Classes that are tried one after the other, the nearest first.",
        ge=1,
        le=100,
        unit="classes",
    )


@attacks.add(
    "quick",
    "Multi-targeted PGD",
    QuickConfig,
    norms=NORMS,
    gradient=True,
    passes=lambda config, classes: (1 + min(config.targets, classes - 1)) * (2 * config.steps + 1),
)
def quick(config: QuickConfig, target: Target, problem: Problem) -> Steps:
    """Climbs the cross entropy, then the lead of one wrong class after the other: the screening attack."""
    clean = target.logits(problem.x)
    rounds = min(config.targets, clean.shape[1] - 1)
    ranked = others(clean.nan_to_num(0.0), problem.y).topk(rounds, 1).indices
    # a scale of the logits at which float32 neither saturates nor vanishes; decisions do not depend on it
    scale = clean.std(1, keepdim=True).clamp_min(1e-12)
    for turn in range(rounds + 1):
        moved = problem.start(f"start {turn}")
        before = moved
        for step in range(config.steps):
            goal: Climb = Scaled(problem.y, scale)
            if turn:
                goal = Climb("margin", problem.y, ranked[:, turn - 1])
            logits, value, slope = target.climb(moved, goal)
            keep = yield Proposal(moved, logits, value)
            if not bool(keep.all()):
                problem.keep(keep)
                moved, before, slope = moved[keep], before[keep], slope[keep]
                ranked, scale = ranked[keep], scale[keep]
            size = problem.eps * (1 + math.cos(math.pi * step / config.steps))
            ahead = moved + size * steepest(slope, problem.norm, moved)
            ahead = within(problem.x, ahead, problem.eps, problem.norm)
            share = 0.75 if step else 1.0
            ahead = moved + share * (ahead - moved) + (1 - share) * (moved - before)
            before, moved = moved, within(problem.x, ahead, problem.eps, problem.norm)
        keep = yield Proposal(moved)
        if not bool(keep.all()):
            problem.keep(keep)
            ranked, scale = ranked[keep], scale[keep]


class Scaled(Climb):
    """The cross entropy of logits that are brought to a spread of 3: large ones do not saturate it."""

    def __init__(self, y: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__("ce", y)
        self.scale = scale

    def at(self, logits: torch.Tensor, rows: slice) -> torch.Tensor:
        """Scores the logits of some rows."""
        return super().at(3 * logits / self.scale[rows], rows)
