"""Multi-targeted gradient ascent: the screening attack, nearly as strong as AutoAttack for a small part of its time.

References:
    Gowal et al., 2019, An alternative surrogate loss for PGD-based adversarial testing, https://arxiv.org/abs/1910.09338
    Croce and Hein, 2020, Reliable evaluation (the momentum step), https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

import torch

from core.ascent import Annealed
from core.catalog import Config, knob
from core.norms import NORMS
from core.robustness.attacks import Problem, Steps, attacks, climbed
from core.target import Climb, Target, others
from core.tensors import Batch


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

    def ask(x: Batch, turn: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if turn:
            goal = Climb("margin", problem.y, ranked[problem.left, turn - 1])
        else:
            goal = ScaledClimb(problem.y, scale[problem.left])
        return target.climb(x, goal)

    for turn in range(rounds + 1):
        start = problem.start(f"start {turn}")
        ascent = Annealed(problem.norm, problem.eps, problem.x, start, config.steps)
        yield from climbed(problem, ascent, lambda x, _, turn=turn: ask(x, turn))


class ScaledClimb(Climb):
    """The cross entropy of logits that are brought to a spread of 3: large ones do not saturate it."""

    def __init__(self, y: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__("ce", y)
        self.scale = scale

    def at(self, logits: torch.Tensor, rows: slice) -> torch.Tensor:
        """Scores the logits of some rows."""
        return super().at(3 * logits / self.scale[rows], rows)
