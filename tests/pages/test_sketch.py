"""From a sketch: what is drawn becomes an image, in the Latent space page and the page of the data."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from core import jobs, latent, runs, worker
from core.ground import sheets
from core.kinds import submit


@pytest.fixture
def sketcher(home, setting, monkeypatch):
    """A tiny run that makes digits of their edges."""
    setting(nice=0, threads=1)
    job = submit(
        "train",
        {"dataset": "digits", "family": "pix2pix"},
        {"dataset.pair": "edges", "family.width": 8, "train.images": 256, "train.watch": False},
    )
    worker.work(job.path)
    return jobs.get(job.id)


def tiles(seen):
    data = seen.pictures("latent.sketch.made")
    return sheets.tiles(base64.b64decode(data["frames"][0].partition(",")[2]))


def drawn():
    """A bright ring, as the canvas tells it."""
    y, x = np.mgrid[:224, :224] - 112
    ring = np.abs(np.hypot(x, y) - 70) < 15
    out = io.BytesIO()
    Image.fromarray((255 * ring).astype(np.uint8)).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def test_a_sketch_becomes_an_image_and_without_noise_always_the_same(visit, sketcher, monkeypatch):
    seen = visit("latent", run=sketcher.id).set(latent__tool="sketch").calm()
    opened, dataset = runs.open_model(sketcher), latent.trained_on(sketcher)
    first = latent.held_out(opened, dataset, int(dataset.splits["test"][0]))
    told, made, truth = tiles(seen)
    assert (made == (first.image * 255).round()).all()
    assert (truth == (first.truth * 255).round()).all()
    assert f"Mean squared error {first.error:.4f}" in seen.texts("caption")
    assert "The same edges always give the same image: the model has no noise" in seen.texts(
        "caption"
    )
    seen.set(latent__sketch__start=3).calm()
    assert not np.array_equal(tiles(seen)[0], told)
    seen.told("latent.sketch.canvas", {"drawing": {"number": 1, "png": drawn()}}).calm()
    after = tiles(seen)
    assert after[0][0, :, 4].max() > 150
    assert after[0][0, 3:5, 3:5].max() < 60
    assert "Made in" in seen.texts("caption")
    assert "latent.sketch.save" in seen.keys()
    # a drawing on a sheet that is not there any more counts for nothing
    seen.told("latent.sketch.canvas", {"drawing": {"number": 2, "png": drawn(), "sheet": "x"}})
    assert "Mean squared error" in seen.calm().texts("caption")
    assert not latent.varies(opened)
    whole = type(opened.model).render

    def noisy(self, told, ids, y, seed, sampling):
        return whole(self, told, ids, y, seed, sampling) * (1 - seed / 9)

    monkeypatch.setattr(type(opened.model), "render", noisy)
    assert latent.varies(opened)


def test_an_empty_sheet_says_what_to_do(visit, sketcher):
    seen = visit("latent", run=sketcher.id).set(latent__tool="sketch").calm()
    seen.set(latent__sketch="empty").calm()
    assert "Draw with the pencils, or begin with the edges of an image" in seen.texts("caption")
    assert not seen.shown("latent.sketch.made")


def test_what_is_told_no_picture_has_no_sheet(visit, trained):
    seen = visit("latent", run=trained.runs["vae"]).calm()
    assert "sketch" not in seen.widget("latent.tool").options
