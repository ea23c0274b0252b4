"""A saved picture brings its view back, to the pixel; and what came from elsewhere is ignored, and said."""

from __future__ import annotations

import io
import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from core import jobs, latent, runs
from core.catalog import UserError
from core.ground import sheets
from core.latent import saved_view


@pytest.fixture(scope="module")
def run(tiny_runs: Any) -> str:
    """Id of a trained GAN."""
    return tiny_runs.runs["gan"]


def saved(run: str, **changes: Any) -> tuple[bytes, latent.SavedView, np.ndarray]:
    opened = runs.open_model(jobs.get(run))
    space = latent.open_space(opened)
    point = space.draw([3], [7], seed=2)[0]
    plane = latent.principal_plane(space, point)
    point = plane.points([[0.37, -1.21]])[0]
    view = latent.SavedView.of(
        {
            "run": run,
            "step": opened.step,
            "seed": 2,
            "label": 7,
            "sampling": space.sampling.record(),
            "plane": "principal",
            "x": 0.37,
            "y": -1.21,
            "sliders": {"Main direction 1": 0.5},
            "page": {"latent.tab": "pad"},
        }
        | changes,
        point,
    )
    image = space.image(point)
    return latent.write_view(image, view, scale=3), view, image


def test_recall_gives_the_pixel_identical_image(trained, run):
    data, view, image = saved(run)
    shown = np.asarray(Image.open(io.BytesIO(data)))
    assert (shown[1::3, 1::3] == image[0]).all()
    found, problem = latent.read_view(data)
    assert problem == ""
    assert found == view
    runs._opened.clear()  # another day
    opened = runs.open_model(jobs.get(found.run), found.step)
    assert opened.sampling is not None
    again = latent.open_space(opened, opened.sampling.of(found.sampling))
    assert (again.image(found.numbers) == image).all()
    # and the plane leads there as well
    assert found.plane == "principal"
    plane = latent.principal_plane(again, again.draw([3], [7], found.seed)[0])
    torch.testing.assert_close(
        plane.points([[found.x, found.y]])[0].numpy(), found.numbers, rtol=0, atol=1e-4
    )


def resaved(data: bytes, change: Any = None, pixel: bool = False) -> bytes:
    """The PNG with its block changed, or a pixel."""
    picture = Image.open(io.BytesIO(data))
    block = json.loads(picture.text[saved_view.BLOCK])
    if pixel:
        picture.putpixel((0, 0), 255 - picture.getpixel((0, 0)))
    if change is not None:
        block = change(block)
    info = PngInfo()
    info.add_text(saved_view.BLOCK, block if isinstance(block, str) else json.dumps(block))
    out = io.BytesIO()
    picture.save(out, "PNG", pnginfo=info)
    return out.getvalue()


def forged(data: bytes, **values: Any) -> bytes:
    """The PNG with other values in its view, and a mark that fits them."""
    sheet = np.asarray(Image.open(io.BytesIO(data)))

    def change(block: Any) -> Any:
        text = json.dumps(json.loads(block["view"]) | values)
        return {"view": text, "mark": saved_view._mark(text, sheet)}

    return resaved(data, change)


def test_what_is_foreign_or_forged_is_ignored_and_said(trained, run):
    data, *_ = saved(run)
    assert latent.read_view(resaved(data))[1] == ""
    other = json.loads(json.dumps({"view": "{}", "mark": ""}))
    for bad, words in (
        (resaved(data, pixel=True), "does not belong to its pixels"),
        (
            resaved(data, lambda block: block | {"view": block["view"].replace("0.37", "0.38")}),
            "does not belong",
        ),
        (resaved(data, lambda block: other), "does not belong"),
        (resaved(data, lambda block: "{"), "not of this program"),
        (resaved(data, lambda block: "[" * 100_000), "not of this program"),
        (resaved(data, lambda block: "7"), "not of this program"),
        (forged(data, x=1e9), "is not allowed and is ignored: x"),
        (forged(data, span=float("nan")), "ignored"),
        (forged(data, run="../../etc"), "is not allowed and is ignored: run"),
        (forged(data, seed=-1), "is not allowed and is ignored: seed"),
        (forged(data, more="x"), "is not allowed and is ignored: more"),
        (forged(data, page={"a": {"b": 1}}), "is not allowed and is ignored: page"),
        (forged(data, point="!!"), "the point is not base64"),
        (forged(data, point="AADAfw=="), "the point is not finite"),
        (forged(data, run="never-was"), "which is not on this server"),
        (forged(data, run=trained.runs["classifier"]), "which makes no images"),
        (forged(data, step=10**6), "whose checkpoint is gone"),
        (sheets.png(np.zeros((4, 1, 8, 8), np.uint8), 2), "carries no view"),
        (b"\x89PNG\r\n\x1a\nnot really", "is no PNG"),
        (b"", "is no PNG"),
        (data[:-40], "is no PNG|does not belong|carries no view"),
    ):
        found, problem = latent.read_view(bad)
        assert found is None
        assert any(each in problem for each in words.split("|")), problem


def test_a_checkpoint_that_was_deleted_is_said(trained, run):
    data, view, _ = saved(run)
    shutil.rmtree(jobs.get(run).path / "checkpoints" / str(view.step))
    assert "whose checkpoint is gone" in latent.read_view(data)[1]
    with pytest.raises(UserError, match="has no checkpoint"):
        runs.open_model(jobs.get(run), view.step)


def test_a_view_that_makes_no_sense_is_not_saved(trained, run):
    with pytest.raises(UserError, match="This view cannot be saved: x"):
        saved(run, x=float("nan"))
