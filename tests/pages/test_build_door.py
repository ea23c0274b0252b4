"""Page Build: may this dataset go out, and where is a picture from?"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from core import datasets
from core.building.marks import mark
from core.datasets import assemble


def held(name: str = "birds") -> None:
    """Saves a set without a licence, one of whose test images is a training image as well."""
    x = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)
    x[30] = x[10]
    splits = {"train": np.arange(20, 60), "valid": np.arange(10), "test": np.arange(10, 20)}
    classes = ("owl", "ro*bin*")
    attributes = {"site": np.array(["north"] * 50 + ["<b>south"] * 10)}
    datasets.save(name, assemble(x, np.arange(60) % 2, classes, splits, attributes=attributes))


def test_digits_may_go_out_and_their_card_is_shown(visit):
    seen = visit("build", **{"build.view": "door", "data": "digits"})
    assert "It may go out: 11 checks found nothing." in seen.texts("success")
    body = seen.texts("markdown")
    assert "Near copies" not in body
    assert "not looked for here." in body.replace("\\", "")
    assert "Licence: CC BY 4" in body
    assert seen.widget("build.card").label == "README.md"


def test_what_holds_it_is_said_with_examples_and_how_to_override(visit):
    held()
    seen = visit("build", **{"build.view": "door", "data": "birds"})
    assert "It is held at the door: 3 checks of 12." in seen.texts("error")
    body = seen.texts("markdown")
    assert "This dataset has no licence that anybody has stated" in body
    assert "1 with the very pixels of a held-out one" in body
    assert seen.pictures("build.door.test")["titles"] == ["image 30: owl"]
    assert '--override licence="the reason"' in seen.texts("caption")
    assert "cannot tell: 10 of 30 items" in seen.texts("html")
    assert "<b>south" not in seen.texts("html")
    datasets.state("birds", licence="CC-BY-NC-4.0", consent="not needed")
    seen.set(build__door__purpose="commercial")
    assert "which does not allow commercial use" in seen.texts("markdown")


def test_a_dropped_picture_says_where_it_is_from(visit):
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "PNG")
    seen = visit("build", **{"build.view": "where", "data": "digits"})
    seen.widget("build.where").upload(
        "a*b*.png", mark(out.getvalue(), "synthetic", "20200101-gone")
    )
    seen.run()
    body = seen.texts("markdown")
    assert "was made by a trained generator" in body
    assert "**a*b*.png**" in body  # letter by letter
    assert "which is not on this computer" in body
