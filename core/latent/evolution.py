"""Looks for the lowest value of a function that has no derivative, by evolution of a normal distribution.

References (used throughout the code):
    [1] Hansen, 2016, The CMA evolution strategy: a tutorial, https://arxiv.org/abs/1604.00772
    [2] Ros and Hansen, 2008, A simple modification in CMA-ES achieving linear time and space complexity,
        https://doi.org/10.1007/978-3-540-87700-4_30
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from core.tensors import noise

WHOLE = (
    200  # dimensions up to which all correlations are learned; beyond, each dimension by itself [2]
)


@dataclass(frozen=True)
class Generation:
    """The best that was found until then.

    Attributes:
        at: Where, (D,).
        value: How low.
        done: Share of the search, 0 to 1.
    """

    at: Tensor
    value: float
    done: float


def minimise(
    function: Callable[[Tensor], Tensor],
    start: Tensor,
    spread: float,
    *,
    rounds: int,
    population: int = 0,
    seed: int = 0,
) -> Iterator[Generation]:
    """Draws, ranks, and moves the distribution to where the better half lies; yields after every generation [1].

    Args:
        function: Gives values (N,) of places (N, D), float32.
        start: The mean at first, (D,).
        spread: The standard deviation at first, about a third of how far the minimum may be.
        rounds: Generations.
        population: Places of a generation; 0 takes [1]'s, and at least 24, which a network decodes at once.
        seed: Of what is drawn.
    """
    n = len(start)
    size = population or max(24, 4 + int(3 * math.log(n)))
    better = size // 2
    weights = math.log((size + 1) / 2) - torch.arange(1, better + 1, dtype=torch.float64).log()
    weights = weights / weights.sum()
    effective = 1 / float(weights.square().sum())
    # rates of the paths, of the covariance and of the length of a step ([1], table 1)
    rate = (effective + 2) / (n + effective + 5)
    damping = 1 + 2 * max(0.0, math.sqrt((effective - 1) / (n + 1)) - 1) + rate
    slow = (4 + effective / n) / (n + 4 + 2 * effective / n)
    one = 2 / ((n + 1.3) ** 2 + effective)
    some = min(1 - one, 2 * (effective - 2 + 1 / effective) / ((n + 2) ** 2 + effective))
    whole = n <= WHOLE
    if not whole:
        one, some = min(0.5, one * (n + 2) / 3), min(0.5, some * (n + 2) / 3)  # [2]
    usual = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))  # length of a normal vector

    mean, sigma = start.double().cpu(), float(spread)
    path, drift = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    covariance = torch.eye(n, dtype=torch.float64) if whole else torch.ones(n, dtype=torch.float64)
    axes, scale = torch.eye(n, dtype=torch.float64) if whole else None, torch.ones_like(path)
    best, lowest = start.float(), math.inf
    for turn in range(rounds):
        drawn = noise(seed, range(size), (n,), f"evolution {turn}").double()  # (N, D)
        moved = drawn * scale
        moved = moved if axes is None else moved @ axes.T
        places = (mean + sigma * moved).float().to(start.device)
        values = function(places).double().cpu().nan_to_num(math.inf)
        order = values.argsort()[:better]
        if float(values[order[0]]) < lowest:
            lowest, best = float(values[order[0]]), places[order[0]].clone()
        step = weights @ moved[order]  # (D,)
        mean = mean + sigma * step
        # the step, as it would be if the distribution were round
        flat = step / scale if axes is None else axes @ ((axes.T @ step) / scale)
        path = (1 - rate) * path + math.sqrt(rate * (2 - rate) * effective) * flat
        length = float(path.norm())
        steady = (
            length / math.sqrt(1 - (1 - rate) ** (2 * (turn + 1))) < (1.4 + 2 / (n + 1)) * usual
        )
        drift = (1 - slow) * drift + steady * math.sqrt(slow * (2 - slow) * effective) * step
        loss = 0 if steady else one * slow * (2 - slow)
        if whole:
            ranked = (moved[order] * weights[:, None]).T @ moved[order]
            grown = torch.outer(drift, drift)
        else:
            ranked, grown = weights @ moved[order].square(), drift.square()
        covariance = (1 - one - some + loss) * covariance + one * grown + some * ranked
        sigma *= math.exp(min(1.0, rate / damping * (length / usual - 1)))
        if not whole:
            scale = covariance.clamp_min(1e-20).sqrt()
        elif turn % max(1, int(1 / ((one + some) * n * 10))) == 0:  # [1], B.2: not at every turn
            covariance = (covariance + covariance.T) / 2
            values_of, axes = torch.linalg.eigh(covariance)
            scale = values_of.clamp_min(1e-20).sqrt()
        yield Generation(best, lowest, (turn + 1) / rounds)
