"""Inspects a dataset: what is wrong with which images, and what is true of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core import jobs
from core.catalog import Config
from core.settings import settings
from core.watch import Stopped
from core.work import Task, kinds


def _parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core import datasets
    from core.quality import InspectConfig

    return {"dataset": datasets.config_of(choice["dataset"]), "inspect": InspectConfig}


@kinds.add("inspect", "Inspect a dataset", Config, lane="short", parts=_parts)
def inspect(task: Task) -> Iterator[dict[str, Any]]:
    """Looks for duplicates, leaks, wrong labels, outliers and poor images; nothing is changed."""
    import torch

    from core import datasets, quality

    torch.set_num_threads(settings().worker_threads)
    ask = task.part("dataset")
    task.say("Preparing the data")
    dataset = datasets.load(ask["name"], ask["config"])
    jobs.write_json(
        task.path / "content.json", {"fingerprint": dataset.fingerprint, "rules": quality.RULES}
    )
    config = quality.InspectConfig.of(task.part("inspect"))
    try:
        for step in task.each(quality.inspect(dataset, config, task)):
            if isinstance(step, quality.Findings):
                jobs.write_json(task.path / quality.FOUND, step.record())
                yield {
                    "images": len(dataset),
                    "seconds": round(step.seconds, 1),
                    "found": step.counts,
                }
                return
            name, share = step
            task.say(name, share)
            yield {"images": int(share * len(dataset)), "passed": name}
    except Stopped:
        return
