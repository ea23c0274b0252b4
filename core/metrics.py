"""Metrics: pure functions on arrays of features or images, in float64.

Every distance depends on the number of samples, so compare values of equal n only, and show the value of real images
against real images (the floor) beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A number that was estimated from samples.

    Attributes:
        value: The estimate.
        low, high: Its interval of 95 %, from the spread over the samples.
        n: Number of samples.
    """

    value: float
    low: float
    high: float
    n: int


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Computes the Fréchet distance between Gaussians that are fitted to two sets of features, (N, D) and (M, D).

    0 is equal; biased upwards for few samples. Symmetric route: the trace of ``(A^½ B A^½)^½``, whose eigenvalues are
    real and not negative.

    References:
        Heusel et al., 2017, GANs trained by a two time-scale update rule, https://arxiv.org/abs/1706.08500
    """
    shift = a.mean(0) - b.mean(0)
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2 * cross)


def sliced_wasserstein(
    a: np.ndarray, b: np.ndarray, projections: int = 500, seed: int = 0
) -> float:
    """Computes the mean squared 2-Wasserstein distance over random one-dimensional projections; 0 is equal.

    Both sets need the same n. Cheap enough to follow a training.

    References:
        Bonneel et al., 2015, Sliced and Radon Wasserstein barycenters of measures
    """
    assert a.shape == b.shape
    directions = np.random.default_rng(seed).standard_normal((a.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    difference = np.sort(a @ directions, 0) - np.sort(b @ directions, 0)
    return float(np.square(difference).mean())


@dataclass(frozen=True)
class Overlap:
    """How two clouds of points cover each other, each 0 to 1 (density may exceed 1).

    Attributes:
        precision: Share of generated samples within the neighbourhood of a real one: realism.
        recall: Share of real ones within the neighbourhood of a generated one: variety.
        density: Neighbourhoods of real ones that a generated sample lies in, over k.
        coverage: Share of real ones with a generated sample in their neighbourhood.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(real: np.ndarray, fake: np.ndarray, k: int = 5) -> Overlap:
    """Compares two sets of features by their neighbourhoods: balls up to the k-th nearest neighbour of the same set.

    References:
        Kynkäänniemi et al., 2019, Improved precision and recall metric, https://arxiv.org/abs/1904.06991
        Naeem et al., 2020, Reliable fidelity and diversity metrics, https://arxiv.org/abs/2002.09797
    """
    a, b = torch.from_numpy(real), torch.from_numpy(fake)
    reach_a, reach_b = _reach(a, k), _reach(b, k)
    inside = torch.zeros(len(b), dtype=torch.int64)
    recalled, covered = [], []
    for rows, reach in zip(a.split(500), reach_a.split(500), strict=True):
        distance = torch.cdist(rows, b)
        within = distance <= reach[:, None]
        inside += within.sum(0)
        covered.append(within.any(1))
        recalled.append((distance <= reach_b).any(1))
    return Overlap(
        float((inside > 0).double().mean()),
        float(torch.cat(recalled).double().mean()),
        float(inside.double().mean()) / k,
        float(torch.cat(covered).double().mean()),
    )


def _reach(x: Tensor, k: int) -> Tensor:
    """Gives the distance of each point to its k-th nearest neighbour, itself left out."""
    return torch.cat(
        [torch.cdist(rows, x).kthvalue(min(k + 1, len(x)), 1).values for rows in x.split(500)]
    )


def nearer_to_training(
    samples: np.ndarray, train: np.ndarray, held_out: np.ndarray, repeats: int = 20, seed: int = 0
) -> Estimate:
    """Gives the share of samples that lie nearer to a training image than to an equally likely held-out one.

    One half means that nothing was copied. Verbatim copies of random training images reach ``(1 + m / n) / 2`` with m
    held-out and n training images, because each comparison uses m training images drawn at random.

    Args:
        samples, train, held_out: Points, (N, …), flattened; distances are Euclidean.
        repeats: Draws of m training images.
        seed: Of these draws.
    """
    s, t, h = (
        torch.as_tensor(np.asarray(part)).flatten(1).float() for part in (samples, train, held_out)
    )
    generator = torch.Generator().manual_seed(seed)
    m = min(len(h), len(t))
    nearest_held = _nearest(s, h[:m])
    distances = torch.cdist(s, t) if len(s) * len(t) < 2e8 else None
    wins = torch.zeros(len(s), dtype=torch.float64)
    for _ in range(repeats):
        pick = torch.randperm(len(t), generator=generator)[:m]
        near = _nearest(s, t[pick]) if distances is None else distances[:, pick].amin(1)
        wins += (near < nearest_held).double() + 0.5 * (near == nearest_held).double()
    wins /= repeats
    value, error = float(wins.mean()), float(wins.std()) / len(s) ** 0.5
    return Estimate(value, value - 1.96 * error, value + 1.96 * error, len(s))


def _nearest(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([torch.cdist(rows, b).amin(1) for rows in a.split(500)])
