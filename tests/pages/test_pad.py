"""The pad of the Latent space page: what is asked for is answered, exactly, once, and for nobody else."""

from __future__ import annotations

import base64
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from core import jobs, runs
from core.ground import sheets

SMALL = {"train.images": 320, "train.batch": 64, "family.width": 32}


@pytest.fixture
def visit(visit):
    """Opens the page on the main directions of every model, where :func:`drawn` knows what is to be seen."""

    def open(page="", **query):
        main = {"latent.plane": "Two main directions"} if page == "latent" else {}
        return visit(page, **main | query)

    return open


def pad(seen):
    return seen.pictures("latent.pad")


def ask(seen, at=(0.0, 0.0), window=(0.0, 0.0, 6.0), **other):
    """Sends what the browser would: the place of the ring, the window, and which sheet it holds."""
    known = pad(seen)
    view = {
        "number": other.pop("number", 1), "plane": known["plane"], "went": known["go"]["number"], "at": at, "window": window, "pins": [],
        "rest": True, "has": "",
    }  # fmt: skip
    return seen.told("latent.pad", {"view": view | other})


def pixels(source):
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
        return np.asarray(picture)


def exact(seen):
    return pixels(pad(seen)["exact"]["src"])


def drawn(run, at=(0.0, 0.0), seed=0):
    """Computes the image at a place without any page."""
    import torch

    from core import latent

    torch.set_num_threads(1)
    space = latent.open_space(runs.open_model(jobs.get(run)))
    labels = [0] if space.classes else None
    plane = latent.principal_plane(space, space.draw([0], labels, seed)[0])
    x = space.image(plane.points(np.asarray([at]))[0])
    return x[0] if len(x) == 1 else x.transpose(1, 2, 0)


def short_training(family, dataset="digits", **values):
    """Trains a few steps in this process."""
    from core import kinds, worker

    job = kinds.submit(
        "train", {"dataset": dataset, "family": family}, SMALL | values, name="Short"
    )
    assert worker.work(job.path) == 0
    return jobs.get(job.id)


# --- What is asked for is answered --------------------------------------------------------------


def test_the_first_view_brings_the_neighbourhood_and_the_exact_image(visit, trained):
    data = pad(visit("latent").calm())
    assert data["sheet"]["cells"] == 15
    assert pixels(data["sheet"]["src"]).shape == (15 * 8, 15 * 8)
    assert set(data["ms"]) == {"model", "encode"}
    assert data["go"]["at"] == [0, 0]
    assert (exact(visit("latent")) == drawn(trained.runs["gan"])).all()


def test_the_middle_cell_is_the_exact_image(visit, trained):
    data = pad(visit("latent"))
    cell = pixels(data["sheet"]["src"])[7 * 8 : 8 * 8, 7 * 8 : 8 * 8].astype(int)
    assert abs(cell - exact(visit("latent"))).max() <= 1


def test_the_image_at_rest_is_the_one_of_that_place(visit, trained):
    seen = ask(visit("latent"), at=(1.25, -0.5)).calm()
    assert pad(seen)["answer"] == 1
    assert pad(seen)["exact"]["at"] == [1.25, -0.5]
    assert (exact(seen) == drawn(trained.runs["gan"], (1.25, -0.5))).all()


def test_a_cell_lies_where_the_component_takes_it_to_lie(visit, trained):
    """The middle of column j is ((j + 0.5) / 15 - 0.5) widths beside the middle of the window, y downwards."""
    seen = ask(visit("latent"), at=(0, 0), window=(0.5, 0.25, 3.0))
    sheet = pixels(pad(seen)["sheet"]["src"])
    row, column = 3, 12
    place = (0.5 + ((column + 0.5) / 15 - 0.5) * 3, 0.25 + ((row + 0.5) / 15 - 0.5) * 3)
    cell = sheet[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8].astype(int)
    assert abs(cell - drawn(trained.runs["gan"], place)).max() <= 1


def test_while_the_pointer_moves_no_exact_image_is_made(visit, trained):
    seen = ask(visit("latent"), window=(1, 0, 6), rest=False)
    assert "exact" not in pad(seen)
    assert pad(seen)["sheet"]["window"] == [1, 0, 6]


def test_a_sheet_that_the_browser_holds_is_not_sent_again(visit, trained):
    seen = visit("latent")
    key = pad(seen)["sheet"]["key"]
    ask(seen, at=(1, 1), has=key)
    assert "sheet" not in pad(seen)
    ask(seen, at=(1, 1), window=(0, 0, 3), has=key, number=2)
    assert pad(seen)["sheet"]["key"] != key


def test_two_visitors_do_not_meet(visit, trained):
    first, second = visit("latent"), visit("latent")
    ask(first, at=(2, 2))
    assert pad(second.run())["go"]["at"] == [0, 0]
    assert pad(second)["answer"] == 0


@pytest.mark.parametrize(
    "view",
    [
        None, 3, "x", [], {"at": [0, "x"]}, {"at": [float("nan"), 0]}, {"at": [float("inf"), 0]}, {"at": [7, 0]},
        {"at": [1e300, 0]}, {"at": [0]}, {"at": [0, 0, 0]}, {"at": [True, 0]}, {"at": {"x": 1}}, {"window": [0, 0, 0]}, {"window": [0, 0, -1]},
        {"window": [0, 0, 1e9]}, {"window": [0, 0]}, {"window": None}, {"number": "7"}, {"number": None}, {"plane": "another"}, {"went": 99},
    ],
)  # fmt: skip
def test_nonsense_from_the_browser_is_answered_as_nothing(visit, trained, view):
    seen = visit("latent")
    if isinstance(view, dict):
        ask(seen, **view)
    else:
        seen.told("latent.pad", {"view": view})
    assert not seen.calm().at.exception
    assert pad(seen)["answer"] == 0
    assert seen.at.query_params["at"] in ("0_0_0_0_6", ["0_0_0_0_6"])  # where it begins


@pytest.mark.parametrize("pins", [7, [7], [[1]], [[1, "x"]], [[float("nan"), 0]], [[0, 0]] * 1000])
def test_pins_that_are_none_are_dropped(visit, trained, pins):
    seen = ask(visit("latent"), pins=pins).calm()
    kept = seen.at.query_params.get("pins", [""])
    assert len((kept[0] if isinstance(kept, list) else kept).split("_")) <= 48


# --- Planes -------------------------------------------------------------------------------------


def test_every_kind_of_plane_and_its_place(visit, trained):
    from core import latent

    seen = visit("latent")
    first = exact(ask(seen, at=(1, 0)))
    for kind in ("anchors", "labels", "coordinates"):
        seen.set(latent__plane=kind).calm()
        data = pad(ask(seen, at=(0.5, 0.5), window=data_window(kind)).calm())
        assert data["sheet"]["cells"] == 15
        assert (exact(seen) != first).any()
    assert set(latent.PLANES) >= {"principal", "anchors", "labels", "coordinates"}
    assert [mark["label"] for mark in pad(seen.set(latent__plane="labels"))["marks"]] == ["0", "1"]
    assert [mark["label"] for mark in pad(seen.set(latent__plane="anchors"))["marks"]] == [
        "A",
        "B",
        "C",
    ]


def data_window(kind):
    return {"anchors": (0.5, 0.5, 1.8), "labels": (0, 0, 3)}.get(kind, (0, 0, 6))


def test_the_same_class_twice_gives_a_sentence(visit, trained):
    seen = visit("latent").set(latent__plane="labels").set(**{"latent.to": 0})
    (words,) = seen.errors
    assert words == "The two classes must differ, got 0 twice. Choose another one."


def test_a_coordinate_that_is_none_gives_a_sentence(visit, trained):
    seen = visit("latent").set(latent__plane="coordinates").set(**{"latent.i": 99})
    (words,) = seen.errors
    assert words == "Across must be from 0 to 15, got 99. Choose another."


def test_another_seed_keeps_the_place_and_another_kind_of_plane_begins_anew(visit, trained):
    seen = ask(visit("latent"), at=(1.5, 2), window=(1, 1, 4))
    seen.set(latent__seed=4)
    assert pad(seen)["go"]["at"] == [1.5, 2]
    assert pad(seen)["go"]["window"] == [1, 1, 4]
    assert (exact(seen) == drawn(trained.runs["gan"], (1.5, 2), seed=4)).all()
    seen.set(latent__plane="labels")
    assert pad(seen)["go"]["at"] == [-1, 0]  # on the first class, not between the two


# --- Links --------------------------------------------------------------------------------------


def test_the_address_brings_the_same_view(visit, trained):
    seen = ask(visit("latent"), at=(1.25, -0.5), window=(1, 0, 3), pins=[[1, 1], [-0.25, 2]])
    query = {name: value[0] if isinstance(value, list) else value for name, value in seen.at.query_params.items()}  # fmt: skip
    assert (query["at"], query["pins"]) == ("1.25_-0.5_1_0_3", "1_1_-0.25_2")
    again = visit("latent", **query)
    assert pad(again)["go"]["at"] == [1.25, -0.5]
    assert pad(again)["go"]["window"] == [1, 0, 3]
    assert pad(again)["go"]["pins"] == [[1, 1], [-0.25, 2]]
    assert (exact(again) == exact(seen)).all()


def test_going_back_goes_back_on_the_pad(visit, trained):
    seen = ask(visit("latent"), at=(1, 1))
    ask(seen, at=(2, 2), number=2)
    seen.at.query_params["at"] = "1_1_0_0_6"  # what the browser's button does
    data = pad(seen.run())
    assert (data["go"]["at"], data["go"]["number"]) == ([1, 1], 1)
    assert (exact(seen) == drawn(trained.runs["gan"], (1, 1))).all()


@pytest.mark.parametrize("text", ["x", "1_2", "1_2_3_4_5_6", "nan_0_0_0_6", "0_0_0_0_0", "0_0_0_0_-1", "9_0_0_0_6", "1e999_0_0_0_6", "_" * 3000])  # fmt: skip
def test_a_place_in_the_address_that_is_none_is_left_alone(visit, trained, text):
    seen = visit("latent", at=text, pins=text).calm()
    assert pad(seen)["go"]["at"] == [0, 0]
    assert pad(seen)["go"]["pins"] == []


# --- Pictures that remember ---------------------------------------------------------------------


def saved(seen):
    """Takes the picture away that the button offers."""
    from pages.parts.latent import Checkpoint, Choice, Spot, view_link
    from pages.parts.pad import View

    state = seen.at.session_state
    run = jobs.get(state["run"])
    opened = runs.open_model(run)
    data = pad(seen)
    choice = Choice(
        state["latent.seed"], state["latent.class"], tuple(opened.sampling().record().items()),
        state["latent.plane"], (0, 1), state["latent.image"],
    )  # fmt: skip
    spot = Spot(
        Checkpoint(run.id, opened.step), choice, View(tuple(data["exact"]["at"]), (0.0, 0.0, 6.0))
    )
    assert spot.key == data["plane"]
    return view_link.picture(spot)


def drop(seen, content):
    return seen.told("latent.pad", {"dropped": {"content": base64.b64encode(content).decode()}})


def test_a_dropped_picture_brings_its_view_back_to_the_pixel(visit, trained):
    seen = ask(visit("latent").set(latent__seed=5), at=(1.25, -0.5))
    content, before = saved(seen), exact(seen)
    other = visit("latent", run=trained.runs["vae"])
    drop(other, content).calm()
    assert other.at.session_state["run"] == trained.runs["gan"]
    assert other.widget("latent.seed").value == 5
    assert pad(other)["go"]["at"] == [1.25, -0.5]
    assert (exact(other) == before).all()
    assert "Restored the view of Tiny gan" in other.texts("toast")


def test_pictures_that_remember_nothing_or_lie_are_said(visit, trained):
    seen = ask(visit("latent"), at=(1, 1))
    content = saved(seen)
    plain = io.BytesIO()
    Image.new("L", (8, 8)).save(plain, "PNG")
    with Image.open(io.BytesIO(content)) as picture:
        forged = io.BytesIO()
        info = picture.text
        from PIL.PngImagePlugin import PngInfo

        block = PngInfo()
        block.add_text(
            "simulacra.view", info["simulacra.view"].replace('\\"seed\\":0', '\\"seed\\":1')
        )
        picture.save(forged, "PNG", pnginfo=block)
    for bytes_, words in (
        (plain.getvalue(), "carries no view"), (b"GIF89a", "no PNG"), (forged.getvalue(), "does not belong to its pixels"),
    ):  # fmt: skip
        (said,) = drop(seen, bytes_).errors
        assert words in said
        assert pad(seen)["plane"]


@pytest.mark.parametrize(
    "value", [None, 7, {}, {"content": 7}, {"content": "###"}, {"content": None}]
)
def test_a_drop_that_is_none_is_ignored(visit, trained, value):
    assert visit("latent").told("latent.pad", {"dropped": value}).calm().shown("latent.pad")


def test_a_picture_of_a_checkpoint_that_is_gone_says_so(visit, trained):
    seen = ask(visit("latent"), at=(1, 1))
    content = saved(seen)
    run = jobs.get(trained.runs["gan"])
    steps = runs.checkpoints(run)
    shutil.rmtree(run.path / "checkpoints" / str(steps[-1]))
    seen.run()
    (words,) = drop(seen, content).errors
    assert "checkpoint is gone" in words


# --- What it must stand -------------------------------------------------------------------------


def test_a_checkpoint_that_is_deleted_while_the_page_is_open(visit, trained):
    seen = visit("latent")
    run = jobs.get(trained.runs["gan"])
    steps = runs.checkpoints(run)
    shutil.rmtree(run.path / "checkpoints" / str(steps[-1]))
    seen.again("wander")
    seen.run().calm()
    assert f"(step {steps[-2]:,})" in seen.texts("caption")


def test_a_training_that_goes_on_offers_its_newest_checkpoint(visit, trained):
    run = jobs.get(trained.runs["gan"])
    steps = runs.checkpoints(run)
    last = run.path / "checkpoints" / str(steps[-1])
    kept = last.with_name(f".kept-{steps[-1]}")
    last.rename(kept)
    jobs.set_state(run.path, status="queued")
    seen = visit("latent").calm()
    assert "still learning" in seen.texts("caption")
    assert f"(step {steps[-2]:,})" in seen.texts("caption")
    kept.rename(last)
    seen.run()
    assert not seen.all("latent.newest")  # a full run takes it by itself
    assert f"(step {steps[-1]:,})" in seen.texts("caption")


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("gan", {"family.latent_dim": 1}), ("gan", {"family.latent_dim": 512}), ("gan", {"family.latent_dim": 1, "family.conditional": False}),
        ("vqvae", {}), ("flow", {}), ("diffusion", {}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else value,
)  # fmt: skip
def test_spaces_of_all_kinds_can_be_dragged_in(visit, home, family, values):
    run = short_training(family, **values)
    seen = visit("latent", run=run.id).calm()
    ask(seen, at=(1, -1)).calm()
    assert exact(seen).shape == (8, 8)
    seen.set(latent__plane="coordinates").calm()
    ask(seen, at=(1, 1)).calm()


def test_many_classes_and_two(visit, home):
    from core import datasets

    rng = np.random.default_rng(0)
    for classes in (2, 100):
        y = np.arange(400) % classes
        x = rng.integers(0, 256, (400, 1, 8, 8)).astype(np.uint8)
        splits = {
            "train": np.arange(200),
            "valid": np.arange(200, 300),
            "test": np.arange(300, 400),
        }
        names = tuple(f"kind {i}" for i in range(classes))
        datasets.save(f"of-{classes}", datasets.assemble(x, y, names, splits, name=f"of-{classes}"))
        run = short_training("gan", f"of-{classes}")
        seen = visit("latent", run=run.id).calm()
        seen.set(latent__plane="labels").calm()
        assert exact(ask(seen, at=(0.5, 0))).shape == (8, 8)


def test_the_state_of_a_session_holds_no_model(visit, trained):
    """Models are shared and bounded by memory; a session that kept one would keep it alive."""
    seen = ask(visit("latent"), at=(1, 1))
    for value in seen.at.session_state._state.filtered_state.values():
        json.dumps(value, default=vars)


# --- The Overview -------------------------------------------------------------------------------


def test_the_overview_opens_with_a_stored_plane_and_loads_no_model(visit, trained, monkeypatch):
    from core import latent

    run = jobs.get(trained.runs["gan"])
    assert not visit("overview").shown("overview.pad")
    latent.shelve(run)
    monkeypatch.setattr(runs, "open_model", lambda *args: pytest.fail("a model was opened"))
    seen = visit("overview").calm()
    data = seen.pictures("overview.pad")
    assert "Tiny gan (gan on digits)" in seen.texts("caption")
    assert "seed 0" in seen.texts("caption")
    assert not data["roams"]
    content = (run.path / sheets.PAD).read_bytes()
    assert base64.b64decode(data["sheet"]["src"].partition(",")[2]) == content


def test_a_damaged_plane_is_left_out(visit, trained):
    file = jobs.get(trained.runs["gan"]).path / sheets.PAD
    for content in (b"", b"no picture", sheets.png(np.zeros((1, 1, 8, 8), np.uint8), 1)):
        file.write_bytes(content)
        assert not visit("overview").calm().shown("overview.pad")
