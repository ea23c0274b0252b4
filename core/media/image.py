"""Square images, grey or in colour: what is stored is what a model sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.ground import png, sheets
from core.media import media

if TYPE_CHECKING:
    from torch import nn


def _files(x: np.ndarray, levels: int) -> list[bytes]:
    # a hundredth larger than with 6, the usual level, and written in two thirds of the time
    return png.encode(sheets.as_bytes(x, levels), level=4)


def _describe(count: int, shape: tuple[int, ...]) -> str:
    channels, size, _ = shape
    kind = "colour" if channels == 3 else "grey"
    return f"{count:,} {kind} images of {size}×{size} px"


def _body(shape: tuple[int, ...], width: int, features: int) -> nn.Module:
    from core.nets import ConvFeatures

    return ConvFeatures(shape[0], shape[-1], width, features)


def _usual(shape: tuple[int, ...]) -> float:
    return (8 if shape[0] > 1 else 38 if shape[-1] <= 8 else 51) / 255


@media.add(
    "image",
    "Images",
    item="picture",
    model="picture",
    shape="(N, 1 or 3, H, W)",
    fits=lambda shape: len(shape) == 3 and shape[0] in (1, 3),
    describe=_describe,
    files=_files,
    suffix=".png",
    mime="image/png",
    body=_body,
    usual=_usual,
    source="folder",
    parts=frozenset({"inspection", "drawing", "corruptions"}),
)
def image(x: np.ndarray, levels: int) -> np.ndarray:
    """Shows images as they are."""
    return sheets.as_bytes(x, levels)
