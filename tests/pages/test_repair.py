"""Repair on the pages: marking a hole, filling it in Latent space, and taking an object out of a dataset's picture."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest

from core import datasets
from pages.parts.canvas import packed, unpacked
from tests.pages.test_pad import exact, pad

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


# --- The tool of Latent space -------------------------------------------------------------------


def mark(seen, key, size, *boxes):
    """Marks boxes as a hand would: x, y, width and height each."""
    mask = np.zeros(size, bool)
    for x, y, w, h in boxes:
        mask[y : y + h, x : x + w] = True
    answer = {"number": 1, "pixels": list(size), "bits": packed(mask)}
    return seen.told(key, {"mask": answer}).calm()


def press(seen, *keys, **values):
    """Sets and presses what the tool holds, which alone runs again."""
    for name, value in values.items():
        seen.widget(f"latent.repair.{name}").set_value(value)
    for key in keys:
        seen.widget(f"latent.repair.{key}").click()
    return seen.again("use").calm()


def opened(visit, trained, of="Dataset", **query):
    """Opens the tool."""
    way = {"run": trained.runs["vae"], "latent.tool": "Repair", "latent.repair.of": of}
    return visit("latent", **way, **query).calm()


def fills(seen):
    return seen.images("latent.repair.fills.shown")


@pytest.fixture
def quick(monkeypatch):
    """Lets the search take few steps: what it finds is not looked at here."""
    from core.latent import encoding
    from core.latent.repair import search

    monkeypatch.setattr(encoding, "STEPS", 6)
    for name, value in (("STEPS", 4), ("ROUNDS", 2), ("TUNED", 1)):
        monkeypatch.setattr(search, name, value)


def test_a_hole_is_filled_several_times_and_the_rest_stays(visit, trained, quick):
    seen = opened(visit, trained)
    digits = datasets.load("digits")
    index = int(digits.splits["test"][0])
    picture = digits.pictures([index])[0]
    seen = mark(seen, "latent.repair.hole", (8, 8), (1, 2, 3, 4))
    assert seen.at.query_params["hole"] == "1-2-3-4"
    assert "latent.repair.more" not in seen.keys()  # nothing is filled before it is asked for
    press(seen, "fill")
    x = fills(seen)
    assert x.shape == (8, 1, 8, 8)
    hidden = np.zeros((8, 8), bool)
    hidden[2:6, 1:4] = True
    assert (x[:, :, ~hidden] == picture[:, ~hidden]).all()
    assert len(seen.images("latent.repair.near")) == 8
    known, apart, _, was = seen.images("latent.repair.known")
    assert (was == np.broadcast_to(picture, (3, 8, 8))).all()
    assert (known[:, ~hidden] == picture[0][~hidden]).all()
    assert (known[:, hidden] != was[:, hidden]).any()
    assert len(np.unique(apart[:, ~hidden].T, axis=0)) == 1  # what is known differs nowhere
    assert "bit by bit" in seen.texts("caption")

    # more: those that are here stay
    press(seen, "more")
    assert (fills(seen)[:8] == x).all()
    assert len(fills(seen)) == 16
    press(seen, "others")
    assert (fills(seen)[:8] != x).any()
    assert seen.widget("latent.repair.seed").value == 1

    # another picture is not filled by itself; of everything samples are left, of nothing there is nothing to do
    seen.widget("latent.index").set_value(1)
    assert not press(seen).shown("latent.repair.fills.shown")
    press(mark(seen, "latent.repair.hole", (8, 8), (0, 0, 8, 8)), "fill")
    assert len(fills(seen)) == 16
    mark(seen, "latent.repair.hole", (8, 8))
    assert "Mark what is to be filled in." in seen.texts("caption")
    assert "latent.repair.fill" not in seen.keys()


def test_a_link_shows_the_same_fills(visit, trained, quick):
    seen = press(opened(visit, trained, hole="2-2-2-2"), "fill")
    key = seen.at.query_params["filled"]
    again = opened(visit, trained, hole="2-2-2-2", filled=key)
    assert (fills(again) == fills(seen)).all()
    mark(again, "latent.repair.hole", (8, 8), (2, 2, 2, 3))
    assert not again.shown("latent.repair.fills.shown")


def test_any_hole_stands_in_the_address_and_nonsense_is_told(visit, trained):
    marked = lambda seen: unpacked(  # noqa: E731
        {"pixels": [8, 8], "bits": seen.pictures("latent.repair.hole")["start"]}, (8, 8)
    )
    seen = opened(visit, trained, hole="8x8.AAAA").calm()
    assert "The bits of this hole are damaged" in seen.texts("caption")
    assert "The middle is marked instead." in seen.texts("caption")
    assert marked(seen).sum() == 16
    fine = [(x, y, 1, 1) for x in range(8) for y in range(8) if (x + y) % 2]
    mark(seen, "latent.repair.hole", (8, 8), *fine)
    assert "damaged" not in seen.texts("caption")
    address = seen.at.query_params["hole"]
    assert address.startswith("8x8.")
    assert marked(opened(visit, trained, hole=address)).sum() == 32
    mark(seen, "latent.repair.hole", (8, 8))
    assert seen.at.query_params["hole"] == "none"
    again = opened(visit, trained, hole="none")
    assert "Mark what is to be filled in." in again.texts("caption")
    assert not marked(again).any()


def test_a_fill_goes_to_the_pad_and_into_files(visit, trained, quick):
    seen = opened(visit, trained, of="Pad")
    assert seen.widget("latent.repair.of").value == "pad"
    under = exact(seen)
    press(seen, "fill")
    assert abs(seen.images("latent.repair.known")[3][0].astype(int) - under).max() <= 8  # 17 levels
    seen.told("latent.repair.fills.shown", {"clicked": {"number": 1, "index": 5}}).calm()
    assert seen.pictures("latent.repair.fills.shown")["marks"] == {"5": "✓"}
    saved = {"latent.repair.save.png", "latent.repair.save.npz"}
    assert saved <= seen.keys()
    seen.press("latent.repair.land").calm()
    assert "fill 5 of a hole" in seen.texts("markdown", "caption")
    assert pad(seen)["marks"][0]["label"] == "here"


def test_it_goes_on_beyond_the_edge_and_makes_larger(visit, trained, quick):
    seen = opened(visit, trained, **{"latent.repair.what": "beyond"})
    press(seen, share=50, place="left", fills=4)
    frame = seen.images("latent.repair.frame")[0]
    press(seen, "fill")
    x = fills(seen)
    assert (x[:, 0, 2:6, :4] == frame[0, 2:6, :4]).all()
    press(press(seen, what="larger"), "fill")
    blocks = fills(seen).reshape(4, 4, 2, 4, 2).mean((2, 4))
    digits = datasets.load("digits")
    small = digits.pictures(digits.splits["test"][:1])[0].reshape(4, 2, 4, 2).mean((1, 3))
    assert abs(blocks - small).max() <= 1
    assert (seen.images("latent.repair.small")[0, 0].reshape(4, 2, 4, 2).std((1, 3)) == 0).all()
    said = seen.texts("caption")
    assert "Made smaller again" in said
    assert "hole" not in said  # there is none


# --- Taking something out of a dataset's picture ------------------------------------------------


def test_something_is_taken_out_of_a_picture_on_look(visit, trained, quick):
    from core.quality import decisions

    digits = datasets.load("digits")
    seen = visit("data", data="digits")
    seen.told("data.wall", {"clicked": {"number": 1, "index": 3}}).calm()

    def go(key):
        seen.widget(key).click()
        return seen.again("_dialog").calm()

    seen.widget("data.item.remove").set_value(True)
    seen.again("_dialog").calm()
    seen.widget("data.item.remove.run").set_value(trained.runs["vae"])
    seen.again("_dialog").calm()
    mask = np.zeros((8, 8), bool)
    mask[1:4, 2:6] = True
    # what a component tells here runs the whole page, which closes a dialog; so it is put where it arrives
    with pytest.MonkeyPatch.context() as patch:
        from pages.parts.data import removing

        patch.setattr(removing, "hole", lambda *_, **__: mask)
        seen.again("_dialog").calm()
        go("data.item.remove.fill")
        x = seen.images("data.item.remove.fills")
        assert len(x) == 4
        assert (x[:, :, ~mask] == digits.pictures([3])[0][:, ~mask]).all()
        go("data.item.remove.take")
    book = decisions.open(digits)
    item = decisions.repaired_item(digits, book, 3)
    assert (item[:, ~mask] == digits.x[3][:, ~mask]).all()
    assert (digits.medium.pictures(item[None], 17)[0] == x[0]).all()
    assert f"A part was filled by {trained.runs['vae']}." in seen.texts("markdown")
    assert (seen.images("data.item.repaired")[0] == x[0]).all()
    seen = visit("data", data="digits").calm()
    assert seen.pictures("data.wall")["marks"] == {"3": "✚"}


# --- Many at once -------------------------------------------------------------------------------


def test_whoever_waits_gets_a_turn_between_two_passes():
    from pages.parts.latent import TURNS
    from pages.parts.latent.filling import Turns

    over, waited = threading.Event(), []

    def work():
        with TURNS:
            watch = Turns()
            while not over.is_set():
                time.sleep(0.01)  # a pass through a model
                watch.check()

    long = [threading.Thread(target=work) for _ in range(6)]
    for thread in long:
        thread.start()
    for _ in range(5):
        began = time.monotonic()
        if TURNS.acquire(timeout=3):  # somebody drags the pad
            TURNS.release()
        waited.append(time.monotonic() - began)
    over.set()
    for thread in long:
        thread.join()
    assert max(waited) < 2  # and not until the others have ended
