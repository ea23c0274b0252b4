"""The tools of the Latent space page: each starts from the place under the ring, and gives what it says."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from core import jobs, runs
from core.ground import sheets
from tests.pages.test_pad import ask, exact, pad, short_training


def tool(seen, name, **values):
    """Opens a tool."""
    seen.set(latent__tool=name)
    return seen.set(**values) if values else seen


def images(seen, key):
    data = seen.pictures(key)
    return sheets.tiles(base64.b64decode(data["frames"][0].partition(",")[2]))


def test_only_the_open_tool_is_drawn(visit, trained):
    seen = visit("latent")
    assert seen.shown("latent.grid")
    seen = tool(seen, "film").calm()
    assert not seen.shown("latent.grid")
    assert seen.shown("latent.film")


def test_an_mp4_is_offered_only_where_there_is_ffmpeg(visit, trained, monkeypatch, tmp_path):
    (tmp_path / "ffmpeg").write_text("#!/bin/sh")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    seen = tool(visit("latent"), "film")
    offered = {"latent.film.gif", "latent.film.webp", "latent.film.mp4", "latent.film.png"}
    assert offered <= seen.keys()
    assert "No MP4" not in seen.texts("caption")
    (tmp_path / "ffmpeg").unlink()
    seen.run()
    assert offered - seen.keys() == {"latent.film.mp4"}
    assert "No MP4 here: the server does not have the program ffmpeg." in seen.texts("caption")


# --- Directions ---------------------------------------------------------------------------------


def test_at_most_six_directions_each_as_a_film_before_moving(visit, trained):
    seen = tool(ask(visit("latent"), at=(1, 0.5)), "directions").calm()
    films = [f"latent.film.{i}" for i in range(7) if seen.shown(f"latent.film.{i}")]
    assert 1 <= len(films) <= 6
    for film in films:
        x = images(seen, film)
        assert len(x) == 7
        assert abs(x[3][0].astype(int) - exact(seen)).max() <= 1  # the middle is where the ring is


def test_the_judge_names_the_change_of_a_class(visit, trained):
    seen = tool(visit("latent"), "directions").calm()
    assert "Train a classifier" not in seen.texts("caption")  # there is one of this dataset
    seen = tool(visit("latent", run=trained.runs["plain"]), "directions").calm()
    assert "Train a classifier" in seen.texts("caption")


def test_a_direction_becomes_an_axis_of_the_pad(visit, trained):
    seen = tool(visit("latent"), "directions")
    film = images(seen, "latent.film.1")
    seen.press("latent.axis.1.0").calm()
    assert seen.widget("latent.plane").value == "directions"
    assert "Main direction 2 to the right, Main direction 1 downwards" in pad(seen)["alt"]
    ask(seen, at=(1, 0)).calm()
    assert (
        abs(exact(seen).astype(int) - film[4][0]).max() <= 1
    )  # one step across is the next of the film


def test_a_visitor_names_a_direction_for_everybody(visit, trained):
    seen = tool(visit("latent"), "directions")
    assert "named" not in seen.widget("latent.kind").options
    film = images(seen, "latent.film.1")
    seen.set(**{"latent.name.1": "rounder"}).calm()
    other = tool(visit("latent"), "directions").calm()
    assert other.widget("latent.name.1").value == "rounder"
    assert other.widget("latent.name.0").value == ""
    other.set(**{"latent.name.0": "rounder"})  # which is taken
    assert other.errors[0].startswith("Another direction of this run is called 'rounder'.")
    other.set(latent__kind="named").calm()
    assert (images(other, "latent.film.0") == film).all()
    other.press("latent.axis.0.0").calm()
    assert "rounder to the right" in pad(other)["alt"]
    assert "rounder →" in [mark["label"] for mark in pad(other)["marks"]]
    axes = other.at.query_params["axes"]
    axes = axes[0] if isinstance(axes, list) else axes
    link = {"latent.plane": "Two directions", "axes": axes}
    assert "rounder to the right" in pad(visit("latent", **link).calm())["alt"]
    seen = tool(visit("latent"), "directions", **{"latent.name.1": ""}).calm()
    assert seen.widget("latent.name.1").placeholder == "Main direction 2: name it"
    (said,) = visit("latent", **link).errors
    assert "its name was cleared" in said


def test_on_a_server_for_viewing_names_are_only_read(visit, trained, setting):
    tool(visit("latent"), "directions", **{"latent.name.1": "rounder"})
    setting(view_only=1)
    seen = tool(visit("latent"), "directions").calm()
    assert not seen.all("latent.name.1")
    assert "**rounder**" in seen.texts("markdown")


def test_local_directions_belong_to_the_place(visit, trained):
    seen = tool(visit("latent", run=trained.runs["vae"]), "directions", latent__kind="local").calm()
    before = seen.pictures("latent.film.0")["frames"]
    ask(seen, at=(2.5, 2.5)).calm()
    assert seen.pictures("latent.film.0")["frames"] != before


def test_directions_of_labels_ask_before_they_learn_to_read(visit, trained, monkeypatch):
    from core.measure.features import reading

    monkeypatch.setattr(reading, "IMAGES", 1000)  # the real one takes half a minute
    seen = tool(visit("latent", run=trained.runs["vae"]), "directions", latent__kind="known").calm()
    assert not seen.shown("latent.film.0")
    seen.press("latent.reader").calm()
    assert "held-out accuracy" in seen.texts("caption")
    assert "**class 9**" in seen.texts("markdown")
    assert seen.shown("latent.film.0")
    seen.set(latent__kind="principal").calm()
    assert "% of the variation · mostly changes " in seen.texts("caption")
    seen.set(latent__kind="known").calm()
    seen.set(
        **{f"latent.plus.{trained.runs['vae']}": "3", f"latent.minus.{trained.runs['vae']}": "5"}
    )
    seen.press("latent.sum").calm()
    assert "In the middle: **3 - 5**" in seen.texts("caption", "markdown")
    seen = tool(visit("latent", run=trained.runs["plain"]), "directions").calm()
    assert "known" not in seen.widget("latent.kind").options  # nothing is known of these images


# --- Your image ---------------------------------------------------------------------------------


def test_an_image_of_the_dataset_is_found_and_lands_on_the_pad(visit, trained):
    seen = tool(visit("latent", run=trained.runs["vae"]), "picture", latent__mine="dataset").calm()
    found = images(seen, "latent.found")
    assert len(found) == 3
    assert (found[2] == abs(found[0].astype(int) - found[1])).all()
    seen.press("latent.mine.land").calm()
    assert "of digits" in seen.texts("markdown", "caption")
    assert (exact(seen) == found[1][0]).all()
    assert pad(seen)["marks"][0]["label"] == "here"
    seen.press("latent.leave").calm()
    assert pad(seen)["marks"][0]["label"] == "image 0"


def test_a_gan_searches_for_the_image(visit, trained):
    seen = tool(visit("latent"), "picture", latent__mine="dataset").calm()
    assert "Mean squared error" in seen.texts("caption")
    found = images(seen, "latent.found")
    assert np.square((found[0].astype(float) - found[1]) / 255).mean() < 0.2


def stroke():
    """A drawing of a one, as the component sends it."""
    x = np.zeros((224, 224), np.uint8)
    x[30:200, 100:124] = 255
    out = io.BytesIO()
    Image.fromarray(x).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def test_a_drawing_is_prepared_as_the_dataset_was(visit, trained):
    seen = tool(visit("latent", run=trained.runs["vae"]), "picture").calm()
    assert not seen.shown("latent.found")
    seen.told("latent.canvas", {"drawing": {"number": 5, "png": stroke()}}).calm()
    assert "counted in blocks of 4 × 4" in seen.texts("caption")
    ink = images(seen, "latent.found")[0][0]
    assert ink[:, 3:5].min() > 100
    assert ink[:, 0].max() == 0


@pytest.mark.parametrize(
    "drawing",
    [
        None, 7, {}, {"number": 1}, {"number": "x", "png": "data:image/png;base64,AA"}, {"number": 1, "png": "data:image/png;base64,AA"},
        {"number": 1, "png": "data:image/gif;base64,AA"}, {"number": 1, "png": ""}, {"number": 1, "png": "x" * 3_000_000},
        {"number": 1, "png": "data:image/png;base64,!!"},
    ],
)  # fmt: skip
def test_a_drawing_that_is_none_is_ignored(visit, trained, drawing):
    seen = tool(visit("latent", run=trained.runs["vae"]), "picture")
    assert not seen.told("latent.canvas", {"drawing": drawing}).calm().shown("latent.found")


def uploaded(**how):
    """A photograph of a bright stroke that leans, 60 × 90 pixels."""
    x = np.zeros((90, 60, 3), np.uint8)
    x[10:80, 25:35] = 255
    picture = Image.fromarray(x).convert(how.pop("mode", "RGB"))
    out = io.BytesIO()
    picture.save(out, how.pop("format", "PNG"), **how)
    return out.getvalue()


def test_uploads_of_all_sizes_modes_and_rotations(visit, trained):
    seen = tool(visit("latent", run=trained.runs["vae"]), "picture", latent__mine="upload").calm()
    exif = Image.Exif()
    exif[0x0112] = 6
    for content, name in (
        (uploaded(), "a.png"), (uploaded(mode="L"), "b.png"), (uploaded(mode="P"), "c.png"), (uploaded(mode="RGBA"), "d.png"),
        (uploaded(mode="CMYK", format="JPEG"), "e.jpg"), (uploaded(format="JPEG", exif=exif), "f.jpg"), (uploaded(format="WEBP"), "g.webp"),
    ):  # fmt: skip
        seen.at.file_uploader(key="latent.upload").set_value((name, content, "image/png"))
        seen.run().calm()
        assert images(seen, "latent.found").shape == (3, 1, 8, 8), name


def test_an_upload_that_is_no_picture_is_said(visit, trained):
    seen = tool(visit("latent", run=trained.runs["vae"]), "picture", latent__mine="upload")
    seen.at.file_uploader(key="latent.upload").set_value(("a.png", b"no picture", "image/png"))
    assert seen.run().errors
    assert all("your fault" not in words for words in seen.errors)


# --- How it is made -----------------------------------------------------------------------------


def test_a_unit_is_switched_off_and_on(visit, trained):
    seen = tool(visit("latent"), "making").calm()
    before = images(seen, "latent.without")
    assert (before[0] == before[1]).all()
    seen.told("latent.units", {"clicked": {"number": 1, "index": 0}}).calm()
    after = images(seen, "latent.without")
    assert (after[0] == before[0]).all()
    assert (after[1] != after[0]).any()
    assert seen.pictures("latent.units")["marks"] == {"0": "✕"}
    seen.press("latent.units.on").calm()
    assert (images(seen, "latent.without")[1] == before[0]).all()


def test_the_posterior_of_a_vae(visit, trained):
    seen = tool(visit("latent", run=trained.runs["vae"]), "making").calm()
    assert "nats in all" in seen.texts("caption")


@pytest.mark.parametrize(("family", "key"), [("diffusion", "latent.denoising"), ("flow", "latent.unrolled"), ("vqvae", "latent.codes")])  # fmt: skip
def test_each_family_has_its_own_view(visit, home, family, key):
    seen = tool(visit("latent", run=short_training(family).id), "making").calm()
    assert seen.shown(key)
    if family == "vqvae":
        before = images(seen, "latent.repainted")
        assert (before[0] == before[1]).all()
        seen.told("latent.tokens", {"clicked": {"number": 3, "index": 5}}).calm()
        seen.run()
        assert "✎" in seen.pictures("latent.codes")["marks"].values()
        seen.press("latent.codes.reset").calm()
        assert "✎" not in seen.pictures("latent.codes")["marks"].values()
    if family == "flow":
        assert (images(seen, key)[-1][0].astype(int) - exact(seen)).max() <= 1


# --- The map ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vae", "gan", "plain"])
def test_the_map_decodes_where_it_is_clicked_and_what_is_ringed(visit, trained, name):
    seen = tool(visit("latent", run=trained.runs[name]), "map").calm()
    data = seen.pictures("latent.map")
    assert data["count"] > 20
    seen.told("latent.map", {"picked": {"of": data["id"], "at": [0.5, 0.5]}}).calm()
    image = images(seen, "latent.map.here")[0][0]
    assert len(images(seen, "latent.map.near")) == 4
    seen.press("latent.map.land").calm()
    assert (exact(seen) == image).all()
    seen.told("latent.map", {"picked": {"of": data["id"], "indices": [0, 1, 2, 5]}}).calm()
    assert len(images(seen, "latent.map.ring")) == 4


def test_a_way_between_anchors_is_drawn_on_the_map(visit, trained):
    seen = tool(visit("latent", run=trained.runs["vae"]), "map")
    of = seen.pictures("latent.map")["id"]
    for name, x in (("A", 0.2), ("B", 0.8)):
        seen.told("latent.map", {"picked": {"of": of, "at": [x, 0.5]}})
        seen.press(f"latent.map.{name}").calm()
    data = seen.pictures("latent.map")
    assert len(data["path"]) == 24
    ends = {mark["label"]: mark["at"] for mark in data["marks"]}
    assert ends["A"] == pytest.approx([0.2, 0.5])
    assert ends["B"] == pytest.approx([0.8, 0.5])
    assert seen.shown("latent.map.way")


@pytest.mark.parametrize(
    "picked",
    [None, 7, [], {}, {"of": "?", "at": [0, 0]}, {"at": [float("nan"), 0]}, {"at": [1e99, 0]}, {"indices": "x"},
     {"indices": [10**9, -1, "x", 1.5]}],
)  # fmt: skip
def test_nonsense_on_the_map_is_ignored(visit, trained, picked):
    seen = tool(visit("latent", run=trained.runs["vae"]), "map")
    if isinstance(picked, dict) and picked:
        picked = {"of": seen.pictures("latent.map")["id"]} | picked
    seen.told("latent.map", {"picked": picked})
    assert not seen.calm().shown("latent.map.here")
    assert not seen.shown("latent.map.ring")


@pytest.mark.parametrize("colour", ["class", "origin", "nearest", "density"])
def test_every_colour_has_its_legend(visit, trained, colour):
    seen = tool(visit("latent", run=trained.runs["vae"]), "map", **{"latent.map.colour": colour}).calm()  # fmt: skip
    data = seen.pictures("latent.map")
    (trait,) = data["traits"]
    assert len(trait["names"]) == len(trait["colours"]) > 1


# --- Films --------------------------------------------------------------------------------------


def test_a_film_of_images_and_of_pins(visit, trained):
    seen = tool(visit("latent"), "film").calm()
    assert len(seen.pictures("latent.film")["frames"]) == 48
    seen.set(**{"latent.film.loop": False}).calm()
    assert len(seen.pictures("latent.film")["frames"]) == 36
    seen.set(**{"latent.film.source": "pins"}).calm()
    assert "Pin at least two points" in seen.texts("caption")
    ask(seen, at=(1, 1), pins=[[0, 0], [2, 2]]).calm()
    assert len(seen.pictures("latent.film")["frames"]) == 12


@pytest.mark.parametrize("text", ["", "1", "x y", "-1 2", "1.5 2", "1 " * 30, "99999999999 1"])
def test_images_of_a_film_that_are_none_give_a_sentence(visit, trained, text):
    seen = tool(visit("latent"), "film").set(**{"latent.film.images": text})
    (words,) = seen.errors
    assert words == f"The images must be 2 to 24 whole numbers, got {text!r}. For example 0 1 2 3."


def test_no_model_is_changed_by_exploring(visit, trained):
    """Models are shared: hooks, repaints and searches leave weights and mode as they were."""
    import torch

    opened = runs.open_model(jobs.get(trained.runs["gan"]))
    before = {name: value.clone() for name, value in opened.model.state_dict().items()}
    seen = visit("latent")
    for name in ("making", "directions", "map", "picture", "film"):
        tool(seen, name).calm()
    assert not opened.model.training
    assert all(
        torch.equal(value, before[name]) for name, value in opened.model.state_dict().items()
    )
    assert not any(module._forward_hooks for module in opened.model.modules())
