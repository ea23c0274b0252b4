"""The pad in a real browser: it follows the pointer without the server, and the server makes it exact."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from core.ground import files, sheets

KEY = "latent.pad"
MAIN = {"latent.plane": "Two main directions"}


@contextmanager
def frozen(server):
    """Stops the server's process for a while: whatever happens meanwhile happens in the browser alone."""
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def over(screen, key=KEY):
    return screen.key(key).locator("canvas.over")


def image(screen, key=KEY):
    return screen.key(key).locator("canvas.image")


def final(screen, key=KEY):
    expect(screen.key(key).locator("canvas.image[data-kind=final]")).to_have_count(
        1, timeout=60_000
    )


def drag(screen, *places, key=KEY, release=True):
    """Drags over places, given as shares of the pad's side."""
    box = over(screen, key).bounding_box()
    for number, (x, y) in enumerate(places):
        screen.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if number == 0:
            screen.page.mouse.down()
    if release:
        screen.page.mouse.up()


def address(screen):
    return {name: value[0] for name, value in parse_qs(urlsplit(screen.page.url).query).items()}


def test_dragging_changes_the_image_without_the_server(gallery, tiny_runs, screen):
    screen.open(gallery, "latent", run=tiny_runs.runs["gan"], **MAIN)
    final(screen)
    with frozen(gallery):
        seen = {screen.pixels(KEY)}
        drag(screen, (0.5, 0.5), (0.2, 0.3), release=False)
        for place in ((0.8, 0.2), (0.9, 0.9), (0.1, 0.6)):
            drawn = int(image(screen).get_attribute("data-drawn"))
            drag(screen, place, release=False)
            screen.until(lambda drawn=drawn: int(image(screen).get_attribute("data-drawn")) > drawn)
            expect(screen.key(KEY).locator(".kind")).to_have_text("preview")
            seen.add(screen.pixels(KEY))
        assert len(seen) == 4
        screen.page.mouse.up()
    final(screen)  # the server is back, and answers where the pointer came to rest
    screen.until(lambda: "at" in address(screen))
    x, y, *window = map(float, address(screen)["at"].split("_"))
    assert x < -2
    assert 0 < y < 1.5
    assert window == [0, 0, 6]
    expect(screen.key(KEY).locator(".meter")).to_contain_text("answered in")


def test_one_drag_moves_both_pictures(gallery, tiny_runs, screen):
    gan, vae = tiny_runs.runs["gan"], tiny_runs.runs["vae"]
    screen.open(gallery, "latent", run=gan, beside=vae, **MAIN)
    final(screen)
    canvases = screen.key(KEY).locator(".pair canvas")

    def shown():
        return tuple(canvases.evaluate_all("all => all.map(one => one.toDataURL())"))

    screen.until(lambda: len(set(shown())) == 2)
    before = shown()
    with frozen(gallery):
        drag(screen, (0.5, 0.5), (0.8, 0.3), release=False)
        screen.until(lambda: all(new != old for new, old in zip(shown(), before, strict=True)))
        screen.page.mouse.up()
    final(screen)
    expect(screen.key(KEY).locator(".who")).to_have_text(["Tiny gan", "Tiny vae"])


def test_keys_move_zoom_pin_and_take_back(gallery, tiny_runs, screen):
    screen.open(gallery, "latent", run=tiny_runs.runs["vae"])
    final(screen)
    over(screen).focus()
    press = screen.page.keyboard.press
    press("ArrowRight")
    screen.until(lambda: address(screen).get("at") == "0.4_0_0_0_6")  # one cell of fifteen
    press("p")
    screen.until(lambda: address(screen).get("pins") == "0.4_0")
    press("ArrowDown")
    screen.until(lambda: address(screen).get("at") == "0.4_0.4_0_0_6")
    press("Backspace")
    screen.until(lambda: address(screen).get("at") == "0.4_0_0_0_6")
    press("+")
    screen.until(lambda: address(screen).get("at", "").endswith("_4"))
    screen.says("1 pinned")
    press("Home")
    screen.until(lambda: address(screen).get("at") == "0_0_0_0_6")
    final(screen)
    words = screen.key(KEY).locator(".words")
    expect(words).to_contain_text("Position 0.00 to the right")


def test_a_held_pointer_at_the_border_moves_the_window_on(gallery, tiny_runs, screen):
    screen.open(gallery, "latent", run=tiny_runs.runs["gan"], **MAIN)
    final(screen)
    over(screen).focus()
    screen.page.keyboard.press("+")
    screen.until(lambda: address(screen).get("at", "").endswith("_4"))
    drag(screen, (0.5, 0.5), (1.05, 0.5), release=False)
    screen.until(lambda: float(over(screen).evaluate("c => c.dataset.left ?? 0")) > 0.5)
    screen.page.mouse.up()
    screen.until(lambda: float(address(screen)["at"].split("_")[2]) > 0.5)
    final(screen)


def test_a_saved_picture_dropped_on_the_pad_brings_its_view_back(
    gallery, tiny_runs, screen, another
):
    screen.open(gallery, "latent", run=tiny_runs.runs["gan"], **{"latent.seed": "3", "at": "1.2_-0.8_0_0_6"})  # fmt: skip
    final(screen)
    before = screen.pixels(KEY)
    with screen.page.expect_download() as got:
        screen.button("latent.save.image").click()
    content = got.value.path().read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (64, 64)  # every pixel is a square of eight
    friend = another().open(gallery, "latent", run=tiny_runs.runs["vae"])
    final(friend)
    friend.key(KEY).locator(".box").evaluate(
        """(box, text) => {
            const bytes = Uint8Array.from(atob(text), sign => sign.charCodeAt(0)), data = new DataTransfer();
            data.items.add(new File([bytes], "view.png", { type: "image/png" }));
            box.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        base64.b64encode(content).decode(),
    )
    friend.chosen("run", "Tiny gan")
    friend.until(lambda: address(friend).get("latent.seed") == "3")
    final(friend)
    friend.until(lambda: friend.pixels(KEY) == before)


def test_a_presenter_drags_on_the_overview_before_anything_is_loaded(
    tiny_runs, server, screen, tmp_path
):
    place = tiny_runs.copy(tmp_path / "home").home
    folder = place / "jobs" / tiny_runs.runs["gan"]
    x = np.random.default_rng(0).integers(0, 256, (225, 1, 8, 8)).astype(np.uint8)
    facts = {"cells": 15, "width": 6.0, "step": 1, "seed": 0, "label": None, "sampling": {}, "names": ["one", "two"]}  # fmt: skip
    (folder / sheets.PAD).write_bytes(sheets.png(x, 15, facts))
    assert files.read_json(folder / "job.json")
    app = server(home=place)
    screen.page.goto(app.url)
    expect(screen.key("overview.pad").locator("canvas.image[data-drawn]")).to_be_visible()
    with frozen(app):
        before = screen.pixels("overview.pad")
        drag(screen, (0.5, 0.5), (0.2, 0.3), key="overview.pad", release=False)
        screen.until(lambda: screen.pixels("overview.pad") != before)
        screen.page.mouse.up()
    screen.ready()


def test_a_drawing_is_found_and_lands_on_the_pad(gallery, tiny_runs, screen):
    screen.open(gallery, "latent", run=tiny_runs.runs["vae"], **{"latent.tool": "Your image"})
    final(screen)
    sheet = screen.key("latent.canvas").locator("canvas")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    mouse = screen.page.mouse
    mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.2)
    mouse.down()
    mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.8, steps=8)
    mouse.up()
    expect(sheet).to_have_attribute("data-strokes", "1")
    screen.says("what the model sees")
    assert screen.colours("latent.found") > 3
    before = screen.pixels(KEY)
    screen.button("latent.mine.land").click()
    screen.says("In the middle: your drawing")
    final(screen)
    screen.until(lambda: screen.pixels(KEY) != before)


def test_on_a_phone_the_picture_is_on_top_and_walks(gallery, tiny_runs, another):
    phone = another(has_touch=True)
    phone.page.clock.install()
    phone.page.set_viewport_size({"width": 390, "height": 844})
    phone.open(gallery, "latent", run=tiny_runs.runs["gan"])
    final(phone)
    picture, plane = image(phone).bounding_box(), over(phone).bounding_box()
    assert picture["width"] >= 350
    assert plane["y"] >= picture["y"] + picture["height"]
    buttons = phone.key(KEY).locator("button:visible")
    assert all(
        min(b.bounding_box()["width"], b.bounding_box()["height"]) >= 44 for b in buttons.all()
    )
    expect(phone.key("latent.seed")).to_be_hidden()
    phone.key("latent.sheet").locator("label").click()
    expect(phone.key("latent.seed")).to_be_visible()
    phone.key("latent.sheet").locator("label").click()
    play = phone.key(KEY).locator(".play")
    with frozen(gallery):
        play.click()
        expect(play).to_have_text("❚❚")
        phone.page.clock.fast_forward(8_000)
        expect(play).to_have_text("▶")  # it takes too long to wait for; it plays when it comes
    expect(phone.key(KEY).locator("canvas.image[data-kind=walk]")).to_have_count(1)
    with frozen(gallery):
        seen = phone.pixels(KEY)
        phone.until(lambda: phone.pixels(KEY) != seen)
    play.click()
    expect(phone.key(KEY).locator(".stay")).to_be_visible()
    phone.key(KEY).locator(".stay").click()
    expect(over(phone)).to_have_attribute("aria-label", re.compile("Main direction 1 to the right"))
