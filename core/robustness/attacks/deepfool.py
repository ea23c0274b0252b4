"""The nearest boundary of a classifier that is taken for linear, again and again.

References:
    Moosavi-Dezfooli et al., 2016, DeepFool, https://arxiv.org/abs/1511.04599
"""

from __future__ import annotations

import torch

from core.catalog import Config, knob
from core.norms import L2, LINF, wide
from core.robustness.attacks import Problem, Proposal, Steps, attacks
from core.target import Target, decide, others


class DeepFoolConfig(Config):
    """Parameters of DeepFool."""

    steps: int = knob(50, "Steps at most.", ge=1, le=1000, unit="steps")
    candidates: int = knob(
        10,
        "Classes whose boundary is looked for, the likeliest ones.",
        ge=2,
        le=100,
        unit="classes",
    )
    overshoot: float = knob(
        0.02, "Share by which each change goes past the boundary.", ge=0, le=1, advanced=True
    )


@attacks.add(
    "deepfool",
    "DeepFool (smallest change)",
    DeepFoolConfig,
    norms=(LINF, L2),
    smallest=True,
    gradient=True,
    passes=lambda config, classes: config.steps * (1 + min(config.candidates, classes)) // 4,
)
def deepfool(config: DeepFoolConfig, target: Target, problem: Problem) -> Steps:
    """Steps to the nearest boundary of the classifier taken for linear: a small change that fools, quickly."""
    x, y = problem.x, problem.y
    first = target.logits(x).nan_to_num(0.0)
    count = min(config.candidates, first.shape[1]) - 1
    rivals = others(first, y).topk(count, 1).indices
    chosen = torch.cat([y[:, None], rivals], 1)
    total, moved = torch.zeros_like(x), x.clone()
    left = torch.arange(len(x), device=x.device)
    order = problem.norm.dual.order
    for _ in range(config.steps):
        logits, slopes = target.jacobian(moved[left], chosen[left])
        still = decide(logits) == y[left]
        if not bool(still.any()):
            break
        left, logits, slopes = left[still], logits[still], slopes[still]
        lead = logits.gather(1, chosen[left])
        gap = lead[:, 1:] - lead[:, :1]  # below 0
        slope = slopes[:, 1:] - slopes[:, :1]
        size = torch.linalg.vector_norm(slope.flatten(2), order, dim=2).clamp_min(1e-12)
        nearest = (gap.abs() / size).argmin(1, keepdim=True)
        way = slope.gather(1, wide(nearest, slope).expand(-1, 1, *x.shape[1:])).squeeze(1)
        reach = (gap.abs().gather(1, nearest).squeeze(1) + 1e-4) / size.gather(1, nearest).squeeze(
            1
        )
        unit = way.sign() * (way.abs() / wide(size.gather(1, nearest), x)) ** (order - 1)
        total[left] += wide(reach, x) * unit
        moved[left] = (x[left] + (1 + config.overshoot) * total[left]).clamp(0, 1)
        yield Proposal(moved)
