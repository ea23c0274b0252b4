"""Screens a chain: how far each step takes images, and what a small referee trained with it is worth."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from core import files, jobs
from core.catalog import Config
from core.settings import settings
from core.work import Task, kinds

RESULT = "screening.json"


def _parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core import datasets
    from core.augment.harm import ScreeningConfig

    return {"dataset": datasets.config_of(choice["dataset"]), "screening": ScreeningConfig}


@kinds.add("screening", "Is it too much?", Config, lane="short", parts=_parts)
def screening(task: Task) -> Iterator[dict[str, Any]]:
    """Trains a small classifier with each step, and judges it on clean images."""
    import torch

    from core import augment, datasets
    from core.augment import harm

    torch.set_num_threads(settings().worker_threads)
    ask = task.part("dataset")
    config = harm.ScreeningConfig.of(task.part("screening"), "screening")
    pipeline = augment.load(config.pipeline)
    task.say("Preparing the data")
    dataset = datasets.load(ask["name"], ask["config"])
    began, found, leak = time.time(), {"rows": [], "fits": 0, "total": 1}, None
    if config.run:
        task.say("Looking for traces in the samples")
        leak = harm.leak(dataset, pipeline, config.run)
    for found in harm.referees(dataset, pipeline, config):
        files.write_json(task.path / RESULT, {"rows": found["rows"], "leak": leak, "done": False})
        task.say(
            f"Referee {found['fits']} of {found['total']}",
            begun=0,
            started=began,
            done=found["fits"],
            total=found["total"],
        )
        yield {"images": found["fits"], "seconds": round(time.time() - began, 2)}
        if task.stopped():
            return
    files.write_json(task.path / RESULT, {"rows": found["rows"], "leak": leak, "done": True})
    yield {"images": found["fits"], "rows": len(found["rows"])}


def result(job: jobs.Job) -> dict[str, Any] | None:
    """Reads what a screening knows so far; None before its first referee."""
    file = job.path / RESULT
    return files.read_json(file) if file.exists() else None
