"""Writes a dataset in the layouts that people use, and proves each by reading it back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

from core import datasets, jobs
from core.catalog import UserError
from core.ground import files
from core.kinds import Task, kinds, on_dataset

RESULT, FOLDER = "export.json", "export"


def allow(config: dict[str, Any]) -> None:
    """Refuses an unknown layout or override at once.

    Raises:
        UserError: With the nearest name.
    """
    from core.building import ExportConfig
    from core.building.layouts import layouts

    asked = ExportConfig.of(config["export"], "export")
    asked.reasons()
    if not (names := asked.chosen()):
        raise UserError(f"An export needs a layout. Choose from: {', '.join(layouts.names())}.")
    for name in names:
        layouts.get(name)


@kinds.add(
    "export",
    "Export a dataset",
    lane="short",
    parts=on_dataset("export", "core.building", "ExportConfig"),
    allow=allow,
    read=partial(jobs.outcome, name=RESULT),
)
def export(task: Task) -> Iterator[dict[str, Any]]:
    """Writes a dataset as files of its own folder, in some layouts, each read back and compared."""
    from core import building

    config, ask = building.ExportConfig.of(task.config("export"), "export"), task.config("dataset")
    task.say("Preparing the data")
    dataset = datasets.load(ask["name"], ask["config"], task.aside())  # no work for torch
    out = task.path / FOLDER
    if out.exists():  # whole, and its record was not written any more
        shutil.rmtree(out)
    record = building.export(
        dataset,
        config.chosen(),
        out,
        task,
        config=config,
        overrides=config.reasons(),
        watermark=config.watermark,
    )
    files.write_json(task.path / RESULT, record)
    task.say("", 1.0)
    yield {
        "images": record["images"],
        "seconds": round(sum(row["seconds"] for row in record["layouts"]), 2),
        "layouts": [row["layout"] for row in record["layouts"]],
    }
