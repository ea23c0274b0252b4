"""Does it help? Statistics against closed forms and scipy, and a small experiment from end to end."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from pydantic import create_model

from core import jobs, kinds, worker
from core.augment import Pipeline, save, screening
from core.building import experiment
from core.building.experiment import Cell, Experiment, ExperimentConfig, arms, config
from core.catalog import UserError
from core.ground import files
from core.measure import features

TINY = {"per_class": "4", "steps": 20, "width": 4, "pairs": 6, "test_images": 50}


@pytest.fixture(autouse=True)
def soon_judged(monkeypatch):
    """What measures how far a chain takes images is trained for a moment: here it is only to have an opinion."""
    for name in features.LENGTHS:
        monkeypatch.setitem(features.LENGTHS, name, 2_000)


@pytest.mark.parametrize(
    ("change", "verdict", "start"),
    [
        ([2, 3, 4, 2, 3, 4], "helps", "The chain helps: +3.0 points ["),
        ([-2, -3, -4, -2, -3, -4], "hurts", "The chain hurts: -3.0 points ["),
        ([2, -3, 4, -2, 3, -4], "cannot tell", "It cannot be told whether the chain helps: +0.0"),
    ],
)
def test_a_verdict_follows_interval_and_test(change, verdict, start):
    cell = Cell("chain", 5, tuple(80 + c for c in change), (80,) * 6)
    facts = cell.record(True)
    assert facts["verdict"] == verdict
    assert facts["sentence"].startswith(start)
    assert "with 5 real images per class (6 pairs, p = " in facts["sentence"]
    assert cell.record(False)["verdict"] == ""
    few = Cell("chain", 5, (90, 91, 92), (80, 80, 80)).record(True)
    assert (few["verdict"], few["p"]) == ("", None)


def test_arms_start_from_the_same_and_differ_only_in_what_is_asked(toy):
    dataset = toy(400, classes=4)
    whole = Experiment(dataset, ExperimentConfig(**TINY))
    one, two = whole.subset(0, 4), whole.subset(0, 8)
    assert len(one) == 16
    assert one.y is not None
    assert np.bincount(one.y).tolist() == [4] * 4
    inside = {image.tobytes() for image in two.x}
    assert all(image.tobytes() in inside for image in one.x)
    assert whole.subset(1, 4).fingerprint != one.fingerprint
    assert whole.run(0, 4, "none")[0] == whole.run(0, 4, "none")[0]
    test = {image.tobytes() for image in dataset.x[whole.test]}
    train = {image.tobytes() for image in dataset.x[dataset.splits["train"]]}
    assert not test & train
    assert whole.places[: len(whole.config.arms)] == [(0, 4, arm.name) for arm in whole.config.arms]


def test_test_images_are_real_and_once(toy):
    base = toy(240)
    x = base.x.copy()
    x[base.splits["test"][:2]] = x[base.splits["train"][:1]]
    x[base.splits["test"][3]] = x[base.splits["test"][4]]
    from core.datasets import assemble

    dataset = assemble(x, base.y, base.classes, base.splits, name="toy")
    whole = Experiment(dataset, ExperimentConfig(**TINY))
    assert whole.removed == 3
    assert len(whole.test) == 37


def test_an_experiment_fills_live_stops_and_goes_on(here, toy):
    from core import datasets

    datasets.save("toy", toy(240))
    values = {f"experiment.{name}": value for name, value in TINY.items()}
    values |= {
        "experiment.quick": True,
        "experiment.synthetic": True,
        "experiment.trivial": False,
        "experiment.model_images": 200,
        "experiment.synthetic_per_class": 4,
    }
    job = kinds.submit("experiment", {"dataset": "toy"}, values)
    assert job.result() is None
    whole = datasets.load("toy")
    config = ExperimentConfig.of(job.config["experiment"])
    trial = Experiment(whole, config)
    done: dict = {}
    first = next(experiment.perform(trial, done, []))
    files.Log(job.path).append(dict(zip(("pair", "size", "arm", "accuracy"), first, strict=True)))
    worker.work(job.path)
    job = jobs.get(job.id)
    assert job.status == "finished", job.message
    result = job.result()
    assert result is not None
    assert (result["done"], result["fits"], result["total"]) == (True, 12, 12)
    assert result["verdict"] == ""  # a quick look has none
    assert all(cell["sentence"] == "" for cell in result["cells"])
    assert {cell["arm"] for cell in result["cells"]} == {"none", "placebo", "chain", "synthetic"}
    assert len(result["synthetic"]) == 3
    made = result["synthetic"][0]
    assert made["kept"] + sum(made["refused"].values()) == made["made"] == 8
    (plain,) = (cell for cell in result["cells"] if cell["arm"] == "none")
    assert plain["accuracies"][0] == pytest.approx(first[3], abs=1e-3)
    assert "quick look of 3 pairs" in " ".join(result["notes"])


def rows(arm, size, *kept, made=40):
    return [
        {
            "arm": arm,
            "size": size,
            "pair": pair,
            "made": made,
            "kept": n,
            "refused": {"confidence": made - n, "authenticity": 0, "duplicates": 0},
        }
        for pair, n in enumerate(kept)
    ]


def summed(toy, made, change=0.0, **values):
    """Gives the summary of a whole experiment in which synthetic arms gained so many points."""
    config = ExperimentConfig(**(TINY | {"trivial": False, "synthetic": True} | values))
    trial = Experiment(toy(240), config)
    done = {
        (pair, size, arm): 80.0 + pair + (change if arm in ("synthetic", "both") else 0)
        for pair, size, arm in trial.places
    }
    return experiment.summary(trial, done, made)


def test_an_arm_without_any_synthetic_image_was_not_tested(toy):
    found = summed(toy, rows("synthetic", 4, *[0] * 6), chain=False)
    (cell,) = (cell for cell in found["cells"] if cell["arm"] == "synthetic")
    assert (cell["verdict"], cell["effect"], cell["p"]) == ("not tested", None, None)
    assert found["verdict"] == cell["sentence"]
    assert cell["sentence"].startswith(
        "Synthetic images: not tested with 4 real images per class, no synthetic image was used, because none of 240 "
        "samples passed: 240 were not taken for their class surely enough (experiment.confidence). Train "
    )
    few = summed(toy, rows("synthetic", 4, 1, 0, 0, 0, 0, 0), chain=False)
    (cell,) = (cell for cell in few["cells"] if cell["arm"] == "synthetic")
    assert cell["verdict"] == "cannot tell"
    assert (
        "1 of 240 samples were used (0.4 %), in 5 of 6 pairs none; 239 were not taken"
        in few["verdict"]
    )
    # with the chain beside them the arm is another training, which says so
    both = summed(toy, rows("both", 4, *[0] * 6), both=True, synthetic=False, chain=False)
    (cell,) = (cell for cell in both["cells"] if cell["arm"] == "both")
    assert cell["verdict"] == "cannot tell"
    assert "Without synthetic images: no synthetic image was used" in both["verdict"]


def test_an_arm_whose_chain_changes_nothing_is_not_tested(toy):
    off = save(Pipeline.of([{"name": "rotate", "enabled": False}]), "off")
    never = save(Pipeline.of([{"name": "rotate", "probability": 0}]), "never")
    for id in (off, never):
        for arm in ({"chain": True}, {"chain": False, "both": True}):
            with pytest.raises(UserError, match="has no step that is switched on with a probabil"):
                experiment.check(toy(240), ExperimentConfig(**(TINY | arm | {"pipeline": id})))
    still = save(Pipeline.of([{"name": "rotate", "parameters": {"degrees": 0}}]), "still")
    found = summed(toy, [], pipeline=still, synthetic=False)
    (cell,) = (cell for cell in found["cells"] if cell["arm"] == "chain")
    assert (cell["verdict"], cell["effect"]) == ("not tested", None)
    assert "the chain leaves all images as they are" in found["verdict"]
    (cell,) = (cell for cell in summed(toy, [], synthetic=False)["cells"] if cell["arm"] == "chain")
    assert cell["verdict"] == "cannot tell"


def test_the_command_says_why_an_arm_was_not_tested(here, toy, capsys, monkeypatch):
    from core import datasets
    from core.__main__ import main

    def one(self, pair, size, arm):
        (row,) = rows(arm, size, 0)
        return 80.0, None if arm == "none" else row | {"pair": pair}

    datasets.save("toy", toy(240))
    monkeypatch.setattr(Experiment, "run", one)
    monkeypatch.setattr(jobs, "spawn", worker.work)
    words = [f"{name}={value}" for name, value in TINY.items() if name != "pairs"]
    words += ["model_images=200", "synthetic_per_class=2", "synthetic=true", "chain=false"]
    words += ["trivial=false", "placebo=false"]
    flags = [part for word in words for part in ("--set", f"experiment.{word}")]
    assert main(["experiment", "--dataset", "toy", "--quick", *flags]) == 0
    said = capsys.readouterr().out
    assert "Synthetic images, 4 per class: " in said
    assert "not tested: no synthetic image was used, because none of " in said
    assert "+0.0" not in said


ARM = '''
from core.catalog import Config
from core.building.experiment.arms import Lesson, arms

@arms.add("fewer", "Half of the images", Config, order=9, leads=9, help="Trains with half.", on=True)
def fewer(trial, pair, size):
    """Trains with half of the real images."""
    return Lesson(trial.subset(pair, size // 2))
'''


def test_an_arm_is_one_file(toy, tmp_path, monkeypatch):
    (tmp_path / "fewer.py").write_text(ARM)
    monkeypatch.setattr(arms, "__path__", [*arms.__path__, str(tmp_path)])
    try:
        switches = config._switches(arms.ordered())
        assert list(switches)[:5] == ["placebo", "chain", "trivial", "synthetic", "both"]
        assert "fewer" in switches
        asked = create_model("Asked", __base__=ExperimentConfig, fewer=switches["fewer"])
        assert "Trains with half." in asked.knobs()["fewer"].help
        off = {"placebo": False, "chain": False, "trivial": False}
        trial = Experiment(toy(240), asked(**(TINY | off)))
        assert [place[2] for place in trial.places[:2]] == ["none", "fewer"]
        assert 0 <= trial.run(0, 4, "fewer")[0] <= 100
        done = {place: 80.0 - (place[2] == "fewer") for place in trial.places}
        verdict = experiment.summary(trial, done, [])["verdict"]
        assert verdict.startswith("Half of the images hurts: -1.0 points")
    finally:
        arms.arms._entries.pop("fewer", None)
        sys.modules.pop("core.building.experiment.arms.fewer", None)


def test_the_time_is_told_before(toy):
    config = ExperimentConfig(**TINY)
    seconds = experiment.expected_seconds(toy(240), config)
    assert 0 < seconds < 120


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"per_class": "5,x"}, "experiment.per_class must be 1 to 8 whole numbers from 1"),
        (
            {"per_class": "4000"},
            "experiment.per_class must be at most 80, the training images of the largest class",
        ),
        ({"pipeline": "none"}, "There is no pipeline 'none'"),
        (
            {"placebo": False, "chain": False, "trivial": False},
            "An experiment needs at least one arm",
        ),
    ],
)
def test_an_experiment_that_cannot_be_done_is_refused(toy, values, text):
    with pytest.raises(UserError) as error:
        experiment.check(toy(240), ExperimentConfig(**(TINY | values)))
    assert str(error.value).startswith(text)


def test_no_labels_few_images_and_slow_steps_are_refused(toy):
    with pytest.raises(UserError, match="it needs labels of at least 2 classes, and toy has none"):
        experiment.check(toy(240, classes=0), ExperimentConfig(**TINY))
    with pytest.raises(UserError, match="at least 20 test images, and toy has 10"):
        experiment.check(toy(60), ExperimentConfig(**TINY))
    slow = save(Pipeline().with_step("jpeg"), "slow")
    with pytest.raises(UserError, match="JPEG works one image at a time"):
        experiment.check(toy(240), ExperimentConfig(**(TINY | {"pipeline": slow})))


# --- Is it too much? ------------------------------------------------------------------------------------------------------


def test_strain_grows_with_the_magnitude_and_starts_at_the_floor(toy):
    manifold = screening.Manifold(toy(400, size=12), 100)
    rows = screening.sweep(manifold, "noise", {}, values=4)
    assert rows[0]["drift"] == pytest.approx(0, abs=0.05)
    assert rows[0]["off"] == pytest.approx(rows[0]["floor"], abs=0.03)
    assert rows[-1]["drift"] > rows[1]["drift"] > rows[0]["drift"]
    assert rows[-1]["off"] > 0.5
    hurt = screening.hurts(rows)
    assert hurt is not None
    assert hurt > 0
    assert screening.hurts(rows[:1]) is None
    strains = screening.strain(manifold, Pipeline().with_step("noise").with_step("blur"))
    assert [row.title for row in strains] == ["Noise", "Blur", "The whole chain"]
    with pytest.raises(
        UserError, match="at least 20 training and 10 held-out images, and toy has 16 and 8"
    ):
        screening.Manifold(toy(24))


def test_referees_are_paired_and_told_as_they_come(here, toy):
    from core import datasets

    datasets.save("toy", toy(240))
    values = {
        "screening.pipeline": "camera", "screening.seeds": 2, "screening.steps": 20,
        "screening.width": 4, "screening.images": 60,
    }  # fmt: skip
    job = kinds.submit("screening", {"dataset": "toy"}, values)
    worker.work(job.path)
    job = jobs.get(job.id)
    assert job.status == "finished", job.message

    result = job.result()
    assert result is not None
    assert result["done"]
    assert [row["title"] for row in result["rows"]] == [
        "Blur",
        "Brightness",
        "Noise",
        "The whole chain",
    ]
    for row in result["rows"]:
        assert row["change"] == pytest.approx(row["accuracy"] - row["plain"])
        assert row["low"] <= row["change"] <= row["high"]
        assert row["n_seeds"] == 2


def test_traces_of_a_chain_are_looked_for_in_samples(trained):
    from core import datasets
    from core.augment import load

    found = screening.leak(datasets.load("digits"), load("digits"), trained.runs["gan"], n=100)
    assert 0 <= found["share_low"] <= found["share"] <= found["share_high"] <= 1
    assert found["n"] == 100
    assert found["sentence"].endswith(".")
