"""The component for pictures: what it is given, and what it makes of an answer that anybody may have written."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from core.ground import sheets


def page():
    import numpy as np
    import streamlit as st

    from core.ground import sheets
    from pages.parts.tiles import tiles

    sheet = sheets.png(np.full((6, 1, 4, 5), 7, np.uint8), 3)
    got = tiles(
        [sheet],
        tile=(4, 5),
        columns=3,
        count=6,
        alt="Six greys",
        key="pics",
        marks={2: "A"},
        titles=["t"] * 6,
        clickable=True,
    )
    st.code(repr(got))


@pytest.fixture
def drawn():
    from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
    from streamlit.testing.v1 import AppTest

    at = AppTest.from_function(page, default_timeout=120).run()
    assert not at.exception

    def answer(text):
        proto = at.get("bidi_component")[0].proto
        at._run(WidgetStates(widgets=[WidgetState(id=proto.id, json_value=text)]))
        assert not at.exception, at.exception
        return at.code[0].value

    return at, answer


def test_what_it_is_given(drawn):
    import json

    at, _ = drawn
    data = json.loads(at.get("bidi_component")[0].proto.json)[0]
    head, _, body = data["frames"][0].partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as picture:
        assert picture.size == (15, 8)  # gapless, at its own size
    assert (data["tile"], data["columns"], data["count"]) == ([4, 5], 3, 6)
    assert (data["marks"], data["alt"], data["clickable"]) == ({"2": "A"}, "Six greys", True)


def test_a_click_arrives_with_its_number(drawn):
    _, answer = drawn
    assert answer('{"clicked": {"number": 12, "index": 5}}') == "(12, 5)"


@pytest.mark.parametrize(
    "text",
    [
        "null", "[]", "7", '"x"', "{}", '{"clicked": null}', '{"clicked": 3}', '{"clicked": []}', '{"clicked": "x"}',
        '{"clicked": {}}', '{"clicked": {"number": "x", "index": 1000000000}}', '{"clicked": {"number": 1, "index": 6}}',
        '{"clicked": {"number": 1, "index": -1}}', '{"clicked": {"number": 1, "index": 1.5}}', '{"clicked": {"number": null, "index": 1}}',
        '{"clicked": {"number": 1, "index": {"a": 1}}}', '{"other": {"number": 1, "index": 1}}', '{"clicked": {"number": 1, "index": NaN}}',
    ],
)  # fmt: skip
def test_nonsense_is_no_click(drawn, text):
    _, answer = drawn
    assert answer(text) == "None"


def test_levels_reach_the_sheet_unchanged():
    x = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    assert (sheets.tiles(sheets.png(x, 2)) == x).all()
