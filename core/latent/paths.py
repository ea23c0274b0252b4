"""Paths through a latent space."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.catalog import Config, UserError, unknown
from core.latent.space import Space
from core.media import media

MOST_FRAMES = 2000


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
WAYS = {
    "spline": "Smooth through every keyframe",
    "slerp": "Arc by arc",
    "lerp": "Line by line",
}


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
    """Decodes the path from one sample to another to items as they are stored, (steps, …); their classes are blended.

    Args:
        model: One that decodes.
        ends: The ids of the samples at both ends.
        labels: The label of each id, (N,); None for a model that listens to none.
        seed, sampling: Of the samples.
        way: A name of :data:`PATHS`.
        steps: Items on the path, both ends included.
    """
    z = model.latent(list(ends), seed, sampling)
    t = torch.linspace(0, 1, steps, device=z.device)
    y = None
    if labels is not None:
        shares = F.one_hot(labels[list(ends)], model.classes).float()
        y = lerp(shares[0], shares[1], t)
    x = model.decode(PATHS[way](z[0], z[1], t), y, sampling)
    return media.get(model.spec.medium).kept(x)


def spline(keyframes: Tensor, t: Tensor, loop: bool = False) -> Tensor:
    """Follows a smooth curve through keyframes (M, D), (T,) to (T, D).

    Cubic; its velocity at a keyframe is half the difference of its neighbours, so it never jumps. A loop ends where
    it began, at the same velocity. An open curve starts and ends along the line to its neighbour.

    Args:
        keyframes: At times 0, 1, 2 and so on.
        t: From 0 to M - 1; around a loop, to M.
        loop: Goes back to the first keyframe.

    References:
        Catmull and Rom, 1974, A class of local interpolating splines
    """
    count = len(keyframes)
    segment = t.floor().long().clamp(0, count - 1 if loop else max(0, count - 2))
    s = (t - segment)[:, None]
    if loop:
        before, start, end, after = (keyframes[(segment + k) % count] for k in (-1, 0, 1, 2))
    else:
        extended = torch.cat(
            [2 * keyframes[:1] - keyframes[1:2], keyframes, 2 * keyframes[-1:] - keyframes[-2:-1]]
        )
        before, start, end, after = (extended[segment + k] for k in range(4))
    leaving, arriving = (end - before) / 2, (after - start) / 2
    return (
        (2 * s**3 - 3 * s**2 + 1) * start
        + (s**3 - 2 * s**2 + s) * leaving
        + (3 * s**2 - 2 * s**3) * end
        + (s**3 - s**2) * arriving
    )


def walk(
    space: Space,
    keyframes: Tensor | np.ndarray,
    frames: int,
    way: str = "spline",
    loop: bool = True,
) -> Tensor:
    """Visits keyframes in turn, (M, D + K) to (frames, D + K), with as many frames from each to the next.

    Args:
        space: Where the keyframes lie.
        keyframes: Points, at least two.
        frames: Of the whole walk. A loop leaves out the last one, which is the first again.
        way: A name of :data:`WAYS`.
        loop: Goes back to the first keyframe at the end.

    Raises:
        UserError: If there are fewer than two keyframes, a wrong number of frames, or no such way.
    """
    points = space.checked(keyframes)
    if way not in WAYS:
        raise UserError(unknown("way", way, WAYS))
    if len(points) < 2:
        raise UserError(
            f"A way needs at least 2 keyframes, got {len(points)}. Pin another point first."
        )
    if not len(points) <= frames <= MOST_FRAMES:
        raise UserError(
            f"The frames must be from {len(points)}, the keyframes, to {MOST_FRAMES}, got {frames}. "
            "Choose another length or speed."
        )
    last = len(points) if loop else len(points) - 1
    t = torch.arange(frames, device=points.device) * last / (frames if loop else frames - 1)
    z, shares = points.split([space.latent, space.classes], 1)
    segment = t.floor().long().clamp_max(last - 1)
    ends = segment, (segment + 1) % len(points)
    s = (t - segment)[:, None]
    if way == "spline":
        moved = spline(z, t, loop)
        if space.sphere:  # a curve cuts the corners of a sphere
            moved = moved / moved.norm(dim=1, keepdim=True).clamp_min(1e-8)
            start, end = (z[index].norm(dim=1, keepdim=True) for index in ends)
            moved = moved * torch.lerp(start, end, s)
    else:
        moved = torch.cat(
            [PATHS[way](z[k], z[(k + 1) % len(z)], s[segment == k, 0]) for k in range(last)]
        )
    blend = torch.lerp(shares[ends[0]], shares[ends[1]], s)
    return torch.cat([moved, blend], 1)
