"""Two pictures in one frame with a border to drag between them: before on its left, after on its right."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import streamlit as st

from core import sheets

_HERE = Path(__file__).parent
_mount = st.components.v2.component(  # pyright: ignore[reportAttributeAccessIssue]
    "simulacra_compare",
    html='<div class="box"><canvas></canvas><input type="range" min="0" max="100" step="1"></div>',
    css=(_HERE / "compare.css").read_text("utf-8"),
    js=(_HERE / "compare.js").read_text("utf-8"),
)


def compare(
    before: np.ndarray, after: np.ndarray, *, alt: str, key: str, max_height: int = 360
) -> None:
    """Shows two pictures, uint8 (C, H, W) of the same size, with a border that mouse, finger or arrow keys move."""
    sheet = sheets.png(np.stack([before, after]), 2)
    _mount(
        key=key,
        data={
            "sheet": "data:image/png;base64," + base64.b64encode(sheet).decode(),
            "tile": [before.shape[1], before.shape[2]],
            "alt": alt,
            "maxHeight": max_height,
        },
    )
