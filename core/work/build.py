"""Builds a version of a dataset: augmented copies and synthetic samples join its training images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from core import jobs
from core.catalog import Config, UserError
from core.settings import settings
from core.watch import Stopped
from core.work import Task, kinds


def _parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core import datasets
    from core.build import BuildConfig

    return {"dataset": datasets.config_of(choice["dataset"]), "build": BuildConfig}


@kinds.add("build", "Build a dataset", Config, lane="short", parts=_parts)
def build(task: Task) -> Iterator[dict[str, Any]]:
    """Adds augmented copies and filtered samples to the training images, as a new dataset with its parent."""
    import torch

    from core import build as building
    from core import datasets, sheets

    torch.set_num_threads(settings().worker_threads)
    ask, config = task.part("dataset"), building.BuildConfig.of(task.part("build"), "build")
    name = datasets.slug(config.name)
    if name in datasets.names():
        raise UserError(
            f"There is a dataset {name!r} already. Names are used once: choose another for build.name."
        )
    task.say("Preparing the data")
    dataset = datasets.load(ask["name"], ask["config"])
    began = time.time()
    try:
        made, facts, rejected = building.build(dataset, config, task)
    except Stopped:
        yield {"images": 0}
        return
    kept = datasets.save(name, made)
    sheet = None
    if len(rejected):
        sheet = "rejected.png"
        shown = sheets.as_bytes(rejected, dataset.levels)
        jobs.write_atomic(task.path / sheet, sheets.png(shown, 8))
    seconds = round(time.time() - began, 1)
    jobs.write_json(
        task.path / building.RESULT,
        {"name": kept.name, "fingerprint": kept.fingerprint, "rejected": sheet, **facts},
    )
    yield {"images": len(kept), "seconds": seconds, "dataset": kept.name, "added": facts["added"]}
