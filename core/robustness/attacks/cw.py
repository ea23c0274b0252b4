"""The smallest L2 change by optimisation in the space of an arc tangent, with a search for the weight of fooling.

References:
    Carlini and Wagner, 2017, Towards evaluating the robustness of neural networks, https://arxiv.org/abs/1608.04644
    Kingma and Ba, 2015, Adam, https://arxiv.org/abs/1412.6980
"""

from __future__ import annotations

import torch

from core.catalog import Config, knob
from core.norms import L2, wide
from core.robustness.attacks import Problem, Proposal, Steps, attacks
from core.target import Climb, Target


class CWConfig(Config):
    """Parameters of Carlini and Wagner's attack."""

    searches: int = knob(5, "Weights of fooling that are tried for each image.", ge=1, le=20)
    steps: int = knob(100, "Steps for each weight.", ge=1, le=10_000, unit="steps")
    lr: float = knob(0.01, "Length of Adam's steps.", gt=0, le=1, log=True, advanced=True)
    weight: float = knob(
        0.01,
        "First weight of fooling beside the length of the change.",
        gt=0,
        le=1e6,
        log=True,
        advanced=True,
    )
    confidence: float = knob(
        0.0,
        "Lead of the wrong class that is asked for.",
        ge=0,
        le=100,
        unit="logits",
        advanced=True,
    )


@attacks.add(
    "cw",
    "Carlini-Wagner (smallest L2 change)",
    CWConfig,
    norms=(L2,),
    smallest=True,
    gradient=True,
    passes=lambda config, classes: 2 * config.searches * config.steps,
)
def cw(config: CWConfig, target: Target, problem: Problem) -> Steps:
    """Weighs the length of the change against the lead of a wrong class: thorough, and slow."""
    x, y = problem.x, problem.y
    start = torch.atanh((x * 2 - 1) * (1 - 1e-6))
    weight = x.new_full((len(x),), config.weight)
    low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
    for _ in range(config.searches):
        w = start.clone()
        m, v = torch.zeros_like(w), torch.zeros_like(w)
        once = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for step in range(1, config.steps + 1):
            tanh = torch.tanh(w)
            moved = (tanh + 1) / 2
            logits, lead, slope = target.climb(moved, Climb("margin", y, problem.towards))
            yield Proposal(moved, logits, lead)
            once |= lead > config.confidence
            # the gradient of |change|^2 + weight max(confidence - lead, 0), through the tangent
            push = wide(weight * (lead < config.confidence), x) * slope
            grad = (2 * (moved - x) - push) * (1 - tanh.square()) / 2
            m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad.square()
            unbiased = (v / (1 - 0.999**step)).sqrt() + 1e-8
            w = w - config.lr * m / (1 - 0.9**step) / unbiased
        yield Proposal((torch.tanh(w) + 1) / 2)
        high = torch.where(once, torch.minimum(high, weight), high)
        low = torch.where(once, low, torch.maximum(low, weight))
        weight = torch.where(high.isinf(), weight * 10, (low + high) / 2)
