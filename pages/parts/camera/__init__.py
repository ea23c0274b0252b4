"""A camera that takes pictures for as long as a button is held, class after class."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Mapping
from typing import Any

import streamlit as st

from core.ground.writing import one_line
from pages.parts.component import component, told

SIDE = 256  # of a picture, in pixels; a dataset keeps at most half of it
PACE = 500  # milliseconds from picture to picture
MOST = 600  # pictures of one visit
LONGEST = 80_000  # characters of a picture as text
_HEAD = "data:image/jpeg;base64,"
_show = component(
    __file__,
    '<div class="view"><video muted playsinline aria-label="What the camera sees"></video><p role="status"></p></div>'
    '<div class="under"><input type="text" maxlength="60" aria-label="Class of the next pictures" '
    'placeholder="Class, such as cup"><button type="button" class="next">Next class</button></div>'
    '<div class="under"><button type="button" class="hold">Hold to take pictures</button>'
    '<button type="button" class="back" title="Take the last pictures back">Undo</button></div>'
    '<div class="strip" aria-hidden="true"></div><output></output>'
    '<div class="under"><button type="button" class="start"></button>'
    '<button type="button" class="other">Other camera</button></div>',
    "burst",
)


def camera(*, key: str) -> list[tuple[str, bytes]]:
    """Lets a person take pictures of one class after the other.

    Args:
        key: Unique on the page.

    Returns:
        Class (empty for none) and JPEG of each picture so far, in the order in which they were taken; at most
        :data:`MOST`. They stay with the visit until :func:`forget`.
    """
    held = _held(key)
    counts = Counter(label for label, _ in held.values())
    data = {
        "side": SIDE,
        "pace": PACE,
        "room": MOST - len(held),
        "has": st.session_state.get(f"{key}.has", 0),
        "counts": list(counts.items()),
    }
    _show(key, data, burst=lambda: _take(key))
    return list(_held(key).values())


def forget(key: str) -> None:
    """Forgets the pictures that were taken."""
    st.session_state.pop(f"{key}.shots", None)


def _held(key: str) -> dict[int, tuple[str, bytes]]:
    return st.session_state.setdefault(f"{key}.shots", {})


def _take(key: str) -> None:
    """Takes in what the browser sends: pictures that are new, each under its number, and numbers to forget."""
    held, has = _held(key), st.session_state.get(f"{key}.has", 0)
    burst = told(st.session_state.get(key), "burst")
    shots, gone = burst.get("shots"), burst.get("gone")
    for shot in shots if isinstance(shots, list) else []:
        number = shot.get("number") if isinstance(shot, Mapping) else None
        if type(number) is not int or number <= has:
            continue
        has = number  # confirmed, so that it is not sent again
        picture = _read(shot)
        if picture is not None and len(held) < MOST:
            held[number] = picture
    for number in gone if isinstance(gone, list) else []:
        if type(number) is int:
            held.pop(number, None)
    st.session_state[f"{key}.has"] = has


def _read(shot: Mapping[str, Any]) -> tuple[str, bytes] | None:
    """Reads the class and the file of one picture; whether it can be decoded is found where all pictures are."""
    label, text = shot.get("label"), shot.get("jpeg")
    if not isinstance(label, str) or not isinstance(text, str):
        return None
    if len(text) > LONGEST or not text.startswith(_HEAD):
        return None
    try:
        content = base64.b64decode(text[len(_HEAD) :], validate=True)
    except (binascii.Error, ValueError):
        return None
    return one_line(label)[:60], content
