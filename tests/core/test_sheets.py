"""Sheets: many small pictures as one PNG."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from core.ground import sheets


def pictures(count: int, channels: int, height: int = 5, width: int = 4) -> np.ndarray:
    return np.random.default_rng(count).integers(
        0, 256, (count, channels, height, width), dtype=np.uint8
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "columns"), [(1, 8), (7, 3), (8, 8), (9, 2), (5, 1)])
def test_a_sheet_gives_its_pictures_back(count, columns, channels):
    x = pictures(count, channels)
    assert np.array_equal(sheets.tiles(sheets.png(x, columns)), x)


def test_pictures_lie_row_by_row_with_gaps_and_whole_pixels():
    x = pictures(3, 1, 2, 2)
    sheet = sheets.arrange(x, 2, gap=1, scale=3, ground=200)
    assert sheet.shape == (13, 13)
    assert sheet.dtype == np.uint8
    for i, (top, left) in enumerate([(0, 0), (0, 7), (7, 0)]):
        assert np.array_equal(
            sheet[top : top + 6, left : left + 6], x[i, 0].repeat(3, 0).repeat(3, 1)
        )
    assert (sheet[6] == 200).all()
    assert (sheet[:, 6] == 200).all()
    assert (sheet[7:, 7:] == 200).all()  # the missing fourth


def test_colour_keeps_its_channels_and_grey_has_none():
    assert sheets.arrange(pictures(4, 3), 2).shape == (10, 8, 3)
    assert sheets.arrange(pictures(4, 1), 2).shape == (10, 8)
    assert sheets.arrange(pictures(2, 1), 8).shape == (5, 8)  # no empty columns
    x = pictures(1, 3)
    assert np.array_equal(sheets.arrange(x, 1), x[0].transpose(1, 2, 0))


def test_a_picture_says_how_it_was_made():
    content = sheets.png(pictures(3, 1), 2, {"run": "r", "seed": 5}, gap=2, scale=2)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "PNG"
        assert picture.size == (2 * 8 + 2, 2 * 10 + 2)
    assert sheets.metadata(content) == {
        "count": 3,
        "columns": 2,
        "tile": [5, 4],
        "run": "r",
        "seed": 5,
    }


def test_columns_follow_the_classes():
    assert [sheets.columns(k) for k in (0, 1, 2, 5, 10, 16, 17, 500)] == [8, 8, 8, 10, 10, 16, 8, 8]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_is_laid_out_as_a_png_is(channels):
    x = np.linspace(0, 255, 6).astype(np.uint8)[:, None, None, None].repeat(channels, 1)
    x = x.repeat(8, 2).repeat(8, 3)  # flat pictures, which lose nothing
    with Image.open(io.BytesIO(sheets.jpeg(x, 3))) as picture:
        assert picture.format == "JPEG"
        assert np.abs(np.asarray(picture).astype(int) - sheets.arrange(x, 3)).max() <= 2
