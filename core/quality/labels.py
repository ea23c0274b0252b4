"""Label errors by confident learning, on predictions for images that the predictor has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FOLDS = 4


@dataclass(frozen=True)
class Doubts:
    """What confident learning says of every label.

    Attributes:
        named: Class that the prediction names, int64 (N,).
        suspect: Whether the label is confidently another one, bool (N,).
        margin: How much surer the other class is than the label, -1 … 1, (N,): the rank.
        chance: Probability of the label, and of the named class, each (N,).
        accuracy: Share of the labels that the prediction names.
    """

    named: np.ndarray
    suspect: np.ndarray
    margin: np.ndarray
    chance: tuple[np.ndarray, np.ndarray]
    accuracy: float


def out_of_fold(
    features: Tensor, y: Tensor, classes: int, keys: np.ndarray, strength: float = 0.003
) -> Tensor:
    """Predicts each image from the others: ridge regression on the classes, in closed form; scores (N, K).

    Args:
        features: Standardised, (N, D).
        y: Labels (N,).
        classes: K.
        keys: Content hashes (N,); equal images fall into the same fold, so that none predicts its copy.
        strength: Of the ridge, per image.
    """
    fold = torch.from_numpy((keys % np.uint64(FOLDS)).astype(np.int64))
    target = F.one_hot(y, classes).float()
    centre = target.mean(0)
    whole = features.T @ features
    joint = features.T @ (target - centre)
    ridge = strength * len(features) * torch.eye(features.shape[1])
    scores = centre.expand(len(features), classes).clone()
    for number in range(FOLDS):
        mine = fold == number
        if not bool(mine.any()):
            continue
        rows = features[mine]
        gram = whole - rows.T @ rows + ridge
        weight = torch.linalg.solve(gram, joint - rows.T @ (target[mine] - centre))
        scores[mine] += rows @ weight
    return scores


def calibrated(scores: Tensor, y: Tensor) -> Tensor:
    """Turns scores into probabilities by the temperature that explains the labels best, (N, K)."""
    best = min(
        (2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0),
        key=lambda sharp: float(F.cross_entropy(scores * sharp, y)),
    )
    return (scores * best).softmax(1)


def doubts(chances: Tensor, y: Tensor) -> Doubts:
    """Finds labels that are confidently wrong.

    A label is suspect if another class is more probable than that class usually is where it is given, and no class
    that passes its own bar is more probable than it (equations 1 and 2 of the paper).

    Args:
        chances: Out-of-fold probabilities, (N, K).
        y: Labels, (N,).

    References:
        Northcutt, Jiang and Chuang, 2021, Confident learning, https://arxiv.org/abs/1911.00068
    """
    classes = chances.shape[1]
    counts = torch.bincount(y, minlength=classes)
    own = chances.gather(1, y[:, None])[:, 0]
    bar = torch.zeros(classes).index_add_(0, y, own) / counts.clamp_min(1)
    bar = torch.where(counts > 0, bar, torch.inf)
    above = chances >= bar
    counted = torch.where(above, chances, -1.0).argmax(1)
    # of a class with one or two images, nothing can be learned from the others
    suspect = above.any(1) & (counted != y) & (counts[y] > 2)
    others = chances.scatter(1, y[:, None], -1.0)
    margin = others.amax(1) - own
    named = chances.argmax(1)
    best = torch.where(suspect, counted, others.argmax(1))
    return Doubts(
        best.numpy(),
        suspect.numpy(),
        margin.numpy(),
        (own.numpy(), chances.gather(1, best[:, None])[:, 0].numpy()),
        float((named == y).float().mean()),
    )
