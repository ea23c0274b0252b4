"""The main path of the Robustness page: screen a classifier, believe the number or not, fool it with a drawing."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from core import jobs, kinds, worker
from core.ground.settings import settings


@pytest.fixture(scope="module")
def shipped(server):
    """A server with the shipped classifiers."""
    return server(gallery="1")


def test_an_engineer_comes_from_the_press_to_the_verdict(shipped, screen):
    screen.open(shipped, "robustness", **{"robust.study.n": "60", "robust.study.eps": "38/255"})
    screen.button("robust.screen").click()
    screen.says("Under attack, eps 38/255")
    expect(screen.key("robust.html")).to_be_visible(timeout=60_000)
    screen.says("Believable.")
    expect(screen.page.get_by_test_id("stAlertContentError")).to_have_count(0)


def test_a_drawing_is_named_and_fooled(shipped, screen):
    screen.open(shipped, "robustness")
    screen.key("robust.tool").get_by_text("Fool it", exact=True).click()
    sheet = screen.key("robust.canvas").locator("canvas")
    expect(sheet).to_be_visible()
    box = sheet.bounding_box()
    middle, top = box["x"] + box["width"] / 2, box["y"]
    screen.page.mouse.move(middle, top + 0.15 * box["height"])
    screen.page.mouse.down()
    screen.page.mouse.move(middle, top + 0.85 * box["height"], steps=8)
    screen.page.mouse.up()
    screen.says("2. It says:")
    screen.button("robust.fool").click()
    screen.says("The change, amplified")
    assert screen.colours("robust.mine.change") > 2
    for name in ("clean", "change", "moved"):  # large enough for the last row of a room
        canvas = screen.key(f"robust.mine.{name}").locator("canvas").bounding_box()
        assert min(canvas["width"], canvas["height"]) >= 200


@pytest.fixture
def hardened(shipped, monkeypatch):
    """A hardening of a moment in the home of the server; what is shown as its price is another report."""
    for name, value in {"home": shipped.home, "gallery": 1, "nice": 0, "threads": 1}.items():
        monkeypatch.setenv(f"SIMULACRA_{name.upper()}", str(value))
    settings.cache_clear()
    report = (jobs.SHIPPED / "shipped-digits-classifier-attacked" / "report.json").read_bytes()

    def measure(task: Any, opened: Any, dataset: Any, name: str) -> None:
        (task.path / name).write_bytes(report)

    monkeypatch.setattr("core.kinds.harden._measure", measure)
    monkeypatch.setattr("core.robustness.hardening.FITTED", 32)
    monkeypatch.setattr(jobs, "spawn", lambda path: worker.work(path))
    few = {"train.images": 32, "train.batch": 16, "harden.attack_steps": 1}
    asked = {"harden.classifier": "shipped-digits-classifier", **few}
    yield kinds.submit("harden", {"dataset": "digits"}, asked, name="Harder")
    settings.cache_clear()


def test_an_engineer_puts_what_was_hardened_under_attack_at_a_press(shipped, screen, hardened):
    query = {"robust.tool": "Harden", "robust.model": "Digits, classifier"}
    screen.open(shipped, "robustness", **query)
    screen.chosen("robust.model", "Digits, classifier")
    screen.button("robust.harden.choose").click()  # in a part that runs again by itself
    screen.chosen("robust.model", "Harder")
    screen.says("Trained against attacks (pgd).")
