"""How long something takes on this machine, told on a machine that has other work as well."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def least(do: Callable[[], Any], runs: int = 3, patience: float = 1.0) -> float:
    """Gives the seconds that something takes: the least of a few runs, after one that warms up.

    What else the machine does only ever makes a run longer, so that the least is nearest to what it takes alone. The
    time of the process would count the work of other visitors, and that of a thread not what others do for it.

    Args:
        do: What is timed.
        runs: At most so many count.
        patience: Seconds after which no other run begins; the one that warms up counts where it takes as long.
    """
    began = last = time.perf_counter()
    shortest = float("inf")
    for run in range(runs + 1):
        do()
        now = time.perf_counter()
        if run or now - began >= patience:
            shortest = min(shortest, now - last)
        if now - began >= patience:
            break
        last = now
    return shortest
