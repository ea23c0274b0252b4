"""Gradients that a mask cannot mislead: passed around what stands before the network, and averaged nearby.

References (used throughout the code):
    [1] Athalye et al., 2018, Obfuscated gradients give a false sense of security (BPDA, EOT),
        https://arxiv.org/abs/1802.00420
    [2] Tramer et al., 2020, On adaptive attacks to adversarial example defenses, https://arxiv.org/abs/2002.08347
"""

from __future__ import annotations

import torch
from torch import Tensor

from core import tensors
from core.ascent import Annealed
from core.catalog import Config, knob
from core.norms import L2, NORMS, wide
from core.robustness.attacks import Problem, Steps, attacks, climbed
from core.target import Climb, Target
from core.tensors import Batch


class AdaptiveConfig(Config):
    """Parameters of the attack on masks."""

    steps: int = knob(20, "Steps of each of its three ways.", ge=2, le=1000, unit="steps")
    draws: int = knob(
        4, "Places near the image over which a gradient is averaged.", ge=1, le=100, unit="draws"
    )
    radius: float = knob(
        0.25,
        "How far these places are, as a share of the attack strength.",
        gt=0,
        le=1,
        advanced=True,
    )


WAYS = ((True, False), (False, True), (True, True))  # passed around the input stage; averaged


@attacks.add(
    "adaptive",
    "Against masks (averaged, passed through)",
    AdaptiveConfig,
    norms=NORMS,
    gradient=True,
    last=True,
    passes=lambda config, classes: config.steps * (5 + 4 * config.draws) + 3,
)
def adaptive(config: AdaptiveConfig, target: Target, problem: Problem) -> Steps:
    """Climbs gradients that pass what stands before the network [1], averaged over places nearby, or both."""
    for turn, (passed, averaged) in enumerate(WAYS):
        classifier = target.with_(bpda=True, bypass=True) if passed else target.with_()

        def ask(
            x: Batch,
            step: int,
            classifier: Target = classifier,
            averaged: bool = averaged,
            turn: int = turn,
        ) -> tuple[Tensor | None, None, Tensor]:
            logits, slope = _slope(config, classifier, problem, x, f"{turn} {step}", averaged)
            target.forward += classifier.forward
            target.backward += classifier.backward
            classifier.forward = classifier.backward = 0
            return logits, None, slope

        start = problem.start(f"start {turn}")
        ascent = Annealed(problem.norm, problem.eps, problem.x, start, config.steps)
        yield from climbed(problem, ascent, ask)


def _slope(
    config: AdaptiveConfig, target: Target, problem: Problem, x: Batch, stream: str, averaged: bool
) -> tuple[Tensor | None, Tensor]:
    """Gives the logits, where they are known, and the gradient of the lead of a wrong class at (or around) images."""
    goal = Climb("margin", problem.y, problem.towards)
    if not averaged:
        logits, _, slope = target.climb(x, goal)
        return logits, slope
    total = torch.zeros_like(x)
    for draw in range(config.draws):
        change = tensors.noise(
            problem.seed, problem.ids, x.shape[1:], f"near {stream} {draw}", device=x.device
        )
        reach = config.radius * problem.eps
        size = 1.0 if problem.norm.box else wide(problem.norm.length(change), x)
        near = (x + reach * change / size).clamp(0, 1)
        _, _, slope = target.climb(near, goal)
        # a few places where the slope is steep by accident must not decide
        total += L2.steepest(slope)
    return None, total
