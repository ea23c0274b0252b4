"""Builds a version of a dataset: augmented copies and synthetic samples join its training images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from core import jobs
from core.catalog import Config, UserError
from core.ground import files
from core.kinds import Task, kinds

RESULT = "build.json"


def _parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core import datasets
    from core.build import BuildConfig

    return {"dataset": datasets.config_of(choice["dataset"]), "build": BuildConfig}


@kinds.add(
    "build",
    "Build a dataset",
    Config,
    lane="short",
    parts=_parts,
    read=partial(jobs.outcome, name=RESULT),
)
def build(task: Task) -> Iterator[dict[str, Any]]:
    """Adds augmented copies and filtered samples to the training images, as a new dataset with its parent."""
    from core import build as building
    from core import datasets
    from core.ground import sheets

    config = building.BuildConfig.of(task.config("build"), "build")
    name = datasets.slug(config.name)
    if name in datasets.names():
        raise UserError(
            f"There is a dataset {name!r} already. Names are used once: choose another for build.name."
        )
    dataset, began = task.dataset(), time.time()
    made, facts, rejected = building.build(dataset, config, task)
    kept = datasets.save(name, made)
    sheet = None
    if len(rejected):
        sheet = "rejected.png"
        shown = dataset.medium.pictures(rejected, dataset.levels)
        files.write_atomic(task.path / sheet, sheets.png(shown, 8))
    seconds = round(time.time() - began, 1)
    files.write_json(
        task.path / RESULT,
        {"name": kept.name, "fingerprint": kept.fingerprint, "rejected": sheet, **facts},
    )
    task.say("", 1.0)
    yield {"images": len(kept), "seconds": seconds, "dataset": kept.name, "added": facts["added"]}
