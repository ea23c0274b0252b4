"""The tools of the Latent space page, in the order in which they are offered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from core import runs
from pages.parts.latent import (
    Spot,
    atlas,
    directions,
    film,
    how_made,
    picture,
    repair,
    samples,
    side_by_side,
    sketch,
    translate,
    write,
)


@dataclass(frozen=True)
class Tool:
    """One thing to do from the point under the ring.

    Attributes:
        title: On the switch.
        draw: Draws it.
        spacious: Whether it needs a latent space.
        follows: Whether it draws anew when the ring rests elsewhere.
        compares: Whether it looks at the dataset.
        fits: Whether a model can do it.
    """

    title: str
    draw: Callable[[Spot], None]
    spacious: bool = True
    follows: bool = False
    compares: bool = True
    fits: Callable[[runs.Opened], bool] = lambda opened: True


TOOLS = {
    "samples": Tool("Samples", samples.draw, spacious=False, compares=False),
    "directions": Tool("Directions", directions.draw, follows=True),
    "beside": Tool("Side by side", side_by_side.draw, compares=False),
    "map": Tool("Map", atlas.draw),
    "picture": Tool("Your image", picture.draw),
    "repair": Tool("Repair", repair.draw, follows=True),
    "translate": Tool("Translate", translate.draw, follows=True),
    "making": Tool("How it is made", how_made.draw, follows=True),
    "film": Tool("Film", film.draw, compares=False),
    "sketch": Tool("From a sketch", sketch.draw, spacious=False, fits=sketch.fits),
    "write": Tool("Write", write.draw, spacious=False, fits=write.fits),
}


def offered(opened: runs.Opened, spacious: bool) -> dict[str, Tool]:
    """Lists the tools that fit a model."""
    return {
        name: tool
        for name, tool in TOOLS.items()
        if (spacious or not tool.spacious) and tool.fits(opened)
    }


def follows() -> bool:
    """Tells whether the tool that is open draws anew when the ring rests elsewhere."""
    tool = TOOLS.get(st.session_state.get("latent.tool", ""))
    return tool is not None and tool.follows
