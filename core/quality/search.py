"""Searches for what is too near, or too far: duplicates, shifted copies, leaks, outliers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.datasets import Dataset
from core.ground.watch import UNWATCHED, Watch
from core.measure import distances
from core.quality.measures import Measures, smaller

SAME = 0.12  # difference of two copies, as a share of their contrast, up to which they are near duplicates
REFERENCE = 10_000  # images that an outlier is compared to
NEIGHBOURS = 20  # of these; up to as many outliers of one kind are seen


@dataclass(frozen=True)
class Pair:
    """Two images that are nearly the same.

    Attributes:
        a, b: Their indices, a < b.
        down, right: Pixels that ``b`` is shifted against ``a``.
        difference: Root mean square where they overlap, as a share of the contrast.
    """

    a: int
    b: int
    down: int
    right: int
    difference: float


def same(keys: np.ndarray) -> list[np.ndarray]:
    """Groups images of equal content: sorted indices of each group of at least two."""
    order = np.argsort(keys, kind="stable")
    ends = np.flatnonzero(np.diff(keys[order])) + 1
    return [np.sort(group) for group in np.split(order, ends) if len(group) > 1]


def nearest(
    rows: Tensor,
    among: Tensor,
    count: int,
    what: str = "",
    watch: Watch = UNWATCHED,
) -> tuple[Tensor, Tensor]:
    """Finds the ``count`` nearest of ``among`` (M, d) for each row (N, d): distances and indices, nearest first."""
    parts = []
    for start in range(0, len(rows), 500):
        part = rows[start : start + 500]
        parts.append(distances.nearest(part, among, count))
        watch.count(what, min(start + 500, len(rows)), len(rows), "images")
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def near(
    dataset: Dataset,
    measures: Measures,
    skip: np.ndarray,
    watch: Watch = UNWATCHED,
) -> list[Pair]:
    """Finds pairs that are the same but for a shift of a few pixels or small differences.

    Candidates are neighbours by their frequencies, which a shift hardly changes; each is then laid over the other.

    Args:
        dataset, measures: What is searched.
        skip: Images to leave out, bool (N,): blank ones, and all but one of equal ones.
        watch: Follows the search.
    """
    kept = np.flatnonzero(~skip)
    if len(kept) < 2:
        return []
    rows = measures.spectra[kept]
    away, index = nearest(rows, rows, 4, "Near duplicates", watch)
    own = index == torch.arange(len(rows))[:, None]
    usual = away[~own].median()
    pairs = []
    for i, k in ((~own) & (away < 0.6 * usual)).nonzero().tolist():
        a, b = sorted((int(kept[i]), int(kept[int(index[i, k])])))
        pairs.append((a, b))
    return _verified(dataset, sorted(set(pairs)))


def _verified(dataset: Dataset, pairs: list[tuple[int, int]]) -> list[Pair]:
    """Lays each pair over each other at every small shift, and keeps those that then agree."""
    copies = []
    for start in range(0, len(pairs), 500):
        some = pairs[start : start + 500]
        a, b = (smaller(dataset.images(list(side))) for side in zip(*some, strict=True))
        size = a.shape[-1]
        most = max(1, min(3, size // 8))
        contrast = (a.std((1, 2, 3)) + b.std((1, 2, 3))) / 2
        best = torch.full((len(some),), torch.inf)
        where = torch.zeros(len(some), 2, dtype=torch.int64)
        for down in range(-most, most + 1):
            for right in range(-most, most + 1):
                over = b[
                    ..., max(0, down) : size + min(0, down), max(0, right) : size + min(0, right)
                ]
                under = a[
                    ...,
                    max(0, -down) : size + min(0, -down),
                    max(0, -right) : size + min(0, -right),
                ]
                rms = (over - under).square().mean((1, 2, 3)).sqrt() / contrast.clamp_min(1e-3)
                better = rms < best
                best = torch.where(better, rms, best)
                where[better] = torch.tensor([down, right])
        scale = dataset.size / size
        for (i, j), difference, (down, right) in zip(
            some, best.tolist(), where.tolist(), strict=True
        ):
            if difference < SAME:
                copies.append(Pair(i, j, round(down * scale), round(right * scale), difference))
    return sorted(copies, key=lambda pair: pair.difference)


def strangeness(measures: Measures, watch: Watch = UNWATCHED) -> tuple[np.ndarray, np.ndarray]:
    """Measures how far each image is from its neighbours, (N,), and tells which is the nearest, (N,).

    What counts is the distance to the :data:`NEIGHBOURS`-th one, so that fewer outliers of one kind do not hide each
    other. Pixels are whitened, so that every direction counts about the same, however much the set varies along it.

    References:
        Ramaswamy, Rastogi and Shim, 2000, Efficient algorithms for mining outliers from large data sets
    """
    rows = _whitened(measures.pixels)
    some = distances.spaced(len(rows), REFERENCE)
    away, index = nearest(
        rows, rows[some], min(NEIGHBOURS, 1 + len(rows) // 4) + 1, "Outliers", watch
    )
    index = some[index]
    own = index == torch.arange(len(rows))[:, None]
    far = torch.where(own.any(1), away[:, -1], away[:, max(0, away.shape[1] - 2)])
    first = torch.where(own[:, 0], index[:, min(1, index.shape[1] - 1)], index[:, 0])
    return far.numpy(), first.numpy()


def _whitened(rows: Tensor) -> Tensor:
    """Projects rows (N, d) on their main directions and evens out the spreads, but for those below the mean one."""
    if len(rows) < 2:
        return rows
    mean = rows.mean(0)
    values, vectors = torch.linalg.eigh(torch.atleast_2d(torch.cov((rows - mean).T)))
    ridge = values.mean().clamp_min(1e-9)
    return (rows - mean) @ vectors * (values.clamp_min(0) + ridge).rsqrt()


def rarity(values: np.ndarray) -> np.ndarray:
    """Estimates from the upper tail of a set how rare each value is, (N,), in powers of ten: 6 is one in a million.

    A line through the quantiles of one in ten and one in a hundred is extended to higher values. Values that a line
    through one in four and one in ten calls too rare for a set of this size are left out of these quantiles.
    """

    def counted(upper: float, lower: float, of: np.ndarray) -> np.ndarray:
        low, high = np.quantile(of, [1 - upper, 1 - lower])
        power = max((high - low) / np.log10(upper / lower), 1e-2 * abs(high), 1e-6)
        return (values - low) / power - np.log10(upper)

    own = counted(0.25, 0.1, values) <= np.log10(len(values)) + 1
    return counted(0.1, 0.01, values[own])


def surprising(rarities: np.ndarray, level: float) -> np.ndarray:
    """Chooses rare values, bool (N,), of which about one in ``10 ** level`` is there by chance.

    References:
        Benjamini and Hochberg, 1995, Controlling the false discovery rate
    """
    ranked = np.sort(rarities)[::-1]
    far = ranked > level + np.log10(len(ranked) / np.arange(1, len(ranked) + 1))
    return rarities >= ranked[np.flatnonzero(far)[-1]] if far.any() else np.zeros(len(ranked), bool)


def robust(values: np.ndarray) -> np.ndarray:
    """Counts robust standard deviations from the median, (N,); 0 where all are equal."""
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    if spread <= 0:
        spread = values.std()
    return (values - middle) / spread if spread > 0 else np.zeros_like(values)
