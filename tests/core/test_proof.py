"""The proof of a version: its arms, its referees, what is left under attack, and what a gain is worth."""

from __future__ import annotations

import math
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from core import brought, jobs, kinds, worker
from core.building import experiment
from core.building.experiment import Experiment, ExperimentConfig, backbone, hardness, outside
from core.building.experiment.arms import arms
from core.building.experiment.worth import crossing, worth
from core.catalog import UserError
from core.datasets import assemble
from core.ground.watch import Stopped, Watch
from core.media import media

TINY = {"per_class": "4", "steps": 20, "width": 4, "pairs": 6, "test_images": 50, "batch": 16}
ONLY = {"chain": False, "trivial": False, "robust": False}


# --- Worth --------------------------------------------------------------------------------------


def test_a_gain_is_worth_the_images_at_which_the_real_curve_reaches_it():
    means = np.array([50.0, 60.0, 70.0])
    assert crossing([10, 20, 40], means, 65) == pytest.approx(math.sqrt(20 * 40))
    assert crossing([10, 20, 40], means, 60) == pytest.approx(20)
    assert crossing([10, 20, 40], means, 50) == 10
    assert crossing([10, 20, 40], means, 70.1) == math.inf
    assert crossing([10, 20, 40], means, 49.9) == -math.inf
    curve = {10: [50.0] * 6, 20: [60.0] * 6, 40: [70.0] * 6}
    found = worth(curve, [65.0] * 6)
    assert found is not None
    assert found.sentence == "As good as 28 real images per class (6 pairs)."
    beyond = worth(curve, [75.0] * 6)
    assert beyond is not None
    assert beyond.sentence == "As good as more than 40 real images per class (6 pairs)."
    assert beyond.record()["value"] is None
    assert worth({10: [50.0] * 6}, [60.0] * 6) is None
    falls = {10: [60.0, 61.0, 62.0], 20: [60.0, 60.0, 63.0]}
    assert worth(falls, [60.0] * 3) is None  # that curve has nothing to read off


def test_the_interval_of_a_worth_covers_the_truth_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr("core.building.experiment.worth.DRAWS", 300)
    rng, inside = np.random.default_rng(1), 0
    for _ in range(60):
        noise = rng.normal(0, 2, (4, 12))
        curve = {
            n: list(mean + noise[i])
            for i, (n, mean) in enumerate({5: 40.0, 20: 60.0, 80: 80.0}.items())
        }
        found = worth(curve, list(70 + noise[3]))
        assert found is not None
        inside += found.low <= 40 <= found.high  # 70 % lies half way between 20 and 80
    assert inside >= 50  # of a level of 95 %, 12 pairs cover a little less


def test_a_curve_that_falls_is_evened_out_as_scipy_does():
    from scipy.optimize import isotonic_regression

    from core.building.experiment.worth import _rising

    values = np.array([3.0, 1.0, 2.0, 5.0, 4.0, 4.0, 7.0])
    np.testing.assert_allclose(_rising(values), isotonic_regression(values).x)


# --- Under attack -------------------------------------------------------------------------------


def test_the_attack_takes_from_a_linear_classifier_what_the_closed_form_says():
    rng = torch.Generator().manual_seed(0)
    w = torch.randn(16, generator=rng)
    x = 0.5 + 0.2 * (torch.rand(300, 1, 4, 4, generator=rng) - 0.5)
    score = (x.flatten(1) - 0.5) @ w
    y = (torch.rand(300, generator=rng) < 0.8) == (score > 0)
    y = y.long()
    eps = 0.02

    def logits(seen):
        value = (seen.flatten(1) - 0.5) @ w
        return torch.stack([-value, value], 1)

    margin = torch.where(
        y == 1, score, -score
    )  # the attack takes away eps times the sum of all |w|
    expected = 100 * float((margin > eps * w.abs().sum()).float().mean())
    found = hardness.left(logits, x, y.numpy(), media.get("image"), eps, 0)
    assert found == pytest.approx(expected, abs=0.5)
    assert 5 < found < 75


def test_robust_accuracy_is_a_part_of_the_result_and_of_its_notes(toy):
    trial = Experiment(
        toy(240), ExperimentConfig(**(TINY | ONLY | {"robust": True, "quick": True}))
    )
    done: dict = {}
    for _ in experiment.perform(trial, done, []):
        pass
    found = experiment.summary(trial, done, [])
    for cell in found["cells"]:
        assert 0 <= cell["robust"]["mean"] <= cell["mean"]
    assert any("changed by at most 38/255" in note for note in found["notes"])


# --- Arms of a version --------------------------------------------------------------------------


def version(toy):
    """A version with two copies of every training image, three samples, and nothing else."""
    base = toy(120)
    train = base.splits["train"]
    parents = np.concatenate([train, train])
    x = np.concatenate([base.x, base.x[parents], base.x[:3]])
    n, more = len(base), len(parents) + 3
    columns = {
        "origin": ["real"] * n + ["augmented"] * len(parents) + ["synthetic"] * 3,
        "parent": [-1] * n + list(parents) + [-1] * 3,
        "run": [""] * (n + more),
        "seed": [-1] * (n + more),
        "parameters": [""] * (n + more),
    }
    return assemble(
        x,
        np.concatenate([base.y, base.y[parents], base.y[:3]]),
        base.classes,
        {**base.splits, "train": np.concatenate([train, np.arange(n, n + more)])},
        attributes={name: np.array(values) for name, values in columns.items()},
        name="version",
    )


def test_the_arms_of_a_proof_are_what_the_version_holds(toy):
    whole = version(toy)
    values = experiment.implied(whole)
    config = ExperimentConfig(**(TINY | values))
    assert [arm.name for arm in config.arms] == [
        "none", "placebo", "augmented", "generated", "version"
    ]  # fmt: skip
    trial = Experiment(whole, config)
    assert trial.largest == 40
    assert config.sizes[-1] == 40
    at = {(size, arm) for _, size, arm in trial.places}
    assert (5, "none") in at  # the curve of real images
    assert {arm for size, arm in at if size < 40} == {"none"}  # the rest is about the whole version
    few = trial.with_items(0, 4, ("augmented",))
    assert len(few) == 3 * 8  # each chosen image, and its two copies
    assert len(trial.with_items(0, 40, ("augmented", "synthetic"))) == 3 * 80 + 3
    chosen = {image.tobytes() for image in whole.x[trial.rows(0, 4)]}
    assert {image.tobytes() for image in few.x} == chosen
    plain = experiment.implied(toy(120))
    assert [arm.name for arm in ExperimentConfig(**plain).arms] == [
        "none", "placebo", "chain", "adversarial"
    ]  # fmt: skip
    with pytest.raises(UserError, match="adds the synthetic training images"):
        Experiment(toy(120), ExperimentConfig(**(TINY | ONLY | {"generated": True})))
    with pytest.raises(UserError, match="it needs labels, and toy has none"):
        experiment.implied(toy(60, classes=0))


def test_items_of_other_datasets_and_copies_of_samples_have_an_arm(toy):
    whole = version(toy)
    known = dict(whole.attributes)
    n, train = len(whole), whole.splits["train"]
    more = {
        "origin": [
            "real",
            "real",
            "augmented",
        ],  # two of another set, and a copy of the last sample
        "parent": [-1, -1, n - 1],
        "run": [""] * 3,
        "seed": [-1] * 3,
        "parameters": ['{"dataset": "other"}'] * 2 + ["[]"],
    }
    mixed = assemble(
        np.concatenate([whole.x, whole.x[:3]]),
        np.concatenate([whole.y, whole.y[:3]]),
        whole.classes,
        {**whole.splits, "train": np.concatenate([train, np.arange(n, n + 3)])},
        attributes={name: np.concatenate([known[name], np.array(more[name])]) for name in more},
        name="mixed",
    )
    config = ExperimentConfig(**(TINY | experiment.implied(mixed)))
    assert {arm.name for arm in config.arms} >= {"joined", "augmented", "version"}
    trial = Experiment(mixed, config)
    assert trial.largest == 40 and len(trial.subset(0, 40)) == 80
    assert len(trial.with_items(0, 40, ("joined",))) == 80 + 2
    assert len(trial.with_items(0, 4, ("augmented",))) == 3 * 8 + 1
    assert len(arms.get("version").make(trial, 0, 40).data) == len(mixed.splits["train"])


def test_adversarial_images_keep_their_label_and_their_budget(toy):
    data = toy(240)
    trial = Experiment(data, ExperimentConfig(**(TINY | ONLY)))
    lesson = arms.get("adversarial").make(trial, 0, 4)
    real, moved = np.split(lesson.data.x.astype(int), 2)
    assert lesson.data.y is not None
    first, second = np.split(lesson.data.y, 2)
    np.testing.assert_array_equal(first, second)
    assert 0 < np.abs(real - moved).max() <= 38  # of 255, the usual strength at 8 px


# --- Referees -----------------------------------------------------------------------------------


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
        self.last = nn.Linear(16, 7)

    def forward(self, x):
        return self.last(self.body(x))


@pytest.fixture
def network(monkeypatch):
    """A network that was brought, for seven other classes."""
    net = Small().eval()
    opened = SimpleNamespace(model=net, spec=SimpleNamespace(shape=(1, 8, 8)))
    monkeypatch.setattr(brought, "open_model", lambda id, dataset: opened)
    return net


@pytest.mark.parametrize("referee", ["probe", "tune"])
def test_a_brought_network_is_a_referee(toy, network, referee):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    values = TINY | ONLY | {"referee": referee, "backbone": "own/net", "steps": 60, "robust": True}
    trial = Experiment(toy(240), ExperimentConfig(**values))
    data = trial.subset(0, 20)
    pupil = trial.pupil(data, 0)
    assert trial.accuracy(pupil) > 80
    again = trial.pupil(data, 0)
    assert pupil.logits is not None
    assert again.logits is not None
    assert torch.equal(pupil.logits(trial.test_x), again.logits(trial.test_x))
    for name, value in network.state_dict().items():  # shared with others, so never changed
        assert torch.equal(value, before[name])
    left = trial.under_attack(pupil, 0)
    assert left is not None
    assert 0 <= left <= 100
    shifted = trial.pupil(data, 0, lambda x, generator: x.roll(4, -1))
    assert trial.accuracy(shifted) < trial.accuracy(pupil)


def test_a_network_that_was_not_named_or_does_not_fit_is_refused(toy, network):
    asked = TINY | ONLY | {"referee": "probe"}
    with pytest.raises(UserError, match="needs a network that was brought"):
        experiment.check(toy(240), ExperimentConfig(**asked))
    network.last, network.body = nn.Identity(), nn.Identity()
    with pytest.raises(UserError, match="has no linear layer at its end"):
        backbone.check(toy(240), ExperimentConfig(**asked, backbone="own/net"))


TRAINER = """
import time
import numpy as np

def fit(x, y, classes, seed, steps):
    means = np.stack([x[y == k].mean(0).ravel() for k in range(classes)])
    return lambda seen: ((seen.reshape(len(seen), 1, -1) - means) ** 2).sum(2).argmin(1)

def slow(x, y, classes, seed, steps):
    time.sleep(30)

def broken(x, y, classes, seed, steps):
    raise ValueError("no such optimiser")

def wrong(x, y, classes, seed, steps):
    return lambda seen: np.full(len(seen), classes)
"""


@pytest.fixture
def trainer(tmp_path, toy):
    """Gives the bench of a training in a file of this machine, by the name of its function."""
    (tmp_path / "mine.py").write_text(TRAINER)

    def make(function: str, **values) -> Experiment:
        given = {
            "referee": "trainer",
            "trainer": f"mine:{function}",
            "trainer_folder": str(tmp_path),
        }
        return Experiment(toy(240), ExperimentConfig(**(TINY | ONLY | given | values)))

    return make


def test_a_training_by_code_is_a_referee(trainer):
    trial = trainer("fit", robust=True)
    data = trial.subset(0, 8)
    pupil = trial.pupil(data, 0)
    x, y = data.images(slice(None)).numpy(), data.y
    means = np.stack([x[y == k].mean(0) for k in range(2)])
    by_hand = ((trial.test_x.numpy()[:, None] - means) ** 2).sum((2, 3, 4)).argmin(1)
    assert trial.accuracy(pupil) == pytest.approx(100 * (by_hand == trial.test_y).mean())
    assert trial.under_attack(pupil, 0) is None  # it gives no gradient
    shown, labels = outside.shown(data, trial.config, lambda x, generator: 1 - x, 0)
    assert len(shown) == len(labels) == 10 * len(data)
    np.testing.assert_allclose(shown[: len(data)], 1 - x, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "values", "said"),
    [
        (
            "slow",
            {"trainer_seconds": 0.5},
            "mine:slow was not done after 0.5 s with 8 images and 20 steps",
        ),
        ("broken", {}, "mine:broken failed: ValueError: no such optimiser. It is called as fit"),
        ("wrong", {}, "predict of mine:wrong must give 40 whole numbers from 0 to 1"),
        ("none", {}, "mine:none failed: AttributeError: module 'mine' has no attribute 'none'"),
    ],
)
def test_a_training_that_fails_says_why(trainer, function, values, said):
    trial = trainer(function, **values)
    with pytest.raises(UserError) as refused:
        trial.accuracy(trial.pupil(trial.subset(0, 4), 0))
    assert str(refused.value).startswith(said)


def test_a_training_ends_with_the_work_that_asked_for_it(trainer, monkeypatch):
    began = time.monotonic()

    class Over(Watch):
        def stopped(self) -> str:
            return "Enough." if time.monotonic() - began > 0.2 else ""

    children: list = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *a, **k: children.append(popen(*a, **k)) or children[-1]
    )
    trial = trainer("slow")
    trial.watch, data = Over(), trial.subset(0, 4)
    with pytest.raises(Stopped, match="Enough"):
        trial.accuracy(trial.pupil(data, 0))
    assert time.monotonic() - began < 10
    (child,) = children
    assert child.poll() is not None


def test_a_training_must_be_named(toy):
    with pytest.raises(UserError, match="needs a module and a function, got"):
        experiment.check(
            toy(240), ExperimentConfig(**TINY, **ONLY, referee="trainer", trainer="mine")
        )


# --- Together -----------------------------------------------------------------------------------


def result(referee: str, verdict: str) -> dict:
    cells = [
        {"arm": "version", "size": 9, "verdict": verdict},
        {"arm": "none", "size": 9, "verdict": ""},
    ]
    return {"referee": {"name": referee}, "sizes": [3, 9], "cells": cells}


def test_what_helps_only_one_referee_is_a_finding():
    one = result("small", "helps")
    assert experiment.agreement([one]) == ""
    assert experiment.agreement([one, result("tune", "cannot tell")]) == (
        "This version as it is helps only the small net, not fine-tuning (cannot tell): "
        "the gain is not one of the data alone."
    )
    assert experiment.agreement([result("tune", "helps"), one]) == (
        "All 2 referees agree: this version as it is helps."
    )
    # of one referee the newest counts
    assert experiment.agreement(
        [one, result("small", "hurts"), result("tune", "helps")]
    ).startswith("All 2")


def test_a_proof_belongs_to_the_version_that_it_was_about(here, toy, capsys, monkeypatch):
    from core import datasets
    from core.__main__ import main

    whole = datasets.save("version", version(toy))
    monkeypatch.setattr(jobs, "spawn", worker.work)
    monkeypatch.setattr(
        Experiment,
        "run",
        lambda self, pair, size, arm: (76.0 + pair % 3 + size / 10 + 3 * (arm != "none"), None),
    )
    flags = ["--set", "experiment.pairs=6", "--set", "experiment.placebo=false"]
    assert (
        main(["experiment", "--dataset", "version", "--proof", "--per-class", "10,40", *flags]) == 0
    )
    said = capsys.readouterr().out
    assert (
        "This version as it is, 40 per class: 84 %, +3.0 [+3.0, +3.0], p = 0.031: helps. As good as more than 40 real"
        in said
    )
    (proof,) = experiment.proofs(whole)
    assert proof["referee"]["name"] == "small"
    assert proof["verdict"].startswith("This version as it is helps: +3.0 points")
    assert experiment.proofs(toy(120)) == []
    assert kinds.parts("experiment", {"dataset": "version"})["experiment"] is ExperimentConfig
