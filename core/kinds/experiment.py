"""Measures whether a chain or synthetic images help a classifier: arms, paired seeds, and a verdict at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from core import jobs
from core.ground import files
from core.kinds import Task, kinds, on_dataset, resume

RESULT = "experiment.json"


def _allow(config: dict[str, Any]) -> None:
    from core import augment, datasets
    from core.building.experiment import ExperimentConfig

    wanted = ExperimentConfig.of(config["experiment"], "experiment")
    medium = datasets.describe(config["dataset"]["name"]).medium
    for arm in wanted.arms:
        if arm.pipeline:
            augment.load(arm.pipeline(wanted)).allow(medium.item, medium.name)


@kinds.add(
    "experiment",
    "Does it help?",
    lane="short",
    parts=on_dataset("experiment", "core.building.experiment", "ExperimentConfig"),
    allow=_allow,
    unit="classifiers",
    read=partial(jobs.outcome, name=RESULT),
    resumes="Resume goes on from the classifiers that it has trained.",
)
def experiment(task: Task) -> Iterator[dict[str, Any]]:
    """Trains the same classifier with and without, again and again, and says whether it helps."""
    from core.building import experiment as trials
    from core.building.experiment.arms import arms

    config = trials.ExperimentConfig.of(task.config("experiment"), "experiment")
    whole = trials.Experiment(task.dataset(), config, watch=task)
    done: dict[tuple[int, int, str], float] = {}
    synthetic: list[dict[str, Any]] = []
    for record in files.Log(task.path).read()[0]:  # a resumed one keeps what it has
        if "accuracy" in record:
            place = record["pair"], record["size"], record["arm"]
            done[place] = record["accuracy"]
            if (hard := record.get("robust")) is not None:
                whole.robust[place] = hard
    old = task.job.result()
    if old is not None:
        synthetic = [
            row for row in old["synthetic"] if (row["pair"], row["size"], row["arm"]) in done
        ]
    began, total = time.time(), len(whole.places)
    task.say("Training the first classifier", len(done), total)
    for pair, size, arm, accuracy in trials.perform(whole, done, synthetic):
        files.write_json(task.path / RESULT, trials.summary(whole, done, synthetic))
        task.say(
            f"Pair {pair + 1} of {config.count}: {arms.get(arm).title}, {size} images per class",
            len(done),
            total,
        )
        yield {
            "seconds": round(time.time() - began, 2),
            "pair": pair,
            "size": size,
            "arm": arm,
            "accuracy": accuracy,
            "robust": whole.robust.get((pair, size, arm)),
        }
        task.check()
    summary = trials.summary(whole, done, synthetic)
    files.write_json(task.path / RESULT, summary)
    yield {"verdict": summary["verdict"]}


def go_on(id: str) -> jobs.Job:
    """Lets a quick look go on to all of its pairs, and so to a verdict; what it has is a part of that.

    Args:
        id: Of the job, which has ended.

    Raises:
        UserError: If it cannot be resumed.
    """
    config = jobs.get(id).config
    return resume(id, {**config, "experiment": {**config["experiment"], "quick": False}})


def seconds_to_verdict(job: jobs.Job) -> float | None:
    """Tells how long :func:`go_on` will take, at the pace of what has been done; None where that is not known."""
    from core.building.experiment import ExperimentConfig

    config = ExperimentConfig.of(job.config["experiment"], "experiment")
    told = (job.state.get(name) for name in ("done", "total", "begun", "started", "told"))
    done, total, begun, started, until = (value or 0 for value in told)
    if done <= begun or not total:
        return None
    every = total * config.pairs / config.count
    return (every - done) * max(0.0, until - started) / (done - begun)
