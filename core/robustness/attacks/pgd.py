"""Projected gradient ascent: many small steps, from random places.

References:
    Madry et al., 2018, Towards deep learning models resistant to adversarial attacks, https://arxiv.org/abs/1706.06083
    Dong et al., 2018, Boosting adversarial attacks with momentum, https://arxiv.org/abs/1710.06081
"""

from __future__ import annotations

from typing import Literal

from core.ascent import Ascent
from core.catalog import Config, knob
from core.norms import NORMS
from core.robustness.attacks import Problem, Steps, attacks, climbed
from core.target import Climb, Target


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
    for restart in range(config.restarts):
        start = problem.start(f"start {restart}") if config.random_start else problem.x
        ascent = Ascent(
            problem.norm, problem.eps, problem.x, start,
            config.steps, config.step_size, config.momentum,
        )  # fmt: skip
        yield from climbed(
            problem,
            ascent,
            lambda x, _: target.climb(x, Climb(config.loss, problem.y, problem.towards)),
        )
