"""A sheet to draw on with mouse, finger or pen, light on dark."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
from PIL import Image

from pages.parts.component import component

PIXELS = 224  # of the drawing, whatever the screen
LONGEST = 2_000_000  # characters of a drawing as text
BRUSH = 0.09  # width of a stroke at the start, as a share of the side
_show = component(
    __file__,
    '<canvas role="img"></canvas><div class="under">'
    '<button type="button" class="undo" title="Take the last stroke back">Undo</button>'
    '<button type="button" class="clear" title="Begin again">Clear</button>'
    '<label>Brush<input type="range" min="0.02" max="0.2" step="0.01"></label></div>',
    "drawing",
)


def canvas(*, key: str, alt: str, side: int = 224) -> tuple[int, np.ndarray] | None:
    """Lets a person draw.

    Args:
        key: Unique on the page.
        alt: What a person who does not see it should know.
        side: In CSS pixels.

    Returns:
        The number of the last stroke, new for every one, and the drawing, uint8 (H, W), ink near 255; None while
        nothing is drawn.
    """
    data = {"alt": alt, "brush": BRUSH, "side": side, "pixels": PIXELS}
    drawing = _show(key, data)["drawing"]
    number, text = drawing.get("number"), drawing.get("png")
    head = "data:image/png;base64,"
    if not isinstance(number, int) or not isinstance(text, str) or len(text) > LONGEST:
        return None
    if not text.startswith(head):
        return None
    try:
        content = base64.b64decode(text[len(head) :], validate=True)
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.size != (PIXELS, PIXELS):
                return None
            return number, np.asarray(picture.convert("L"))
    except (binascii.Error, OSError, ValueError, SyntaxError):
        return None
