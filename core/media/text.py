"""Texts: bytes of UTF-8 in windows of one length, of which a model sees the very same.

A window holds the bytes of a text, then 0 up to its length: the first 0 is the end of the text, and a window without
one goes on in the next. A byte is a symbol, so nothing that makes a number a little larger is done to it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from core.media import media

if TYPE_CHECKING:
    from torch import Tensor, nn

COLUMNS = 32  # signs in a line of a drawn text
GLYPH = (11, 6)  # height and width of a sign, in pixels
BUCKETS = 512  # numbers that tell of four bytes in a row which they are
_UNKNOWN = 127  # place of the box that stands for a letter that is not drawn


def encode(text: str, length: int) -> np.ndarray:
    """Turns a text into stored items, uint8 (n, 1, length), at least one; a 0 in it is left out."""
    data = text.encode("utf-8", "replace").replace(b"\0", b"")
    count = max(1, -(-len(data) // length))
    padded = bytearray(data.ljust(count * length, b"\0"))  # which may be written to
    return np.frombuffer(padded, np.uint8).reshape(count, 1, length)


def data(x: np.ndarray) -> list[bytes]:
    """Gives the bytes of stored items (N, 1, T), each up to its end."""
    return [bytes(row).partition(b"\0")[0] for row in np.asarray(x, np.uint8).reshape(len(x), -1)]


def decode(x: np.ndarray) -> list[str]:
    """Reads stored items (N, 1, T) as texts; bytes that are no whole letter become �."""
    return [part.decode("utf-8", "replace") for part in data(x)]


def lengths(x: np.ndarray) -> np.ndarray:
    """Counts the bytes of stored items (N, 1, T) before their end, int64 (N,)."""
    ended = np.asarray(x).reshape(len(x), -1) == 0  # (N, T)
    return np.where(ended.any(1), ended.argmax(1), ended.shape[1]).astype(np.int64)


@cache
def _glyphs() -> np.ndarray:
    """Draws the signs of ASCII, uint8 (128, H, W), 0 for ink; the last one is a box."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default_imagefont()
    signs = np.full((128, *GLYPH), 255, np.uint8)
    for code in range(33, 127):
        sign = Image.new("L", (GLYPH[1], GLYPH[0]), 255)
        ImageDraw.Draw(sign).text((0, 0), chr(code), fill=0, font=font)
        signs[code] = np.asarray(sign)
    signs[_UNKNOWN, 2:9, 1:5] = 120
    return signs


def lines(text: str, columns: int = COLUMNS) -> list[str]:
    """Breaks a text into lines: where it does so itself, and between words before so many signs."""
    broken: list[str] = []
    for line in text.expandtabs(4).splitlines():
        while len(line) > columns:
            at = line.rfind(" ", columns // 2, columns + 1)
            at = columns if at < 0 else at
            broken.append(line[:at])
            line = line[at:].removeprefix(" ")
        broken.append(line)
    return broken


def _files(x: np.ndarray, levels: int) -> list[bytes]:
    return data(x)


def _describe(count: int, shape: tuple[int, ...]) -> str:
    return f"{count:,} texts of up to {shape[-1]:,} bytes"


def _body(shape: tuple[int, ...], width: int, features: int) -> nn.Module:
    from core.nets import TokenFeatures

    return TokenFeatures(256, width, features)


def _near(x: Tensor) -> Tensor:
    """Counts which four bytes stand in a row, (N, 1, T) in [0, 1] to unit vectors (N, BUCKETS)."""
    import torch

    codes = x.flatten(1).mul(255).round().long()  # (N, T)
    rows = codes.unfold(1, 4, 1) if codes.shape[1] >= 4 else codes[:, None]  # (N, T - 3, 4)
    weights = torch.tensor([1, 257, 66049, 16974593], device=x.device)[: rows.shape[2]]
    place = (rows * weights).sum(2) * 0x9E3779B1 % 2**32 * BUCKETS // 2**32
    counts = x.new_zeros(len(x), BUCKETS)
    counts.scatter_add_(1, place, (rows != 0).all(2).to(x.dtype))
    return counts / counts.norm(dim=1, keepdim=True).clamp_min(1.0)


@media.add(
    "text",
    "Texts",
    item="tokens",
    model="tokens",
    shape="(N, 1, T)",
    fits=lambda shape: len(shape) == 2 and shape[0] == 1,
    describe=_describe,
    files=_files,
    suffix=".txt",
    mime="text/plain",
    body=_body,
    usual=lambda shape: 0.0,
    norms=(),
    source="texts",
    near=_near,
    sheet=12,
)
def text(x: np.ndarray, levels: int) -> np.ndarray:
    """Draws texts in signs of one width, dark on white."""
    height, width = GLYPH
    rows = max(2, -(-np.shape(x)[-1] // COLUMNS) + 2)  # lines that end early need a few more
    pages = np.full((len(x), rows, COLUMNS), 32, np.uint8)  # blanks
    for page, said in zip(pages, decode(x), strict=True):
        for row, line in zip(page, lines(said), strict=False):
            codes = [ord(sign) if 32 <= ord(sign) < 127 else _UNKNOWN for sign in line]
            row[: len(codes)] = codes
    drawn = _glyphs()[pages].transpose(0, 1, 3, 2, 4)  # (N, rows, H, COLUMNS, W)
    drawn = drawn.reshape(len(x), 1, rows * height, COLUMNS * width)
    return np.pad(drawn, ((0, 0), (0, 0), (2, 2), (3, 3)), constant_values=255)
