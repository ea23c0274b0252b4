"""A place to draw with mouse, finger, pen or keys: light ink on a dark sheet, or marks over a picture."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from core.ground import sheets
from pages.parts.component import component, data_url

PIXELS = 224  # of the drawing, whatever the screen
LONGEST = 2_000_000  # characters of a drawing as text
BRUSH = 0.09  # width of a stroke at the start, as a share of the side
BROAD = 0.16  # the same over a picture, where areas are marked and not lines
WIDEST = 512  # pixels of a picture that is marked, along a side
TOOLS = ("brush", "box", "lasso", "rubber")
_TOOL = '<button type="button" class="tool" data-tool="{}" title="{}">{}</button>'
_TOOLS = (
    _TOOL.format("brush", "Paint over what is to be marked", "Brush")
    + _TOOL.format("box", "Drag from corner to corner", "Box")
    + _TOOL.format("lasso", "Draw around what is to be marked", "Lasso")
    + _TOOL.format("rubber", "Take marks away again", "Rubber")
)
_show = component(
    __file__,
    f'<div class="under tools" role="group" aria-label="What a stroke does">{_TOOLS}</div>'
    '<div class="under inks" role="group" aria-label="Pencil"></div>'
    "<canvas></canvas>"
    '<div class="under">'
    '<button type="button" class="undo" title="Take the last stroke back">Undo</button>'
    '<button type="button" class="clear" title="Begin again">Clear</button>'
    '<label>Width<input type="range" min="0.02" max="0.4" step="0.01"></label></div>'
    '<p class="said" role="status"></p>',
    "drawing",
    "mask",
)


def canvas(
    *,
    key: str,
    alt: str,
    side: int = 224,
    ground: str = "#000000",
    inks: Sequence[str] = ("#ffffff",),
    brush: float = BRUSH,
    under: np.ndarray | None = None,
) -> tuple[int, np.ndarray] | None:
    """Lets a person draw.

    Args:
        key: Unique on the page.
        alt: What a person who does not see it should know.
        side: In CSS pixels.
        ground: The colour of the empty sheet, as ``#rrggbb``.
        inks: The colours of the pencils; with several there is one that rubs out, and one of any colour.
        brush: Width of a stroke at the start, as a share of the side.
        under: What is on the sheet already, uint8 (1 or 3, H, W); with another one, the strokes are gone.

    Returns:
        The number of the last stroke, new for every one, and the drawing: uint8 (H, W), ink near 255, of a sheet with
        one ink, else (H, W, 3). None while nothing is drawn.
    """
    start = "" if under is None else data_url(sheets.png(under[None], 1))
    sheet = hashlib.sha256(f"{ground} {start}".encode()).hexdigest()[:16]
    data = {
        "alt": alt,
        "brush": brush,
        "side": side,
        "pixels": [PIXELS, PIXELS],
        "picture": "",
        "ground": ground,
        "inks": list(inks),
        "under": start,
        "sheet": sheet,
    }
    drawing = _show(key, data)["drawing"]
    number, text = drawing.get("number"), drawing.get("png")
    if drawing.get("sheet", sheet) != sheet:  # of a sheet that is not there any more
        return None
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
            return number, np.asarray(picture.convert("L" if len(inks) < 2 else "RGB"))
    except (binascii.Error, OSError, ValueError, SyntaxError):
        return None


def hole(
    picture: np.ndarray, start: np.ndarray, *, key: str, alt: str, side: int = 320
) -> np.ndarray:
    """Lets a person mark a part of a picture, pixel by pixel: brush, box, lasso and rubber.

    Args:
        picture: What is marked, uint8 (1 or 3, H, W), at most :data:`WIDEST` pixels along a side.
        start: What is marked at the beginning, bool (H, W); what was marked by hand stays when the picture changes, as
            long as its size does not.
        key: Unique on the page.
        alt: What a person who does not see it should know.
        side: At most, in CSS pixels.

    Returns:
        What is marked, bool (H, W).

    Raises:
        ValueError: If the picture is too large, or the mask is of another size.
    """
    size = picture.shape[1:]
    if max(size) > WIDEST or start.shape != size:
        raise ValueError(f"a picture of {size} and a mask of {start.shape} cannot be marked")
    data = {
        "alt": alt,
        "brush": BROAD,
        "side": side,
        "pixels": list(size),
        "picture": data_url(sheets.png(picture[None], 1)),
        "start": packed(start),
    }
    told = unpacked(_show(key, data)["mask"], size)
    return start if told is None else told


def packed(mask: np.ndarray) -> str:
    """Writes a mask, bool (H, W), as text: a bit for each pixel, row by row."""
    return base64.b64encode(np.packbits(mask).tobytes()).decode()


def unpacked(answer: dict[str, Any], size: tuple[int, ...]) -> np.ndarray | None:
    """Reads the mask that a browser tells of a picture of a size (H, W); None of anything else."""
    text, count = answer.get("bits"), size[0] * size[1]
    length = -(-count // 8)
    if answer.get("pixels") != list(size) or not isinstance(text, str):
        return None
    if len(text) != -(-length // 3) * 4:
        return None
    try:
        content = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except (binascii.Error, ValueError):
        return None
    if len(content) != length:
        return None
    return np.unpackbits(content, count=count).reshape(size).astype(bool)
