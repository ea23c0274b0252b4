"""Slices through a latent space, for decoders that have no derivative.

References:
    Murray et al., 2010, Elliptical slice sampling, https://arxiv.org/abs/1001.0175
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from core.latent.density import density
from core.latent.repair import FINEST, Incomplete, Made, repairs
from core.models import Decodes
from core.tensors import noise

ROUNDS = 120  # on ellipses, the likelihood becoming as narrow as it is in the first half of them
LOOKS = 8  # at most, at one ellipse


@repairs.add(
    "slices",
    "Slices through the latent space",
    fits=lambda space: isinstance(space.model, Decodes) and not space.slow,
    needs="a model whose images are one pass from a latent",
    order=35,
)
def slices(item: Incomplete) -> Made:
    """Turns latents towards others that agree with what is known, by trying; for decoders without a derivative."""
    yield from item.by_batches(lambda ids: _batch(item, ids))


def _batch(item: Incomplete, ids: Sequence[int]) -> Made:
    space, prior = item.space, density(item.space)
    points = item.starts(ids, 1)[:, 0]
    yield space.decode(points), 0.0
    white, shares = prior.white(points[:, : space.latent]), points[:, space.latent :]

    def joined(white: Tensor) -> Tensor:
        return torch.cat([prior.latent(white), shares], 1)

    def look(white: Tensor) -> tuple[Tensor, Tensor]:
        """Gives how far states are from what is known (N,), and how much likelier than in one normal they are (N,)."""
        more = prior.log(prior.latent(white)) + white.square().sum(1) / 2
        return item.off(space.decode(joined(white))), more

    off, more = look(white)
    widest = (off / item.numbers).sqrt().clamp_min(FINEST)
    for number in range(ROUNDS):
        item.watch.check()
        # an error of the decoder is not known beforehand: half of what is left is taken for it
        width = torch.minimum(widest, 0.5 * (off / item.numbers).sqrt()).clamp_min(FINEST)
        level = off / (2 * width**2) - more
        fresh = noise(item.seed, ids, white.shape[1:], f"repair ellipse {number}").to(white)
        draws = noise(item.seed, ids, (LOOKS + 1,), f"repair slice {number}", uniform=True).to(
            white
        )
        bar = level - draws[:, 0].log()  # (N,), the highest energy that is accepted
        angle = 2 * math.pi * draws[:, 1]
        low, high = angle - 2 * math.pi, angle
        waiting = torch.ones_like(bar, dtype=torch.bool)
        for attempt in range(2, LOOKS + 1):
            place = white * angle.cos()[:, None] + fresh * angle.sin()[:, None]
            there, likelier = look(place)
            good = waiting & (there / (2 * width**2) - likelier <= bar)
            white = torch.where(good[:, None], place, white)
            off, more = torch.where(good, there, off), torch.where(good, likelier, more)
            waiting &= ~good
            if not bool(waiting.any()):
                break
            low, high = torch.where(angle < 0, angle, low), torch.where(angle < 0, high, angle)
            angle = low + draws[:, attempt] * (high - low)
        if number % 10 == 9:
            yield space.decode(joined(white)), (number + 1) / ROUNDS
