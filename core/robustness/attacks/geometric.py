"""Rotations and shifts: changes that no norm measures, and that no person minds.

References:
    Engstrom et al., 2019, Exploring the landscape of spatial robustness, https://arxiv.org/abs/1712.02779
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from core import tensors
from core.catalog import Config, knob
from core.norms import NORMS
from core.robustness.attacks import Problem, Proposal, Steps, attacks
from core.target import Target
from core.tensors import Images


class GeometricConfig(Config):
    """Parameters of rotation and shift."""

    tries: int = knob(100, "Rotations and shifts that are tried for each image.", ge=1, le=10_000)
    angle: float = knob(30.0, "Largest rotation either way.", ge=0, le=180, unit="degrees")
    shift: float = knob(0.1, "Largest shift either way, as a share of the image.", ge=0, le=0.5)


@attacks.add(
    "geometric",
    "Rotation and shift",
    GeometricConfig,
    takes=("picture",),
    norms=NORMS,
    free=True,
    gradient=False,
    passes=lambda config, classes: config.tries,
)
def geometric(config: GeometricConfig, target: Target, problem: Problem) -> Steps:
    """Turns and moves the image a little, as a camera would; no norm bounds it, so eps has no say."""
    for attempt in range(config.tries):
        u = tensors.noise(
            problem.seed,
            problem.ids,
            (3,),
            f"pose {attempt}",
            uniform=True,
            device=problem.x.device,
        )
        u = 2 * u - 1
        keep = yield Proposal(posed(problem.x, u[:, 0] * config.angle, u[:, 1:] * config.shift))
        problem.keep(keep)


def posed(x: Images, degrees: torch.Tensor, shift: torch.Tensor) -> Images:
    """Rotates images by degrees (N,) and shifts them by shares of their size (N, 2); black comes in from outside."""
    turn = torch.deg2rad(degrees)
    cos, sin = turn.cos(), turn.sin()
    first = torch.stack([cos, -sin, 2 * shift[:, 0]], 1)
    second = torch.stack([sin, cos, 2 * shift[:, 1]], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False).clamp(0, 1)
