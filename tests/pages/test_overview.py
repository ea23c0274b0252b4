"""The Overview: one button, what runs, what was made."""

from __future__ import annotations

import shutil

from core import jobs, kinds


def test_the_button_trains_the_default(visit, spawned, asked):
    seen = visit("overview").press("overview.train").calm()
    (id,) = spawned
    job = asked(id)
    assert (job["kind"], job["lane"], job["name"]) == ("train", "train", "My first model")
    assert job["config"] == kinds.configure(
        "train", {"dataset": "faces", "family": "gan"}, {"train.images": 30_000}
    )
    assert seen.at.session_state["run"] == id
    assert seen.at.query_params["run"] == id
    assert not seen.all("overview.train")  # it learns now; nobody needs a second one
    assert "**My first model** on faces · learns now" in seen.texts("markdown")


def test_a_full_queue_is_a_sentence(visit, spawned, setting):
    setting(max_queue=1)
    kinds.submit("train", {"dataset": "digits", "family": "gan"})
    seen = visit("overview")
    jobs.set_state(jobs.get(spawned[0]).path, status="finished")
    seen.run()
    kinds.submit("train", {"dataset": "digits", "family": "gan"})
    (words,) = seen.press("overview.train").errors if seen.all("overview.train") else ("",)
    assert words.startswith("1 jobs are waiting")
    assert len(spawned) == 2
    assert not seen.run().errors  # said once


def test_nothing_trained_yet(visit):
    seen = visit("overview")
    assert "**Trained here:** 0 runs yet." in seen.texts("markdown")
    faces, digits = seen.pictures("overview.faces"), seen.pictures("overview.digits")
    assert (faces["count"], faces["tile"], digits["count"], digits["tile"]) == (
        32,
        [32, 32],
        40,
        [8, 8],
    )


def test_the_newest_images_and_the_others(visit, trained):
    seen = visit("overview")
    assert "**Trained here:** 4 runs (4 finished)." in seen.texts("markdown")
    newest = seen.pictures("overview.live")  # the chosen one stands at the top
    assert len(newest["frames"]) == len(newest["labels"]) >= 3
    assert newest["labels"][-1] == "320 images"
    assert seen.shown(f"overview.newest.{trained.runs['vae']}")
    assert not seen.shown(f"overview.cover.{trained.runs['classifier']}")  # it makes no images


def test_what_is_done_offers_what_comes_next(visit, trained):
    id = trained.runs["vae"]
    seen = visit("overview", run=id)
    assert "Tiny vae" in seen.pictures("overview.live")["alt"]
    assert {"overview.explore", "overview.measure", "overview.longer"} <= seen.keys()
    assert f"/about?run={id}" in "".join(each.value for each in seen.at.get("code"))


def test_what_learns_now_is_followed_until_it_ends(visit, trained):
    job = kinds.submit(
        "train", {"dataset": "digits", "family": "vae"}, {"train.images": 2000}, name="Busy"
    )
    seen = visit("overview")
    assert not seen.shown("overview.live")
    assert "overview.stop" in seen.keys()
    assert "overview.explore" not in seen.keys()  # there is nothing to explore yet
    assert "The first images appear within seconds." in seen.texts("caption")
    shutil.copytree(jobs.get(trained.runs["gan"]).path / "samples", job.path / "samples")
    seen.again("live")
    assert len(seen.pictures("overview.live")["frames"]) >= 3
    jobs.set_state(job.path, status="finished")
    seen.again("live")
    assert seen.all("overview.train")
    assert seen.shown(f"overview.newest.{job.id}")


def test_a_run_that_is_deleted_while_it_is_watched_is_no_bug(visit, trained):
    job = kinds.submit("train", {"dataset": "digits", "family": "vae"}, name="Busy")
    seen = visit("overview")
    shutil.rmtree(job.path)
    seen.again("live")
    assert not seen.at.exception


def test_view_only_starts_nothing(visit, setting, spawned):
    early = visit("overview")  # drawn while it was allowed, pressed when it is not
    setting(view_only=1)
    (words,) = early.press("overview.train").errors
    assert words.startswith("This server is for viewing only")
    visit("overview").force("overview.train")
    assert spawned == []
    assert jobs.listing() == []


def test_in_an_empty_home_the_shipped_runs_are_shown(visit, gallery):
    seen = visit("overview").calm()
    assert "**Trained here:** 0 runs yet." in seen.texts("markdown")
    assert seen.at.session_state["run"] == "shipped-digits-gan"
    assert seen.shown("overview.newest.shipped-digits-gan")
    assert seen.shown("overview.cover.shipped-digits-vae")
    assert not seen.shown("overview.cover.shipped-digits-classifier")
    seen.press("overview.explore.shipped-digits-vae")
    assert seen.at.session_state["run"] == "shipped-digits-vae"
    assert seen.at.query_params["run"] == "shipped-digits-vae"
