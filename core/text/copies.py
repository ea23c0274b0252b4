"""What a text has in common with others word for word: the longest run that also stands in them, place by place.

References:
    Manber and Myers, 1993, Suffix arrays: a new method for on-line string searches, https://doi.org/10.1137/0222058
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

DOUBLINGS = 6  # runs of up to 127 bytes are told apart
LONGEST = 2 ** (DOUBLINGS + 1) - 1


def runs(x: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Finds how many bytes from each place on also stand in other texts, one behind the other.

    Rows of the others that are full go on in the next one. Nothing goes over the end of a text.

    Args:
        x: Texts, uint8 (N, T) or (N, 1, T).
        others: Texts, uint8 (M, S) or (M, 1, S).

    Returns:
        int64 (N, T), at most :data:`LONGEST`; 0 behind the end of a text.
    """
    rows = np.asarray(x, np.uint8).reshape(len(x), -1)
    known = np.asarray(others, np.uint8).reshape(-1)
    ours = np.pad(rows, ((0, 0), (0, 1))).reshape(-1)  # an end between any two
    joined = np.concatenate([known, [0], ours]).astype(np.int64)
    ended = joined == 0
    joined[ended] = 256 + np.arange(ended.sum())  # equal to nothing else
    ranks = [np.unique(joined, return_inverse=True)[1].astype(np.int64)]
    for doubling in range(DOUBLINGS):  # ranks by the first 1, 2, 4, … bytes
        key = _longer(ranks[-1], 2**doubling)
        ranks.append(np.unique(key, return_inverse=True)[1].astype(np.int64))
    # by twice as many: of those that begin alike, the one that goes on alike is the next
    order = np.argsort(_longer(ranks[-1], 2**DOUBLINGS), kind="stable")
    theirs = order < len(known)
    place = np.arange(len(order))
    before = np.maximum.accumulate(np.where(theirs, place, -1))
    after = np.minimum.accumulate(np.where(theirs, place, len(order))[::-1])[::-1]
    mine = np.flatnonzero(order > len(known))
    longest = np.zeros(len(joined), np.int64)
    for near in (before[mine], after[mine]):
        there = (near >= 0) & (near < len(order))
        a, b = order[mine[there]], order[near[there]]
        longest[a] = np.maximum(longest[a], _common(ranks, a, b))
    return longest[len(known) + 1 :].reshape(len(rows), -1)[:, :-1]


def _longer(ranks: np.ndarray, size: int) -> np.ndarray:
    """Orders places by twice as many bytes as these ranks (n,) do, of so many each."""
    second = np.zeros_like(ranks)
    second[:-size] = ranks[size:] + 1
    return ranks * (int(ranks.max(initial=0)) + 2) + second


def _common(ranks: list[np.ndarray], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Counts the bytes that places (n,) and others (n,) have in common from there on."""
    common, size = np.zeros(len(a), np.int64), len(ranks[0])
    for doubling in range(len(ranks) - 1, -1, -1):
        i, j = a + common, b + common
        inside = (i < size) & (j < size)
        same = inside & (
            ranks[doubling][i.clip(max=size - 1)] == ranks[doubling][j.clip(max=size - 1)]
        )
        common += same * 2**doubling
    return common


def share(longest: np.ndarray, from_length: int) -> np.ndarray:
    """Marks the bytes (N, T) that lie in a run of at least so many, by what :func:`runs` gave."""
    n, t = longest.shape
    ends = np.zeros((n, t + 1), np.int64)
    row, start = np.nonzero(longest >= from_length)
    np.add.at(ends, (row, start), 1)
    np.add.at(ends, (row, (start + longest[row, start]).clip(max=t)), -1)
    return np.cumsum(ends, 1)[:, :t] > 0


def starts(x: np.ndarray, room: int = 32) -> np.ndarray:
    """Marks the places of texts (N, T) behind which so many bytes follow: the runs of others are cut off by the end."""
    rows = np.asarray(x, np.uint8).reshape(len(x), -1)
    ended = rows == 0
    length = np.where(ended.any(1), ended.argmax(1), rows.shape[1])[:, None]
    return np.arange(rows.shape[1]) + room <= length


def places(others: bytes) -> np.ndarray:
    """Sorts the places of texts by the bytes that follow, of which :data:`LONGEST` + 1 are looked at, uint32 (n,)."""
    ranks = np.frombuffer(others, np.uint8).astype(np.int64)
    for doubling in range(DOUBLINGS):
        key = _longer(ranks, 2**doubling)
        ranks = np.unique(key, return_inverse=True)[1].astype(np.int64)
    return np.argsort(_longer(ranks, 2**DOUBLINGS), kind="stable").astype(np.uint32)


def runs_of(said: bytes, others: bytes, order: np.ndarray) -> list[int]:
    """Finds for each place of one text how many bytes from there on others hold, too; their order is kept.

    For a text that is being written it is quicker than :func:`runs`, which sorts all others each time.

    Args:
        said: The text.
        others: What may hold its runs.
        order: Of the others, as :func:`places` gives it.
    """
    longest: list[int] = []
    length, most = 0, LONGEST + 1
    for start in range(len(said)):
        length = max(0, length - 1)  # at most one shorter than that from the place before
        if length < most:
            ahead = said[start : start + most]
            at = bisect_left(order, ahead, key=lambda place: others[place : place + most])
            near = [others[place : place + most] for place in order[max(0, at - 1) : at + 1]]
            length = max((_alike(ahead, other) for other in near), default=0)
        if length >= most:
            while start + length < len(said) and said[start : start + length + 1] in others:
                length += 1
        longest.append(length)
    return longest


def _alike(a: bytes, b: bytes) -> int:
    """Counts the bytes in which two begin alike."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))
