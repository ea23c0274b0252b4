"""Colours of one set of pictures brought to those of another, by optimal transport: nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from core.tensors import Images

ROUNDS = 12  # of rotations in colour; grey levels have a single direction
LEVELS = 1025  # quantiles that a distribution is known by
PIXELS = 200_000  # of each set that are looked at


@dataclass(frozen=True, eq=False)
class Transport:
    """A map of colours that gives one set of pictures the distribution of another.

    Of grey levels it is the optimal transport: the monotone map of quantiles. Of colours it is the iterated one: in
    turned axes, one axis at a time.

    Attributes:
        turns: Axes of each round as columns, (R, C, C).
        ours, theirs: Quantiles along each axis before the round, and what they become, (R, C, Q).

    References:
        Pitié et al., 2007, Automated colour grading using colour distribution transfer
        Peyré and Cuturi, 2019, Computational optimal transport (one dimension: 2.6), https://arxiv.org/abs/1803.00567
    """

    turns: Tensor = field(repr=False)
    ours: Tensor = field(repr=False)
    theirs: Tensor = field(repr=False)

    @classmethod
    def between(cls, ours: Images, theirs: Tensor) -> Transport:
        """Finds the map from the colours of pictures (N, C, H, W) in [0, 1] to those of others (M, C, H, W)."""
        a, b = _colours(ours), _colours(theirs)
        channels = a.shape[1]
        generator = torch.Generator().manual_seed(0)
        turns, before, after = [], [], []
        at = torch.linspace(0, 1, LEVELS, dtype=a.dtype)
        for round in range(ROUNDS if channels > 1 else 1):
            turn = torch.eye(channels, dtype=a.dtype)
            if round:
                turn = torch.linalg.qr(
                    torch.randn(channels, channels, generator=generator, dtype=a.dtype)
                )[0]
            from_, to = _quantiles(a @ turn, at), _quantiles(b @ turn, at)
            turns.append(turn)
            before.append(from_)
            after.append(to)
            a = _mapped(a, turn, from_, to)
        return cls(torch.stack(turns), torch.stack(before), torch.stack(after))

    def __call__(self, x: Images) -> Images:
        """Maps pictures (N, C, H, W) in [0, 1], pixel by pixel."""
        rows = x.movedim(1, -1)
        flat = rows.reshape(-1, x.shape[1]).double().cpu()
        for turn, ours, theirs in zip(self.turns, self.ours, self.theirs, strict=True):
            flat = _mapped(flat, turn, ours, theirs)
        return flat.to(x).view(rows.shape).movedim(-1, 1).clamp(0, 1)


def _colours(x: Images) -> Tensor:
    """Gives colours of pixels, evenly spread over pictures (N, C, H, W), float64 (P, C)."""
    rows = x.movedim(1, -1).reshape(-1, x.shape[1])
    taken = torch.linspace(0, len(rows) - 1, min(len(rows), PIXELS)).long()
    return rows[taken].double().cpu()


def _quantiles(values: Tensor, at: Tensor) -> Tensor:
    """Gives the quantiles (Q,) of each column (P, C), (C, Q)."""
    ordered = values.sort(0).values  # (P, C)
    place = at * (len(ordered) - 1)
    low = place.long()
    high = (low + 1).clamp_max(len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], (place - low)[:, None]).T.contiguous()


def _mapped(flat: Tensor, turn: Tensor, ours: Tensor, theirs: Tensor) -> Tensor:
    turned = (flat @ turn).numpy()
    columns = []
    for k in range(turned.shape[1]):
        known, first = np.unique(ours[k].numpy(), return_index=True)
        # a level that many pixels share stands at many quantiles: it becomes their mean
        sums = np.add.reduceat(theirs[k].numpy(), first)
        counts = np.diff(np.append(first, len(ours[k])))
        columns.append(np.interp(turned[:, k], known, sums / counts))
    return torch.as_tensor(np.stack(columns, 1)) @ turn.T
