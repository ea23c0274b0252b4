"""Inspects a dataset: what is wrong with which images, and what is true of the whole."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from core import files
from core.catalog import Config
from core.settings import settings
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
    files.write_json(
        task.path / "content.json", {"fingerprint": dataset.fingerprint, "rules": quality.RULES}
    )
    started = time.time()
    share = 0.0

    def told(words: str) -> None:
        task.say(
            words, begun=0, started=started, done=int(share * len(dataset)), total=len(dataset)
        )

    for step in quality.inspect(dataset, quality.InspectConfig.of(task.part("inspect")), told):
        if isinstance(step, quality.Findings):
            files.write_json(task.path / quality.FOUND, step.record())
            yield {
                "images": len(dataset),
                "seconds": round(step.seconds, 1),
                "found": step.counts,
            }
            return
        name, share = step
        told(name)
        yield {"images": int(share * len(dataset)), "passed": name}
        if task.stopped():
            return
