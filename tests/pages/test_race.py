"""The Race page: a recorded race replays, an own one is started, watched and stopped."""

from __future__ import annotations

import numpy as np
import pytest

from core import jobs, kinds
from core.ground import files, sheets


def raced(turns: int = 2, **values: object) -> jobs.Job:
    """Asks for a race, and writes what its process would have written after some turns."""
    job = kinds.submit(
        "race", {"dataset": "digits"}, {"race.families": "vae,flow", "race.seconds": 10} | values
    )
    log = files.Log(job.path)
    log.append(
        {
            "floor": 1.0,
            "n": 497,
            "extractor": "judge",
            "clock": "processor",
            "copying_of_real": 0.57,
            "copying_of_copies": 0.73,
        }
    )
    for turn in range(1, turns + 1):
        for family, ratio in (("vae", 8.0 / turn), ("flow", 4.0 / turn)):
            log.append(
                {
                    "family": family,
                    "turn": turn,
                    "seconds": 5.0 * turn,
                    "images": 1000 * turn,
                    "ratio": ratio,
                    "copying": 0.55,
                    "copying_low": 0.5,
                    "copying_high": 0.6,
                }
            )
            folder = job.path / "samples" / family
            folder.mkdir(parents=True, exist_ok=True)
            x = np.full((40, 1, 8, 8), 10 * turn, np.uint8)
            (folder / f"{turn}.png").write_bytes(sheets.png(x, 10, {"images": 1000 * turn}))
    return jobs.get(job.id)


def test_nobody_has_raced_yet(visit):
    seen = visit("race").calm()
    assert "Nobody has raced yet." in seen.texts("markdown")
    assert seen.all("race.start")
    assert "race" not in seen.at.query_params


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Five families on digits", "**Five families on digits** · "),
        ("digits-race", "**digits-race** · "),
        ("Who is first?", "**Who is first?** on digits · "),
        ("My digitsized one", "**My digitsized one** on digits · "),
    ],
)
def test_the_title_names_the_dataset_once(visit, spawned, name, says):
    job = kinds.submit("race", {"dataset": "digits"}, name=name)
    jobs.set_state(job.path, status="stopped")
    assert says in visit("race", race=job.id).texts("markdown")


def test_the_form_starts_a_race_on_the_chosen_dataset(visit, spawned, asked):
    seen = (
        visit("race").set(race__seconds=7, race__entrants=["gan", "vae"]).press("race.start").calm()
    )
    (id,) = spawned
    config = asked(id)["config"]
    assert asked(id)["kind"] == "race"
    assert config["dataset"]["name"] == "digits"
    assert config["race"] | {"seed": 0} == {
        "seconds": 7,
        "families": "gan,vae",
        "seed": 0,
        "turns": 15,
    }
    assert seen.at.query_params["race"] == id
    assert "The first turn is measured when its time is over." in seen.texts("caption")


def test_one_family_alone_does_not_race(visit, spawned):
    seen = visit("race").set(race__entrants=["gan"])
    assert seen.widget("race.start").disabled
    assert "Choose at least two families." in seen.texts("caption")
    assert spawned == []


def test_who_may_win_by_copying_is_named(visit, monkeypatch):
    job = raced()
    assert "may come from copying" not in visit("race", race=job.id).texts("caption")
    about, standings = job.result()
    for record in standings["vae"]:
        record["copying_low"] = about["copying_of_real"] + 0.01
    monkeypatch.setattr(jobs.Job, "result", lambda job: (about, standings))
    told = visit("race", race=job.id).texts("caption")
    assert "VAE: the samples are nearer to training images" in told


def test_a_race_is_shown_as_it_goes_and_stopped(visit, monkeypatch):
    monkeypatch.setattr(jobs.process, "is_alive", lambda path: True)
    job = raced()
    seen = visit("race", race=job.id).calm()
    shown = seen.pictures(f"race.track.{job.id}")
    assert [lane["title"] for lane in shown["lanes"]] == ["VAE", "Flow"]
    assert (shown["seconds"], shown["live"], shown["replay"]) == (10, True, 20)
    vae = shown["lanes"][0]["moments"]
    assert [(m["seconds"], m["ratio"], m["images"]) for m in vae] == [(5, 8, 1000), (10, 4, 2000)]
    assert all(moment["sheet"].startswith("data:image/png;base64,") for moment in vae)
    assert len({lane["colour"] for lane in shown["lanes"]}) == 2
    assert "nearest at the end: flow" in shown["alt"]
    assert "of 497 real test images" in seen.texts("caption")
    assert "real images have 0.57, verbatim copies 0.73" in seen.texts("caption")
    seen.press("race.stop").calm()
    assert (job.path / "STOP").exists()
    jobs.set_state(job.path, status="finished")
    seen.run()
    assert not seen.pictures(f"race.track.{job.id}")["live"]
    seen.press("race.delete").calm()
    assert jobs.listing("race") == []


def test_large_sheets_are_left_out_but_no_number_is(visit, monkeypatch):
    job = raced(turns=8)
    total = sum(file.stat().st_size for file in (job.path / "samples").rglob("*.png"))
    source = (jobs.process.ROOT / "pages" / "race.py").read_text()
    assert "BUDGET = 1_500_000" in source
    for file in (job.path / "samples").rglob("*.png"):  # padded as large pictures would be
        file.write_bytes(file.read_bytes() + bytes(5_000_000 // 16 - total // 16))
    moments = visit("race").pictures(f"race.track.{job.id}")["lanes"][0]["moments"]
    assert [bool(moment["sheet"]) for moment in moments] == [i % 4 == 0 or i == 7 for i in range(8)]
    assert [moment["ratio"] for moment in moments] == [8.0 / turn for turn in range(1, 9)]


def test_a_damaged_sheet_is_left_out(visit):
    job = raced()
    (job.path / "samples" / "vae" / "1.png").write_bytes(b"no picture")
    moments = visit("race").calm().pictures(f"race.track.{job.id}")["lanes"][0]["moments"]
    assert [bool(moment["sheet"]) for moment in moments] == [False, True]


def test_a_damaged_line_of_its_log_is_told_and_the_race_still_shown(visit):
    job = raced()
    log = job.path / "log.jsonl"
    first, *others = log.read_text().splitlines()
    others[0] = others[0].replace('"ratio":8.0', '"ratio":"8.0"')
    log.write_text("\n".join([first[:40], *others]) + "\n")
    seen = visit("race").calm()
    assert seen.at.dataframe[0].value["images seen"].tolist() == [2000, 2000]
    assert f"stood in a line that is damaged, in {log}" in seen.texts("caption")


def test_the_recorded_race_replays_and_is_never_deleted(visit, gallery, setting):
    seen = visit("race").calm()
    assert "recorded; it ships with Simulacra. Press ▶ to replay it in 20 seconds." in seen.texts()
    shown = seen.pictures("race.track.shipped-race")
    assert len(shown["lanes"]) == 5
    assert not shown["live"]
    assert all(lane["moments"][-1]["sheet"] for lane in shown["lanes"])
    assert not {"race.delete", "race.stop"} & seen.keys()


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_how_it_ended_is_said(visit, status):
    job = raced(turns=0)
    jobs.set_state(job.path, status=status, message="It rained.")
    seen = visit("race")
    assert "It rained." in seen.texts("error" if status == "failed" else "warning")
    assert "It ended before anybody was measured." in seen.texts("caption")
