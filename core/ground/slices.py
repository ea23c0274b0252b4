"""Long work in slices: between two of them somebody may look whether it is still wanted.

A visitor who leaves, or asks for something else, is noticed only where somebody looks. What computes for long calls
:func:`between` as it goes; who started the process says once, with :func:`watch`, what happens there. The pages let
the visitor's run end at that point; a job and the command line do nothing.
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
    """Says what happens between two slices; it ends the work by raising."""
    global _look
    _look = look


@contextmanager
def whole() -> Iterator[None]:
    """Keeps a piece of work whole that others share: nobody looks before its end."""
    before, _last.time = getattr(_last, "time", 0.0), math.inf
    try:
        yield
    finally:
        _last.time = before


def between(*_: object) -> None:
    """Marks the end of a slice; takes any arguments, to stand where progress is told or a hook is called."""
    now = time.monotonic()
    if now - getattr(_last, "time", 0.0) >= EVERY:
        _last.time = now
        _look()
