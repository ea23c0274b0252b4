"""From a dataset as it is to one as it should be: inspect, decide, take back, make a version, take it away; augment."""

from __future__ import annotations

import csv
import io
import re
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from core import datasets


@pytest.fixture
def shapes(home):
    """Imports 60 small pictures of two classes; one of them is there twice."""
    rng, out = np.random.default_rng(0), io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for i in range(60):
            x = rng.integers(0, 60, (12, 12)).astype(np.uint8)
            x[2:10, 5:7] += 180 if i % 2 else 0
            x[5:7, 2:10] += 0 if i % 2 else 180
            picture = io.BytesIO()
            Image.fromarray(x).save(picture, "PNG")
            names = [f"{'tall' if i % 2 else 'wide'}/{i}.png"] + ["wide/again.png"] * (i == 0)
            for name in names:
                archive.writestr(name, picture.getvalue())
    (home / "in").mkdir(parents=True)
    file = home / "in" / "shapes.zip"
    file.write_bytes(out.getvalue())
    return datasets.bring("shapes", {"path": str(file), "size": 12})


@pytest.fixture(scope="module")
def empty(server):
    """A server where nothing was made yet, for the tests that look at what ships with the code."""
    return server()


def test_a_data_scientist_comes_from_what_is_wrong_to_a_version_that_train_uses(
    server, screen, home, shapes
):
    here = server(home=home)
    screen.open(here, "data", data="shapes", **{"data.view": "issues"})
    screen.button("data.inspect").click()
    pill = screen.key("data.kind").get_by_role("radio", name=re.compile("Exact duplicates"))
    expect(pill).to_be_visible()
    pill.click()
    expect(screen.button("data.exclude")).to_have_text("Leave out all 1")
    assert screen.colours("data.evidence.exact") > 3

    # decide, take it back, decide again
    screen.button("data.exclude").click()
    screen.says("1 image: left out.")
    view = screen.key("data.view")
    view.get_by_role("radio", name="Mend and take away").click()
    undo = screen.page.locator("[class*=st-key-data-undo-] button")
    expect(undo).to_have_count(1)
    assert "data.view=version" in screen.page.url
    undo.click()
    expect(undo).to_have_count(0)
    expect(screen.button("data.version")).to_be_disabled()
    screen.page.go_back()
    screen.button("data.exclude").click()
    view.get_by_role("radio", name="Mend and take away").click()
    expect(undo).to_have_count(1)

    # a version, which is chosen from now on and goes on to Train
    screen.key("data.version.name").locator("input").fill("clean")
    screen.key("data.version.name").locator("input").press("Enter")
    screen.ready().button("data.version").click()
    screen.chosen("data", "clean")
    screen.ready()  # what is offered is the new one, not only its name
    datasets.state("clean", licence="", consent="not needed")  # or the door holds the ZIP
    screen.page.get_by_role("link", name="Take it away").click()
    screen.ready()
    with screen.page.expect_download() as download:
        screen.button("data.zip").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("manifest.csv"))))
        assert {row["file"] for row in rows} <= set(archive.namelist())
    assert len(rows) == len(shapes) - 1
    screen.page.get_by_role("link", name="Look at clean").click()
    screen.page.get_by_role("link", name="Train a model on clean").click()
    screen.says("Trained on clean")
    assert datasets.load("clean", {}).parent == shapes.fingerprint


def test_a_lasso_on_the_map_shows_and_decides(server, screen, home, shapes):
    from core import jobs, kinds, quality

    here = server(home=home)
    job = kinds.submit("inspect", {"dataset": "shapes"}, {})
    screen.until(lambda: jobs.get(job.id).status == "finished")
    screen.open(here, "data", data="shapes", **{"data.view": "map"})
    found = quality.findings(jobs.get(job.id))
    assert found is not None
    screen.canvas("data.map.None")
    box = screen.key("data.map.None").locator("canvas.over").bounding_box()
    assert box is not None
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99), (0.01, 0.02)]
    spots = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    screen.page.mouse.move(*spots[0])
    screen.page.mouse.down()
    for spot in spots[1:]:
        screen.page.mouse.move(*spot, steps=6)
    screen.page.mouse.up()
    screen.says(f"{len(shapes)} images in the lasso")
    assert screen.colours("data.lasso") > 3
    screen.button("data.lasso.accept").click()
    screen.says(f"{len(shapes)} images: kept.")


def test_pictures_are_selected_with_shift_decided_taken_back_and_gone_through_by_key(empty, screen):
    screen.open(empty, "data", data="digits")
    canvas = screen.canvas("data.wall")
    box = canvas.bounding_box()
    assert box is not None
    across = int(box["width"] // 66)  # pictures of 64 px, and 2 between
    at = lambda i: {"x": 2 + 66 * (i % across) + 30, "y": 2 + 66 * (i // across) + 40}  # noqa: E731
    canvas.click(position=at(2), modifiers=["Control"])
    canvas.click(position=at(across + 1), modifiers=["Shift"])
    screen.says(f"{across} selected")
    screen.button("data.selected.exclude").click()
    screen.says(f"{across} images: left out.")
    expect(screen.key("data.selected.exclude")).to_have_count(0)
    screen.button("mend.undo").click()
    screen.says("Taken back.")
    canvas.click(position=at(1))
    screen.says("2 of 1,797")
    screen.page.keyboard.press("ArrowRight")
    screen.says("3 of 1,797")
    screen.page.keyboard.press("x")
    screen.says("Left out")
    screen.page.keyboard.press("ArrowLeft")
    screen.says("2 of 1,797")
    expect(screen.button("data.item.exclude")).to_be_enabled()


def test_a_data_scientist_builds_a_chain_and_train_takes_it(empty, screen):
    screen.open(empty, "augment", data="digits", **{"augment.view": "before"})
    canvas = screen.key("augment.compare").locator("canvas")
    expect(canvas).to_have_attribute("data-border", re.compile(r"\d+"))
    add = screen.key("augment.add").get_by_role("combobox")
    add.fill("salt")
    add.press("Enter")
    toggles = screen.page.locator("[class*=st-key-augment-on-]")
    expect(toggles).to_have_count(5)
    screen.ready()
    assert "chain=" in screen.page.url

    box = canvas.bounding_box()
    assert box is not None
    before = int(canvas.get_attribute("data-border") or 0)
    middle = box["y"] + box["height"] / 2
    screen.page.mouse.move(box["x"] + box["width"] / 2, middle)
    screen.page.mouse.down()
    screen.page.mouse.move(box["x"] + box["width"] / 4, middle, steps=4)
    screen.page.mouse.up()
    after = int(canvas.get_attribute("data-border") or 0)
    assert abs(after - before / 2) <= 2
    slider = screen.key("augment.compare").get_by_role("slider")
    slider.press("ArrowRight")
    assert int(canvas.get_attribute("data-border") or 0) > after

    screen.button("augment.train").click()
    screen.chosen("train.augment.pipeline", "(saved)")


def test_a_data_scientist_starts_the_experiment_without_scrolling_and_no_arm_is_cut_short(
    empty, screen
):
    screen.page.set_viewport_size({"width": 1280, "height": 800})
    screen.open(empty, "augment", data="digits", **{"augment.view": "proof"})
    expect(screen.button("augment.prove")).to_be_in_viewport(ratio=1)
    screen.page.get_by_test_id("stMain").locator("summary").filter(has_text="Settings").click()
    arms = screen.page.locator(
        "[class*=st-key-augment-experiment-] [data-testid=stCheckbox] label p"
    )
    expect(arms.filter(visible=True)).to_have_count(11)
    for arm in arms.filter(visible=True).all():
        cut = "e => { while (e.tagName != 'LABEL' && e.scrollWidth <= e.clientWidth) e = e.parentElement; return e.tagName; }"
        assert arm.evaluate(cut) == "LABEL", arm.inner_text()
