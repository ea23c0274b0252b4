"""The Evaluate page in a browser: measuring from the button to the verdict, and a map that asks nobody."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect


@pytest.fixture(scope="module")
def measured(server, tiny_evaluations, tmp_path_factory):
    """A server whose home holds runs and their evaluations."""
    return server(home=tiny_evaluations.copy(tmp_path_factory.mktemp("measured") / "home").home)


def address(screen):
    return {name: value[0] for name, value in parse_qs(urlsplit(screen.page.url).query).items()}


def view(screen, name):
    screen.key("evaluate.view").get_by_text(name, exact=True).click()
    screen.until(lambda: address(screen).get("evaluate.view", "How good") == name)
    screen.ready()


def test_a_stakeholder_measures_a_model_from_the_button_to_the_verdict(
    measured, tiny_evaluations, screen
):
    quick = {"metrics": "kid,precision,nearer", "extractor": "pca", "samples": 60, "map": "false"}
    screen.open(
        measured,
        "evaluate",
        run=tiny_evaluations.runs["gan"],
        **{f"evaluate.set.{name}": str(value) for name, value in quick.items()},
    )
    screen.button("evaluate.start").click()
    screen.until(lambda: address(screen).get("evaluation"))  # a link to what is being measured
    screen.says("Kernel distance (KID)")
    screen.says("Nearer to training than to unseen images")
    expect(screen.key("evaluate.stop")).to_have_count(0, timeout=60_000)
    view(screen, "Copies")
    screen.says("What it would take to believe it.")
    generated, nearest = screen.canvas("evaluate.pairs.0"), screen.canvas("evaluate.pairs.1")
    assert (
        generated.bounding_box()["width"] == nearest.bounding_box()["width"]
    )  # one below the other
    screen.page.get_by_role("link", name="Explore what it learned").click()
    screen.until(lambda: urlsplit(screen.page.url).path == "/latent")
    screen.ready()


def test_a_stakeholder_sees_the_answer_without_scrolling_and_takes_it_away(
    measured, tiny_evaluations, screen
):
    screen.open(measured, "evaluate", run=tiny_evaluations.runs["vae"])
    for topic in ("Good at", "Fails at", "Copies"):
        assert screen.page.get_by_role("rowheader", name=topic).bounding_box()["y"] < 800
    screen.open(measured, "about", run=tiny_evaluations.runs["gan"])
    assert screen.canvas("about.samples").is_visible()
    for key in ("about.samples", "about.ways", "about.report"):
        box = screen.key(key).bounding_box()
        assert box["y"] + box["height"] < 800
    screen.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    screen.key("about.share").get_by_role("button", name="Copy link").click()
    screen.says("Copied")
    link = screen.page.evaluate("navigator.clipboard.readText()")
    assert link == f"{measured.url}/about?run={tiny_evaluations.runs['gan']}"
    assert len(re.findall(rb"/Type\s*/Page[^s]", screen.page.pdf(format="A4"))) == 1


def test_the_map_hovers_and_colours_without_the_server(measured, tiny_evaluations, screen):
    sent = []
    screen.page.on("websocket", lambda socket: socket.on("framesent", lambda _: sent.append(1)))
    screen.open(measured, "evaluate", run=tiny_evaluations.runs["vae"], **{"evaluate.view": "Map"})
    canvas = screen.canvas("evaluate.map")
    over = screen.key("evaluate.map").locator("canvas.over")
    box = over.bounding_box()
    before = len(sent)
    seen = set()
    for i in range(100):  # up and down, from left to right
        x, y = 0.1 + 0.008 * i, 0.1 + 0.08 * (i * 7 % 11)
        screen.page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
        seen.add(over.get_attribute("data-hover"))
    assert len(seen) > 5
    over.focus()
    screen.page.keyboard.press("ArrowRight")
    expect(screen.key("evaluate.map").locator(".card")).to_be_visible()
    assert len(sent) == before  # a pointer that moves says nothing to the server
    dots = canvas.evaluate("c => c.toDataURL()")
    screen.page.get_by_role("button", name="Class", exact=True).click()
    screen.until(lambda: canvas.evaluate("c => c.toDataURL()") != dots)
    screen.until(lambda: address(screen).get("map.colour") == "Class")


def test_a_lasso_takes_images_out_of_the_map(measured, tiny_evaluations, screen):
    screen.open(measured, "evaluate", run=tiny_evaluations.runs["gan"], **{"evaluate.view": "Map"})
    screen.canvas("evaluate.map")
    over = screen.key("evaluate.map").locator("canvas.over")
    box = over.bounding_box()
    corners = [(0.05, 0.05), (0.95, 0.05), (0.95, 0.95), (0.05, 0.95)]
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in corners]
    screen.page.mouse.move(*places[0])
    screen.page.mouse.down()
    for place in places[1:]:
        screen.page.mouse.move(*place, steps=4)
    screen.page.mouse.up()
    assert screen.colours("evaluate.taken.generated") > 5
    assert screen.colours("evaluate.taken.real") > 5
    over.focus()
    screen.page.keyboard.press("Escape")
    screen.says("Draw around points")
    screen.page.keyboard.press("ArrowRight")
    screen.page.keyboard.press("Enter")
    screen.until(
        lambda: (
            screen.key("evaluate.taken.generated").count()
            + screen.key("evaluate.taken.real").count()
        )
    )
    assert "24 selected" in screen.key("evaluate.map").locator(".said").inner_text()
