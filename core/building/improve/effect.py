"""What a change did, measured by pairs: before and after, with interval, test and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from core.ground.stats import bca, sign_flip

FEWEST = 6  # pairs from which a sign-flip test can be significant


@dataclass(frozen=True)
class Effect:
    """A change of an accuracy in points, over pairs that share seed and images.

    Attributes:
        before, after: Mean accuracies in percent.
        value: The mean of the differences.
        low, high, p: Its interval of 95 % and its test; None of fewer than :data:`FEWEST` pairs.
        n: Pairs.
        verdict: ``helps``, ``hurts``, ``cannot tell`` or, of too few pairs, ``too few``.
    """

    before: float
    after: float
    value: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    verdict: str

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float]) -> Effect:
        """Compares the accuracies of pairs, in percent."""
        change = [b - a for a, b in zip(before, after, strict=True)]
        low = high = p = None
        verdict = "too few"
        if len(change) >= FEWEST:
            (low, high), p = bca(change), sign_flip(change)
            verdict = "cannot tell"
            if p <= 0.05 and (low > 0 or high < 0):
                verdict = "helps" if low > 0 else "hurts"
        means = float(np.mean(before)), float(np.mean(after)), float(np.mean(change))
        return cls(*means, low, high, p, len(change), verdict)

    def record(self) -> dict[str, Any]:
        """Gives the plain values, ready for JSON."""
        return asdict(self) | {"sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """Says it in words, without what was changed."""
        if self.low is None:
            return f"{self.value:+.1f} points, {self.n} pairs: too few for an interval."
        p = "p < 0.001" if self.p is not None and self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{self.value:+.1f} points [{self.low:+.1f}, {self.high:+.1f}], {self.n} pairs, {p}."
