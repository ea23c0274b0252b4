"""Improve this dataset: what is mended, how the time is kept, what is chosen by which images, and what is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from core import building, datasets, jobs, kinds, worker
from core.building import improve
from core.building.experiment import Experiment
from core.building.experiment.referees import Pupil
from core.building.improve import mending, study
from core.catalog import UserError
from core.datasets import assemble
from core.ground.watch import Stopped, Watch
from core.quality import decisions
from tests.core.signals import second


class Clock:
    """A clock that only goes on when something costs time."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock(monkeypatch):
    """Lets every training of a referee take 0.5 s and 10 ms for each step, on a clock of its own."""
    clock = Clock()

    def pupil(self, data, pair, transform=None, order=0):
        clock.at += 0.5 + 0.01 * self.config.steps
        better = min(0.9, 0.6 + len(data) / 2000)  # more images are better
        rng = np.random.default_rng([pair, len(data)])
        right = rng.random(len(self.test_y)) < better
        named = np.where(right, self.test_y, 1 - self.test_y)
        return Pupil(lambda x: torch.as_tensor(named))

    monkeypatch.setattr(Experiment, "pupil", pupil)
    return clock


def starved(toy, name: str = "toy"):
    """Saves a set with a blank image, two exact copies and a leak among its training images."""
    base = toy(420)
    x, y, train = base.x.copy(), base.y, base.splits["train"]
    same = train[y[train] == 0]
    x[same[1]] = x[same[0]]
    x[same[3]] = x[same[2]]
    x[same[4]] = 9  # nothing on it
    held = base.splits["test"][y[base.splits["test"]] == 0]
    x[same[5]] = x[held[0]]
    return datasets.save(name, assemble(x, y, base.classes, base.splits, name=name)), same


def never(*args):
    raise UserError("No place became free.")


def work(dataset, clock, watch=None, **values):
    config = improve.ImproveConfig.of({"minutes": 2.0} | values)
    return improve.Improvement(
        dataset, config, dataset.name, {}, never, watch or Watch(), now=clock
    )


def test_what_is_wrong_beyond_doubt_is_left_out_and_can_be_taken_back(here, toy):
    dataset, same = starved(toy)
    found = mending.unsafe(dataset)
    assert found == {
        "blank": [int(same[4])],
        "exact": [int(same[1]), int(same[3])],
        "leak": [int(same[5])],
    }
    changes = mending.leave_out(dataset, found, "Improve")
    mended = mending.without(dataset, changes, "Improve")
    assert mended is not None
    assert len(mended) == len(dataset) - 4
    assert len(mended.splits["test"]) == len(
        dataset.splits["test"]
    )  # before and after are about the same ones
    kept = np.setdiff1d(np.arange(len(dataset)), [i for images in found.values() for i in images])
    assert dataset.y is not None
    np.testing.assert_array_equal(mended.y, dataset.y[kept])  # never a label
    (copies,) = (change for change in changes if change["kind"] == "exact")
    book = decisions.open(dataset)
    decisions.undo(dataset, copies["ids"][0], seen=book.version)
    again = mending.without(dataset, changes, "Improve")
    assert again is not None
    assert len(again) == len(dataset) - 2


def test_the_last_images_of_a_class_stay_whatever_they_are(here, toy):
    base = toy(120)
    x = base.x.copy()
    train = base.splits["train"]
    x[train[base.y[train] == 1]] = 7  # a class of nothing
    found = mending.unsafe(assemble(x, base.y, base.classes, base.splits, name="toy"))
    assert not found.get("blank")


def test_the_deadline_is_met_and_the_time_is_used(here, toy, clock):
    dataset, _ = starved(toy)
    for minutes in (1.0, 3.0):
        began = clock.at
        *_, found = work(dataset, clock, minutes=minutes, generate=False).run()
        assert 0.5 < (clock.at - began) / (60 * minutes) <= 1.0
        assert found["effect"]["n"] >= 6
        assert found["seconds"] == pytest.approx(clock.at - began, abs=0.1)


def test_what_has_no_time_is_left_out_and_named(here, toy, clock, monkeypatch):
    dataset, _ = starved(toy)
    monkeypatch.setattr(study, "FEWEST_STEPS", 600)  # so slow that one training takes 6.5 s
    *_, found = work(dataset, clock, minutes=0.5).run()
    assert clock.at - 100 <= 1.2 * 30
    status = {step["name"]: step["status"] for step in found["steps"]}
    assert status["augment"] == "left out"
    assert any(said.startswith("Augmented copies: ") for said in found["not_done"])
    assert found["verdict"] == "too few"
    assert found["sentence"].startswith("There was too little time for a verdict: ")


def test_a_slow_computer_is_looked_at_once_so_that_the_deadline_holds(
    here, toy, clock, monkeypatch
):
    dataset, _ = starved(toy)
    usual, began = Experiment.pupil, clock.at

    def slow(self, *rest):
        clock.at += 20
        return usual(self, *rest)

    monkeypatch.setattr(Experiment, "pupil", slow)
    done = work(dataset, clock, minutes=1.0)
    done.attempt(done.pace)
    assert clock.at - began < 0.4 * 60  # three looks would take all of it
    assert done.baseline is not None
    assert done.baseline[1] == 20  # steps of what is known


def test_a_step_that_fails_is_skipped_and_named(here, toy, clock, monkeypatch):
    dataset, _ = starved(toy)
    monkeypatch.setattr(mending, "unsafe", lambda *args: 1 / 0)
    *_, found = work(dataset, clock).run()
    failed = {
        step["name"]: step["sentence"] for step in found["steps"] if step["status"] == "failed"
    }
    assert failed == {
        "mend": "It broke off: ZeroDivisionError: division by zero.",
        "generate": "No place became free.",
    }
    assert found["verdict"] == "helps"
    assert (
        "Mend what is safe: It broke off: ZeroDivisionError: division by zero." in found["not_done"]
    )


def test_a_choice_never_looks_at_the_test_images(here, toy, monkeypatch):
    monkeypatch.setattr(study, "CHOICES", 1)
    every = study.Improvement._candidates
    monkeypatch.setattr(study.Improvement, "_candidates", lambda self: every(self)[:2])
    base = toy(150)
    x, y, test = base.x.copy(), base.y.copy(), base.splits["test"]
    x[test] = np.random.default_rng(3).integers(0, 256, x[test].shape)
    y[test] = 1 - y[test]
    told = []
    for name, poisoned in (
        ("clean", base),
        ("poisoned", assemble(x, y, base.classes, base.splits)),
    ):
        dataset = datasets.save(name, poisoned)
        config = improve.ImproveConfig(minutes=30.0, generate=False)
        one = improve.Improvement(dataset, config, name, {}, never)
        one.fit_steps, one.per_step = 20, 1e-3
        one.attempt(one.augment)
        told.append((one.steps[-1]["sentence"], [title for title, _ in one.plans]))
        train = one.versions[one.plans[0][0]] if one.plans else None
        told[-1] += (None if train is None else train.x[train.splits["train"]].tobytes(),)
    assert told[0] == told[1]


def test_each_step_is_measured_by_itself_and_the_sum_is_the_whole(here, toy, clock):
    dataset, _ = starved(toy)
    *_, found = work(dataset, clock, generate=False).run()
    assert [row["step"] for row in found["contributions"]] == ["mend", "augment"]
    total = sum(row["value"] for row in found["contributions"])
    assert total == pytest.approx(found["effect"]["value"])
    assert found["after"]["mean"] - found["before"]["mean"] == pytest.approx(total)
    version = datasets.load(found["version"])
    assert building.origins(version)["augmented"] > 0
    assert found["plan"]["sources"][0]["kind"] == "augmented"
    assert found["proof"]["fingerprint"] == version.fingerprint
    assert found["proof"]["cells"][1]["effect"] == pytest.approx(total)
    assert json.loads(json.dumps(found)) == found


def test_that_nothing_helps_is_an_answer(here, toy, clock, monkeypatch):
    dataset = datasets.save("toy", toy(420))
    monkeypatch.setattr(
        Experiment, "accuracy", lambda self, pupil: 80.0 - len(self.dataset.attributes or ())
    )
    monkeypatch.setattr(study.Improvement, "_taught", lambda self, bench, dataset: dataset)
    *_, found = work(dataset, clock, generate=False).run()
    assert found["version"] is None
    assert found["verdict"] == "nothing"
    assert found["sentence"] == (
        "Nothing was found that helps, so the dataset stays as it is: 80 % right on 70 validation images, 4 "
        "pairs, too few for an interval."
    )
    assert found["baseline"] == {"mean": 80, "low": None, "high": None, "n": 4, "images": 70}
    assert "No chain helped on 70 validation images" in " ".join(found["not_done"])


@pytest.mark.parametrize(("share", "pairs"), [(0.7, True), (0.2, False)])
def test_who_stops_it_keeps_what_was_done(here, toy, clock, share, pairs):
    dataset, _ = starved(toy)

    class Stop(Watch):
        def stopped(self) -> str:
            return "Stopped on request." if clock.at > 100 + 60 * 2 * share else ""

    one = work(dataset, clock, Stop(), generate=False)
    with pytest.raises(Stopped):
        list(one.run())
    found = one.record(ended=True)
    assert "Proof on the test images: it was stopped before." in found["not_done"]
    assert found["version"]
    assert datasets.load(found["version"]).parent
    assert bool(found["effect"]) == pairs
    assert found["verdict"] == ""


def test_the_command_improves_and_says_what_came_of_it(here, toy, monkeypatch, capsys):
    from core.__main__ import main

    monkeypatch.setattr(jobs, "spawn", worker.work)
    every = study.Improvement._candidates
    monkeypatch.setattr(study.Improvement, "_candidates", lambda self: every(self)[:1])
    for name, value in {
        "FEWEST_STEPS": 20,
        "MOST_STEPS": 20,
        "MOST_PAIRS": 6,
        "CHOICES": 1,
    }.items():
        monkeypatch.setattr(study, name, value)
    starved(toy, "small")
    words = ["improve", "small", "--minutes", "0.3", "--set", "improve.generate=false", "--json"]
    words += ["--set", "improve.width=4"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert [step["name"] for step in found["steps"]] == [
        "pace", "mend", "augment", "generate", "save", "prove"
    ]  # fmt: skip
    assert found["effect"]["n"] == 6
    assert found["seconds"] < 1.2 * 30
    assert len(found["changes"]) == 3
    dataset = datasets.load("small")
    (copies,) = (change for change in found["changes"] if change["kind"] == "exact")
    decisions.undo(dataset, copies["ids"][0], seen=decisions.open(dataset).version)
    again = kinds.submit(
        "improve",
        {"dataset": "small"},
        {"improve.again": found["job"], "improve.minutes": 0.1, "improve.width": 4},
    )
    second = jobs.get(again.id).result()
    assert second["images"] == found["images"] + 2
    assert second["version"] != found["version"]
    with pytest.raises(UserError, match="There is a dataset 'small' already"):
        kinds.submit("improve", {"dataset": "small"}, {"improve.name": "small"})
    with pytest.raises(UserError, match="it needs labels of at least 2 classes"):
        improve.check(toy(60, classes=0))


def test_signals_are_improved_as_far_as_they_can_be(here, clock, monkeypatch):
    second(monkeypatch)
    waves = datasets.load("waves")
    *_, found = work(waves, clock, generate=False).run()
    said = {step["name"]: (step["status"], step["sentence"]) for step in found["steps"]}
    assert said["mend"][0] == "failed"
    assert said["mend"][1].startswith("Inspection: not available for signals yet")
    assert found["verdict"]


def test_too_little_time_says_so_with_the_baseline_and_mends_all_the_same(here, toy, clock):
    dataset, _ = starved(toy)
    one = work(dataset, clock, generate=False, minutes=0.1)
    *_, found = one.run()
    assert [step["status"] for step in found["steps"][:3]] == ["done", "done", "left out"]
    assert found["version"] and found["changes"]
    assert found["before"]["low"] is None or found["before"]["n"] >= 6
    clean = datasets.save("clean", toy(420))
    *_, found = work(clean, clock, generate=False, minutes=0.1).run()
    assert found["verdict"] == "no time"
    assert "too little time to try anything" in found["sentence"]
    assert "Baseline, after 20 steps" in found["sentence"]  # so slow a machine is looked at once
    assert "would do" in found["sentence"]


def test_an_accuracy_has_no_interval_of_few_pairs_and_never_one_outside_of_0_to_100(here, toy):
    dataset = datasets.save("toy", toy(420))
    one = improve.Improvement(dataset, improve.ImproveConfig(), "toy", {}, never)
    assert one._mean([60.0, 99.0])["low"] is None
    found = one._mean([0.0, 100.0, 100.0, 100.0, 100.0, 100.0])
    assert 0 <= found["low"] < found["high"] == 100
