"""A plane of a latent space as a picture to drag on: smooth, because the browser already has the neighbourhood.

The neighbourhood comes as one sheet of decoded cells. The component shows the cells under the pointer, cross-faded, at
the display's rate and without asking the server; when the pointer rests, it asks for the exact image. A walk comes as a
sheet, too, and is played by the browser alone. A component with its own JavaScript, because Streamlit's slider speaks
only when it is released.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.parts.component import component, data_url, numbers, told

PINS = 24  # that a plane can hold
_BUTTONS = (
    ("undo", "↶", "Back to the position before (Backspace)"),
    ("home", "⌂", "Where this plane begins (Home)"),
    ("out", "−", "See more of the plane (minus)"),
    ("in", "+", "See less of it, finer (plus)"),
    ("pin", "Pin", "Pin this position, or remove the pin under the ring (P)"),
)
_CORNERS = (
    '<svg viewBox="0 0 16 16" width="13" height="13" fill="none" stroke="currentColor" stroke-width="2" '
    'aria-hidden="true"><path d="M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4"/></svg>'
)
_SHOWN = (
    ("play", "▶", "Play a walk that comes back here, or hold it (space)"),
    ("stay", "Stay here", "Stay here: the pad begins at the picture that is shown"),
    ("full", _CORNERS, "The picture alone on the screen, to be dragged on; Escape leaves"),
)


def _row(buttons: tuple[tuple[str, str, str], ...]) -> str:
    return "".join(
        f'<button type="button" class="{act}" data-act="{act}" title="{title}" aria-label="{title}">{sign}</button>'
        for act, sign, title in buttons
    )


_show = component(
    __file__,
    '<div class="views"><div><div class="plane"><canvas class="ground"></canvas>'
    '<canvas class="over" tabindex="0" role="application"></canvas></div><div class="under">'
    + _row(_BUTTONS)
    + '</div></div><div class="seen"><div class="pair">'
    '<div><canvas class="image" role="img"></canvas><div class="who"></div></div>'
    '<div class="second" hidden><canvas class="other" role="img"></canvas><div class="who"></div></div>'
    '</div><div class="under">'
    + _row(_SHOWN)
    + '<span class="kind"></span><span class="meter"></span></div></div></div>'
    '<div class="words" aria-live="polite"></div>',
    "view",
    "dropped",
    "stayed",
)


@dataclass(frozen=True)
class View:
    """The part of a plane that a visitor looks at.

    Attributes:
        at: The position of the ring, in units of the plane, y downwards as on the screen.
        window: Centre and width of the part that is shown.
        pins: Pinned positions.
        number: Of the browser's request; 0 before the first one.
        rest: Whether the pointer rests, so that the exact image is wanted.
        has: The key of the sheet that the browser holds.
        walks: Whether a walk from here is wanted.
    """

    at: tuple[float, float]
    window: tuple[float, float, float]
    pins: tuple[tuple[float, float], ...] = ()
    number: int = 0
    rest: bool = True
    has: str = ""
    walks: bool = False


def view(key: str, plane: str, start: View, limit: float, went: int = 0) -> View:
    """Reads the view that the browser requests; ``start`` where that is of another plane, or no view.

    Args:
        key: Of the pad.
        plane: Identity of the plane.
        start: Where the plane begins.
        limit: Positions lie within plus and minus this.
        went: How often the pad was sent to a view; requests from before the last time do not count.
    """
    request = told(st.session_state.get(key), "view")
    if request.get("plane") != plane or request.get("went") != went:
        return start
    at, window = numbers(request.get("at"), 2, limit), numbers(request.get("window"), 3, 2 * limit)
    number = request.get("number")
    if at is None or window is None or not window[2] > 0 or not isinstance(number, int):
        return start
    listed = request.get("pins")
    pins = [numbers(pin, 2, limit) for pin in listed[:PINS]] if isinstance(listed, list) else []
    return View(
        (at[0], at[1]),
        (window[0], window[1], window[2]),
        tuple((pin[0], pin[1]) for pin in pins if pin is not None),
        number,
        bool(request.get("rest")),
        str(request.get("has")),
        request.get("walks") is True,
    )


@dataclass(frozen=True)
class Sheet:
    """The cells of one window, row by row from its upper left corner.

    Attributes:
        key: Identity of its images.
        content: One gapless picture, PNG or JPEG.
        cells: Per side.
        window: Centre and width, in units of the plane.
        second: The same window by the model beside, if there is one.
    """

    key: str
    content: bytes
    cells: int
    window: tuple[float, float, float]
    second: Sheet | None = None


@dataclass(frozen=True)
class Beside:
    """A second image at the ring, of another model.

    Attributes:
        key: Identity of what it shows.
        names: Of both images, the first one's first; they stand below them.
        exact: PNG of the exact image at ``view.at``; None while the pointer moves.
    """

    key: str
    names: tuple[str, str]
    exact: bytes | None


def pad(
    *,
    key: str,
    plane: str,
    tile: tuple[int, int],
    alt: str,
    seen: str,
    start: View,
    view: View,
    sheet: Sheet | None,
    exact: bytes | None,
    beside: Beside | None = None,
    walk: Sheet | None = None,
    seconds: float = 0,
    ms: Mapping[str, float],
    limit: float,
    went: int = 0,
    home: View | None = None,
    marks: Sequence[tuple[str, float, float]] = (),
    side: int = 400,
    roams: bool = True,
    instant: bool = False,
    on_view: Callable[[], None] = lambda: None,
    on_drop: Callable[[], None] = lambda: None,
    on_stay: Callable[[], None] = lambda: None,
) -> None:
    """Shows a plane and the image at its ring.

    Args:
        key: Unique on the page.
        plane: Identity of the plane; trail and pins belong to one plane.
        tile: Height and width of one image.
        alt: What a person who does not see it should know.
        seen: The name of the image, to be read aloud.
        start: Where a new plane begins, and where a new ``went`` leads.
        view: The request that is answered, from :func:`view`.
        sheet: The cells of the window; None where the browser holds them.
        exact: PNG of the exact image at ``view.at``.
        beside: A second image that moves with the first one.
        walk: Moments of a walk from ``view.at`` and back, row by row; None where none is wanted.
        seconds: How long the walk takes.
        ms: Milliseconds of ``model`` and ``encode``.
        limit: Positions lie within plus and minus this.
        went: A new number sends the ring and the window to ``start``.
        home: Where the button Home leads; ``start`` when left out.
        marks: A short name with its position, for example ("A", x, y).
        side: Longest side of the plane in CSS pixels.
        roams: Whether the window can be moved, for which new sheets are requested.
        instant: Whether what is exact is asked for as soon as somebody presses, and not only when the pointer rests.
        on_view: Called before the rerun that answers a request.
        on_drop: Called when a picture was dropped on the pad; its state holds ``dropped.content``, base64.
        on_stay: Called when the pad is to begin at a moment of the walk; its state holds ``stayed.at``, where the walk
            began, and ``stayed.share``, how much of it had passed.
    """
    data: dict[str, Any] = {
        "plane": plane,
        "tile": list(tile),
        "alt": alt,
        "seen": seen,
        "limit": limit,
        "side": side,
        "roams": roams,
        "instant": instant,
        "answer": view.number,
        "ms": dict(ms),
        "marks": [{"label": label, "at": [x, y]} for label, x, y in marks],
        "go": {
            "number": went,
            "at": list(start.at),
            "window": list(start.window),
            "pins": [list(pin) for pin in start.pins],
        },
        "home": {"at": list((home or start).at), "window": list((home or start).window)},
    }
    if sheet is not None and sheet.key != view.has:
        data["sheet"] = {
            "key": sheet.key,
            "plane": plane,
            "cells": sheet.cells,
            "window": list(sheet.window),
            "src": data_url(sheet.content),
            **_second(sheet),
        }
    if exact is not None:
        data["exact"] = {
            "key": f"{plane} {beside and beside.key} {view.at} {view.number}",
            "plane": plane,
            "at": list(view.at),
            "src": data_url(exact),
        }
        if beside is not None and beside.exact is not None:
            data["exact"]["second"] = {"src": data_url(beside.exact)}
    if beside is not None:
        data["names"] = list(beside.names)
    if walk is not None:
        data["walk"] = {
            "key": walk.key,
            "plane": plane,
            "at": list(view.at),
            "cells": walk.cells,
            "seconds": seconds,
            "src": data_url(walk.content),
            **_second(walk),
        }
    _show(key, data, view=on_view, dropped=on_drop, stayed=on_stay)


def _second(sheet: Sheet) -> dict[str, Any]:
    if (second := sheet.second) is None:
        return {}
    return {"second": {"cells": second.cells, "src": data_url(second.content)}}
