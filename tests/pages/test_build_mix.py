"""The view Mix of the Build page: sources as rows, what they give, and what became of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from core import datasets, jobs
from core.building import Plan
from core.ground import sheets


@pytest.fixture
def toy_set():
    """A small saved dataset of two classes."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (36, 1, 8, 8)).astype(np.uint8)
    splits = {"train": np.arange(24), "valid": np.arange(24, 30), "test": np.arange(30, 36)}
    made = datasets.assemble(x, np.arange(36) % 2, ("a", "b/c"), splits, name="toy")
    return datasets.save("toy", made)


def opened(visit):
    return visit("build", data="toy", **{"build.view": "mix"})


def test_sources_are_added_counted_and_built(visit, toy_set, spawned, asked):
    seen = opened(visit).calm()
    assert "**20 images** join, 56 in all" in seen.texts("markdown")
    seen.press("build.mix.add.augmented").calm()
    assert "**40 images** join" in seen.texts("markdown")
    seen.press("build.mix.1.out").set(build__mix__0__each=3).calm()
    seen.widget("build.mix.0.classes").set_value(["b/c"])
    seen.run().calm()
    seen.widget("build.mix.0.count.b/c").set_value(7)
    seen.run().calm()
    assert "**10 images** join" in seen.texts("markdown")
    seen.set(build__mix__name="more").press("build.mix.build").calm()
    config = asked(spawned[-1])["config"]["build"]
    plan = Plan.read(config["plan"])
    assert config["name"] == "more" and plan.fingerprint == toy_set.fingerprint
    (source,) = plan.sources
    assert (source.each, source.counts) == (3, {"b/c": 7})
    assert json.loads(source.config["pipeline"])[
        "steps"
    ]  # the chain itself, whatever becomes of its name


def test_a_plan_with_numbers_for_more_classes_than_are_asked_for_opens(visit):
    x = np.random.default_rng(0).integers(0, 256, (90, 1, 8, 8)).astype(np.uint8)
    splits = {"train": np.arange(60), "valid": np.arange(60, 75), "test": np.arange(75, 90)}
    names = tuple(f"class {k}" for k in range(15))
    datasets.save("toy", datasets.assemble(x, np.arange(90) % 15, names, splits, name="toy"))
    counts = dict.fromkeys(names, 2)
    plan = Plan.of({"dataset": "toy", "sources": [
        {"kind": "augmented", "parameters": {"pipeline": "digits"}, "counts": counts}
    ]})  # fmt: skip
    seen = opened(visit)
    seen.widget("build.mix.upload").set_value(
        ("plan.json", plan.text().encode(), "application/json")
    )
    seen.run().press("build.mix.take").calm()
    assert "**30 images** join" in seen.texts("markdown")


def test_a_source_with_nothing_to_be_made_of_says_so_and_a_taken_name_is_refused(visit, toy_set):
    seen = opened(visit).press("build.mix.add.synthetic").calm()
    assert "nothing yet for the synthetic source" in seen.texts("info")
    seen.press("build.mix.1.out").set(build__mix__name="toy").press("build.mix.build")
    assert "There is a dataset 'toy' already" in "".join(seen.errors)


def test_a_plan_goes_out_and_comes_back_with_what_no_control_shows(visit, toy_set):
    source = {
        "kind": "augmented", "parameters": {"pipeline": "scans"}, "shares": {"a": 0.5}, "why": {"a": "rare"}
    }  # fmt: skip
    plan = Plan.of(
        {"dataset": "toy", "sources": [source], "budget": 8, "seed": 4, "gate": {"tries": 9}}
    )
    seen = opened(visit)

    class File:
        def getvalue(self):
            return plan.text().encode()

    from streamlit.testing.v1 import AppTest

    def script():
        import streamlit as st

        from pages.parts.build import mix

        mix.take(st.session_state["file"], "toy")

    at = AppTest.from_function(script)
    at.session_state["file"] = File()
    at.session_state["build.mix.rows.toy"] = [{"id": 0, "source": {}}]
    at.run()
    kept = {
        key: at.session_state[key]
        for key in (
            "build.mix.rows.toy",
            "build.mix.budget",
            "build.mix.seed",
            "build.mix.gate.tries",
        )
    }
    for key, value in kept.items():
        seen.at.session_state[key] = value
    seen.run().calm()
    assert "**4 images** join" in seen.texts("markdown")
    assert "1 share of the budget, 1 reason kept with its items" in seen.texts("caption")
    assert seen.widget("build.mix.1.pipeline").value == "scans"
    assert seen.widget("build.mix.gate.tries").value == 9


def test_what_was_refused_is_shown_by_reason_and_the_new_set_is_chosen(visit, toy_set, here_job):
    job = here_job()
    seen = opened(visit).calm()
    assert "Passed the gate: **40 %** of 10 drawn." in seen.texts("markdown")
    assert seen.widget(f"build.mix.why.{job}").options == [
        "unlike the real ones of its class (4)",
        "nearly the same as an earlier one (2)",
    ]
    assert seen.pictures("build.mix.refused.manifold")["count"] == 4
    seen.widget(f"build.mix.why.{job}").set_value("duplicates")
    assert seen.run().calm().pictures("build.mix.refused.duplicates")["count"] == 2


@pytest.fixture
def here_job(spawned):
    """Gives a job of a build that has ended, with what its gate refused."""

    def make():
        from core.ground import files
        from core.kinds import build

        plan = Plan.of(
            {
                "dataset": "toy",
                "sources": [{"kind": "augmented", "parameters": {"pipeline": "digits"}, "each": 2}],
            }
        )
        job = build.start(plan, "more")
        rng = np.random.default_rng(0)
        shown = {"manifold": 4, "duplicates": 2}
        for reason, n in shown.items():
            sheet = sheets.png(rng.integers(0, 256, (n, 1, 8, 8)).astype(np.uint8), 8)
            files.write_atomic(job.path / f"rejected-{reason}.png", sheet)
        files.write_json(job.path / "build.json", {
            "name": "toy", "sentence": "Done.", "notes": ["A note."], "drawn": 10, "seconds": 1.0,
            "added": {"synthetic": 4}, "refused": shown,
            "rejected_by": {reason: f"rejected-{reason}.png" for reason in shown},
        })  # fmt: skip
        jobs.set_state(job.path, status="finished")
        return job.id

    return make


def test_a_view_only_server_builds_nothing(visit, toy_set, setting, spawned):
    setting(view_only=1)
    opened(visit).calm().force("build.mix.build")
    assert not spawned


def test_models_of_this_set_come_first_then_those_of_its_parents_and_none_that_cannot_fit(
    toy_set, spawned, monkeypatch
):
    from dataclasses import replace

    from core import kinds, runs
    from core.augment import generative
    from core.training import spec_of

    child = datasets.assemble(
        np.asarray(toy_set.x)[:, :, ::-1].copy(), toy_set.y, toy_set.classes, toy_set.splits,
        name="child", source={"name": "child", "config": {}, "origin": {"name": "toy", "config": {}}},
    )  # fmt: skip
    models = {  # by run: of which set, with which content, of what size
        "large": ("toy", "1", (1, 16, 16)),
        "foreign": ("other", "2", (1, 8, 8)),
        "parent": ("toy", "3", (1, 8, 8)),
        "own": ("child", child.fingerprint, (1, 8, 8)),
    }
    spec = spec_of(child)
    every = [
        kinds.submit("train", {"dataset": "toy", "family": "gan"}, name=name) for name in models
    ]
    monkeypatch.setattr(runs, "generators", lambda: every)
    monkeypatch.setattr(
        runs,
        "record",
        lambda run: {
            "spec": replace(spec, shape=models[run.name][2]).record(),
            "dataset": {"name": models[run.name][0], "fingerprint": models[run.name][1]},
        },
    )
    listed = generative.runs_for("sample", child)
    assert [run.name for run in listed] == ["own", "parent", "foreign"]


def test_an_origin_has_one_colour_in_every_chart():
    from pages.parts import show

    assert show.origin_colour("real", 3) == show.origin_colour("real") == show.colour(0)
    assert show.origin_colour("synthetic", 0) == show.colour(2)
    assert show.origin_colour("train", 1) == show.colour(1)
