"""Many small pictures as one PNG: the form in which grids travel to the browser and rest in a run's folder."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from core.ground import xmp

LARGE = 256  # px from which a picture that only passes by is written with loss
PAD = "pad.png"  # in a run's folder: a plane of its latent space, made by `core.latent.shelve`


def columns(classes: int) -> int:
    """Chooses the columns of a sheet: one or several per class where that gives 8 to 16, else 8.

    >>> [columns(k) for k in (0, 2, 5, 10, 500)]
    [8, 8, 10, 10, 8]
    """
    return classes * math.ceil(8 / classes) if 2 <= classes <= 16 else 8


def as_bytes(x: np.ndarray, levels: int) -> np.ndarray:
    """Spreads the levels of a dataset's images, uint8 0 … levels-1 of any shape, over 0 … 255, as they are shown.

    >>> as_bytes(np.array([0, 8, 16], np.uint8), 17)
    array([  0, 128, 255], dtype=uint8)
    """
    x = np.asarray(x)
    if levels == 256:
        return x
    return (x.astype(np.float32) * 255 / (levels - 1)).round().astype(np.uint8)


def arrange(
    x: np.ndarray, columns: int, *, gap: int = 0, scale: int = 1, ground: int = 128
) -> np.ndarray:
    """Lays images out row by row.

    Args:
        x: uint8 (N, C, H, W), 0 … 255.
        columns: Images per row.
        gap: Pixels between images, after scaling.
        scale: Each pixel becomes a square of this side, never a blur.
        ground: Grey level of gaps and of missing images.

    Returns:
        uint8 (rows, width) for grey or (rows, width, 3) for colour.
    """
    count, channels, height, width = x.shape
    columns = max(1, min(columns, count))
    rows = math.ceil(count / columns)
    x = x.repeat(scale, 2).repeat(scale, 3)
    height, width = height * scale, width * scale
    sheet = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, channels), ground, np.uint8
    )
    for i in range(count):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = x[i].transpose(1, 2, 0)
    return sheet[..., 0] if channels == 1 else sheet


def png(
    x: np.ndarray,
    columns: int,
    metadata: Mapping[str, Any] | None = None,
    *,
    mark: xmp.Mark | None = None,
    **layout: int,
) -> bytes:
    """Writes a sheet as PNG.

    Args:
        x: uint8 (N, C, H, W), 0 … 255.
        columns: Images per row.
        metadata: Travel inside it as JSON, so that a picture can say how it was made.
        mark: Says in other programs' words how it was made, where a model had a part in it.
        layout: As :func:`arrange` takes it.
    """
    info = PngInfo()
    count, _, height, width = x.shape
    own = {"count": count, "columns": columns, "tile": [height, width]}
    info.add_text("simulacra", json.dumps({**own, **(metadata or {})}))
    out = io.BytesIO()
    Image.fromarray(arrange(x, columns, **layout)).save(out, "PNG", pnginfo=info, compress_level=1)
    return out.getvalue() if mark is None else xmp.write(out.getvalue(), mark)


def jpeg(x: np.ndarray, columns: int) -> bytes:
    """Writes a sheet as JPEG, for many large pictures that only pass by."""
    out = io.BytesIO()
    Image.fromarray(arrange(x, columns)).save(out, "JPEG", quality=88, subsampling=0)
    return out.getvalue()


def passing(x: np.ndarray, columns: int) -> bytes:
    """Writes a sheet that a browser draws and nobody keeps: large pictures with loss, so that it is written at once.

    At 512 px a JPEG is written in a fifteenth of the time of a PNG, and has a sixth of its bytes.
    """
    return (jpeg if min(x.shape[2:]) >= LARGE else png)(x, columns)


def metadata(content: bytes) -> dict[str, Any]:
    """Reads what :func:`png` wrote into a sheet: ``count``, ``columns``, ``tile`` (height, width), and the rest."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        return json.loads(picture.text["simulacra"])  # type: ignore[attr-defined]


def whole(content: bytes) -> dict[str, Any] | None:
    """Gives the metadata of a sheet whose every picture can be read; None of a damaged one."""
    try:
        layout = metadata(content)
        numbers = (layout["count"], layout["columns"], *layout["tile"], layout.get("images", 0))
        fits = all(type(n) in (int, float) for n in numbers) and min(numbers[:-1]) > 0
        return layout if fits and len(tiles(content)) == layout["count"] else None
    except Exception:  # a damaged picture makes its reader raise many kinds
        return None


def tiles(content: bytes) -> np.ndarray:
    """Cuts a gapless, unscaled sheet made by :func:`png` into its images, uint8 (N, C, H, W)."""
    layout = metadata(content)
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        sheet = np.asarray(picture)
    sheet = sheet[..., None] if sheet.ndim == 2 else sheet
    height, width = layout["tile"]
    rows, columns = sheet.shape[0] // height, sheet.shape[1] // width
    cells = sheet.reshape(rows, height, columns, width, -1).transpose(0, 2, 4, 1, 3)
    return cells.reshape(rows * columns, -1, height, width)[: layout["count"]]
