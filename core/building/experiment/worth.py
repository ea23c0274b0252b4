"""What a gain is worth: how many real images would have given the same accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.ground.stats import mean_of_few

DRAWS = 2000  # of the bootstrap over pairs


@dataclass(frozen=True)
class Worth:
    """Real images per class that give an accuracy; ``-inf`` is fewer than were measured, ``inf`` more.

    Attributes:
        value: By the means over the pairs.
        low, high: The interval of 95 %, from the spread over the pairs.
        n: Pairs.
        fewest, most: The ends of the curve of real images.
    """

    value: float
    low: float
    high: float
    n: int
    fewest: int
    most: int

    @property
    def sentence(self) -> str:
        """Says it in words."""
        return f"As good as {self.short} real images per class ({self.n} pairs)."

    @property
    def short(self) -> str:
        """Writes the number with its interval."""
        said = self._written(self.value)
        if self.low == self.value == self.high:
            return said
        return f"{said} [{self._written(self.low)}, {self._written(self.high)}]"

    def record(self) -> dict[str, Any]:
        """Gives plain values; None is beyond what was measured."""
        values = {"value": self.value, "low": self.low, "high": self.high}
        plain = {name: v if math.isfinite(v) else None for name, v in values.items()}
        return {**plain, "n": self.n, "short": self.short, "sentence": self.sentence}

    def _written(self, value: float) -> str:
        if value == math.inf:
            return f"more than {self.most:,}"
        if value == -math.inf:
            return f"fewer than {self.fewest:,}"
        return f"{value:,.0f}"


def worth(
    curve: Mapping[int, Sequence[float]], reached: Sequence[float], seed: int = 0
) -> Worth | None:
    """Reads off the learning curve of real images how many of them give the accuracy that an arm reached.

    Between two sizes the accuracy is taken to grow with the logarithm of the size; where the measured means fall, they
    are evened out first. The interval draws pairs with repetition, the same for curve and arm.

    Args:
        curve: By real images per class, the accuracy of each pair.
        reached: The accuracies of the arm, of the same pairs.
        seed: Of the bootstrap.

    Returns:
        None where the curve has a single size, no pair has all of it, or it does not rise beyond doubt.
    """
    sizes = sorted(curve)
    n = min([len(reached), *(len(curve[size]) for size in sizes)])
    if len(sizes) < 2 or not n:
        return None
    table = np.array([list(curve[size])[:n] for size in sizes])  # (sizes, pairs)
    rise = table[-1] - table[0]
    if rise.mean() <= 0 or (n > 1 and mean_of_few(rise).low <= 0):
        return None
    arm = np.asarray(list(reached)[:n], float)
    value = crossing(sizes, table.mean(1), float(arm.mean()))
    drawn = np.random.default_rng(seed).integers(0, n, (DRAWS, n))
    values = [
        crossing(sizes, mean, float(level))
        for mean, level in zip(table[:, drawn].mean(2).T, arm[drawn].mean(1), strict=True)
    ]
    low, high = np.quantile(values, [0.025, 0.975], method="inverted_cdf")  # may be infinite
    return Worth(value, float(low), float(high), n, sizes[0], sizes[-1])


def crossing(sizes: Sequence[int], means: np.ndarray, level: float) -> float:
    """Finds where a rising curve over the logarithm of sizes first reaches a level; infinite outside of it."""
    rising = _rising(np.asarray(means, float))
    if level < rising[0]:
        return -math.inf
    if level > rising[-1]:
        return math.inf
    above = int(np.argmax(rising >= level))
    if above == 0:
        return float(sizes[0])
    a, b = rising[above - 1], rising[above]
    share = (level - a) / (b - a)
    low, high = math.log(sizes[above - 1]), math.log(sizes[above])
    return math.exp(low + share * (high - low))


def _rising(values: np.ndarray) -> np.ndarray:
    """Evens out falls by pooling neighbours: the nearest curve that never falls, by squares."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m), (b, k) = blocks[-2:]
            blocks[-2:] = [((a * m + b * k) / (m + k), m + k)]
    return np.repeat([value for value, _ in blocks], [count for _, count in blocks])
