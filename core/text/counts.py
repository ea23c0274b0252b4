"""A table of counts that foretells bytes: what a network has to beat before it is worth its training.

After every context of up to five bytes it counts what followed, and mixes the long contexts with the short ones by how
many different bytes each has seen after it.

References:
    [1] Witten and Bell, 1991, The zero-frequency problem: estimating the probabilities of novel events in adaptive text
        compression, https://doi.org/10.1109/18.87000
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from core.ground.watch import UNWATCHED, Watch

ORDER = 5  # bytes before the one that is foretold
VALUES = 256


@dataclass(frozen=True, eq=False)
class _ContextTable:
    """The counts after the contexts of one length, sorted; a context is the number that its bytes spell."""

    pairs: np.ndarray  # contexts with a byte behind them that were seen, uint64
    seen: np.ndarray  # how often each was, float64
    contexts: np.ndarray  # those alone, uint64
    sums: np.ndarray  # how often each was, float64
    kinds: np.ndarray  # how many different bytes followed each, float64


@dataclass(frozen=True, eq=False)
class Counts:
    """Interpolated counts of bytes after up to :data:`ORDER` others [1].

    Attributes:
        entries: How many contexts with a byte behind them it knows.
    """

    tables: tuple[_ContextTable, ...] = field(repr=False)

    @classmethod
    def of(cls, x: np.ndarray, watch: Watch = UNWATCHED) -> Counts:
        """Counts texts, uint8 (N, T) or (N, 1, T), each up to its first 0, that included."""
        rows = np.asarray(x, np.uint8).reshape(len(x), -1)
        there = known(rows)
        tables = []
        for length in watch.each(range(ORDER + 1)):
            codes, whole = spelled(rows, length)
            codes = codes[whole & there]
            pairs, seen = np.unique(codes, return_counts=True)
            contexts, start = np.unique(pairs >> np.uint64(8), return_index=True)
            sums = np.add.reduceat(seen, start) if len(start) else seen
            kinds = np.diff(np.append(start, len(pairs)))
            tables.append(
                _ContextTable(
                    pairs, seen.astype(float), contexts, sums.astype(float), kinds.astype(float)
                )
            )
        return cls(tuple(tables))

    @property
    def entries(self) -> int:
        return sum(len(table.pairs) for table in self.tables)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Gives the probability of each byte of texts (N, T) or (N, 1, T), given those before it in its row, (N, T)."""
        rows = np.asarray(x, np.uint8).reshape(len(x), -1)
        p = np.full(rows.shape, 1 / VALUES)
        for length, table in enumerate(self.tables):
            codes, whole = spelled(rows, length)
            contexts = codes >> np.uint64(8)
            at = _place(table.contexts, contexts)
            hit = whole & (at >= 0)
            pair = _place(table.pairs, codes[hit])
            count = np.where(pair >= 0, table.seen[pair], 0.0)
            sums, kinds = table.sums[at[hit]], table.kinds[at[hit]]
            p[hit] = (count + kinds * p[hit]) / (sums + kinds)  # [1], method C
        return p

    def nats(self, x: np.ndarray) -> np.ndarray:
        """Gives the surprise of each byte of texts (N, T) or (N, 1, T) in nats, (N, T); nan behind their end."""
        rows = np.asarray(x, np.uint8).reshape(len(x), -1)
        return np.where(known(rows), -np.log(self.probabilities(rows)), np.nan)

    def following(self, before: bytes) -> np.ndarray:
        """Gives the probability of every byte after some others, (256,)."""
        tail = np.frombuffer(before[-ORDER:], np.uint8)
        rows = np.empty((VALUES, len(tail) + 1), np.uint8)
        rows[:, :-1], rows[:, -1] = tail, np.arange(VALUES)
        return self.probabilities(rows)[:, -1]


def known(rows: np.ndarray) -> np.ndarray:
    """Marks the bytes of texts (N, T) up to the first 0 of each, that included."""
    return np.cumsum(rows == 0, 1) - (rows == 0) == 0


def spelled(rows: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Spells each byte with so many before it as a number, uint64 (N, T), and marks where there are as many, (N, T)."""
    codes = rows.astype(np.uint64)
    for back in range(1, length + 1):
        codes[:, back:] |= rows[:, :-back].astype(np.uint64) << np.uint64(8 * back)
    whole = np.zeros(rows.shape, bool)
    whole[:, length:] = True
    return codes, whole


def _place(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Finds values in a sorted table: their places, -1 for none."""
    at = np.searchsorted(table, values).clip(max=max(0, len(table) - 1))
    return np.where(table[at] == values, at, -1) if len(table) else np.full(values.shape, -1)
