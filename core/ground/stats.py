"""Statistics of what was counted and measured: estimates with their intervals, and tests.

Intervals are of 95 %, tests are two-sided. scipy computes what it has; it is loaded when it is first needed, because
its import takes longer than a page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Z = 1.959963984540054  # half the width of an interval of 95 %, in standard errors


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

    @classmethod
    def around(
        cls, value: float, half: float, n: int, low: float = -math.inf, high: float = math.inf
    ) -> Estimate:
        """Gives a value with as wide an interval on either side, cut at the ends of its range."""
        return cls(value, max(value - half, low), min(value + half, high), n)

    @property
    def interval(self) -> tuple[float, float]:
        """Its two ends."""
        return self.low, self.high


# --- Means and shares -------------------------------------------------------------------------------------------------


def mean(values: np.ndarray | Tensor) -> Estimate:
    """Estimates the mean of many numbers (N,), with the interval of its standard error."""
    import torch

    x = torch.as_tensor(values).double()
    value = float(x.mean())
    error = Z * float(x.std()) / len(x) ** 0.5 if len(x) > 1 else math.inf
    return Estimate.around(value, error, len(x))


def mean_of_few(values: Sequence[float] | np.ndarray) -> Estimate:
    """Estimates the mean of a few numbers (N,), with Student's interval; nan for a single one."""
    from scipy.stats import t

    x = np.asarray(values, float)
    n, value, half = len(x), float(np.mean(x)), math.nan
    if n > 1:
        half = float(t.ppf(0.975, n - 1) * x.std(ddof=1) / n**0.5)
    return Estimate.around(value, half, n)


def share(flags: np.ndarray | Tensor) -> Estimate:
    """Estimates a share of yes among flags (N,), with Wilson's interval."""
    return proportion(int(flags.sum()), len(flags))


def proportion(count: int, n: int, together: int = 1) -> Estimate:
    """Estimates the share that ``count`` of ``n`` are, with Wilson's interval; of none it is 0 to 1.

    To the last bit what scipy gives, without its import: pages say shares before anything else needs it.

    Args:
        count, n: The share.
        together: Of how many shares it was chosen, as the worst of them for example: with 95 %, the intervals of all of
            them hold (Bonferroni).

    References:
        Wilson, 1927, Probable inference, the law of succession, and statistical inference
        Dunn, 1961, Multiple comparisons among means
    """
    if not n:
        return Estimate(math.nan, 0.0, 1.0, 0)
    p, z = count / n, Z if together == 1 else NormalDist().inv_cdf(1 - 0.025 / together)
    whole = 2 * (n + z**2)
    middle = (2 * n * p + z**2) / whole
    half = z / whole * math.sqrt(4 * n * p * (1 - p) + z**2)
    return Estimate(p, middle - half if count else 0.0, middle + half if count < n else 1.0, n)


def difference_of_shares(a: Estimate, b: Estimate) -> Estimate:
    """Estimates how far one share lies above another, with Newcombe's interval of the two intervals.

    Args:
        a, b: Shares of different items with their intervals, of :func:`proportion`; one that is known exactly has its
            value at both ends.

    References:
        Newcombe, 1998, Interval estimation for the difference between independent proportions (method 10)
    """
    value = a.value - b.value
    below = math.hypot(a.value - a.low, b.high - b.value)
    above = math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value, value - below, value + above, min(a.n, b.n))


def auc(
    ours: np.ndarray,
    theirs: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray] | None = None,
) -> Estimate:
    """Estimates the probability that a score of ours is above one of theirs, ties counting half; 0.5 is chance.

    The interval is DeLong's; where scores belong together (pictures of one patient), Obuchowski's, which counts a group
    as one. It is laid on the logit, so that it stays within 0 and 1; where all pairs agree it is that of as many yes
    answers as the smaller side has items (Wilson).

    Args:
        ours, theirs: Scores of items that the score was not learned from, (N,) and (M,).
        groups: Which group each belongs to, (N,) and (M,); None where each is for itself.

    References:
        DeLong et al., 1988, Comparing the areas under two or more correlated receiver operating characteristic curves
        Obuchowski, 1997, Nonparametric analysis of clustered ROC curve data
    """
    from scipy.stats import rankdata

    n, m = len(ours), len(theirs)
    if not n or not m:
        return Estimate(math.nan, 0.0, 1.0, 0)
    ranks = rankdata(np.concatenate([ours, theirs]))
    above = (ranks[:n] - rankdata(ours)) / m  # share of theirs that each of ours is above
    below = 1 - (ranks[n:] - rankdata(theirs)) / n
    value, few = float(above.mean()), min(n, m)
    if value in (0.0, 1.0) or few < 2:
        ends = proportion(round(value * few), few)
        return Estimate(value, ends.low, ends.high, few)
    off = (above - value) / n, (below - value) / m
    if groups is None:
        variance = sum(float(x.var(ddof=1)) * len(x) for x in off)
    else:
        names, which = np.unique(np.concatenate(groups), return_inverse=True)
        sums = np.bincount(which, np.concatenate(off), minlength=len(names))
        few = len(names)
        variance = float(np.square(sums).sum()) * few / max(1, few - 1)
    half = Z * math.sqrt(variance) / (value * (1 - value))
    middle = math.log(value / (1 - value))
    low, high = (1 / (1 + math.exp(-max(-700.0, min(700.0, middle + s * half)))) for s in (-1, 1))
    return Estimate(value, low, high, few)


@lru_cache(1000)
def paired_change(gained: int, lost: int, n: int) -> Estimate:
    """Estimates how a share of ``n`` pairs has changed, with Tango's score interval; of no pairs it is -1 to 1.

    The interval leaves 0 out exactly where McNemar's test without a correction rejects equality at 5 %.

    Args:
        gained: Pairs that are yes only afterwards.
        lost: Pairs that were yes only before.
        n: All pairs.

    References:
        Tango, 1998, Equivalence test and confidence interval for the difference in proportions for the paired-sample
        design, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B
    """
    if not n:
        return Estimate(math.nan, -1.0, 1.0, 0)
    value = (gained - lost) / n

    def score(change: float) -> float:
        """How many standard errors the observed change lies from this one; its error is the likeliest one there."""
        b = (2 * n + lost - gained) * change - gained - lost
        c = -lost * change * (1 - change)
        p = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)  # likeliest share that is lost
        variance = n * (2 * p + change * (1 - change))
        away = abs(gained - lost - n * change)
        return away / math.sqrt(variance) if variance > 0 else math.inf

    def end(outside: float) -> float:
        inside = value
        for _ in range(50):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if score(middle) <= Z else (inside, middle)
        return inside

    return Estimate(value, end(-1.0), end(1.0), n)


def bca(
    values: Sequence[float] | np.ndarray, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Computes the interval of a mean by the bias-corrected and accelerated bootstrap.

    Args:
        values: Paired differences, (n,).
        level: Share of such intervals that contain the true mean.
        draws, seed: Of the bootstrap.

    References:
        Efron, 1987, Better bootstrap confidence intervals (equations 2.3 and 6.6)
    """
    x = np.asarray(values, float)
    if np.ptp(x) == 0:
        return float(x[0]), float(x[0])
    from scipy.stats import bootstrap

    low, high = bootstrap(
        (x,), np.mean, n_resamples=draws, confidence_level=level, method="BCa", rng=seed
    ).confidence_interval
    return float(low), float(high)


# --- Tests ------------------------------------------------------------------------------------------------------------


def sign_flip(values: Sequence[float] | np.ndarray, draws: int = 20_000, seed: int = 0) -> float:
    """Tests whether paired differences are centred on 0: the share of sign patterns with at least this mean, two-sided.

    Every pattern is tried while there are at most ``draws`` of them (14 pairs), else random ones.

    References:
        Fisher, 1935, The design of experiments (section 21)
    """
    from scipy.stats import permutation_test

    return float(
        permutation_test(
            (np.asarray(values, float),),
            # rounded, so that equal sums in another order compare as equal
            lambda x, axis: np.abs(x.mean(axis)).round(10),
            permutation_type="samples",
            alternative="greater",
            vectorized=True,
            n_resamples=draws,
            rng=seed,
        ).pvalue
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Gives the two-sided probability of such a split of the disagreements by a fair coin.

    References:
        McNemar, 1947, Note on the sampling error of the difference between correlated proportions
    """
    if not only_first + only_second:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_second).pvalue)


def mann_whitney(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Gives the z of Mann and Whitney's U for values (N,) and (M,), corrected for ties; negative when ours are smaller.

    scipy's own test gives the p value only, which is 0 for every large z.
    """
    from scipy.stats import rankdata

    n, m = len(ours), len(theirs)
    both = np.concatenate([ours, theirs])
    u = rankdata(both)[:n].sum() - n * (n + 1) / 2
    _, ties = np.unique(both, return_counts=True)
    total = n + m
    variance = n * m / 12 * (total + 1 - (ties**3 - ties).sum() / (total * (total - 1)))
    return float((u - n * m / 2) / math.sqrt(variance)) if variance > 0 else 0.0


def holm(values: Sequence[float]) -> list[float]:
    """Adjusts p values for how many there are.

    References:
        Holm, 1979, A simple sequentially rejective multiple test procedure
    """
    adjusted, most = [0.0] * len(values), 0.0
    for rank, index in enumerate(np.argsort(values)):
        most = max(most, min(1.0, values[index] * (len(values) - rank)))
        adjusted[index] = most
    return adjusted
