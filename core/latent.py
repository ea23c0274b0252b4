"""Ways through a latent space: pure functions on latents (N, D)."""

from __future__ import annotations

import torch
from torch import Tensor


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Walks from ``a`` to ``b`` (D,) along a straight line; t in [0, 1], (T,) to (T, D)."""
    return a + t[:, None] * (b - a)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Walks from ``a`` to ``b`` (D,) along an arc, so that the length changes evenly and never dips; (T,) to (T, D).

    In many dimensions, Gaussian noise lies near a sphere, and a straight line leaves it. Nearly parallel, opposite or
    zero ends have no unique arc: then the line is taken.

    References:
        Shoemake, 1985, Animating rotation with quaternion curves; White, 2016, https://arxiv.org/abs/1609.04468
    """
    norm_a, norm_b = a.norm(), b.norm()
    if min(norm_a, norm_b) < 1e-8:
        return lerp(a, b, t)
    angle = torch.acos((a @ b / (norm_a * norm_b)).clamp(-1, 1))
    if torch.sin(angle) < 1e-4:
        return lerp(a, b, t)
    t = t[:, None]
    direction = (
        torch.sin((1 - t) * angle) * (a / norm_a) + torch.sin(t * angle) * (b / norm_b)
    ) / torch.sin(angle)
    return direction * (norm_a + t * (norm_b - norm_a))


PATHS = {"slerp": slerp, "lerp": lerp}
