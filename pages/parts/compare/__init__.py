"""Two pictures in one frame with a border to drag between them: before on its left, after on its right."""

from __future__ import annotations

import numpy as np

from core.ground import sheets
from pages.parts.component import component, data_url

_show = component(
    __file__, '<canvas role="img"></canvas><input type="range" min="0" max="100" step="1">'
)


def compare(before: np.ndarray, after: np.ndarray, *, alt: str, key: str) -> None:
    """Shows two pictures, uint8 (C, H, W) of the same size, with a border that mouse, finger or arrow keys move."""
    data = {
        "sheet": data_url(sheets.png(np.stack([before, after]), 2)),
        "tile": [before.shape[1], before.shape[2]],
        "alt": alt,
        "maxHeight": 440,
    }
    _show(key, data)
