"""A velocity from outside: it is sampled, encoded, traced, cleaned with and measured as our own paths are."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from core.models import Spec
from core.models.diffusion import Diffusion, DiffusionConfig, DiffusionSampling
from core.tensors import Ids, noise
from core.wrapped import HasVelocity, shares


class VelocityModel(Diffusion):
    """A network that knows ``data - noise`` on the straight path, as a diffusion model."""

    def __init__(self, net: HasVelocity, spec: Spec, classes: int) -> None:
        nn.Module.__init__(self)  # none of the networks of ours
        self.config, self.spec, self.classes = DiffusionConfig(), spec, classes
        self.shape, self.dim = spec.shape, math.prod(spec.shape)
        self.batch, self.lr = 128, 2e-4
        self.net: Any = net
        self.anchor = nn.Parameter(torch.zeros(()), requires_grad=False)

    def hot(self) -> list[nn.Module]:
        """Lists what compiling speeds up: the network as a whole, where it is one."""
        return [self.net] if isinstance(self.net, nn.Module) else []

    def latent(self, ids: Ids, seed: int, sampling: DiffusionSampling) -> Tensor:
        """Draws the noise that a path starts from, (N, D)."""
        return noise(seed, ids, (self.dim,), "latent", device=self.anchor.device)

    def velocity(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """Asks the network; images (N, …) whose label is to be ignored are asked for without one."""
        told = shares(y, self.classes)
        if told is None or keep is None:
            return self.net.velocity(x, t, told)
        # of the class and of any class: the network is asked for each in a batch of its own
        parts = [(keep.nonzero()[:, 0], told), ((~keep).nonzero()[:, 0], None)]
        asked = [
            (rows, self.net.velocity(x[rows], t[rows], None if y is None else y[rows]))
            for rows, y in parts
            if len(rows)
        ]
        v = torch.cat([part for _, part in asked])
        order = torch.cat([rows for rows, _ in asked])
        return v[order.argsort()]
