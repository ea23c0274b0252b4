"""What a visitor meets who has trained nothing: shipped runs, and a recorded race that replays."""

from __future__ import annotations

from playwright.sync_api import expect


def test_a_fresh_server_shows_shipped_runs_and_replays_the_race(server, tmp_path, screen):
    fresh = server(home=tmp_path / "home", gallery="1")
    screen.open(fresh, "train", run="shipped-digits-vae")  # a deep link, the first thing it serves
    screen.chosen("run", "Digits, VAE")
    assert screen.colours("train.film.shipped-digits-vae") > 3
    expect(screen.key("train.delete")).to_have_count(0)

    screen.open(fresh, "race")
    lanes = screen.key("race.track.shipped-race").locator(".lane")
    expect(lanes).to_have_count(5)
    expect(lanes.first).to_contain_text("copying")
    assert screen.colours("race.track.shipped-race") > 5  # five curves and their ground
    for lane in lanes.all():  # five in a row, at four times their 8 pixels
        assert lane.locator("canvas").bounding_box()["width"] >= 5 * 4 * 8
    screen.says("recorded; it ships with Simulacra")

    film = screen.key("race.track.shipped-race").locator(".film")
    expect(film.locator("output")).to_have_text("40 of 40 s each")
    at_the_end = lanes.nth(2).inner_text()
    film.locator("button").click()
    expect(lanes.first).to_contain_text("waits for its turn")
    screen.until(lambda: "images seen" in lanes.nth(2).inner_text())
    assert lanes.nth(2).inner_text() != at_the_end
    film.locator("button").click()  # paused: the moment stands still
    moment = film.locator("output").inner_text()
    screen.page.evaluate("new Promise(done => setTimeout(done, 1500))")
    expect(film.locator("output")).to_have_text(moment)
    film.locator("input").evaluate(
        "slider => { slider.value = 1000; slider.dispatchEvent(new Event('input')); }"
    )
    expect(film.locator("output")).to_have_text("40 of 40 s each")
    assert lanes.nth(2).inner_text() == at_the_end
