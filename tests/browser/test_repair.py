"""Repair in a real browser: a hole is marked by hand and by keys, and filled."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import expect

HOLE = "latent.repair.hole"


def address(screen, name):
    return parse_qs(urlsplit(screen.page.url).query).get(name, [""])[0]


def test_a_hole_is_marked_by_hand_and_by_keys_and_filled(gallery, tiny_runs, screen):
    way = {"latent.tool": "Repair", "latent.repair.of": "Dataset"}
    screen.open(gallery, "latent", run=tiny_runs.runs["vae"], **way)
    canvas = screen.canvas(HOLE)
    expect(canvas).to_have_attribute("data-marked", "16")  # the middle, to begin with
    press = lambda name: screen.key(HOLE).get_by_role("button", name=name).click()  # noqa: E731
    press("Clear")
    expect(canvas).to_have_attribute("data-marked", "0")
    press("Box")
    canvas.scroll_into_view_if_needed()  # the mouse reaches what is seen alone
    box = canvas.bounding_box()
    side = box["width"] / 8
    mouse = screen.page.mouse
    mouse.move(box["x"] + 2.5 * side, box["y"] + 1.5 * side)
    mouse.down()
    mouse.move(box["x"] + 4.5 * side, box["y"] + 5.5 * side, steps=4)
    mouse.up()
    expect(canvas).to_have_attribute("data-marked", "15")
    screen.until(lambda: address(screen, "hole") == "2-1-3-5")

    # with keys: the brush, one pixel and its neighbours, and back again
    press("Brush")
    canvas.focus()
    for key in ("Shift+ArrowRight", "ArrowRight", "Space"):
        screen.page.keyboard.press(key)
    screen.until(lambda: int(canvas.get_attribute("data-marked")) > 15)
    screen.page.keyboard.press("Backspace")
    screen.until(lambda: address(screen, "hole") == "2-1-3-5")

    screen.button("latent.repair.fill").click()
    assert screen.colours("latent.repair.fills.shown") > 3
    screen.says("bit by bit")
    assert address(screen, "filled")
