"""The views of the Build page about what is missing and about drift."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from core import datasets, jobs
from core.building import Plan
from core.kinds import build


@pytest.fixture
def starved():
    """A saved dataset of three classes, of which the last has 4 training images."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [70, 70, 44])
    x = (rng.integers(30, 220, (3, 1, 8, 8))[y] + rng.integers(-20, 20, (184, 1, 8, 8))).astype(
        np.uint8
    )
    held = np.concatenate([np.arange(20), np.arange(70, 90), np.arange(140, 180)])
    train = np.setdiff1d(np.arange(184), held)
    splits = {"train": train, "valid": held[::2], "test": held[1::2]}
    return datasets.save(
        "starved", datasets.assemble(x, y, ("a_b", "b", "c"), splits, name="starved")
    )


def test_what_is_missing_is_said_and_sliders_move_the_plan(visit, starved, spawned):
    seen = visit("build", **{"build.view": "gaps", "data": "starved"}).calm()
    assert "Short of images: c (4 there, 31 missing)" in seen.texts()
    assert seen.widget("build.gaps.budget").value == 31
    assert [seen.widget(f"build.gaps.n.{k}").value for k in range(3)] == [0, 0, 31]
    assert "31 items would join, 215 in all" in seen.texts("caption")
    assert seen.shown("build.gaps.map")
    assert "Like the world (representativeness)" in seen.measures
    seen.set(build__gaps__n__1=9)
    assert "40 items would join" in seen.texts("caption")
    seen.press("build.gaps.fill").calm()
    assert "31 items would join" in seen.texts("caption")
    seen.set(build__gaps__budget=12).calm()
    assert seen.widget("build.gaps.n.2").value == 12
    plan = {"dataset": "starved", "sources": [{"kind": "real", "each": 3}]}
    other = build.start(Plan.of(plan), "from elsewhere")  # is not shown here
    spawned.clear()
    assert not any("build.gaps.job" in key for key in seen.run().keys())
    seen.press("build.gaps.build").calm()
    assert any("build.gaps.job" in key for key in seen.keys())
    assert other.id not in spawned
    (job,) = (jobs.get(id) for id in spawned)
    plan = Plan.read(job.config["build"]["plan"])
    assert (plan.sources[0].kind, dict(plan.sources[0].counts)) == ("augmented", {"c": 12})
    assert plan.sources[0].why["c"].startswith("gap: c has 4 items, 3.8 % where 33.3 % is wanted")


def test_a_plan_stays_when_its_view_is_left_and_another_dataset_begins_with_its_own(
    visit, starved, spawned
):
    x, train = starved.x, starved.splits["train"]
    more = np.concatenate([starved.splits["valid"], train[starved.y[train] == 1]])
    even = {**starved.splits, "train": train[starved.y[train] != 1], "valid": more}
    datasets.save("other", datasets.assemble(x, starved.y, starved.classes, even, name="other"))
    seen = visit("build", **{"build.view": "gaps", "data": "starved"}).calm()
    seen.set(build__gaps__budget=12).set(build__gaps__n__0=3).calm()
    seen.at.session_state["build.view"] = "mix"
    seen.run().calm()
    seen.at.session_state["build.view"] = "gaps"
    seen.run().calm()
    assert seen.widget("build.gaps.budget").value == 12
    assert "15 items would join" in seen.texts("caption")
    seen.press("build.gaps.fill").calm()
    assert seen.widget("build.gaps.budget").value == 31
    assert "31 items would join" in seen.texts("caption")
    seen.set(build__gaps__budget=12, data="other").calm()
    assert seen.widget("build.gaps.budget").value != 12


def test_rounds_are_started_with_the_values_of_the_page(visit, starved, spawned):
    seen = visit("build", **{"build.view": "gaps", "data": "starved"})
    seen.set(build__adapt__budget=30).press("build.adapt.start").calm()
    assert jobs.get(spawned[-1]).config["adapt"]["budget"] == 30
    (jobs.get(spawned[-1]).path / "adapt.json").write_text(json.dumps(ROUNDS))
    seen.run().calm()
    assert "On c: adaptive +2.0 points against equal shares" in seen.texts()
    seen.press("build.adapt.build").calm()
    plan = Plan.read(jobs.get(spawned[-1]).config["build"]["plan"])
    assert dict(plan.sources[0].counts) == {"c": 30}


ROUNDS = {
    "done": True, "asked": {"a_b": 0, "b": 0, "c": 30},
    "verdict": "On c: adaptive +2.0 points against equal shares (1 pair; a verdict needs 6 pairs).",
    "arms": {"real": "Real images only", "uniform": "Equal shares", "adaptive": "Adaptive"},
    "classes": ["c"], "pairs": 1, "of": 1, "n_test": 40, "n_lacking": 20, "notes": [],
    "gains": [{"of": "lacking", "arm": "adaptive", "against": "uniform", "effect": 2.0, "low": None, "high": None,
               "p": None, "n": 1, "verdict": ""}],
    "each": [{"stopped": "", "rounds": [{"round": 1, "valid": 80.0, "gain": 3.0, "low": -1.0, "high": 7.0, "n": 40,
                                         "asked": {"a_b": 0, "b": 0, "c": 30}, "lacking": []}]}],
}  # fmt: skip


def test_drift_is_measured_at_once_and_a_model_as_a_job(visit, starved, spawned, setting):
    seen = visit("build", **{"build.view": "drift", "data": "starved"}).calm()
    assert "No drift can be seen from starved to other images of starved" in seen.texts()
    seen.set(build__drift__corruption="contrast").calm()
    assert "Other images of starved with contrast 3 differs" in seen.texts()
    assert "Cannot tell (fewer than 30 images of a side): c." in seen.texts("caption")
    drawn = seen.widget("build.drift.corruption")
    assert "Gaussian noise" in drawn.options and "JPEG compression" in drawn.options
    datasets.save("younger", dataclasses.replace(starved, parent="starved"))
    younger = visit("build", **{"build.view": "drift", "data": "younger"}).calm()
    assert younger.widget("build.drift.against.younger").value == "starved"
    setting(view_only=1)
    assert visit("build", **{"build.view": "gaps", "data": "starved"}).widget("build.adapt.start").disabled  # fmt: skip


def test_the_first_values_of_a_proof_get_an_axis_of_round_numbers():
    from pages.parts.augment.experiment import around

    assert around([44.44441, 44.44441]) == [42, 46]
    assert around([40.0, 60.0]) is None
