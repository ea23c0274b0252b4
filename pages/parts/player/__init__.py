"""A sound to look at and to hear: its spectrogram and its waveform with their axes, and a place to hear it from.

A component with its own JavaScript, because Streamlit's player shows no sound, knows no place in it, and stops before
the next one begins: here one sound fades into the other, and of all players on a page one is heard at a time.
"""

from __future__ import annotations

import base64

import numpy as np

from core.ground import sheets
from core.media import Medium
from core.media.sound import SECONDS, frequencies, rate_of
from pages.parts.component import component, data_url

_TICKS = (100, 250, 500, 1000, 2000, 4000, 8000)  # Hz
_show = component(
    __file__,
    '<canvas tabindex="0" role="slider"></canvas><div class="under">'
    '<button type="button" class="play"></button>'
    '<button type="button" class="follow" aria-pressed="true" hidden>Hear while dragging</button>'
    "<output></output></div>",
)


def player(
    x: np.ndarray, medium: Medium, *, alt: str, key: str, height: int = 190, hear: int | None = None
) -> None:
    """Shows a stored sound, int16 (1, T), and plays it.

    Args:
        x: The sound.
        medium: Draws it.
        alt: What it is, in words.
        key: Unique on the page.
        height: Of the spectrogram, in CSS pixels.
        hear: Another number than the last one plays it at once, where the visitor has pressed on the page before and
            has not switched that off; None plays it only when it is asked for.
    """
    rate = rate_of(x.shape[-1])
    bands = frequencies(rate)
    ticks = [
        (f"{hertz / 1000:g} k" if hertz >= 1000 else str(hertz), place)
        for hertz in _TICKS
        if bands[0] <= hertz <= rate / 2
        and (place := float(np.interp(hertz, bands, np.linspace(0, 1, len(bands))))) <= 1
    ]
    data = {
        "sound": base64.b64encode(medium.alone(x, 256)).decode(),
        "picture": data_url(sheets.png(medium.pictures(x[None]), 1)),
        "rate": rate,
        "seconds": SECONDS,
        "ticks": ticks,
        "alt": alt,
        "height": height,
        "hear": hear,
    }
    _show(key, data)
