"""Repair on the pages: marking a hole, filling it in Latent space, and taking an object out of a dataset's picture."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pages.parts.canvas import packed, unpacked

# --- Marking a part of a picture ----------------------------------------------------------------


def page():
    import numpy as np
    import streamlit as st

    from pages.parts.canvas import hole

    start = np.zeros((5, 7), bool)
    start[1, 2] = True
    got = hole(np.full((3, 5, 7), 9, np.uint8), start, key="hole", alt="A grey picture")
    st.code(repr((got.shape, str(got.dtype), np.flatnonzero(got).tolist())))


@pytest.fixture
def drawn():
    from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
    from streamlit.testing.v1 import AppTest

    at = AppTest.from_function(page, default_timeout=120).run()
    assert not at.exception

    def answer(value):
        proto = at.get("bidi_component")[0].proto
        at._run(WidgetStates(widgets=[WidgetState(id=proto.id, json_value=json.dumps(value))]))
        assert not at.exception, at.exception
        return at.code[0].value

    return at, answer


def test_a_mask_travels_as_bits():
    rng = np.random.default_rng(0)
    for size in ((1, 1), (8, 8), (5, 7), (33, 2)):
        mask = rng.random(size) < 0.4
        back = unpacked({"pixels": list(size), "bits": packed(mask)}, size)
        assert back is not None
        assert (back == mask).all()


def test_what_was_marked_is_told_and_a_start_holds_until_then(drawn):
    at, answer = drawn
    assert at.code[0].value == "((5, 7), 'bool', [9])"
    given = json.loads(at.get("bidi_component")[0].proto.json)[0]
    assert given["pixels"] == [5, 7]
    assert given["picture"].startswith("data:image/png;base64,")
    mask = np.zeros((5, 7), bool)
    mask[4, 6] = mask[0, 0] = True
    said = answer({"mask": {"number": 1, "pixels": [5, 7], "bits": packed(mask)}})
    assert said == "((5, 7), 'bool', [0, 34])"


GOOD = packed(np.ones((5, 7), bool))


HOSTILE = [
    None, 7, [], {}, {"bits": GOOD}, {"pixels": [7, 5], "bits": GOOD}, {"pixels": [5, 7]}, {"pixels": [5, 7], "bits": 3},
    {"pixels": [5, 7], "bits": "x" * 3_000_000}, {"pixels": [5, 7], "bits": "!!!!!!!!"}, {"pixels": [5, 7], "bits": "AAAA"},
    {"pixels": [5, 7], "bits": "AAAAAA=="}, {"pixels": "57", "bits": GOOD}, {"pixels": [5, 7], "bits": "ÄAAAAAA="},
]  # fmt: skip


def test_an_answer_that_is_no_mask_of_this_picture_is_ignored(drawn):
    _, answer = drawn
    for mask in HOSTILE:
        assert answer({"mask": mask}) == "((5, 7), 'bool', [9])", mask
