"""Measures whether a chain or synthetic images help a classifier: arms, paired seeds, and a verdict at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from core import jobs
from core.catalog import Config
from core.settings import settings
from core.work import Task, kinds


def _parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core import datasets
    from core.experiment import ExperimentConfig

    return {"dataset": datasets.config_of(choice["dataset"]), "experiment": ExperimentConfig}


@kinds.add("experiment", "Does it help?", Config, lane="short", parts=_parts)
def experiment(task: Task) -> Iterator[dict[str, Any]]:
    """Trains the same classifier with and without, again and again, and says whether it helps."""
    import torch

    from core import datasets
    from core import experiment as trials
    from core.experiment.arms import arms

    torch.set_num_threads(settings().worker_threads)
    ask = task.part("dataset")
    config = trials.ExperimentConfig.of(task.part("experiment"), "experiment")
    task.say("Preparing the data")
    dataset = datasets.load(ask["name"], ask["config"])
    whole = trials.Experiment(dataset, config)
    done: dict[tuple[int, int, str], float] = {}
    made: list[dict[str, Any]] = []
    for record in jobs.Log(task.path).read()[0]:  # a resumed one keeps what it has
        if "accuracy" in record:
            done[record["pair"], record["size"], record["arm"]] = record["accuracy"]
    old = trials.result(task.job)
    if old is not None:
        made = [
            fact for fact in old["synthetic"] if (fact["pair"], fact["size"], fact["arm"]) in done
        ]
    began, begun, total = time.time(), len(done), len(whole.places)
    for pair, size, arm, accuracy in trials.perform(whole, done, made):
        jobs.write_json(task.path / trials.RESULT, trials.summary(whole, done, made))
        task.say(
            f"Pair {pair + 1} of {config.count}: {arms.get(arm).title}, {size} images per class",
            begun=begun,
            started=began,
            done=len(done),
            total=total,
        )
        yield {
            "images": len(done),
            "seconds": round(time.time() - began, 2),
            "pair": pair,
            "size": size,
            "arm": arm,
            "accuracy": accuracy,
        }
        if task.stopped():
            return
    jobs.write_json(task.path / trials.RESULT, trials.summary(whole, done, made))
    yield {"images": len(done), "verdict": trials.summary(whole, done, made)["verdict"]}
