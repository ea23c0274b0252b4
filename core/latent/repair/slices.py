"""Elliptical slice sampling of latents: several plausible fills of a decoder that has no derivative.

References:
    Murray et al., 2010, Elliptical slice sampling, https://arxiv.org/abs/1001.0175
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from core.latent.density import density
from core.latent.repair import FINEST, Incomplete, Made, repairs
from core.models import Decodes
from core.tensors import noise

ROUNDS = 160  # states that are drawn one after the other
SETTLING = 120  # of them in which the likelihood narrows, as far as what is known can be met
CUTS = 24  # of an ellipse, until a state is kept as it is: the angle is then below a millionth


@repairs.add(
    "slices",
    "Search without gradients",
    fits=lambda space: (
        isinstance(space.model, Decodes) and not space.slow and not space.differentiable
    ),
    needs="a model whose images are one pass from a latent, without a derivative",
    order=30,
)
def slices(item: Incomplete) -> Made:
    """Walks among latents whose images agree with what is known, by their images alone: for a graph from outside."""
    yield from item.by_batches(lambda ids: _batch(item, ids))


def _batch(item: Incomplete, ids: Sequence[int]) -> Made:
    space, prior = item.space, density(item.space)
    first = item.starts(ids, 1)[:, 0]  # (fills, D + K)
    yield space.decode(first), 0.0
    shares = first[:, space.latent :]
    width = torch.full((len(first),), math.inf).to(first)

    def points_of(white: Tensor) -> Tensor:
        return torch.cat([prior.latent(white), shares], 1)

    def off(white: Tensor) -> Tensor:
        """Gives the sum of squares over what is known, (N,)."""
        item.watch.check()
        return item.off(space.decode(points_of(white)))

    def log(white: Tensor, errors: Tensor) -> Tensor:
        # what the draws' own density has beyond that of a normal one belongs to the likelihood
        beyond = prior.log(prior.latent(white)) + white.square().sum(1) / 2
        return beyond - errors / (2 * width**2)

    white = prior.white(first[:, : space.latent])
    errors = off(white)
    walk = elliptical(off, log, white, errors, ids, item.seed, ROUNDS)
    width = (2 * (errors / item.numbers).sqrt()).clamp_min(FINEST)
    for number, (white, errors) in enumerate(walk, start=1):
        if number <= SETTLING:
            width = torch.minimum(width, (1.5 * (errors / item.numbers).sqrt()).clamp_min(FINEST))
        if number % 10 == 0:
            yield space.decode(points_of(white)), number / ROUNDS


def elliptical(
    measure: Callable[[Tensor], Tensor],
    log: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    measured: Tensor,
    ids: Sequence[int],
    seed: int,
    rounds: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draws from a standard normal times a likelihood, one chain for each id (Murray et al., figure 2).

    Args:
        measure: What a state costs to be known of, (N, D) to (N,).
        log: Logarithm of the likelihood, of states and what was measured of them, (N,); it may change between rounds.
        start: The first states, (N, D).
        measured: Of them.
        ids: Of the chains.
        seed: Of the chains.
        rounds: How many states are drawn one after the other.

    Yields:
        States (N, D) and what was measured of them (N,), after each round.
    """
    for number in range(rounds):
        other = noise(seed, ids, start.shape[1:], f"slice {number}").to(start)
        u = noise(seed, ids, (CUTS + 2,), f"slice at {number}", uniform=True).to(start)
        height = log(start, measured) + u[:, 0].log()
        angle = 2 * math.pi * u[:, 1]
        low, high = angle - 2 * math.pi, angle.clone()
        found, cost = start, measured
        open_ = torch.ones(len(start), dtype=torch.bool, device=start.device)
        for cut in range(CUTS):
            place = start * angle.cos()[:, None] + other * angle.sin()[:, None]
            there = measure(place)
            good = open_ & (log(place, there) > height)
            found = torch.where(good[:, None], place, found)
            cost = torch.where(good, there, cost)
            open_ = open_ & ~good
            if not bool(open_.any()):
                break
            low, high = torch.where(angle < 0, angle, low), torch.where(angle < 0, high, angle)
            angle = low + (high - low) * u[:, cut + 2]
        start, measured = found, cost
        yield start, measured
