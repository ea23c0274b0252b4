"""Measures how far a dataset lies from another one, and what a generative model is worth on both."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from core import jobs
from core.ground import files
from core.kinds import Task, kinds, on_dataset

RESULT = "drift.json"


@kinds.add(
    "drift",
    "Compare with another dataset",
    lane="short",
    parts=on_dataset("drift", "core.building.drift", "DriftConfig"),
    read=partial(jobs.outcome, name=RESULT),
    files={RESULT: "Everything (JSON)"},
)
def drift(task: Task) -> Iterator[dict[str, Any]]:
    """Tells two datasets apart, and measures a model on both: kept, trained on, trained anew."""
    from core.building import drift as comparing
    from core.building import worth

    config = comparing.DriftConfig.of(task.config("drift"), "drift")
    dataset = task.dataset()
    other = comparing.other_of(dataset, config, task.aside())
    found = comparing.drift(dataset, other, config, task.part(0.0, 0.2 if config.run else 1.0))
    record: dict[str, Any] = found.record() | {
        "worth": None,
        "fingerprint": dataset.fingerprint,
    }
    files.write_json(task.path / RESULT, record)
    yield {"sentence": record["sentence"]}
    if config.run:
        record["worth"] = worth.worth(dataset, other, config, task.part(0.2, 1.0))
        files.write_json(task.path / RESULT, record)
        yield {"worth": record["worth"]["sentence"]}
    task.say("", 1.0)
