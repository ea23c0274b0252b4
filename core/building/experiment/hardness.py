"""How much of an accuracy is left under attack: one cheap attack that follows the gradient of the classifier itself.

References:
    Madry et al., 2018, Towards deep learning models resistant to adversarial attacks, https://arxiv.org/abs/1706.06083
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from core.media import Medium

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 10
MOST = 200  # test images that are attacked


def attacked(
    logits: Callable[[Tensor], Tensor],
    items: Tensor,
    y: Tensor,
    medium: Medium,
    eps: float,
    seed: int,
) -> Tensor:
    """Changes items (N, …) in [0, 1] so that a classifier takes them for another class than ``y`` (N,).

    Args:
        logits: Of what a model sees, (N, classes), with a gradient.
        items, y: What is attacked.
        medium: What a model sees of an item.
        eps: The largest change of a value.
        seed: Of the start.
    """
    import torch
    from torch.nn import functional as F

    from core.ascent import climb

    def score(moved: Tensor) -> Tensor:
        return F.cross_entropy(logits(medium.to_model(moved)), y, reduction="none")

    draw = torch.Generator().manual_seed(seed)
    start = items + eps * (2 * torch.rand(items.shape, generator=draw) - 1)
    return climb(score, items, start, eps, STEPS)


def usual(shape: tuple[int, ...], medium: Medium) -> float:
    """Gives the strength at which items of a shape are usually attacked."""
    from core.norms import LINF, Budget

    return Budget(LINF, shape, medium.name).usual


def left(
    logits: Callable[[Tensor], Tensor],
    items: Tensor,
    y: np.ndarray,
    medium: Medium,
    eps: float,
    seed: int,
) -> float:
    """Measures how many of some items are named rightly as they are and under attack, in percent."""
    import torch

    labels = torch.as_tensor(y)
    moved = attacked(logits, items, labels, medium, eps, seed)
    with torch.inference_mode():
        right = logits(medium.to_model(items)).argmax(1) == labels
        right &= logits(medium.to_model(moved)).argmax(1) == labels
    return 100 * float(right.float().mean())


def described(eps: float, n: int) -> str:
    """Says how hard the attack was, in a sentence."""
    from core.norms import LINF

    return (
        f"Robust accuracy: {n:,} of the test images, each changed by at most {LINF.text(eps)} of a value (PGD, {STEPS} "
        "steps from a random start, by the gradient of the very classifier). A stronger attack leaves less."
    )
