"""Build's view Proof: who judges, what it compares, and what was found about this very version."""

from __future__ import annotations

import json

import pytest

from core import datasets, jobs, kinds
from core.building.experiment import Experiment, ExperimentConfig, perform, summary


@pytest.fixture
def tiny(home, monkeypatch):
    """A tiny set is here, and nothing starts a process."""
    import numpy as np

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
