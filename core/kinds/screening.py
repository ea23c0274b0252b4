"""Screens a chain: how far each step takes images, and what a small referee trained with it is worth."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from core import jobs
from core.ground import files
from core.kinds import Task, kinds, on_dataset

RESULT = "screening.json"


@kinds.add(
    "screening",
    "Is it too much?",
    lane="short",
    parts=on_dataset("screening", "core.augment.screening", "ScreeningConfig"),
    unit="classifiers",
    read=partial(jobs.outcome, name=RESULT),
)
def screening(task: Task) -> Iterator[dict[str, Any]]:
    """Trains a small classifier with each step, and judges it on clean images."""
    from core import augment
    from core.augment.screening import ScreeningConfig, leak, referees

    config = ScreeningConfig.of(task.config("screening"), "screening")
    pipeline = augment.load(config.pipeline)
    dataset = task.dataset()
    began, result, traces = time.time(), {"rows": [], "fits": 0, "total": 1}, None
    if config.run:
        task.say("Looking for traces in the samples")
        traces = leak(dataset, pipeline, config.run)
    for result in referees(dataset, pipeline, config):
        files.write_json(
            task.path / RESULT, {"rows": result["rows"], "leak": traces, "done": False}
        )
        yield {"fits": result["fits"], "seconds": round(time.time() - began, 2)}
        task.count("Referee", result["fits"], result["total"])
    files.write_json(task.path / RESULT, {"rows": result["rows"], "leak": traces, "done": True})
    yield {"rows": len(result["rows"])}
