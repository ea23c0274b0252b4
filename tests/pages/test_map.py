"""The component for maps: what it is given, and what it makes of an answer that anybody may have written."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from core.ground import sheets
from pages.parts.map import Answer, Trait, pack


def unpack(packed: bytes):
    """Reads what the browser would: facts, places by view, codes by trait, rings, sheet."""
    (size,) = struct.unpack_from("<I", packed)
    facts, at, n = json.loads(packed[4 : 4 + size]), 4 + size, 0
    n = facts["count"]

    def take(count, kind):
        nonlocal at
        part = np.frombuffer(packed, kind, count, at)
        at += part.nbytes
        return part

    places = {view["name"]: take(2 * n, "<f4").reshape(n, 2) for view in facts["views"]}
    codes = {trait["title"]: take(n, "<u2") for trait in facts["traits"]}
    return facts, places, codes, take(n, np.uint8), packed[at:]


def a_map(n=7, shape=(1, 4, 5)):
    rng = np.random.default_rng(0)
    place = rng.normal(size=(n, 2)).astype("f4")
    x = rng.integers(0, 256, (n, *shape)).astype(np.uint8)
    kinds = Trait("Kind", np.arange(n) % 2, ["real", "made"], quiet=(0,))
    return {"PCA": place, "t-SNE": place[:, ::-1]}, [kinds], x, np.arange(n) % 2 == 0


def test_what_the_browser_gets_is_what_was_given():
    views, traits, x, hollow = a_map()
    facts, places, codes, rings, sheet = unpack(pack(views, traits, x, hollow))
    assert all((places[name] == view).all() for name, view in views.items())
    assert codes["Kind"].tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert rings.tolist() == [1, 0, 1, 0, 1, 0, 1]
    assert (sheets.tiles(sheet) == x).all()  # small ones travel without loss
    assert facts["traits"] == [
        {"title": "Kind", "names": ["real", "made"], "quiet": [0], "colours": []}
    ]


def test_the_first_look_leaves_a_point_far_off_out_and_survives_one_that_is_nowhere():
    views, traits, x, hollow = a_map(1001)
    views["PCA"][3] = 1e6
    views["t-SNE"] = views["t-SNE"].copy()
    views["t-SNE"][4] = np.nan
    facts, places, *_ = unpack(pack(views, traits, x, hollow))
    left, top, right, bottom = facts["views"][0]["fit"]
    assert -5 < left < -2 < 2 < right < 5
    assert bottom - top < 10
    assert np.isnan(places["t-SNE"][4]).all()  # the browser draws it nowhere
    json.dumps(facts, allow_nan=False)


def test_many_large_pictures_are_shrunk_to_what_a_browser_decodes_at_once():
    views, traits, x, hollow = a_map(3000, (3, 64, 64))
    x[:] = np.arange(3000, dtype=np.uint16)[:, None, None, None] % 251
    facts, *_, sheet = unpack(pack(views, traits, x, hollow))
    height, width = facts["tile"]
    assert 3000 * height * width <= 6_000_000
    with Image.open(io.BytesIO(sheet), formats=["JPEG"]) as picture:
        pixels = np.asarray(picture)
    i, columns = 777, facts["columns"]
    top, left = i // columns * height, i % columns * width
    tile = pixels[top : top + height, left : left + width]
    assert abs(tile.mean() - x[i].mean()) < 12  # the right one, lossy as it is
    assert len(sheet) < 3_000_000


def test_equal_maps_have_equal_names_and_other_ones_another():
    views, traits, x, hollow = a_map()
    first = unpack(pack(views, traits, x, hollow))[0]["id"]
    assert unpack(pack(views, traits, x, hollow))[0]["id"] == first
    x[0, 0, 0, 0] ^= 1
    assert unpack(pack(views, traits, x, hollow))[0]["id"] != first


def test_a_map_keeps_its_name_and_its_selection_when_only_its_colours_change():
    views, traits, x, hollow = a_map()
    first = unpack(pack(views, traits, x, hollow))[0]
    other = Trait("Origin", np.zeros(7, int), ["all"], colours=["#123456"])
    again = unpack(pack(views, [other], x, hollow, titles=list("abcdefg")))[0]
    assert again["id"] == first["id"]
    assert again["version"] != first["version"]


def test_a_map_without_thumbnails_is_as_light_as_its_places():
    views, traits, _, hollow = a_map()
    facts, places, _, rings, sheet = unpack(pack(views, traits, None, hollow))
    assert (facts["count"], len(places["PCA"]), len(rings), sheet) == (7, 7, 7, b"")


def test_no_points_make_an_empty_map():
    views, traits, x, hollow = a_map(0)
    facts, *_, sheet = unpack(pack(views, traits, x, hollow))
    assert (facts["count"], sheet) == (0, b"")


# --- What comes back ----------------------------------------------------------------------------


def page():
    import streamlit as st

    from pages.parts.map import pack, points
    from tests.pages.test_map import a_map

    packed = pack(*a_map())
    st.code(repr(points(packed, alt="Seven points", key="m", look={"colour": "Kind"})))
    st.code(repr(points(packed, alt="On a ground", key="g", ground=b"\x89PNG", path=[(0, 1)]).at))


@pytest.fixture
def answer():
    from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
    from streamlit.testing.v1 import AppTest

    at = AppTest.from_function(page, default_timeout=120).run()
    assert not at.exception

    def send(value, which=0):
        proto = at.get("bidi_component")[which].proto
        at._run(WidgetStates(widgets=[WidgetState(id=proto.id, json_value=json.dumps(value))]))
        assert not at.exception, at.exception
        return at.code[which].value

    return send


def test_a_lasso_arrives_as_points_of_this_map(answer):
    of = unpack(pack(*a_map()))[0]["id"]
    picked = {"of": of, "indices": [5, 2, 2, 0]}
    look = {"view": "t-SNE", "colour": "Kind", "marks": "pictures"}
    assert answer({"picked": picked, "look": look}) == repr(Answer(look, [0, 2, 5]))
    assert answer({"picked": {"of": "another", "indices": [1]}}) == repr(Answer({}, []))


@pytest.mark.parametrize(
    ("at", "taken"),
    [([0.25, 1], (0.25, 1.0)), ([1], None), ("ab", None), ([0, float("nan")], None), ([0, 1e9], None), ([True, 0], None), (None, None)],
)  # fmt: skip
def test_a_place_is_taken_from_the_ground_alone(answer, at, taken):
    picked = {"of": unpack(pack(*a_map()))[0]["id"], "at": at}
    assert answer({"picked": picked}, 1) == repr(taken)
    assert answer({"picked": picked}) == repr(Answer({}, []))
    assert answer({"picked": picked | {"of": "?"}}, 1) == "None"


@pytest.mark.parametrize(
    "value",
    [
        None, 7, [], {"picked": 3}, {"picked": {"of": "?", "indices": None}}, {"picked": {"of": "?", "indices": ["x", 1e9, -1, None]}},
        {"picked": {"of": "?", "indices": [True, 1.0, 7, -1, {}]}}, {"picked": {"of": "?", "indices": [1] * 8}}, {"look": 3},
        {"look": {"view": "UMAP", "colour": ["Kind"], "marks": {}}},
    ],
)  # fmt: skip
def test_nonsense_is_no_answer(answer, value):
    of = unpack(pack(*a_map()))[0]["id"]
    if isinstance(value, dict) and isinstance(value.get("picked"), dict):
        value["picked"]["of"] = of
    assert answer(value) == repr(Answer({}, []))
