"""One image under attack: what the classifier says as the strength rises."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from core.norms import L2, LINF, Budget, Norm
from core.robustness.attacks import run
from core.target import Target
from core.tensors import Batch


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
    images: Batch
    said: list[str]
    top: list[list[tuple[str, float]]]
    trace: list[float]
    smallest: dict[str, float | None]


def look(
    target: Target,
    image: Tensor,
    label: int,
    norm: Norm = LINF,
    towards: int | None = None,
) -> Closeup:
    """Attacks one image (C, H, W) at rising strength, towards a class if one is given; about a second on digits.

    What gives answers only is searched without gradients, and has no smallest change but that of the strengths.
    """
    device = target.device
    x = image[None].to(device)
    y = torch.tensor([label], device=device)
    goal = None if towards is None else torch.tensor([towards], device=device)
    strengths = [0.0, *Budget(norm, target.shape, target.medium.name).sweep()]
    moved, trace = [x], []
    name, config = "pgd", {"steps": 20, "loss": "margin", "random_start": False}
    if target.answers_only:
        name, config = "square", {"queries": 200}
    for strength in strengths[1:]:
        # the same start as at the last strength, so that the slider moves smoothly
        outcome = run(
            name, target, x, y, strength, norm=norm, towards=goal, active=False, config=config
        )
        moved.append(outcome.adversarial)
        trace = outcome.trace
    images = torch.cat(moved)
    probabilities = target.probabilities(images)
    best = probabilities.topk(min(5, probabilities.shape[1]), 1)
    names = target.classes
    top = [
        [(names[int(k)], float(p)) for p, k in zip(values, rows, strict=True)]
        for values, rows in zip(best.values, best.indices, strict=True)
    ]
    smallest: dict[str, float | None] = {}
    for bound, name in ((LINF, "fmn"), (L2, "ddn")):
        distance = math.inf
        if not target.answers_only:
            distance = float(run(name, target, x, y, None, norm=bound).distance[0])
        if bound is norm and towards is None:  # a step of the sweep may have found a smaller one
            fooled = [s for s, row in zip(strengths, top, strict=True) if row[0][0] != names[label]]
            distance = min([distance, *fooled])
        smallest[bound.name] = distance if math.isfinite(distance) else None
    return Closeup(strengths, images.cpu(), [row[0][0] for row in top], top, trace, smallest)
