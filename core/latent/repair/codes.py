"""Codes drawn anew, one place after the other, by how well they agree with what is known and with the other codes.

References:
    Andrieu et al., 2010, Particle Markov chain Monte Carlo methods, https://doi.org/10.1111/j.1467-9868.2009.00736.x
    Tjelmeland, 2004, Using all Metropolis-Hastings proposals to estimate mean values, Norwegian University of Science
        and Technology, preprint statistics 4/2004
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from core.latent.repair import FINEST, Incomplete, Made, repairs
from core.models import Predicts
from core.tensors import noise

PROPOSED = 16  # codes that are compared at a place, the one that is there among them
CHANGES = 64  # places that are drawn anew for a fill, in whole sweeps; at least one sweep


@repairs.add(
    "codes",
    "Codes drawn anew",
    fits=lambda space: isinstance(space.model, Predicts),
    needs="a model that spells images and says how probable a code is",
    order=30,
)
def codes(item: Incomplete) -> Made:
    """Draws the codes in and around the hole again and again, by the model's own probabilities and what is known."""
    yield from item.by_batches(lambda ids: _batch(item, ids))


def _batch(item: Incomplete, ids: Sequence[int]) -> Made:
    space, model, seed, device = item.space, item.space.model, item.seed, item.space.device
    made = space.decode(item.starts(ids, 1)[:, 0])
    yield made, 0.0
    # what the encoder makes of the picture, with its hole filled by a sample
    spelled = model.quantize(item.known.put(made, item.x))  # (N, T)
    width = (item.off(model.restore(spelled)) / item.numbers).sqrt().clamp_min(FINEST)  # (N,)
    y = item.y(len(ids))
    places = touched(item, spelled.shape[1])
    sweeps = max(1, CHANGES // len(places))
    for sweep in range(sweeps):
        if item.label is None and model.classes:
            y = _classes(item, spelled, noise(seed, ids, (), f"repair class {sweep}", uniform=True))
        every = (len(places), PROPOSED)
        draws = noise(seed, ids, every, f"repair codes {sweep}", uniform=True, device=device)
        for number, place in enumerate(places):
            item.watch.check()
            spelled = _changed(item, spelled, y, place, draws[:, number], width)
        yield model.restore(spelled), (sweep + 1) / sweeps


def _changed(
    item: Incomplete, spelled: Tensor, y: Tensor | None, place: int, draws: Tensor, width: Tensor
) -> Tensor:
    """Draws the code at a place anew: others are proposed by the codes before it, and the rest of the model decides."""
    model, n = item.space.model, len(spelled)
    chance = model.predict(spelled, y)[:, place].exp()  # (N, V)
    reach = chance.cumsum(1)
    proposed = torch.searchsorted(reach, draws[:, 1:] * reach[:, -1:])
    proposed = torch.cat([spelled[:, place, None], proposed.clamp_max(chance.shape[1] - 1)], 1)
    count = proposed.shape[1]
    all_of = spelled.repeat_interleave(count, 0)  # (N P, T)
    all_of[:, place] = proposed.flatten()
    labels = None if y is None else y.repeat_interleave(count, 0)
    log = -item.off(model.restore(all_of)).view(n, count) / (2 * width**2)[:, None]
    if place + 1 < spelled.shape[1]:
        after = model.predict(all_of, labels)[:, place + 1 :]
        after = after.gather(2, all_of[:, place + 1 :, None])[..., 0]  # (N P, T - place - 1)
        log = log + after.sum(1).view(n, count)
    return all_of.view(n, count, -1)[torch.arange(n, device=log.device), chosen(log, draws[:, 0])]


def _classes(item: Incomplete, spelled: Tensor, u: Tensor) -> Tensor:
    """Draws the class of codes (N, T) by how probable each class makes them, (N,)."""
    model, n = item.space.model, len(spelled)
    shares = torch.tensor(model.spec.shares, device=spelled.device)
    log = []
    for label in range(model.classes):
        predicted = model.predict(spelled, torch.full((n,), label, device=spelled.device))
        log.append(predicted.gather(2, spelled[..., None]).sum((1, 2)))
    return chosen(torch.stack(log, 1) + shares.clamp_min(1e-12).log(), u.to(shares))


def chosen(log: Tensor, u: Tensor) -> Tensor:
    """Chooses one of each row (N, P) in proportion to the exponential, by uniform numbers (N,)."""
    reach = log.softmax(1).cumsum(1)
    place = torch.searchsorted(reach, u[:, None] * reach[:, -1:])[:, 0]
    return place.clamp_max(log.shape[1] - 1)


def touched(item: Incomplete, count: int) -> list[int]:
    """Lists the places of codes in or beside the hole; all where codes have no places in the picture."""
    side = round(count**0.5)
    hole = item.known.hole(item.x.shape[1:])
    if hole.ndim != 2 or side * side != count:
        return list(range(count))
    cells = F.adaptive_max_pool2d(hole[None, None].float(), side)
    cells = F.max_pool2d(cells, 3, stride=1, padding=1)
    return cells.flatten().nonzero().flatten().tolist()
