"""PNG files of a batch of pictures: any reader opens them, and they are as small as a careful writer's."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from core.datasets import faces
from core.ground import png

RNG = np.random.default_rng(0)
BATCHES = {
    "noise": RNG.integers(0, 256, (5, 3, 7, 11), np.uint8),
    "grey": RNG.integers(0, 17, (3, 1, 8, 8), np.uint8) * 15,
    "a pixel": RNG.integers(0, 256, (2, 3, 1, 1), np.uint8),
    "a slope": (np.add.outer(np.arange(16), np.arange(16)) * 9 % 256).astype(np.uint8)[None, None],
    "none": np.zeros((0, 1, 8, 8), np.uint8),
}


def opened(data):
    with Image.open(io.BytesIO(data)) as picture:
        picture.verify()  # the checksum of every chunk
    x = np.asarray(Image.open(io.BytesIO(data)))
    return x[None] if x.ndim == 2 else x.transpose(2, 0, 1)


@pytest.mark.parametrize("name", BATCHES)
def test_pillow_reads_the_same_pixels(name, monkeypatch):
    monkeypatch.setattr(png, "_AT_ONCE", 500)  # parts of few pictures, the last one smaller
    x = BATCHES[name]
    files = png.encode(x)
    assert len(files) == len(x)
    for data, wanted in zip(files, x, strict=True):
        assert np.array_equal(opened(data), wanted)


def test_drawn_pictures_are_as_small_as_pillows():
    x = faces.draw(faces.attributes(0, 40, True), 32)
    ours = sum(map(len, png.encode(x, level=6)))
    theirs = 0
    for each in x:
        file = io.BytesIO()
        Image.fromarray(each.transpose(1, 2, 0)).save(file, "PNG", compress_level=6)
        theirs += len(file.getvalue())
    assert ours == pytest.approx(theirs, rel=0.02)
