"""Builds a version of a dataset: augmented copies and synthetic samples join its training images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from core import jobs
from core.catalog import UserError
from core.ground import files
from core.kinds import Task, kinds, on_dataset

RESULT = "build.json"


@kinds.add(
    "build",
    "Build a dataset",
    lane="short",
    parts=on_dataset("build", "core.building", "BuildConfig"),
    read=partial(jobs.outcome, name=RESULT),
)
def build(task: Task) -> Iterator[dict[str, Any]]:
    """Adds augmented copies and filtered samples to the training images, as a new dataset with its parent."""
    from core import building, datasets
    from core.ground import sheets, xmp

    config = building.BuildConfig.of(task.config("build"), "build")
    name = datasets.slug(config.name)
    if name in datasets.names():
        raise UserError(
            f"There is a dataset {name!r} already. Names are used once: choose another for build.name."
        )
    dataset, began = task.dataset(), time.time()
    version, record, rejected = building.build(dataset, config, task)
    saved = datasets.save(name, version)
    sheet = None
    if len(rejected):
        sheet = "rejected.png"
        shown = dataset.medium.pictures(rejected, dataset.levels)
        files.write_atomic(task.path / sheet, sheets.png(shown, 8, mark=xmp.made_by(config.run)))
    seconds = round(time.time() - began, 1)
    files.write_json(
        task.path / RESULT,
        {"name": saved.name, "fingerprint": saved.fingerprint, "rejected": sheet, **record},
    )
    task.say("", 1.0)
    yield {
        "images": len(saved),
        "seconds": seconds,
        "dataset": saved.name,
        "added": record["added"],
    }
