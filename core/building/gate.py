"""Which generated samples may join a dataset: of the right class, no copies, no repetitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REASONS: tuple[str, ...] = ("confidence", "authenticity", "duplicates")


@dataclass(frozen=True)
class Gated:
    """What a gate let through.

    Attributes:
        keep: bool (N,).
        refused: How many were refused, by the first of :data:`REASONS`.
    """

    keep: np.ndarray
    refused: dict[str, int]


def gate(
    samples: np.ndarray,
    real: np.ndarray,
    *,
    chances: np.ndarray | None = None,
    confidence: float = 0.0,
    authentic: bool = True,
    distinct: bool = True,
    earlier: np.ndarray | None = None,
) -> Gated:
    """Sorts synthetic samples: wrong class, copies of training images, repetitions of each other.

    Args:
        samples: Features of the samples, (N, D).
        real: Features of the training images, (M, D).
        chances: Probability of the wanted class, (N,), if there is a judge.
        confidence: Least probability.
        authentic: Refuses a sample that is nearer to a training image than that image's own nearest other one.
        distinct: Refuses a sample much nearer to an earlier sample than training images are to each other.
        earlier: Features of samples that were kept before, (L, D).

    References:
        Alaa et al., 2022, How faithful is your synthetic data? (authenticity), https://arxiv.org/abs/2102.08921
    """
    import torch

    from core.measure import distances

    keep, refused = np.ones(len(samples), bool), dict.fromkeys(REASONS, 0)

    def refuse(reason: str, bad: np.ndarray) -> None:
        refused[reason] += int((keep & bad).sum())
        keep[bad] = False

    if chances is not None:
        refuse("confidence", chances < confidence)
    x, y = torch.as_tensor(samples).float(), torch.as_tensor(real).float()
    if len(y) < 2 or not len(x):
        return Gated(keep, refused)
    own = distances.nearest(y, y, same=True)[0][:, 0]
    if authentic:
        distance, index = (column[:, 0] for column in distances.nearest(x, y))
        refuse("authenticity", (distance < own[index]).numpy())
    if distinct:
        bar = float(0.13 * own.median())  # near duplicates are as far below the usual distance
        known = [] if earlier is None else list(torch.as_tensor(earlier).float())
        for i in np.flatnonzero(keep):
            if known and float((torch.stack(known) - x[i]).square().sum(1).min().sqrt()) <= bar:
                keep[i] = False
                refused["duplicates"] += 1
            else:
                known.append(x[i])
    return Gated(keep, refused)
