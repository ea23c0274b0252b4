"""Which generated samples may join a dataset: of the right class, among real ones, no copies, no repetitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.catalog import Config, knob

REASONS: dict[str, str] = {  # why a sample is refused, in the order in which it is asked
    "confidence": "not surely of its class",
    "attribute": "without the attribute",
    "manifold": "unlike the real ones of its class",
    "authenticity": "nearer to a real one than that one's nearest",
    "copies": "nearly the same as one real one",
    "duplicates": "nearly the same as an earlier one",
}
_SINGLED = 1 / 3  # nearer to one real item than to any other by this factor: the same picture
_DUPLICATE = 0.13  # near duplicates are as far below the usual distance


class GateConfig(Config):
    """What a synthetic item has to pass."""

    confidence: float = knob(
        0.5,
        "Least probability that a judge of the real items gives the wanted class; 0 keeps all.",
        ge=0,
        le=1,
    )
    manifold: int = knob(
        5,
        "A sample must lie within the reach of a real item of its class, which ends at that one's so many nearest "
        "of the class; 0 keeps all.",
        title="Neighbours of the manifold",
        ge=0,
        le=50,
    )
    authentic: bool = knob(
        True,
        "Leaves out samples that lie nearer to a training item than that item's own nearest one does: copies.",
    )
    copies: bool = knob(
        True,
        "Leaves out samples that are three times nearer to one training item than to any other: the same picture.",
        title="No copies",
    )
    distinct: bool = knob(True, "Leaves out samples that are nearly the same as an earlier one.")
    tries: int = knob(
        5, "Samples drawn for each that is wanted, at most.", ge=1, le=100, advanced=True
    )


@dataclass(frozen=True)
class Gated:
    """What a gate let through.

    Attributes:
        keep: bool (N,).
        refused: How many were refused, by the first of :data:`REASONS`.
        why: The reason of each that was refused, str (N,), empty for those that were kept.
    """

    keep: np.ndarray
    refused: dict[str, int]
    why: np.ndarray


def gate(
    samples: np.ndarray,
    real: np.ndarray,
    *,
    chances: np.ndarray | None = None,
    confidence: float = 0.0,
    attribute: np.ndarray | None = None,
    manifold: int = 0,
    labels: np.ndarray | None = None,
    real_labels: np.ndarray | None = None,
    authentic: bool = True,
    copies: bool = False,
    distinct: bool = True,
    earlier: np.ndarray | None = None,
) -> Gated:
    """Sorts synthetic samples: wrong class, far from real ones, copies of training images, repetitions of each other.

    Args:
        samples: Features of the samples, (N, D).
        real: Features of the training images, (M, D).
        chances: Probability of the wanted class, (N,), if there is a judge.
        confidence: Least probability.
        attribute: Whether each has the wanted attribute, bool (N,), if one is wanted.
        manifold: Which neighbour of its own class ends the reach of a real one; 0 asks nothing.
        labels, real_labels: Classes of the samples (N,) and of the training images (M,); one class if left out.
        authentic: Refuses a sample that is nearer to a training image than that image's own nearest other one.
        copies: Refuses a sample that singles out one training image.
        distinct: Refuses a sample much nearer to an earlier sample than training images are to each other.
        earlier: Features of samples that were kept before, (L, D).

    References:
        Kynkäänniemi et al., 2019, Improved precision and recall metric, https://arxiv.org/abs/1904.06991
        Alaa et al., 2022, How faithful is your synthetic data? (authenticity), https://arxiv.org/abs/2102.08921
    """
    import torch

    from core.measure import distances
    from core.measure.copying import ratios

    keep, refused = np.ones(len(samples), bool), dict.fromkeys(REASONS, 0)
    why = np.full(len(samples), "", "U16")

    def refuse(reason: str, bad: np.ndarray) -> None:
        refused[reason] += int((keep & bad).sum())
        why[keep & bad] = reason
        keep[bad] = False

    if chances is not None:
        refuse("confidence", chances < confidence)
    if attribute is not None:
        refuse("attribute", ~attribute)
    x, y = torch.as_tensor(samples).float(), torch.as_tensor(real).float()
    if len(y) < 2 or not len(x):
        return Gated(keep, refused, why)
    if manifold:
        refuse("manifold", ~on_manifold(samples, real, manifold, labels, real_labels))
    own = distances.nearest(y, y, same=True)[0][:, 0]
    distance, index = distances.nearest(x, y, 2)
    if authentic:
        refuse("authenticity", (distance[:, 0] < own[index[:, 0]]).numpy())
    if copies:
        refuse("copies", ratios(distance[:, 0], distance[:, 1]) < _SINGLED)
    if distinct:
        bar = float(_DUPLICATE * own.median())
        before = 0 if earlier is None else len(earlier)
        known = torch.empty(before + int(keep.sum()), x.shape[1])
        if earlier is not None:
            known[:before] = torch.as_tensor(earlier)
        for i in np.flatnonzero(keep):
            near = (known[:before] - x[i]).square().sum(1)
            if before and float(near.min().sqrt()) <= bar:
                keep[i], why[i] = False, "duplicates"
                refused["duplicates"] += 1
            else:
                known[before] = x[i]
                before += 1
    return Gated(keep, refused, why)


def on_manifold(
    samples: np.ndarray,
    real: np.ndarray,
    k: int,
    labels: np.ndarray | None = None,
    real_labels: np.ndarray | None = None,
) -> np.ndarray:
    """Tells which samples lie within the reach of a real item of their class, bool (N,).

    The reach of a real item ends at its k-th nearest of the class. A class with a single real item has none, and all
    samples of it pass.

    Args:
        samples, real: Features, (N, D) and (M, D).
        k: Which neighbour ends the reach; the farthest one where there are fewer.
        labels, real_labels: Classes, (N,) and (M,); one class if left out.
    """
    import torch

    from core.measure import distances

    x, y = torch.as_tensor(samples).float(), torch.as_tensor(real).float()
    inside = np.ones(len(x), bool)
    ours = np.zeros(len(x), np.int64) if labels is None else np.asarray(labels)
    theirs = np.zeros(len(y), np.int64) if real_labels is None else np.asarray(real_labels)
    for label in np.unique(ours):
        mine, others = np.flatnonzero(ours == label), y[np.flatnonzero(theirs == label)]
        if len(others) < 2:
            continue
        reach = distances.nearest(others, others, min(k, len(others) - 1), same=True)[0][:, -1]
        near = torch.zeros(len(mine), dtype=torch.bool)
        for rows, columns, squares in distances.tiles(x[mine], others):
            near[rows] |= (squares.sqrt() <= reach[columns]).any(1)
        inside[mine] = near.numpy()
    return inside
