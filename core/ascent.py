"""Projected gradient ascent, written once: attacks, training against attacks, and tricks on generative models.

References (used throughout the code):
    [1] Madry et al., 2018, Towards deep learning models resistant to adversarial attacks, https://arxiv.org/abs/1706.06083
    [2] Dong et al., 2018, Boosting adversarial attacks with momentum, https://arxiv.org/abs/1710.06081
    [3] Croce and Hein, 2020, Reliable evaluation (the momentum step), https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from core.norms import LINF, Norm, wide
from core.tensors import Batch


class Ascent:
    """A climb within a budget around images ([1], eq. 2); the caller gives the gradients.

    Args:
        norm, eps: The budget.
        x: The images, (N, C, H, W) in [0, 1].
        start: The first images, like ``x``, within the budget.
        steps: How many there will be.
        length: Of a step, as a multiple of ``eps / steps``.
        momentum: Share of the past gradients that is kept at each step [2].

    Attributes:
        at: The images so far, (N, C, H, W).
    """

    def __init__(
        self,
        norm: Norm,
        eps: float,
        x: Batch,
        start: Batch,
        steps: int,
        length: float = 2.5,
        momentum: float = 0.0,
    ) -> None:
        self.norm, self.eps, self.x, self.at = norm, eps, x, start
        self.steps, self.size, self.momentum = steps, length * eps / steps, momentum
        self.past = torch.zeros_like(start)

    def step(self, slope: Tensor) -> None:
        """Follows a gradient (N, C, H, W), and cuts back to the budget."""
        if self.momentum:
            slope = slope / wide(slope.abs().flatten(1).mean(1).clamp_min(1e-30), slope)
            self.past = slope = self.momentum * self.past + slope
        self.at = self._ahead(slope, self.size)

    def _ahead(self, slope: Tensor, size: float) -> Batch:
        ahead = self.at + size * self.norm.steepest(slope, self.at)
        return self.norm.within(self.x, ahead, self.eps)

    def keep(self, mask: Tensor) -> None:
        """Drops the images that are done."""
        self.x, self.at, self.past = self.x[mask], self.at[mask], self.past[mask]


class Annealed(Ascent):
    """Begins with steps of twice the budget, ends with none, and carries on a quarter of the last step [3]."""

    def __init__(self, norm: Norm, eps: float, x: Batch, start: Batch, steps: int) -> None:
        super().__init__(norm, eps, x, start, steps)
        self.past, self.done = start, 0

    def step(self, slope: Tensor) -> None:
        """Follows a gradient (N, C, H, W), and cuts back to the budget."""
        ahead = self._ahead(slope, self.eps * (1 + math.cos(math.pi * self.done / self.steps)))
        share = 0.75 if self.done else 1.0
        ahead = self.at + share * (ahead - self.at) + (1 - share) * (self.at - self.past)
        self.past, self.at = self.at, self.norm.within(self.x, ahead, self.eps)
        self.done += 1


def gradient(score: Callable[[Tensor], Tensor], x: Batch) -> Tensor:
    """Gives the gradient of a score (N,) of images at these, (N, C, H, W)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(score(x).sum(), x)
    return slope


def climb(
    score: Callable[[Tensor], Tensor], x: Batch, start: Batch, eps: float, steps: int
) -> Batch:
    """Raises a score (N,) within [0, 1] and ``eps`` of ``x`` per value, from a start that is cut back to them first."""
    ascent = Ascent(LINF, eps, x, LINF.within(x, start, eps), steps)
    for _ in range(steps):
        ascent.step(gradient(score, ascent.at))
    return ascent.at.detach()
