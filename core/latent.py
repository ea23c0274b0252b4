"""Ways through a latent space."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.catalog import Config
from core.tensors import to_bytes


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


@torch.inference_mode()
def path(
    model: Any,
    ends: tuple[int, int],
    labels: Tensor | None,
    seed: int,
    sampling: Config,
    way: str,
    steps: int,
) -> np.ndarray:
    """Decodes the way from one sample to another, uint8 (steps, C, H, W); the class, where there is one, is blended.

    Args:
        model: One that decodes.
        ends: The ids of the samples at both ends.
        labels: The label of each id, (N,); None for a model that listens to none.
        seed, sampling: Of the samples.
        way: A name of :data:`PATHS`.
        steps: Images on the way, both ends included.
    """
    z = model.latent(list(ends), seed, sampling)
    t = torch.linspace(0, 1, steps, device=z.device)
    y = None
    if labels is not None:
        shares = F.one_hot(labels[list(ends)], model.classes).float()
        y = lerp(shares[0], shares[1], t)
    return to_bytes(model.decode(PATHS[way](z[0], z[1], t), y))
