"""Points over a sheet of pictures, to click anywhere, to draw a ring around some, and to follow a path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from pages.ui.pad import numbers, source

_HERE = Path(__file__).parent
_mount = st.components.v2.component(  # pyright: ignore[reportAttributeAccessIssue]
    "simulacra_chart",
    html='<div class="box"><canvas tabindex="0" role="application"></canvas><div class="legend"></div>'
    '<div class="tip" aria-live="polite"></div></div>',
    css=(_HERE / "chart.css").read_text("utf-8"),
    js=(_HERE / "chart.js").read_text("utf-8"),
)


@dataclass(frozen=True)
class Chosen:
    """What a person pointed at.

    Attributes:
        number: New for every click and every ring.
        at: The place of a click, in units of the chart; None of a ring.
        inside: The points inside a ring, at most 200; empty of a click.
    """

    number: int
    at: tuple[float, float] | None
    inside: tuple[int, ...]


def chart(
    *,
    key: str,
    alt: str,
    sheet: bytes,
    box: Sequence[float],
    points: Sequence[tuple[float, float, int, bool]],
    colours: Sequence[str],
    titles: Sequence[str],
    path: Sequence[tuple[float, float]] = (),
    marks: Sequence[tuple[str, float, float]] = (),
    side: int = 460,
    faint: float = 0.55,
) -> Chosen | None:
    """Shows points over a picture.

    Args:
        key: Unique on the page.
        alt: What a person who does not see it should know.
        sheet: The picture that fills the box, PNG or JPEG.
        box: Left, top, right and bottom in units of the chart; y goes downwards.
        points: (x, y, group, square); a square is drawn for those that stand out from the round ones.
        colours, titles: One per group.
        path: A line to draw.
        marks: A short word with its place.
        side: In CSS pixels.
        faint: How strongly the picture is drawn, 0 to 1.

    Returns:
        What was pointed at last; None before, and for what is no such thing.
    """
    data = {
        "alt": alt,
        "src": source(sheet),
        "box": [float(value) for value in box],
        "points": [
            [round(float(x), 4), round(float(y), 4), int(group), i, bool(square)]
            for i, (x, y, group, square) in enumerate(points)
        ],
        "colours": list(colours),
        "titles": list(titles),
        "legend": [
            {"colour": colour, "label": title}
            for colour, title in zip(colours, titles, strict=True)
            if title
        ],
        "path": [[float(x), float(y)] for x, y in path],
        "marks": [{"label": label, "at": [float(x), float(y)]} for label, x, y in marks],
        "side": side,
        "faint": faint,
    }
    got = _mount(key=key, data=data, on_chosen_change=lambda: None).chosen
    if not isinstance(got, Mapping) or not isinstance(got.get("number"), int):
        return None
    reach = 10 * max(abs(value) for value in data["box"]) + 1
    at = numbers(got.get("at"), 2, reach)
    inside = got.get("inside")
    listed = inside if isinstance(inside, list) else []
    known = tuple(i for i in listed[:200] if type(i) is int and 0 <= i < len(points))
    if at is None and not known:
        return None
    return Chosen(got["number"], (at[0], at[1]) if at is not None else None, known)
