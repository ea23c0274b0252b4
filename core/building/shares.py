"""How a budget is shared out."""

from __future__ import annotations

import numpy as np


def filled(counts: np.ndarray, target: np.ndarray, budget: int) -> np.ndarray:
    """Shares a budget out so that the counts come as near to the target as it allows; int64 (S,).

    Water-filling: everybody gets ``max(0, level * target - count)``, and the level is the one that uses the budget up;
    what rounding leaves goes to the largest remainders. It makes the smallest ``(count + given) / target`` as large as
    can be.

    Args:
        counts: What is there, (S,).
        target: Shares, (S,), 0 for what gets nothing; not all 0.
        budget: Items to give, in all.
    """
    counts, target = np.asarray(counts, float), np.asarray(target, float)
    rows = np.flatnonzero(target > 0)
    rows = rows[np.argsort(counts[rows] / target[rows], kind="stable")]
    level = 0.0
    for k in range(1, len(rows) + 1):
        level = (budget + counts[rows[:k]].sum()) / target[rows[:k]].sum()
        if k == len(rows) or level <= counts[rows[k]] / target[rows[k]]:
            break
    wish = np.clip(level * target - counts, 0, None)
    wish[target <= 0] = 0
    given = np.floor(wish + 1e-9).astype(np.int64)
    rest = budget - int(given.sum())
    given[np.argsort(-(wish - given), kind="stable")[:rest]] += 1
    return given


def apportioned(weights: np.ndarray, budget: int) -> np.ndarray:
    """Shares a budget out in proportion to weights, by largest remainders; int64 (S,), summing to the budget."""
    wish = budget * weights / weights.sum()
    given = np.floor(wish + 1e-9).astype(np.int64)
    given[np.argsort(-(wish - given), kind="stable")[: budget - int(given.sum())]] += 1
    return given


def bounded(weights: np.ndarray, room: np.ndarray, budget: int) -> np.ndarray:
    """Shares a budget out in proportion to weights, nobody beyond their room while others have some; int64 (S,).

    What is left when nobody has room is shared out in proportion to the weights alone.

    Args:
        weights: Above 0, (S,).
        room: Items, (S,); less than 0 is none.
        budget: Items to give, in all.
    """
    given = np.zeros(len(weights), np.int64)
    room = np.maximum(room, 0)
    while (left := budget - int(given.sum())) and (open_ := given < room).any():
        given = np.minimum(given + apportioned(np.where(open_, weights, 0.0), left), room)
    return given + apportioned(weights, left) if left else given
