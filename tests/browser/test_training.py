"""A presenter's path: press, watch, reload, stop, resume; a worker that dies; a server that restarts."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import expect


def only_run(home):
    (path,) = [path for path in (home / "jobs").iterdir() if not path.name.startswith(".")]
    return path


def state(path):
    return json.loads((path / "state.json").read_text())


def test_a_presenter_comes_from_the_first_press_to_a_restarted_server(
    server, screen, another, record_property
):
    here = server()
    screen.open(here)

    # press, and see something
    began = time.monotonic()
    screen.button("overview.train").click()
    expect(screen.canvas("overview.live")).to_be_visible(timeout=60_000)
    first = time.monotonic() - began
    record_property("press_to_first_sheet_seconds", round(first, 2))
    print(f"press to first sheet: {first:.1f} s")
    assert first < 30
    run = only_run(here.home)
    expect(screen.button("overview.train")).to_have_count(0)

    # follow it to its page; reload in the middle; look from elsewhere. A small model may be done before a busy machine
    # has drawn all of that, so the worker waits meanwhile: it is alive, and holds its lock, which is what pages ask.
    os.kill(state(run)["pid"], signal.SIGSTOP)
    screen.page.get_by_role("link", name="Watch it on the Train page").click()
    expect(screen.canvas(f"train.film.{run.name}")).to_be_visible(timeout=60_000)
    assert parse_qs(urlsplit(screen.page.url).query)["run"] == [run.name]
    screen.page.reload()
    expect(screen.canvas(f"train.film.{run.name}")).to_be_visible(timeout=60_000)
    expect(screen.button("train.stop")).to_be_enabled()
    second = another().open(here, "train")
    second.chosen("run", "My first model")
    expect(second.canvas(f"train.film.{run.name}")).to_be_visible(timeout=60_000)
    expect(second.button("train.stop")).to_be_enabled()

    # stop: both see it
    os.kill(state(run)["pid"], signal.SIGCONT)
    screen.button("train.stop").click()
    screen.says("Stopped on request. Resume goes on from here.")
    second.says("Stopped on request. Resume goes on from here.")
    assert state(run)["status"] == "stopped"
    step = state(run)["step"]
    assert 0 < step < 200_000 / 128

    # resume: it goes on from there
    screen.button("train.resume").click()
    expect(screen.button("train.stop")).to_be_visible(timeout=60_000)
    screen.until(lambda: state(run)["status"] == "running" and state(run).get("step", 0) > step)
    assert (
        f'"step":{step},' in (run / "log.jsonl").read_text()
    )  # what was learned before is still there

    # kill -9: said within 5 seconds, here with some more for a busy machine
    dead = state(run)["pid"]
    os.kill(dead, signal.SIGKILL)
    began = time.monotonic()
    screen.says("Its process ended without a word", seconds=15)
    print(f"kill to interrupted: {time.monotonic() - began:.1f} s")
    record_property("kill_to_interrupted_seconds", round(time.monotonic() - began, 2))
    expect(screen.button("train.resume")).to_be_enabled()

    # resume again, and restart the server meanwhile
    screen.button("train.resume").click()
    screen.until(lambda: state(run)["pid"] != dead and state(run)["speed"] > 0)
    pid, step = state(run)["pid"], state(run)["step"]
    here.stop()
    again = server(home=here.home)
    third = another().open(again, "train", run=run.name)
    expect(third.canvas(f"train.film.{run.name}")).to_be_visible(timeout=60_000)
    if state(run)["status"] != "finished":
        expect(third.button("train.stop")).to_be_enabled()
    assert state(run)["pid"] == pid  # the same worker, which never noticed
    third.until(lambda: state(run)["step"] > step)
    assert third.canvas(f"train.film.{run.name}").bounding_box()["width"] >= 500
    # the screens that are left open say that the connection is gone, and that the pictures went with it; nothing worse
    lost = re.compile(
        "WebSocket|ERR_|Client Error|not responding|Cannot send|Failed to load|Failed to fetch|NetworkError|AxiosError"
        "|Connection|404 .*/media/",
        re.IGNORECASE,
    )
    for left in (screen, second):
        left.forgiven = lost  # not taken from the list: more may come until the tab is closed
        left.page.close()


def test_changed_settings_train_to_the_end(server, screen):
    """Through the form of the Train page: few images, another family, a name; from queued to finished."""
    here = server()
    screen.open(here, "train")
    screen.key("train.what").get_by_role("combobox").click()
    screen.page.get_by_role("option", name="VAE (autoencoder)").click()
    screen.page.get_by_text("Settings", exact=True).click()
    images = screen.key("train.train.images").get_by_role("spinbutton")
    expect(screen.key("train.vae.beta")).to_be_visible()
    screen.key("train.name").get_by_role("textbox").fill("Small VAE")
    images.fill("2000")
    screen.button("train.start").click()  # at once: what was typed last counts
    run_name = screen.page.get_by_test_id("stMain").get_by_text("Small VAE").first
    expect(run_name).to_be_visible(timeout=60_000)
    run = only_run(here.home)
    screen.until(lambda: state(run)["status"] == "finished", 120)
    screen.says("vae on digits · finished")
    words = json.loads((run / "job.json").read_text())
    assert (words["name"], words["config"]["train"]["images"]) == ("Small VAE", 2000)
    expect(screen.canvas(f"train.film.{run.name}")).to_be_visible()
    screen.button("train.explore").click()
    expect(screen.canvas("latent.grid")).to_be_visible(timeout=60_000)
