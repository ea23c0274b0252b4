"""Builds a version of a dataset: augmented copies and synthetic samples join its training images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from core import files
from core.catalog import Config, UserError
from core.settings import settings
from core.work import Task, kinds


class _Stop(Exception):
    """Somebody asked for the end."""


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

    def told(words: str, share: float) -> None:
        task.say(words, begun=0, started=began, done=int(1000 * share), total=1000)
        if task.stopped():
            raise _Stop

    try:
        made, facts, rejected = building.build(dataset, config, told)
    except _Stop:
        yield {"images": 0}
        return
    kept = datasets.save(name, made)
    sheet = None
    if len(rejected):
        sheet = "rejected.png"
        x = rejected.astype("float32") * 255 / (dataset.levels - 1)
        files.write_atomic(task.path / sheet, sheets.png(x.round().astype("uint8"), 8))
    seconds = round(time.time() - began, 1)
    files.write_json(
        task.path / building.RESULT,
        {"name": kept.name, "fingerprint": kept.fingerprint, "rejected": sheet, **facts},
    )
    yield {"images": len(kept), "seconds": seconds, "dataset": kept.name, "added": facts["added"]}
