"""Holes as text: what is marked travels by link and by command, whatever its form, and nothing else is taken for one."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest

from core.catalog import UserError
from core.latent import holes


@pytest.mark.parametrize("size", [(1, 1), (8, 6), (28, 28), (180, 180)])
def test_every_hole_of_a_usual_size_comes_back_from_its_text(size):
    rng = np.random.default_rng(0)
    for share in (0, 0.02, 0.5, 1):
        mask = rng.random(size) < share
        text = holes.written(mask)
        assert 0 < len(text) <= holes.LONGEST
        assert (holes.read(text, size) == mask).all()
        assert holes.is_text(text)


def test_the_text_of_a_hole_says_what_it_says_to_other_programs():
    assert holes.written(np.zeros((8, 6), bool)) == "none"
    mask = np.zeros((8, 6), bool)
    mask[1:3, 2:4] = mask[5:, :1] = True
    assert holes.written(mask) == "2-1-2-2_0-5-1-3"
    fine = np.indices((15, 11)).sum(0) % 3 == 0
    head, bits = holes.written(fine).split(".")
    assert head == "11x15"
    raw = zlib.decompress(base64.urlsafe_b64decode(bits + "=="), wbits=-15)
    flat = "".join(f"{byte:08b}" for byte in raw)[: fine.size]
    assert [digit == "1" for digit in flat] == fine.ravel().tolist()


def test_a_hole_that_is_too_fine_for_a_link_has_no_text():
    assert holes.written(np.random.default_rng(0).random((512, 512)) < 0.5) == ""


def bits(content: bytes) -> str:
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    return base64.urlsafe_b64encode(pack.compress(content) + pack.flush()).decode().rstrip("=")


WRONG = {
    "": "A hole as text is none",
    "none ": "A hole as text is none",
    "1-1-1": "A hole as text is none",
    "1-1--1-1": "A hole as text is none",
    "\u0661-1-1-1": "A hole as text is none",
    "1-1-1-1_" * 30: "at most 24 boxes",
    "_" * 999: "at most 24 boxes",
    "99999-1-1-1": "A hole as text is none",
    "9-9-9-9": "A hole must lie in the picture of 6 × 8 pixels, got 9-9-9-9.",
    "5-0-2-1": "A hole must lie in the picture",
    "1-1-0-1": "A hole must lie in the picture",
    "8x6." + bits(bytes(6)): "one in a picture of 8 × 6 pixels, and this picture has 6 × 8",
    "6x8.": "A hole as text is none",
    "6x8.A": "are damaged",
    "6x8.____": "are damaged",
    "6x8." + bits(bytes(5)): "are damaged",
    "6x8." + bits(bytes(10**6)): "are damaged",  # a million bytes of nothing are not unpacked
    "6x8." + bits(bytes(6)) + "AAAA": "are damaged",
    "6x8." + "A" * 7000: "at most 6,000 letters, got 7,004",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_hole_of_this_picture_is_refused_with_a_sentence(text):
    with pytest.raises(UserError) as refused:
        holes.read(text, (8, 6))
    assert WRONG[text] in str(refused.value)
    assert len(str(refused.value)) < 300
