"""One step along the gradient.

References:
    Goodfellow et al., 2015, Explaining and harnessing adversarial examples, https://arxiv.org/abs/1412.6572
"""

from __future__ import annotations

from typing import Literal

from core.catalog import Config, knob
from core.norms import NORMS
from core.robustness.attacks import Problem, Proposal, Steps, attacks
from core.target import Climb, Target


class FGSMConfig(Config):
    """Parameters of the one step."""

    loss: Literal["ce", "margin", "dlr"] = knob(
        "ce",
        "What the step climbs: cross entropy, lead of a wrong class, or that lead over the spread.",
    )


@attacks.add(
    "fgsm",
    "FGSM (one step)",
    FGSMConfig,
    norms=NORMS,
    gradient=True,
    passes=lambda config, classes: 3,
)
def fgsm(config: FGSMConfig, target: Target, problem: Problem) -> Steps:
    """Takes one step along the gradient: the quickest attack, and the weakest."""
    x = problem.x
    _, value, slope = target.climb(x, Climb(config.loss, problem.y, problem.towards))
    moved = x + problem.eps * problem.norm.steepest(slope, x)
    yield Proposal(moved.clamp(0, 1), score=value)
