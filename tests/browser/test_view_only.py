"""A server for viewing only: everything can be seen, nothing can be pressed that changes something."""

from __future__ import annotations

from playwright.sync_api import expect


def test_buttons_are_disabled(server, tiny_runs, tmp_path_factory, screen):
    home = tiny_runs.copy(tmp_path_factory.mktemp("view") / "home").home
    there = {path.name for path in (home / "jobs").iterdir()}
    shown = server(home=home, view_only="1")
    screen.open(shown)
    screen.says("This server is for viewing only.")
    assert screen.sidebar_width() == 240  # of the first visitor, too, and not only of a deep link's
    expect(screen.button("overview.train")).to_be_disabled()
    screen.open(shown, "train")
    for key in ("train.start", "train.describe", "train.delete"):
        expect(screen.button(key)).to_be_disabled()
    expect(screen.button("train.clone")).to_be_enabled()
    screen.open(shown, "data", data="plain")
    screen.page.get_by_text("How it is prepared").click()
    expect(screen.button("data.delete")).to_be_disabled()
    screen.page.get_by_text("Bring your own pictures").click()
    expect(screen.button("data.import")).to_be_disabled()
    expect(screen.key("data.upload").locator("input[type=file]")).to_be_disabled()
    screen.open(shown, "latent")
    expect(screen.canvas("latent.grid")).to_be_visible()
    assert {path.name for path in (home / "jobs").iterdir()} == there
