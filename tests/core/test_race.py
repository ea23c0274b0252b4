"""The race: the same seconds for every family, in turns, measured against real images."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from core import __main__ as cli
from core import datasets, jobs, kinds, runs, worker
from core.catalog import UserError
from core.ground import files, sheets
from core.kinds.race import Entrant, Measure, RaceConfig, standings
from core.measure import features
from core.training import spec_of


@pytest.fixture(autouse=True)
def without_judge(monkeypatch):
    """Features that need no training: what is tested here is the race."""
    monkeypatch.setattr(
        features, "quick", lambda dataset, device, watch: features.components(dataset, device)
    )


def started(setting, monkeypatch, **values) -> jobs.Job:
    setting(nice=0, threads=1)
    monkeypatch.setattr(jobs, "spawn", lambda path: None)
    return kinds.submit("race", {"dataset": "digits"}, values)


def test_a_race_gives_each_family_the_same_seconds_in_turns(setting, monkeypatch):
    job = started(setting, monkeypatch, **{"race.seconds": 1, "race.turns": 2, "race.families": "vae, flow"})  # fmt: skip
    assert (job.lane, job.kind) == ("train", "race")
    assert worker.work(job.path) == 0
    job = jobs.get(job.id)
    assert job.status == "finished", job.message
    records, damaged = files.Log(job.path).read()
    assert damaged == 0
    about, found = standings(job)
    assert records[0] == about
    assert (about["clock"], about["n"], about["extractor"]) == ("processor", 497, "pca")
    assert about["fingerprint"] == datasets.load("digits").fingerprint
    assert 0.5 < about["copying_of_copies"] < 1
    assert [(r["family"], r["turn"]) for r in records[1:]] == [
        ("vae", 1), ("flow", 1), ("vae", 2), ("flow", 2),
    ]  # fmt: skip
    assert list(found) == ["vae", "flow"]
    for family, of in found.items():
        # each turn ends within the step that passes its end
        assert of[0]["seconds"] == pytest.approx(0.5, abs=0.3)
        assert of[1]["seconds"] == pytest.approx(1.0, abs=0.3)
        assert 0 < of[0]["images"] < of[1]["images"]
        assert all(r["ratio"] > 0 and r["copying_low"] <= r["copying"] <= r["copying_high"] for r in of)  # fmt: skip
        for turn in (1, 2):
            sheet = (job.path / "samples" / family / f"{turn}.png").read_bytes()
            assert sheets.metadata(sheet)["images"] == of[turn - 1]["images"]
            assert sheets.tiles(sheet).shape == (40, 1, 8, 8)
    # again from the start: nothing of the first time is left
    jobs.set_state(job.path, status="interrupted")
    worker.work(job.path)
    assert len(files.Log(job.path).read()[0]) == 5


def test_a_stopped_race_goes_on_from_the_turns_that_are_over(setting, monkeypatch):
    job = started(setting, monkeypatch, **{"race.seconds": 1, "race.turns": 2, "race.families": "vae, flow"})  # fmt: skip
    keep, go_on = Entrant.keep, Entrant.go_on

    def stopping(entrant, file):
        keep(entrant, file)
        if entrant.name == "flow":
            (job.path / "STOP").touch()

    with monkeypatch.context() as patch:
        patch.setattr(Entrant, "keep", stopping)
        worker.work(job.path)
    assert jobs.get(job.id).message == (
        "Stopped on request. Resume goes on from the turns that are over."
    )
    before = files.Log(job.path).read()[0]
    every = [("vae", 1), ("flow", 1), ("vae", 2), ("flow", 2)]
    over = (
        len(before) - 1
    )  # a stop is looked for now and then: another turn may have ended meanwhile
    assert over in (2, 3)
    assert [(r["family"], r["turn"]) for r in before[1:]] == every[:over]
    begun = {}

    def noted(entrant, file):
        go_on(entrant, file)
        begun[entrant.name] = (entrant.seconds, entrant.trainer.step * entrant.trainer.batch)

    monkeypatch.setattr(Entrant, "go_on", noted)
    jobs.resume(job.id)
    worker.work(job.path)
    after = files.Log(job.path).read()[0]
    assert jobs.get(job.id).status == "finished" and after[: 1 + over] == before
    assert [(r["family"], r["turn"]) for r in after[1 + over :]] == every[over:]
    for record in before[over - 1 :]:  # the last one of each
        seconds, images = begun[record["family"]]
        assert (round(seconds, 3), images) == (record["seconds"], record["images"])
    assert all(0.7 < r["seconds"] < 1.3 for r in after[1 + over :])
    assert not (job.path / "racers").exists()


def test_the_schedule_follows_the_clock():
    """Each draw takes 0.5 s of a made-up clock; the way is then as long as that pace takes it in the 10 s."""
    dataset = datasets.load("digits")
    spec = spec_of(dataset)
    config = RaceConfig.of({"seconds": 10, "families": "vae,flow"})
    now = iter(range(10_000))
    facts = {
        "family": {"name": "vae", "config": {}},
        "train": {"seed": 0},
        "spec": {**vars(spec), "shares": list(spec.shares)},
    }
    entrant = Entrant("vae", runs.network(facts), dataset, config, lambda: next(now) / 2)
    seen = []
    for _ in entrant.train(5):
        trainer = entrant.trainer
        seen.append(entrant.seconds)
        assert trainer.step / trainer.steps == pytest.approx(entrant.seconds / 10, rel=0.3)
    assert seen == [0.5 * k for k in range(1, 11)]
    assert entrant.seconds == 5
    list(entrant.train(10))
    assert entrant.seconds <= 10
    assert entrant.trainer.step >= entrant.trainer.steps - 1
    assert list(entrant.train(10)) == []


def test_real_images_are_as_near_as_real_images(monkeypatch):
    """A model that gives the test images back has ratio 1, one that gives training images back copies."""
    dataset = datasets.load("digits")
    measure = Measure(dataset)

    class Tape:
        def __init__(self, x):
            self.x = x

        def sample(self, ids, y, seed, sampling):
            return self.x[ids]

    assert measure.of(Tape(measure.test), "vae", 0)["ratio"] == pytest.approx(1, abs=0.02)
    copies = measure.of(Tape(measure.train), "vae", 0)
    assert copies["copying"] == pytest.approx(measure.about["copying_of_copies"], abs=0.05)
    noise = torch.rand(len(measure.test), 1, 8, 8)
    assert measure.of(Tape(noise), "vae", 0)["ratio"] > 5


@pytest.mark.parametrize(
    ("families", "text"),
    [
        ("gna,vae", "There is no family 'gna'. Did you mean 'gan'?"),
        ("gan", "A race needs at least 2 families, got 'gan'. Name some of "),
        ("gan, gan", "A race needs at least 2 families, got 'gan, gan'. Name some of "),
    ],
)
def test_who_cannot_race_is_told(setting, monkeypatch, families, text):
    with pytest.raises(UserError) as caught:
        started(setting, monkeypatch, **{"race.families": families})
    assert str(caught.value).startswith(text)
    assert jobs.listing() == []


def test_all_families_race_by_default():
    assert RaceConfig().entrants == ["diffusion", "flow", "gan", "vae", "vqvae"]


def test_a_set_without_test_images_is_told(toy):

    dataset = toy(60)
    splits = {"test": np.arange(5), "valid": np.arange(5, 10), "train": np.arange(10, 60)}
    with pytest.raises(UserError) as caught:
        Measure(dataclasses.replace(dataset, splits=splits))
    assert str(caught.value) == (
        "A race is judged by test images, and toy has 5; at least 10 are needed. Choose a larger dataset."
    )


def test_the_command_starts_a_race(setting, monkeypatch, capsys):
    setting(nice=0, threads=1)
    monkeypatch.setattr(jobs, "spawn", lambda path: worker.work(path))
    argv = ["race", "--families", "vae,flow", "--seconds", "1", "--set", "turns=2", "--wait"]
    assert cli.main([*argv, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["status"] == "finished"
    assert {row["family"] for row in facts["standings"]} == {"vae", "flow"}
    ratios = [row["ratio"] for row in facts["standings"]]
    assert ratios == sorted(ratios)
