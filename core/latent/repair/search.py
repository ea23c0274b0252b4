"""Search in a latent space with the known part as the loss, then Hamiltonian Monte Carlo around what was found.

References:
    Creswell and Bharath, 2016, Inverting the generator of a generative adversarial network, https://arxiv.org/abs/1611.05644
    Neal, 2011, MCMC using Hamiltonian dynamics, https://arxiv.org/abs/1206.1901
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from core.latent.density import density
from core.latent.encoding import descent
from core.latent.repair import FINEST, Incomplete, Made, repairs
from core.latent.space import Space
from core.models import Decodes
from core.tensors import noise

STARTS = 16  # points that the search for one fill begins with
STEPS = 15  # of the search: more fit what is known better, and what is not known worse
ROUNDS = 30  # of Hamiltonian Monte Carlo
TUNED = 20  # of them that find the length of a step
LEAPS = 4  # of each round
ACCEPTED = 0.7  # share of the rounds that are to be accepted


def fits(space: Space) -> bool:
    """Tells whether an image is one pass of a decoder that has a derivative."""
    return isinstance(space.model, Decodes) and not space.slow and space.differentiable


@repairs.add(
    "search",
    "Search in the latent space",
    fits=fits,
    needs="a model whose images are one pass from a latent, with a derivative",
    order=20,
)
def search(item: Incomplete) -> Made:
    """Looks for latents whose images agree with what is known, and walks among them: several plausible fills."""
    yield from item.by_batches(lambda ids: _batch(item, ids))


def _batch(item: Incomplete, ids: Sequence[int]) -> Made:
    space = item.space
    prior = density(space)
    points = item.starts(ids, STARTS)  # (fills, starts, D + K)
    yield space.decode(points[:, 0]), 0.0
    # every start is a search of its own, so that none is dropped
    for now, off in descent(space, points.flatten(0, 1)[:, None], item.off, STEPS):
        item.watch.check()
        points, left = now.view_as(points), off.view(points.shape[:2])  # (fills, starts)
    rows = torch.arange(len(points), device=points.device)
    yield space.decode(points[rows, left.argmin(1)]), 0.3
    # the width of the likelihood: what was not searched for is missed by about twice as much as what was
    width = (2 * (left.amin(1) / item.numbers).sqrt()).clamp_min(FINEST)  # (fills,)
    z = points[..., : space.latent]
    log = prior.log(z.flatten(0, 1)).view_as(left) - left / (2 * width**2)[:, None]
    uniform = noise(item.seed, ids, (points.shape[1],), "repair pick", uniform=True).to(log)
    picked = (log - (-uniform.log()).log()).argmax(1)  # in proportion to the density (Gumbel)
    z, shares = z[rows, picked], points[rows, picked, space.latent :]

    def points_of(white: Tensor) -> Tensor:
        return torch.cat([prior.latent(white), shares], 1)

    def energy(white: Tensor) -> Tensor:
        return item.off(space.smooth(points_of(white))) / (2 * width**2) - prior.log(
            prior.latent(white)
        )

    walk = hamiltonian(energy, prior.white(z), ids, item.seed, ROUNDS, TUNED)
    for number, (white, _) in enumerate(walk, start=1):
        item.watch.check()
        if number % 5 == 0 or number == ROUNDS:
            yield space.decode(points_of(white)), 1 - 0.7 * (1 - number / ROUNDS)


def hamiltonian(
    energy: Callable[[Tensor], Tensor],
    start: Tensor,
    ids: Sequence[int],
    seed: int,
    rounds: int,
    tuned: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draws from the density ``exp(-energy)`` by Hamiltonian Monte Carlo, one chain for each id (Neal, section 3.2).

    Args:
        energy: Of states (N, D): (N,); differentiable.
        start: The first states, (N, D), best where the density has a spread of about 1.
        ids: Of the chains.
        seed: Of the chains.
        rounds: How many states are drawn one after the other.
        tuned: Rounds in which the length of a chain's steps follows how often it was accepted; later ones keep it.

    Yields:
        States (N, D), and how probable it was that they were accepted (N,), after each round.
    """

    def slope(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            height = energy(x)
            (gradient,) = torch.autograd.grad(height.sum(), x)
        return height.detach(), gradient

    kicks = noise(seed, ids, (rounds, *start.shape[1:]), "repair momentum").to(start)
    limits = noise(seed, ids, (rounds,), "repair accept", uniform=True).to(start)  # (N, rounds)
    x, length = start, torch.full((len(start), 1), 0.1).to(start)
    height, gradient = slope(x)
    for number in range(rounds):
        fresh = kicks[:, number]
        place, momentum, pull = x, fresh - length / 2 * gradient, gradient
        for leap in range(LEAPS):
            place = place + length * momentum
            there, pull = slope(place)
            momentum = momentum - (length if leap < LEAPS - 1 else length / 2) * pull
        gained = (
            height + fresh.square().sum(1) / 2 - there - momentum.square().sum(1) / 2
        )  # the rise of the log-density
        chance = gained.clamp_max(0).exp().nan_to_num(0.0)
        taken = limits[:, number] < chance
        x = torch.where(taken[:, None], place, x)
        height, gradient = (
            torch.where(taken, there, height),
            torch.where(taken[:, None], pull, gradient),
        )
        if number < tuned:
            quick = torch.where(chance > ACCEPTED, 1.3, 0.6)  # at first to the right size
            fine = torch.exp(0.3 * (chance - ACCEPTED))
            length = length * (quick if number < 6 else fine)[:, None]
        yield x, chance
