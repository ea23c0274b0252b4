"""Build's view Improve: one button, the answer on one screen, what was not done, and what can be taken back."""

from __future__ import annotations

import numpy as np
import pytest

from core import datasets, jobs
from core.building import improve
from core.building.experiment import Experiment
from core.building.experiment.referees import Pupil
from core.building.improve import study
from core.ground import files


@pytest.fixture
def improved(home, monkeypatch):
    """A tiny set with an exact copy, and what an improvement of it came to; nothing starts a process."""
    monkeypatch.setattr(jobs, "spawn", lambda path: None)
    monkeypatch.setattr(study, "MOST_PAIRS", 6)

    def pupil(
        self, data, pair, transform=None, order=0
    ):  # the more images, the better, without a training
        import torch

        rng = np.random.default_rng([pair, len(data)])
        right = rng.random(len(self.test_y)) < min(0.95, 0.5 + len(data) / 500)
        named = torch.as_tensor(np.where(right, self.test_y, 1 - self.test_y))
        return Pupil(lambda x: named)

    monkeypatch.setattr(Experiment, "pupil", pupil)
    monkeypatch.setattr(Experiment, "under_attack", lambda self, pupil, pair: 30.0 + pair)
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    x = (60 + 100 * y[:, None, None, None] + rng.integers(0, 60, (120, 1, 8, 8))).astype(np.uint8)
    x[41] = x[43]
    splits = {"train": np.arange(40, 120), "valid": np.arange(20), "test": np.arange(20, 40)}
    base = datasets.assemble(
        x,
        y.astype(np.int64),
        ("dark", "bright"),
        splits,
        name="tiny",
        terms={"licence": "", "consent": ""},
    )
    dataset = datasets.save("tiny", base)

    def come_to(visit):
        """Starts one on the page, and does it here."""
        seen = visit("build", data="tiny").press("build.improve.start").calm()
        (job,) = jobs.listing("improve")
        asked = improve.ImproveConfig(generate=False, width=4, minutes=1.0)
        *_, found = improve.Improvement(dataset, asked, "tiny", {}, lambda *asked: "").run()
        files.write_json(job.path / "improve.json", found | {"done": True})
        jobs.set_state(job.path, status="finished")
        return seen.run().calm(), job, found

    return come_to


def test_one_button_and_the_answer_on_one_screen(visit, improved, asked):
    seen, job, found = improved(visit)
    assert asked(job.id)["config"]["improve"]["minutes"] == 5.0
    said = seen.texts("markdown", "caption").replace("\u00a0", " ")
    assert found["sentence"] in said
    assert [metric.label for metric in seen.at.metric] == [
        "Before",
        "After",
        "Change",
        "Under attack",
    ]
    assert f"n = {found['n_test']} test images, 6 pairs" in said
    for step in found["steps"]:
        assert step["title"] in said
    assert "Synthetic images: It was switched off (improve.generate)." in said
    assert "Exact duplicates: 1 left out" in said
    assert "build.improve.take" in seen.keys()


def test_what_was_left_out_comes_back_and_the_version_is_made_again_or_taken_away(
    visit, improved, asked
):
    seen, job, found = improved(visit)
    seen.press("build.improve.undo.exact").calm()
    assert "Exact duplicates: 1" in seen.texts("markdown")
    assert seen.widget("build.improve.undo.exact").disabled
    seen.press("build.improve.again").calm()
    newest = jobs.listing("improve")[0]
    assert asked(newest.id)["config"]["improve"]["again"] == job.id
    seen.set(build__improve__chosen__tiny=job.id).press("build.improve.take").calm()
    assert seen.at.session_state["data"] == found["version"]
    assert seen.at.session_state["build.view"] == "take"


def test_a_view_only_server_lets_nobody_start(visit, home, setting):
    setting(view_only=1)
    seen = visit("build")
    assert seen.widget("build.improve.start").disabled
    seen.force("build.improve.start")
    assert "for viewing only" in seen.texts("caption", "error")
