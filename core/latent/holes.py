"""What is not known of a picture: what lies beyond its edges, and holes as text that fits into a link.

A hole is written in the first of these ways that is short enough, and read in each of them:

* ``none``: nothing is marked.
* ``2-2-4-4_0-0-1-1``: boxes of left, top, width and height, in pixels.
* ``28x28.Y2Bg…``: width and height of the picture, and a bit for each of its pixels, row by row, 1 in the hole, as
  DEFLATE [1] in the letters of base64url [2].

References:
    [1] Deutsch, 1996, DEFLATE compressed data format specification version 1.3, https://www.rfc-editor.org/rfc/rfc1951
    [2] Josefsson, 2006, The Base16, Base32, and Base64 data encodings, https://www.rfc-editor.org/rfc/rfc4648
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.catalog import UserError
from core.tensors import Batch

PLACES = {  # where the picture stands in the frame, as shares of the free room: from the left, from the top
    "middle": (0.5, 0.5),
    "left": (0.0, 0.5),
    "right": (1.0, 0.5),
    "top": (0.5, 0.0),
    "bottom": (0.5, 1.0),
}
LEAST = 0.2  # of the frame's side that the picture takes
BOXES = 24  # in a text; a hole of more is written as bits
LONGEST = 6_000  # letters of a text: any hole in 180 x 180 pixels, and what servers take in a line of a request
_NONE = "none"
_BOX = re.compile(r"(\d{1,4})-(\d{1,4})-(\d{1,4})-(\d{1,4})", re.ASCII)
_BITS = re.compile(r"(\d{1,4})x(\d{1,4})\.([A-Za-z0-9_-]+)", re.ASCII)


def framed(x: Batch, share: float, place: str = "middle") -> tuple[Batch, Tensor]:
    """Scales pictures down into a frame of their own size; the rest of it is 0, and not known.

    Args:
        x: Pictures, (N, C, H, W) in [0, 1].
        share: Of the frame's sides that they take, from :data:`LEAST` to 1.
        place: One of :data:`PLACES`.

    Returns:
        The frames, (N, C, H, W), and which of their pixels are known, bool (H, W).

    Raises:
        UserError: If the share or the place is not allowed, or these are no pictures.
    """
    if place not in PLACES:
        raise UserError(
            f"A picture stands at one of {', '.join(PLACES)} in its frame, got {place!r}. Choose one of them."
        )
    if not LEAST <= share <= 1:
        raise UserError(
            f"A picture takes {LEAST:g} to 1 of its frame's side, got {share:g}. Choose a share between."
        )
    if x.ndim != 4:
        raise UserError(
            "Only pictures have an edge to go beyond, and this is something else. Repair a part of it instead."
        )
    sides = x.shape[2:]
    height, width = (max(1, round(side * share)) for side in sides)
    top = round((sides[0] - height) * PLACES[place][1])
    left = round((sides[1] - width) * PLACES[place][0])
    frame, known = torch.zeros_like(x), torch.zeros(tuple(sides), dtype=torch.bool)
    inside = (slice(top, top + height), slice(left, left + width))
    frame[:, :, *inside] = F.interpolate(x, (height, width), mode="area")
    known[inside] = True
    return frame, known


def boxes(mask: np.ndarray) -> list[list[int]]:
    """Takes a mask, bool (H, W), apart into boxes: x, y, width and height each, together the mask and no more."""
    done: list[list[int]] = []
    growing: dict[tuple[int, int], list[int]] = {}
    for y, row in enumerate(mask):
        ends = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
        runs = {(int(a), int(b - a)) for a, b in zip(ends[::2], ends[1::2], strict=True)}
        done += [box for run, box in growing.items() if run not in runs]
        growing = {run: growing.get(run, [run[0], y, run[1], 0]) for run in sorted(runs)}
        for box in growing.values():
            box[3] += 1
    return sorted([*done, *growing.values()], key=lambda box: (box[1], box[0]))


def written(mask: np.ndarray) -> str:
    """Writes a mask, bool (H, W), true in the hole, as text for :func:`read`; empty where it would be too long."""
    if not mask.any():
        return _NONE
    if len(found := boxes(mask)) <= BOXES:
        return "_".join("-".join(map(str, box)) for box in found)
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    content = pack.compress(np.packbits(mask).tobytes()) + pack.flush()
    bits = base64.urlsafe_b64encode(content).decode().rstrip("=")
    text = f"{mask.shape[1]}x{mask.shape[0]}.{bits}"
    return text if len(text) <= LONGEST else ""


def is_text(text: str) -> bool:
    """Tells whether something is written as a hole is, right or wrong, and not as the name of a file."""
    return text == _NONE or any(kind.match(text) for kind in (_BITS, _BOX))


def read(text: str, size: tuple[int, ...]) -> np.ndarray:
    """Reads a hole that was written as text.

    Args:
        text: As :func:`written` gives it.
        size: Height and width of the picture.

    Returns:
        True in the hole, bool (H, W).

    Raises:
        UserError: If it is no such text, too long, or a hole in a picture of another size.
    """
    if len(text) > LONGEST:
        raise UserError(
            f"A hole as text has at most {LONGEST:,} letters, got {len(text):,}. Give a mask as a picture instead."
        )
    mask = np.zeros(size, bool)
    if text == _NONE:
        return mask
    if match := _BITS.fullmatch(text):
        return _unpacked(match, size)
    parts = text.split("_")
    found = [match for part in parts if (match := _BOX.fullmatch(part))]
    if len(found) != len(parts) or len(parts) > BOXES:
        raise UserError(
            f"A hole as text is none, at most {BOXES} boxes such as 2-2-4-4_0-0-1-1, or the bits of a mask, got "
            f"{text[:40]!r}. Copy it from a link, or mark the hole anew."
        )
    for match in found:
        x, y, w, h = map(int, match.groups())
        if min(w, h) < 1 or x + w > size[1] or y + h > size[0]:
            raise UserError(
                f"A hole must lie in the picture of {size[1]} × {size[0]} pixels, got {x}-{y}-{w}-{h}. "
                "Choose the model that it was marked for, or mark it anew."
            )
        mask[y : y + h, x : x + w] = True
    return mask


def _unpacked(match: re.Match[str], size: tuple[int, ...]) -> np.ndarray:
    width, height, bits = match.groups()
    if (int(height), int(width)) != size:
        raise UserError(
            f"This hole is one in a picture of {int(width)} × {int(height)} pixels, and this picture has {size[1]} × "
            f"{size[0]}. Choose the model that it was marked for, or mark it anew."
        )
    length, unpack = -(-size[0] * size[1] // 8), zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = base64.urlsafe_b64decode(bits + "=" * (-len(bits) % 4))
        content = unpack.decompress(content, length + 1)  # however much more it would become
    except (binascii.Error, zlib.error):
        content = b""
    if len(content) != length or not unpack.eof or unpack.unused_data:
        raise UserError(
            "The bits of this hole are damaged: they must be those of every pixel of the picture. "
            "Copy the link once more, or mark the hole anew."
        )
    flat = np.unpackbits(np.frombuffer(content, np.uint8), count=size[0] * size[1])
    return flat.reshape(size).astype(bool)
