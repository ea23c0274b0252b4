"""Fills of a hole while they are made: in slices, so that whoever else is on the server gets a turn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import streamlit as st

from core.ground import sheets
from core.ground.watch import Watch
from core.ground.writing import percent
from core.media import Medium
from pages.parts import shell
from pages.parts.component import data_url
from pages.parts.latent import TURNS

MOST_BYTES = 2**25  # of the fills that a visit keeps
TURN = 0.05  # seconds that one visitor's work goes on while others wait
SHOWN = 0.15  # seconds between two pictures of a preview


class Turns(Watch):
    """Lets others in between two passes through a model; the visitor who leaves ends the work."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def check(self) -> None:
        if time.monotonic() - self._since < TURN:
            return
        TURNS.release()
        try:
            super().check()
            time.sleep(0.001)  # whoever waits wakes up, and comes first
        finally:
            TURNS.acquire()
            self._since = time.monotonic()


def most(shape: tuple[int, ...], wanted: int) -> int:
    """Gives how many fills of a shape (…) may be made at once, at most as many as wanted."""
    return int(np.clip(MOST_BYTES // (4 * int(np.prod(shape))), 1, wanted))


def fills(medium: Medium, steps: Iterator[Any], titles: dict[str, str]) -> Any:
    """Makes fills to their end, and shows them meanwhile.

    Args:
        medium: Of what is filled.
        steps: What :func:`core.latent.repair.fill` yields, with :class:`Turns` for its watch.
        titles: Of the methods, by name.

    Returns:
        The last step.
    """
    slot, last, shown = st.empty(), None, 0.0
    while True:
        with TURNS:
            step = next(steps, None)
        if step is None:
            break
        last = step
        if step.done < 1 and time.monotonic() - shown > SHOWN:
            x, shown = medium.shown(step.images), time.monotonic()
            scale = max(1, 72 // x.shape[-1])
            name = shell.plain(str(titles.get(step.method, step.method)))
            slot.image(
                data_url(sheets.png(x, 4, scale=scale, gap=2)),
                caption=f"Preview: {name}, {percent(step.done, 0)} done",
            )
    slot.empty()
    return last
