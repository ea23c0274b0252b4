"""A chain between a GAN's images and its critic: what the critic sees, real and generated, and the gradient back."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from core.augment.pipeline import Chain, Drawn, Pipeline
from core.catalog import UserError
from core.tensors import full, rows


class CriticChain(nn.Module):
    """Changes images by a chain, each step for a share ``p`` of those that it would change; differentiable.

    It stands in for :class:`core.nets.CriticAugmentation`.

    Raises:
        UserError: If no gradient passes through a step, so that a generator would not learn from its critic.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        if pipeline.rigid:
            titles = " and ".join(dict.fromkeys(pipeline.rigid))
            raise UserError(
                f"A generator learns from its critic through the chain, and no gradient passes {titles}. "
                "Switch it off for the critic, or augment the training images instead (augment.critic=false)."
            )
        self.chain = Chain(pipeline)

    def forward(self, x: Tensor, p: Tensor, generator: torch.Generator, parts: int = 1) -> Tensor:
        """Augments images in [-1, 1], (N, C, H, W); with ``p`` (a scalar) at 0 it leaves them as they are.

        ``parts`` says how many batches lie one behind the other in them; each image has draws of its own.
        """
        if not self.chain.steps or (p.device.type == "cpu" and p == 0):
            return full(x)
        with torch.autocast(x.device.type, enabled=False):
            shape = (len(x), 1 + len(self.chain.steps))
            # Apple's GPU has no float64; 24 bits tell images of a batch apart as well
            draw = partial(
                torch.rand, dtype=torch.float32 if x.device.type == "mps" else torch.float64
            )
            u = rows(draw, shape, parts=parts, generator=generator, device=x.device)
            drawn = self.chain.draw(0, (u[:, 0] * 2**53).long())
            thinned = [
                Drawn(row.step, row.chosen & (share < p), row.params)
                for row, share in zip(drawn, u[:, 1:].unbind(1), strict=True)
            ]
            return self.chain.last((full(x) + 1) / 2, thinned) * 2 - 1
