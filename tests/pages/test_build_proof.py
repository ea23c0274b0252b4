"""Build's view Proof: who judges, what it compares, and what was found about this very version."""

from __future__ import annotations

import json

import numpy as np
import pytest

from core import datasets, jobs, kinds
from core.building import Plan, build
from core.building.experiment import Experiment, ExperimentConfig, perform, summary
from core.ground.watch import UNWATCHED


@pytest.fixture
def tiny(home, monkeypatch):
    """A tiny set is here, and nothing starts a process."""
    from pages.parts.build import proof

    monkeypatch.setattr(jobs, "spawn", lambda path: None)
    monkeypatch.setattr(proof, "expected", lambda *args: 42.0)
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    x = (60 + 100 * y[:, None, None, None] + rng.integers(0, 60, (120, 1, 8, 8))).astype(np.uint8)
    splits = {"train": np.arange(40, 120), "valid": np.arange(20), "test": np.arange(20, 40)}
    base = datasets.assemble(x, y.astype(np.int64), ("dark", "bright"), splits, name="tiny")
    datasets.save("tiny", base)


def test_a_proof_is_asked_for_with_the_arms_of_the_set(visit, tiny):
    seen = visit("build", **{"data": "tiny", "build.view": "proof"})
    said = seen.texts("caption")
    assert "Real images only; Placebo: real images twice; The chain; Adversarial images" in said
    assert "Expected time: about 42 s." in said
    seen.set(build__proof__tiny__placebo=False)
    assert "Placebo" not in seen.texts("caption")
    seen.press("build.proof.start").calm()
    (job,) = jobs.listing("experiment")
    assert job.config["dataset"]["name"] == "tiny"
    asked = job.config["experiment"]
    assert not asked["placebo"]
    assert (asked["adversarial"], asked["everything"], asked["referee"]) == (True, False, "small")


def test_too_few_test_images_are_said_before_the_press_and_not_resumed(visit, tiny):
    whole = datasets.load("tiny")
    splits = {"train": np.arange(30, 120), "valid": np.arange(20), "test": np.arange(20, 30)}
    few = datasets.assemble(whole.x, whole.y, whole.classes, splits, name="few")
    datasets.save("few", few)
    for view in ("improve", "proof"):
        kind = "improve" if view == "improve" else "experiment"
        job = kinds.submit(kind, {"dataset": "few"})
        jobs.set_state(job.path, status="failed", message="An experiment needs at least 20.")
        seen = visit("build", **{"data": "few", "build.view": view})
        assert seen.widget(f"build.{view}.start").disabled
        said = "".join(seen.errors)
        assert "at least 20 test images, and few has 10" in said
        assert "Test share" in said and "content" in said
        assert not [key for key in seen.keys() if key.endswith(".resume")]


def test_a_version_is_measured_at_all_real_images_whatever_is_typed_and_a_new_proof_is_shown(
    visit, tiny
):
    base = datasets.load("tiny")
    plan = Plan.of({"dataset": "tiny", "sources": [
        {"kind": "augmented", "parameters": {"pipeline": "digits"}, "each": 3}
    ]})  # fmt: skip
    datasets.save("more", build(plan, UNWATCHED, base)[0])
    seen = visit("build", **{"data": "more", "build.view": "proof"})
    seen.set(build__proof__more__per_class="10").calm()
    assert "All 40 real images of a class are taken along" in seen.texts("caption")
    seen.press("build.proof.start").calm()
    first = jobs.listing("experiment")[0]
    assert first.config["experiment"]["per_class"] == "10,40"
    seen.press("build.proof.start").calm()
    second = jobs.listing("experiment")[0]
    assert second.id != first.id
    seen.set(build__proof__chosen__more=first.id).press("build.proof.start").calm()
    assert seen.widget("build.proof.chosen.more").value == jobs.listing("experiment")[0].id


def test_what_was_found_stands_with_its_interval_and_the_attack(visit, tiny):
    seen = visit("build", **{"data": "tiny", "build.view": "proof"})
    values = {"per_class": "4,40", "chain": False, "trivial": False, "pairs": 6, "steps": 20}
    given = {f"experiment.{name}": value for name, value in values.items()}
    job = kinds.submit("experiment", {"dataset": "tiny"}, given)
    trial = Experiment(datasets.load("tiny"), ExperimentConfig(**values))
    done = {
        place: 60.0 + place[0] + place[1] / 4 + 2 * (place[2] != "none") for place in trial.places
    }
    trial.robust |= {place: 30.0 + place[0] for place in trial.places}
    assert not list(perform(trial, done, []))
    (job.path / "experiment.json").write_text(json.dumps(summary(trial, done, [])))
    jobs.set_state(job.path, status="finished")
    seen.run().calm()
    table = seen.at.dataframe[0].value
    assert table["attacked"].round(1).tolist() == [32.5, 32.5]
    assert table["worth (real)"].tolist()[-1] == "more than 40"
    assert "+2.0 points" in seen.texts("markdown")
