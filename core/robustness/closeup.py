"""One image under attack: what the classifier says as the strength rises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.attacks import Trial
from core.robustness.questions import sweep
from core.tensors import Images
from core.threat import Target


@dataclass(frozen=True)
class Closeup:
    """One image under attack, at rising strength.

    Attributes:
        eps: The strengths, rising, the first is 0.
        images: (E, C, H, W).
        said: Name of the likeliest class at each strength.
        top: At each strength the five likeliest classes, as (name, probability).
        trace: What the attack climbed at the strongest, step by step: the lead of a wrong class.
        smallest: By norm, the smallest change that fools, or None.
    """

    eps: list[float]
    images: Images
    said: list[str]
    top: list[list[tuple[str, float]]]
    trace: list[float]
    smallest: dict[str, float | None]


def look(
    target: Target,
    image: Tensor,
    label: int,
    norm: str = "linf",
    eps: Sequence[float] | None = None,
    towards: int | None = None,
    steps: int = 20,
) -> Closeup:
    """Attacks one image (C, H, W) at rising strength, towards a class if one is given; about a second on digits."""
    device = target.device
    x = image[None].to(device)
    y = torch.tensor([label], device=device)
    goal = None if towards is None else torch.tensor([towards], device=device)
    strengths = [
        0.0,
        *sorted(e for e in (eps or sweep(target.channels, target.size, norm)) if e > 0),
    ]
    made, trace = [x], []
    for strength in strengths[1:]:
        # the same start as at the last strength, so that the slider moves smoothly
        trial = Trial(
            "pgd", target, x, y, strength, norm, {"steps": steps, "loss": "margin", "random_start": False},
            towards=goal, active=False,
        )  # fmt: skip
        for _ in trial:
            pass
        made.append(trial.outcome.adversarial)
        trace = trial.outcome.trace
    images = torch.cat(made)
    probabilities = target.probabilities(images)
    best = probabilities.topk(min(5, probabilities.shape[1]), 1)
    names = target.classes
    top = [
        [(names[int(k)], float(p)) for p, k in zip(values, rows, strict=True)]
        for values, rows in zip(best.values, best.indices, strict=True)
    ]
    smallest: dict[str, float | None] = {}
    for each, name in (("linf", "fmn"), ("l2", "ddn")):
        trial = Trial(name, target, x, y, None, each)
        for _ in trial:
            pass
        distance = float(trial.outcome.distance[0])
        if each == norm and towards is None:  # a step of the sweep may have found a smaller one
            fooled = [s for s, row in zip(strengths, top, strict=True) if row[0][0] != names[label]]
            distance = min([distance, *fooled])
        smallest[each] = distance if math.isfinite(distance) else None
    return Closeup(strengths, images.cpu(), [row[0][0] for row in top], top, trace, smallest)
