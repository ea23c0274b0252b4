"""Is a sample a copy? Tests beside :func:`core.measure.distances.nearer_to_training`, each with its interval.

All of them compare generated samples with held-out images of the same source: a test that flags fresh real images as
well proves nothing. None of them alone is a proof; see Stein et al., 2023, Exposing flaws of generative model
evaluation metrics, https://arxiv.org/abs/2306.04675.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from core.ground.stats import Estimate, Z, mann_whitney, share
from core.measure.distances import Features, double


def authenticity(distance: Features, index: Features, own: Features) -> Estimate:
    """Gives the share of samples that are farther from their nearest training image than that one is from its own.

    Compare with the share of held-out images, not with a fixed number: smooth samples of an honest model score low too.

    Args:
        distance: Of each sample to its nearest training image, (N,).
        index: Which training image that is, (N,).
        own: Distance of each training image to its nearest other one, (M,).

    References:
        Alaa et al., 2022, How faithful is your synthetic data?, https://arxiv.org/abs/2102.08921
    """
    return share(double(distance) > double(own)[torch.as_tensor(index)])


def ratios(first: Features, second: Features) -> np.ndarray:
    """Gives the distance to the nearest training image over that to the second nearest, (N,); a verbatim copy has 0."""
    one, two = double(first), double(second)
    return torch.where(one > 0, one / two.clamp_min(1e-12), 0.0).cpu().numpy()


@dataclass(frozen=True)
class Cells:
    """The test of :func:`data_copying`, over all cells and in each.

    Attributes:
        value: Mean z of the cells, weighted by their held-out images; below -3 the samples lie too near.
        error: Its standard error if nothing was copied.
        worst: Lowest z of a cell.
        used: Share of the held-out images whose cell had enough samples.
        n: Samples in these cells.
    """

    value: float
    error: float
    worst: float
    used: float
    n: int


def data_copying(
    samples: np.ndarray,
    held_out: np.ndarray,
    cell_of_samples: np.ndarray,
    cell_of_held_out: np.ndarray,
    fewest: int = 10,
) -> Cells:
    """Tests in each cell of the data whether samples lie nearer to the training images than held-out ones do (C_T).

    The z of Mann and Whitney's U, corrected for ties; negative means nearer. Blurred samples lie near as well, and
    far-off ones hide copies: read it beside the share of samples nearer to training.

    Args:
        samples, held_out: Distances to the nearest training image, (N,) and (M,).
        cell_of_samples, cell_of_held_out: Number of the cell that each lies in, int.
        fewest: A cell with fewer of either is left out.

    Raises:
        ValueError: If no cell has enough.

    References:
        Meehan et al., 2020, A non-parametric test to detect data-copying, https://arxiv.org/abs/2004.05675
    """
    cells = []
    for cell in np.unique(cell_of_held_out):
        ours, theirs = samples[cell_of_samples == cell], held_out[cell_of_held_out == cell]
        if min(len(ours), len(theirs)) >= fewest:
            cells.append((len(theirs), mann_whitney(ours, theirs), len(ours)))
    if not cells:
        raise ValueError(f"no cell has {fewest} samples and held-out images")
    size, z, n = (np.array(column) for column in zip(*cells, strict=True))
    weight = size / size.sum()
    return Cells(
        float(weight @ z),
        float(np.sqrt(np.square(weight).sum())),
        float(z.min()),
        float(size.sum() / len(held_out)),
        int(n.sum()),
    )


def membership(members: np.ndarray, others: np.ndarray) -> tuple[Estimate, float]:
    """Measures how well a score tells training images from held-out ones.

    Args:
        members, others: Scores, (N,) and (M,); higher is taken for a training image.

    Returns:
        The area under the curve, 0.5 for a guess, with DeLong's interval; and the share of training images that are
        found when one in a hundred held-out ones is taken for one.

    References:
        DeLong et al., 1988, Comparing the areas under two or more correlated ROC curves
        Carlini et al., 2022, Membership inference attacks from first principles, https://arxiv.org/abs/2112.03570
    """
    from scipy.stats import rankdata

    n, m = len(members), len(others)
    ranks = rankdata(np.concatenate([members, others]))
    # share of the others that each member beats, and of the members that beat each other one
    beats = (ranks[:n] - rankdata(members)) / m
    beaten = 1 - (ranks[n:] - rankdata(others)) / n
    value = float(beats.mean())
    error = Z * math.sqrt(beats.var(ddof=1) / n + beaten.var(ddof=1) / m)
    caught = float((members > np.quantile(others, 0.99)).mean())
    return Estimate.around(value, error, n + m, 0.0, 1.0), caught
