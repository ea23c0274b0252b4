"""Releases and Harden on the Robustness page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from core import jobs, kinds, worker

ATTACKED = "shipped-digits-classifier-attacked"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expected time is not measured."""
    from core import robustness
    from core.robustness import hardening

    cost = robustness.Cost(7, 497, 120, robustness.Lap(0, 0, 0.5))
    monkeypatch.setattr(robustness, "estimate", lambda target, dataset, config: cost)
    monkeypatch.setattr(hardening, "pace", lambda *asked: hardening.Pace(0.12, 128, 8.72))


def opened(visit: Any, tool: str, model: str) -> Any:
    return visit("robustness").set(robust__model=model).set(robust__tool=tool)


def test_a_release_is_compared_with_what_was_measured_of_the_one_before(visit, gallery, quick):
    seen = opened(visit, "releases", "shipped-digits-classifier").calm()
    assert "Has the new model become worse?" in seen.texts("markdown")
    seen.set(robust__baseline=ATTACKED).calm()  # the newest report of this classifier is that one
    assert "Not shown to be worse than Digits, classifier" in seen.texts("info")
    assert "may be chance" in seen.texts("info")
    assert {"robust.release.robustness.md", "robust.release.robustness.xml"} <= seen.keys()
    assert "attack --baseline report.json --classifier shipped-digits-classifier" in str(
        [code.value for code in seen.at.code]
    )
    # what was not measured like the baseline is measured so at a press
    seen.set(robust__model="shipped-digits-robust").calm()
    assert "This classifier was not measured yet" in seen.texts("info")
    seen.press("robust.repeat")
    assert seen.at.session_state["robust.attacks"] == ["noise", "quick", "autoattack"]


def test_of_many_baselines_the_newest_are_offered_and_read_once(
    visit, gallery, home, quick, monkeypatch
):
    from core.robustness import store

    monkeypatch.setattr("pages.parts.robustness.releases.OFFERED", 3)
    made = [f"2026120{day}-000000-digits-attack-000{day}" for day in range(1, 6)]
    about = json.loads((jobs.SHIPPED / ATTACKED / "job.json").read_text())
    for day, id in enumerate(made, 1):
        shutil.copytree(jobs.SHIPPED / ATTACKED, home / "jobs" / id)
        later = {**about, "id": id, "created": about["created"] + day}
        (home / "jobs" / id / "job.json").write_text(json.dumps(later))
    (home / "jobs" / made[-2] / "report.json").write_text("{}")
    read: list[str] = []
    opened_of = store.opened

    def noted(file: Path) -> Any:
        read.append(file.parent.name)
        return opened_of(file)

    monkeypatch.setattr(store, "opened", noted)
    seen = opened(visit, "releases", "shipped-digits-classifier").calm()
    assert len(seen.widget("robust.baseline").options) == 3  # of three, one is damaged; and a file
    assert not {*read} & {*made[:2]}
    first = read.count(made[-3])
    seen.run().calm()
    assert read.count(made[-3]) == first == 1


def test_a_baseline_of_a_file_is_read_or_refused(visit, gallery, quick):
    report = json.loads((jobs.SHIPPED / ATTACKED / "report.json").read_text())
    report["data"]["fingerprint"] = "f" * 64
    seen = opened(visit, "releases", "shipped-digits-classifier").set(robust__baseline="a file")
    for content, text in (
        (json.dumps(report).encode(), "The baseline is of other images"),
        (b"[1, 2", "is damaged, or no report of an attack"),
    ):
        seen.widget("robust.baseline.file").upload("old.json", content)
        seen.run()
        assert text in seen.texts("info") + seen.texts("error")


def test_a_classifier_is_hardened_by_a_job_and_chosen(visit, gallery, quick, spawned):
    model = "shipped-digits-classifier"
    seen = opened(visit, "harden", model).calm()
    assert "About 1 min 5 s, measuring included. Against changes of up to 38/255" in seen.texts(
        "caption"
    )
    seen.press("robust.harden.start").calm()
    (job,) = jobs.listing("harden")
    assert spawned == [job.id] and job.name == "Digits, classifier, hardened"
    assert job.config["harden"]["classifier"] == model
    assert job.config["train"]["images"] == 60_000
    assert seen.widget("robust.harden.stop").label == "Stop"


def test_the_strength_is_that_of_the_dataset_and_the_pace_is_measured_once(
    visit, gallery, quick, monkeypatch
):
    from core.norms import Budget
    from core.robustness import hardening
    from pages.parts.robustness import TURNS

    paces: list[int] = []

    def pace(*asked: Any) -> hardening.Pace:
        assert not TURNS.acquire(blocking=False)  # it waits for its turn, and has it
        paces.append(1)
        return hardening.Pace(0.1, 128, 5.0)

    monkeypatch.setattr(hardening, "pace", pace)
    seen = opened(visit, "harden", "shipped-digits-classifier").calm()
    assert seen.widget("robust.harden.eps").value == round(38 / 255, 4)
    seen.set(robust__harden__train__images=128_000).calm()
    assert "About 1 min 45 s" in seen.texts("caption") and paces == [1]
    seen.set(robust__harden__eps=0.2).calm()
    assert seen.widget("robust.harden.eps").value == 0.2
    monkeypatch.setattr(Budget, "usual", 0.04)  # as of another dataset
    seen.run().calm()
    assert seen.widget("robust.harden.eps").value == 0.04


def test_a_visitor_who_may_change_nothing_costs_no_training(
    visit, gallery, quick, setting, monkeypatch
):
    from core.robustness import hardening

    monkeypatch.setattr(hardening, "pace", None)
    setting(view_only=1)
    seen = opened(visit, "harden", "shipped-digits-classifier").calm()
    assert "Against changes of up to 38/255 per value." in seen.texts("caption")
    assert "measuring included" not in seen.texts("caption")
    assert seen.widget("robust.harden.start").disabled


def test_a_hardening_shows_its_price_and_gain(visit, gallery, quick, setting, monkeypatch):
    setting(nice=0, threads=1)
    monkeypatch.setattr("core.robustness.hardening.FITTED", 32)
    report = (jobs.SHIPPED / ATTACKED / "report.json").read_bytes()
    monkeypatch.setattr(
        "core.kinds.harden._measure",
        lambda task, opened, dataset, name: (task.path / name).write_bytes(report),
    )
    few = {"train.images": 32, "train.batch": 16, "harden.attack_steps": 1}
    asked = {"harden.classifier": "shipped-digits-classifier", **few}
    job = kinds.submit("harden", {"dataset": "digits"}, asked)
    assert worker.work(job.path) == 0
    seen = opened(visit, "harden", "shipped-digits-classifier").calm()
    said = " ".join(seen.texts(kind) for kind in ("info", "success", "error"))
    assert "19.9 % of 497 unseen images stay right" in said and "Without an attack it is" in said
    assert "robust.harden.take.hardened.safetensors" in seen.keys()
    seen.press("robust.harden.choose").calm()
    assert seen.widget("robust.model").value == job.id
    assert "Trained against attacks (pgd)" in seen.texts("caption")
