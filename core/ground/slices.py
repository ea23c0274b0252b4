"""Points at which long work can end because nobody wants its result any longer.

A computation that takes long calls :func:`between` as it goes. What is checked there is set once per process with
:func:`watch`: the pages end the work of a visitor who has left or asked for something else, jobs and the command line
check nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 0.05  # seconds between two looks of one thread

_look: Callable[[], None] = lambda: None  # noqa: E731
_last = threading.local()


def watch(look: Callable[[], None]) -> None:
    """Sets what is called between two slices of work; it ends the work by raising."""
    global _look
    _look = look


@contextmanager
def whole() -> Iterator[None]:
    """Keeps work that others share from being ended in the middle."""
    before, _last.time = getattr(_last, "time", 0.0), math.inf
    try:
        yield
    finally:
        _last.time = before


def between(*_: object) -> None:
    """Marks the end of a slice; takes any arguments, so that it can be a callback or a hook."""
    now = time.monotonic()
    if now - getattr(_last, "time", 0.0) >= EVERY:
        _last.time = now
        _look()
