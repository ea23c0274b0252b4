"""Metrics: pure functions on features or images, chunked, on the device of what they are given.

Arrays (N, D) may be of NumPy or torch. Sums are taken in float64; so are products, but for pairs of points with more
than 256 features, whose rounding averages out. All distances of pairs come from :func:`squared`, whose error depends
on how far apart the points are, and not on how far they lie from 0. Every distance of two clouds depends on the number
of samples, so compare values of equal n only, and show the value of real images against real images (the floor) beside
them. What tells a copy from a fresh sample stands in :mod:`core.measure.copying`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.ground.stats import Estimate, Z, mean, mean_of_few

Features = np.ndarray | Tensor
Pieces = Iterator[tuple[slice, slice, Tensor]]  # rows, columns, and their distances

_CELLS = 2_000_000  # entries of a distance or kernel matrix that are in memory at the same time


# --- Distances between two clouds -----------------------------------------------------------------------------------


class Gaussian:
    """The mean and covariance of a cloud, and what of them several distances share.

    Attributes:
        points: The cloud itself, (N, D).
        mean: (D,).
        covariance: With N - 1, (D, D).
    """

    def __init__(self, points: Features) -> None:
        self.points = points if isinstance(points, Tensor) else torch.as_tensor(points)
        self.mean = sum((rows.sum(0) for rows in self.rows()), torch.zeros(())) / len(self.points)
        products = sum((_square(rows - self.mean) for rows in self.rows()), torch.zeros(()))
        self.covariance = products / (len(self.points) - 1)

    def rows(self) -> Iterator[Tensor]:
        """Yields the points in float64, some rows at a time, (R, D)."""
        for rows in self.points.split(max(1, _CELLS // self.points.shape[1])):
            yield rows.double()

    @cached_property
    def factor(self) -> tuple[Tensor, bool]:
        """A matrix F (D, D) with F Fᵀ = covariance, and whether it can be inverted."""
        lower, bad = torch.linalg.cholesky_ex(self.covariance)
        whole = not bad and float(lower.diagonal().min()) > 1e-7 * float(lower.diagonal().max())
        if whole:
            return lower, True
        values, vectors = torch.linalg.eigh(self.covariance)
        return vectors * values.clamp_min(0).sqrt(), False


def _square(x: Tensor) -> Tensor:
    """Gives xᵀ x; on the processor by NumPy, which computes one half of what is symmetric."""
    if x.device.type == "cpu":
        return torch.from_numpy(x.numpy().T @ x.numpy())
    return x.T @ x


def frechet(a: Features | Gaussian, b: Features | Gaussian) -> float:
    """Computes the Fréchet distance between Gaussians that are fitted to two sets of features, (N, D) and (M, D).

    0 is equal; biased upwards for few samples. With ``A = F Fᵀ`` the trace of ``(A^½ B A^½)^½`` is that of
    ``(Fᵀ B F)^½``, which is symmetric: its eigenvalues are real and not negative.

    References:
        Heusel et al., 2017, GANs trained by a two time-scale update rule, https://arxiv.org/abs/1706.08500
    """
    a, b = _gaussian(a), _gaussian(b)
    factor, _ = b.factor
    cross = torch.linalg.eigvalsh(factor.T @ a.covariance @ factor).clamp_min(0).sqrt().sum()
    shift = (a.mean - b.mean).square().sum()
    return float(shift + a.covariance.trace() + b.covariance.trace() - 2 * cross)


def _gaussian(x: Features | Gaussian) -> Gaussian:
    return x if isinstance(x, Gaussian) else Gaussian(x)


def frechet_estimate(a: Features | Gaussian, b: Features | Gaussian) -> Estimate:
    """Computes the Fréchet distance with an interval for the noise of both samples; the bias is not in it.

    The delta method: the distance's slope at a point of ``a`` is ``2 (m_a - m_b)·x + xᵀ (1 - T) x``, where T maps the
    one Gaussian on the other; the variance of these slopes over n is that of the distance. Directions in which neither
    set varies are left out. Where one set varies and the other does not, there is no such slope, and groups of points
    are left out in turn instead; without an interval (nan) for hundreds of features, where that takes minutes.
    """
    a, b = _gaussian(a), _gaussian(b)
    n = min(len(a.points), len(b.points))
    outside = 0.0
    if not b.factor[1]:
        spread, axes = torch.linalg.eigh(a.covariance + b.covariance)
        axes = axes[:, spread > 1e-9 * spread[-1]]
        shift = a.mean - b.mean
        outside = float(shift.square().sum() - (shift @ axes).square().sum())
        a, b = (Gaussian(x.points.double() @ axes) for x in (a, b))
    factor, whole = b.factor
    value = frechet(a, b) + outside
    # from here on only for the interval: half the digits are plenty
    values, vectors = torch.linalg.eigh((factor.T @ a.covariance @ factor).float())
    if not whole or float(values[0]) <= 1e-7 * float(values[-1]):
        error = Z * _left_out(a.points, b.points) if len(values) <= 256 else math.nan
        return Estimate.around(value, error, n, low=0.0)
    root, factor = values.sqrt(), factor.float()
    inside = torch.linalg.solve_triangular(factor.T, vectors, upper=True)
    to_a = (inside * root) @ inside.T  # maps b on a, (D, D)
    inside = factor @ vectors
    to_b = (inside / root) @ inside.T
    variance = 0.0
    for cloud, other, turn in ((a, b, to_b), (b, a, to_a)):
        shift = 2 * (cloud.mean - other.mean).float()
        keep = torch.eye(len(turn), device=turn.device) - turn
        x = (cloud.points[spaced(len(cloud.points), 2000)] - cloud.mean).float()
        slopes = (x @ keep * x).sum(1) + x @ shift
        variance += float(slopes.double().var()) / len(cloud.points)
    return Estimate.around(value, Z * math.sqrt(variance), n, low=0.0)


def _left_out(a: Tensor, b: Tensor, groups: int = 20) -> float:
    """Gives the standard error of the Fréchet distance from its values without one group of points (jackknife)."""
    variance, whole = 0.0, (Gaussian(a), Gaussian(b))
    for points, other in ((a, whole[1]), (b, whole[0])):
        k = min(groups, len(points) // 2)
        group = torch.arange(len(points), device=points.device) % k
        values = [frechet(Gaussian(points[group != i]), other) for i in range(k)]
        variance += (k - 1) * float(np.var(values))
    return math.sqrt(variance)


def spaced(n: int, most: int) -> Tensor:
    """Chooses at most so many of n places, evenly."""
    return torch.linspace(0, n - 1, min(n, most)).long()


def frechet_limit(
    a: Features, b: Features, sizes: Sequence[int], draws: int = 3, seed: int = 0
) -> Estimate:
    """Extrapolates the Fréchet distance to infinitely many samples: a line through its values over 1 / n.

    Args:
        a, b: Features (N, D), (M, D); subsets of both, equally large, are drawn without replacement.
        sizes: Numbers of points of the subsets, at least three different ones.
        draws: Subsets of each size.
        seed: Of the draws.

    Returns:
        The line's value at 1 / n = 0, with the interval of the fit's error.

    References:
        Chong and Forsyth, 2020, Effectively unbiased FID and Inception Score, https://arxiv.org/abs/1911.07023
    """
    rng = np.random.default_rng(seed)
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    values = []
    for n in sizes:
        for _ in range(draws):
            one, other = (x[torch.as_tensor(rng.permutation(len(x))[:n])] for x in (a, b))
            values.append((1 / n, frechet(one, other)))
    x, y = np.array(values).T
    (_, start), covariance = np.polyfit(x, y, 1, cov=True)
    return Estimate.around(float(start), Z * math.sqrt(max(0.0, covariance[1, 1])), max(sizes))


def kernel_distance(a: Features, b: Features) -> Estimate:
    """Compares two sets of features by a cubic-kernel MMD (KID) over all pairs; lower is better.

    Unbiased, hence at times slightly below zero for equal distributions. The kernel is ``(x·y / D + 1)³``, so that
    features must be standardised. The interval is that of a U-statistic's variance, of first and second order, as
    estimated from the same kernel matrices.

    Args:
        a, b: Features, (N, D) and (M, D), at least 3 each.

    References:
        Binkowski et al., 2018, Demystifying MMD GANs, https://arxiv.org/abs/1801.01401
        Sutherland and Deka, 2019, Unbiased estimators for the variance of MMD estimators,
        https://arxiv.org/abs/1906.02104
    """
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    n, m = len(a), len(b)
    fine = torch.float64 if _offset(a) or _offset(b) else _fine(b[:1]).dtype
    rows_a, squares_a = _kernel_within(a, fine)
    rows_b, squares_b = _kernel_within(b, fine)
    rows_ab, rows_ba, squares_ab = _kernel_between(a, b, fine)
    inner_a, inner_b = rows_a / (n - 1), rows_b / (m - 1)  # mean kernel of a point with its own set
    outer_a, outer_b = rows_ab / m, rows_ba / n  # and with the other one
    value = float(inner_a.mean() + inner_b.mean() - 2 * outer_a.mean())
    left_a = _degenerate(squares_a, inner_a, inner_a)
    left_b = _degenerate(squares_b, inner_b, inner_b)
    left_ab = _degenerate(squares_ab, outer_a, outer_b)
    slopes_a = float((inner_a - outer_a).var()) - left_a / n - left_ab / m
    slopes_b = float((inner_b - outer_b).var()) - left_b / m - left_ab / n
    variance = 4 * max(0.0, slopes_a) / n + 4 * max(0.0, slopes_b) / m
    variance += 2 * left_a / (n * (n - 1)) + 2 * left_b / (m * (m - 1)) + 4 * left_ab / (n * m)
    return Estimate.around(value, Z * math.sqrt(variance), min(n, m))


def _degenerate(squares: float, rows: Tensor, columns: Tensor) -> float:
    """Gives the mean square of a kernel matrix after the means of its rows and columns are taken off."""
    means = float(rows.square().mean() + columns.square().mean())
    return max(0.0, squares - means + float(rows.mean()) ** 2)


def _offset(x: Tensor) -> bool:
    """Tells whether points lie so far from 0 that short floats would lose what tells them apart in the kernel."""
    some = x[spaced(len(x), 1000)].double()
    return float(some.mean(0).square().mean()) > 16 * float(some.var(0).mean())


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    k = torch.addmm(a.new_ones(()), a, b.T, alpha=1 / a.shape[1])
    return k.mul_(k.square())


def _kernel_within(x: Tensor, fine: torch.dtype) -> tuple[Tensor, float]:
    """Sums the kernel of each point with the others of its set, (N,); and gives the mean square of all pairs."""
    parts = [rows.to(fine) for rows in x.split(_side())]
    starts = np.cumsum([0, *(len(rows) for rows in parts)])
    sums = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    squares = 0.0
    for i, rows in enumerate(parts):
        for j in range(i + 1):  # the other half is its mirror image
            k = _kernel(rows, parts[j])
            if i == j:
                k.fill_diagonal_(0)
            else:
                sums[starts[j] : starts[j + 1]] += k.sum(0, dtype=torch.float64)
            sums[starts[i] : starts[i + 1]] += k.sum(1, dtype=torch.float64)
            squares += float(torch.linalg.vector_norm(k)) ** 2 * (1 if i == j else 2)
    return sums, squares / (len(x) * (len(x) - 1))


def _kernel_between(a: Tensor, b: Tensor, fine: torch.dtype) -> tuple[Tensor, Tensor, float]:
    """Sums the kernel of each point with the other set, (N,) and (M,); and gives the mean square of all pairs."""
    other = b.to(fine)
    sums, columns, squares = [], torch.zeros(len(b), dtype=torch.float64, device=b.device), 0.0
    for rows in a.split(max(1, _CELLS // len(b))):
        k = _kernel(rows.to(fine), other)
        sums.append(k.sum(1, dtype=torch.float64))
        columns += k.sum(0, dtype=torch.float64)
        squares += float(torch.linalg.vector_norm(k)) ** 2
    return torch.cat(sums), columns, squares / (len(a) * len(b))


def sliced_wasserstein(a: Features, b: Features, projections: int = 500, seed: int = 0) -> float:
    """Computes the mean squared 2-Wasserstein distance over random one-dimensional projections; 0 is equal.

    Both sets need the same n. Cheap enough to follow a training.

    References:
        Bonneel et al., 2015, Sliced and Radon Wasserstein barycenters of measures
    """
    assert a.shape == b.shape
    a, b = double(a), double(b)
    total = sum(
        float((_sorted((a @ part).T) - _sorted((b @ part).T)).square().sum())
        for part in _directions(a, projections, seed)
    )
    return total / (len(a) * projections)


def _sorted(x: Tensor) -> Tensor:
    """Sorts each row; on the processor by NumPy, which is several times faster."""
    if x.device.type == "cpu":
        return torch.from_numpy(np.sort(x.contiguous().numpy(), 1))
    return x.sort(1).values


def _directions(x: Tensor, projections: int, seed: int) -> Sequence[Tensor]:
    """Draws directions of length one, some columns (D, …) at a time."""
    drawn = np.random.default_rng(seed).standard_normal((x.shape[1], projections))
    drawn = torch.as_tensor(drawn / np.linalg.norm(drawn, axis=0)).to(x)
    return drawn.split(max(1, _CELLS // len(x)), 1)


def sliced_estimate(a: Features, b: Features, projections: int = 500, seed: int = 0) -> Estimate:
    """Computes the sliced distance of :func:`sliced_wasserstein`, with an interval for the noise of both samples.

    The variance is that of the transport potentials, averaged over the projections: the slope of a one-dimensional
    distance at x is the integral of ``2 (u - T(u))`` up to x.
    """
    assert a.shape == b.shape
    a, b = double(a), double(b)
    n, total = len(a), 0.0
    slopes = [torch.zeros(n, dtype=a.dtype, device=a.device) for _ in range(2)]
    for part in _directions(a, projections, seed):
        sides = [torch.sort((x @ part).T, 1) for x in (a, b)]
        gap = sides[0].values - sides[1].values
        total += float(gap.square().sum())
        for side, sign, slope in zip(sides, (1, -1), slopes, strict=True):
            middle = (gap[:, 1:] + gap[:, :-1]) * sign * side.values.diff(dim=1)
            potential = F.pad(middle.cumsum(1), (1, 0))
            potential -= potential.mean(1, keepdim=True)
            slope.index_add_(0, side.indices.flatten(), potential.flatten())
    value = total / (n * projections)
    error = Z * math.sqrt(sum(float((s / projections).var()) for s in slopes) / n)
    return Estimate.around(value, error, n, low=0.0)


def earth_mover(a: Features, b: Features) -> float:
    """Computes the exact earth mover's distance (1-Wasserstein, Euclidean) of two equally large sets; 0 is equal.

    The cost of the best one-to-one assignment, over n: for equal weights no other plan is cheaper. Cubic in n.

    References:
        Rubner et al., 2000, The earth mover's distance as a metric for image retrieval
    """
    from scipy.optimize import linear_sum_assignment

    assert a.shape == b.shape
    cost = squared(double(a), double(b)).sqrt().cpu().numpy()
    return float(cost[linear_sum_assignment(cost)].mean())


def earth_mover_estimate(a: Features, b: Features, size: int, parts: int = 5) -> Estimate:
    """Averages the earth mover's distance over disjoint subsets of ``size`` points; the interval is Student's."""
    parts = min(parts, len(a) // size, len(b) // size)
    pieces = [slice(k * size, (k + 1) * size) for k in range(parts)]
    return replace(mean_of_few([earth_mover(a[piece], b[piece]) for piece in pieces]), n=size)


# --- Neighbourhoods -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Overlap:
    """How two clouds of points cover each other, each 0 to 1 (density may exceed 1).

    Attributes:
        precision: Share of generated samples within the neighbourhood of a real one: realism.
        recall: Share of real ones within the neighbourhood of a generated one: variety.
        density: Neighbourhoods of real ones that a generated sample lies in, over k.
        coverage: Share of real ones with a generated sample in their neighbourhood.
        inside: Neighbourhoods of real ones that each generated sample lies in, (N,).
        realism: How deep a generated sample lies inside, (N,): above 1 within a neighbourhood.
        recalled, covered: The flags of each real one, (M,).
        gap: Distance of a real one to its nearest generated one over its own neighbourhood, (M,).
    """

    precision: float
    recall: float
    density: float
    coverage: float
    inside: Tensor
    realism: Tensor
    recalled: Tensor
    covered: Tensor
    gap: Tensor


def overlap(real: Features, fake: Features, k: int = 5) -> Overlap:
    """Compares two sets of features by their neighbourhoods: balls up to the k-th nearest neighbour of the same set.

    Args:
        real, fake: Features of dataset images (M, D) and of samples (N, D), of one extractor.
        k: Which neighbour of the same set ends a ball.

    References:
        Kynkäänniemi et al., 2019, Improved precision and recall metric, https://arxiv.org/abs/1904.06991
        Naeem et al., 2020, Reliable fidelity and diversity metrics, https://arxiv.org/abs/2002.09797
    """
    a, b = _fine(torch.as_tensor(real)), _fine(torch.as_tensor(fake))
    reach_a, reach_b = _reach(a, k), _reach(b, k)
    inside = torch.zeros(len(b), dtype=torch.int64, device=b.device)
    depth = torch.full((len(b),), math.inf, dtype=b.dtype, device=b.device)
    # the realism score leaves out the half of the real ones with the widest neighbourhoods: any sample lies in those
    narrow = reach_a <= reach_a.median()
    near = torch.full_like(reach_a, math.inf)
    met = torch.zeros(len(a), dtype=torch.bool, device=a.device)
    for i, j, distance in tiles(a, b):
        inside[j] += (distance <= reach_a[i, None]).sum(0)
        near[i] = torch.minimum(near[i], distance.amin(1))
        met[i] |= (distance - reach_b[j]).amin(1) <= 0
        if narrow[i].any():
            beside = distance[narrow[i]].div_(reach_a[i][narrow[i], None].clamp_min(1e-12))
            depth[j] = torch.minimum(depth[j], beside.amin(0))
    covered = near <= reach_a
    return Overlap(
        float((inside > 0).double().mean()),
        float(met.double().mean()),
        float(inside.double().mean()) / k,
        float(covered.double().mean()),
        inside,
        depth.clamp_min(1e-12).rsqrt(),
        met,
        covered,
        (near / reach_a.clamp_min(1e-12)).sqrt(),
    )


def _reach(x: Tensor, k: int) -> Tensor:
    """Gives the squared distance of each point to its k-th nearest neighbour, itself left out."""
    k = min(k, len(x) - 1)
    parts = _Parts(x, middle(x), max(k, _side()))
    best = [part.new_full((len(part), k), math.inf) for part in parts.parts]
    for i, rows in enumerate(parts):
        for j in range(i + 1):  # the other half is its mirror image
            distance = _pairs(rows, parts[j])
            if i == j:
                distance.fill_diagonal_(math.inf)
            else:
                best[j] = _smallest(best[j], distance.T.contiguous(), k)
            best[i] = _smallest(best[i], distance, k)
    return torch.cat(best)[:, -1]


def _smallest(known: Tensor, more: Tensor, k: int) -> Tensor:
    """Gives the k smallest of each row of two matrices, in order."""
    few = more.topk(min(k, more.shape[1]), 1, largest=False, sorted=False).values
    return torch.cat([known, few], 1).topk(k, 1, largest=False).values


# --- Classes --------------------------------------------------------------------------------------------------------


def inception_score(probabilities: Features) -> Estimate:
    """Computes the exponential of the mean divergence of each image's classes (N, K) from the mean; 1 to K.

    High when each image is named surely and all classes occur; real images are never looked at.

    References:
        Salimans et al., 2016, Improved techniques for training GANs, https://arxiv.org/abs/1606.03498
    """
    p = double(probabilities)
    divergence = mean((torch.special.xlogy(p, p) - torch.special.xlogy(p, p.mean(0))).sum(1))
    return Estimate(
        math.exp(divergence.value),
        math.exp(divergence.low),
        math.exp(divergence.high),
        divergence.n,
    )


def class_difference(real: np.ndarray, fake: np.ndarray, classes: int, seed: int = 0) -> Estimate:
    """Gives the share of samples that would have to change their class to occur as often as in real images; 0 to 1.

    Half the sum of the differences of the shares (total variation). The interval is a bootstrap's, of 500 draws.

    Args:
        real, fake: Classes of the images, int (M,) and (N,).
        classes: Their number.
        seed: Of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    shares = [np.bincount(y, minlength=classes) / len(y) for y in (real, fake)]
    value = float(np.abs(shares[0] - shares[1]).sum() / 2)
    drawn = [
        rng.multinomial(len(y), p, 500) / len(y) for y, p in zip((real, fake), shares, strict=True)
    ]
    # resampling adds the noise of a sample a second time, so its spread is laid around the value, not its mean
    spread = np.abs((drawn[0] - drawn[1]) - (shares[0] - shares[1])).sum(1) / 2
    return Estimate.around(value, float(np.quantile(spread, 0.975)), len(fake), 0.0, 1.0)


# --- The headline of the copy tests ---------------------------------------------------------------------------------


def nearer_to_training(samples: Features, train: Features, held_out: Features) -> Estimate:
    """Gives the share of samples that lie nearer to a training image than to an equally likely held-out one.

    One half means that nothing was copied. Verbatim copies of random training images reach ``(1 + m / n) / 2`` with m
    held-out and n training images, because each sample is compared with m training images drawn at random. The mean
    over all such draws is exact: with r training images nearer than the nearest held-out one, a draw holds at least
    one of them with probability ``1 - C(n - r, m) / C(n, m)``. The interval counts samples that share their nearest
    held-out image as one group.

    Args:
        samples, train, held_out: Points, (N, …), flattened; distances are Euclidean.
    """
    s, t, h = (torch.as_tensor(part).flatten(1).float() for part in (samples, train, held_out))
    h = h[: len(t)]
    centre = middle(h)  # the same for both, so that equal images are equally far
    limit, group = (part[:, 0] for part in neighbours(tiles(s, h, centre), s, 1))
    count = Nearer(limit, group)
    for piece in tiles(s, t, centre):
        count.take(*piece)
    return count.share(len(t), len(h))


class Nearer:
    """Counts for :func:`nearer_to_training`, piece by piece, with distances of any kind.

    Args:
        limit: Distance of each sample to its nearest held-out image, (N,).
        group: Which one that is, (N,).
    """

    def __init__(self, limit: Tensor, group: Tensor) -> None:
        self.limit, self.group = limit, group
        self.nearer, self.level = torch.zeros_like(group), torch.zeros_like(group)

    def take(self, rows: slice, columns: slice, distance: Tensor) -> None:
        """Counts the training images of one piece, as of :func:`tiles`, that are nearer than the limit, or as near."""
        limit = self.limit[rows, None]
        self.nearer[rows] += (distance < limit).sum(1)
        self.level[rows] += (distance == limit).sum(1)

    def share(self, n: int, m: int) -> Estimate:
        """Gives the share for n training and m held-out images, m at most n."""
        none_nearer = _none_of(self.nearer, n, m)
        none_level = _none_of(self.nearer + self.level, n, m)
        wins = 1 - (none_nearer + none_level) / 2
        off = torch.zeros(m, dtype=wins.dtype, device=wins.device)
        off.index_add_(0, self.group, wins - wins.mean())
        value, error = float(wins.mean()), Z * float(off.square().sum()) ** 0.5 / len(wins)
        return Estimate.around(value, error, len(wins), 0.0, 1.0)


def _none_of(r: Tensor, n: int, m: int) -> Tensor:
    """Gives the probability that m of n drawn without replacement hold none of r, ``C(n - r, m) / C(n, m)``."""
    left = (n - r).double()
    log = torch.lgamma(left + 1) - torch.lgamma((left - m).clamp_min(0) + 1)
    log += math.lgamma(n - m + 1) - math.lgamma(n + 1)
    return torch.where(left >= m, log.exp(), 0.0)


# --- Ground ---------------------------------------------------------------------------------------------------------


def double(x: Features) -> Tensor:
    """Gives a float64 tensor of the same shape, on the device of ``x``."""
    return torch.as_tensor(x).double()


def _fine(x: Tensor) -> Tensor:
    """Gives what products of pairs are taken in: float64, and float32 for hundreds of features."""
    return x.double() if x.shape[1] <= 256 else x.float()


def squared(a: Tensor, b: Tensor, centre: Tensor | None = None) -> Tensor:
    """Gives the squared Euclidean distances of all pairs, (N, M); exactly 0 for equal points.

    ``|a|² + |b|² - 2 a·b`` after a centre was taken off both, which is fast, but a distance that is small beside the
    lengths loses all its digits; such pairs, which are few, are computed anew from their differences.

    Args:
        a, b: Points (N, D) and (M, D), of one type.
        centre: Any point amid them, (D,); that of ``b`` if left out. Distances of equal points are equal bit by bit
            only with the same centre; see :func:`middle`.
    """
    centre = middle(b) if centre is None else centre
    return _pairs(_Centred(a, centre), _Centred(b, centre))


class _Centred:
    """Points as they are and around a centre, (N, D) both, and the squares of their lengths, (N,)."""

    def __init__(self, points: Tensor, centre: Tensor) -> None:
        self.points, self.centre, self.around = points, centre, points - centre
        self.lengths = self.around.square().sum(1)


def _pairs(a: _Centred, b: _Centred) -> Tensor:
    whole = a.lengths[:, None] + b.lengths
    distance = torch.addmm(whole, a.around, b.around.T, alpha=-2)
    rounding = 8 * torch.finfo(whole.dtype).eps * a.points.shape[1] ** 0.5
    if float(distance.amin()) > rounding * float(a.lengths.amax() + b.lengths.amax()):
        return distance
    doubtful = distance <= rounding * whole
    rows, columns = doubtful.nonzero().unbind(1)
    if len(rows) > 4 * sum(whole.shape):  # clusters of equal or nearly equal points
        if whole.dtype != torch.float64:
            fine = squared(a.points.double(), b.points.double(), a.centre.double())
            return fine.to(whole.dtype)
        return distance.masked_fill_(doubtful, 0.0)
    size = max(1, _CELLS // a.points.shape[1])
    for some, others in zip(rows.split(size), columns.split(size), strict=True):
        apart = a.points[some].double() - b.points[others].double()
        distance[some, others] = apart.square().sum(1).to(distance.dtype)
    return distance


def middle(x: Tensor) -> Tensor:
    """Gives the mean of points (N, D) to seven binary digits: (D,).

    Points of few digits, such as the levels of an image, keep exact distances around it, and so their ties.
    """
    mean = x.mean(0)
    unit = 2.0 ** (math.frexp(float(mean.abs().amax()))[1] - 7)
    return (mean / unit).round() * unit


def tiles(a: Tensor, b: Tensor, centre: Tensor | None = None) -> Pieces:
    """Yields :func:`squared` of all pairs of (N, D) and (M, D) in pieces: rows, columns, distances."""
    centre = middle(b) if centre is None else centre
    wide = min(len(b), _side())
    tall = max(1, _CELLS // wide)
    columns = _Parts(b, centre, wide)
    for top in range(0, len(a), tall):
        rows = _Centred(a[top : top + tall], centre)
        for left, part in zip(range(0, len(b), wide), columns, strict=True):
            across = slice(left, left + len(part.points))
            yield slice(top, top + len(rows.points)), across, _pairs(rows, part)


def _side() -> int:
    """Gives the sides of a square piece; products of pieces of 1414 rows would take half as long again as of 1408."""
    side = max(1, math.isqrt(_CELLS))
    return side if side < 64 else side // 64 * 64


class _Parts(Sequence[_Centred]):
    """Pieces of points around a centre; computed once where they are small, else at each use."""

    def __init__(self, x: Tensor, centre: Tensor, size: int) -> None:
        self.parts, self.centre = x.split(size), centre
        self.ready: list[_Centred] = []
        if x.numel() <= 8 * _CELLS:
            self.ready = [_Centred(part, centre) for part in self.parts]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, i: int) -> _Centred:  # type: ignore[override]
        return self.ready[i] if self.ready else _Centred(self.parts[i], self.centre)


def nearest(a: Tensor, b: Tensor, k: int = 1, *, same: bool = False) -> tuple[Tensor, Tensor]:
    """Finds the k nearest points of ``b`` (M, D) for each of ``a`` (N, D): distances and indices, (N, k).

    Args:
        a, b: Points, of one type.
        k: Neighbours, nearest first.
        same: The two sets are one, and a point is not its own neighbour.
    """

    def others() -> Pieces:
        for i, j, distance in tiles(a, b):
            first = max(i.start, j.start)
            own = torch.arange(first, max(first, min(i.stop, j.stop)), device=a.device)
            distance[own - i.start, own - j.start] = math.inf
            yield i, j, distance

    distance, index = neighbours(others() if same else tiles(a, b), a, min(k, len(b)))
    return distance.sqrt(), index


def neighbours(pieces: Pieces, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Finds the k smallest distances of each row (N, k), and their columns, from pieces as of :func:`tiles`."""
    best = points.new_full((len(points), k), math.inf)
    index = torch.zeros(len(points), k, dtype=torch.int64, device=points.device)
    for i, j, distance in pieces:
        few = distance.topk(min(k, distance.shape[1]), 1, largest=False)
        known = torch.cat([best[i], few.values], 1).topk(k, 1, largest=False)
        best[i] = known.values
        index[i] = torch.cat([index[i], few.indices + j.start], 1).gather(1, known.indices)
    return best, index
