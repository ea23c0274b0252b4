"""Builds in rounds that ask for what a referee gets wrong, beside equal shares at the same budget."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from core import jobs
from core.ground import files
from core.kinds import Task, kinds, on_dataset

RESULT = "adapt.json"


def _allow(config: dict[str, Any]) -> None:
    from core import augment, datasets
    from core.building.adaptive import AdaptConfig

    wanted = AdaptConfig.of(config["adapt"], "adapt")
    if wanted.source != "synthetic":
        medium = datasets.describe(config["dataset"]["name"]).medium
        augment.load(wanted.pipeline).allow(medium.item, medium.name)


@kinds.add(
    "adapt",
    "Build in rounds",
    lane="short",
    parts=on_dataset("adapt", "core.building.adaptive", "AdaptConfig"),
    allow=_allow,
    unit="pairs",
    read=partial(jobs.outcome, name=RESULT),
    files={RESULT: "Everything (JSON)"},
    resumes="Resume goes on from the pairs that it has done.",
)
def adapt(task: Task) -> Iterator[dict[str, Any]]:
    """Asks for what a referee gets wrong, round by round, and says what that gains over equal shares."""
    from core.building.adaptive import AdaptConfig, Adaptive
    from core.building.adaptive_result import result

    config = AdaptConfig.of(task.config("adapt"), "adapt")
    whole = Adaptive(task.dataset(), config, task.aside())
    old = task.job.result()  # a resumed one keeps what it has
    pairs: list[dict[str, Any]] = list(old["each"]) if old else []
    began = time.time()
    for number in range(len(pairs), config.pairs):
        start = number / config.pairs
        task.say(f"Pair {number + 1} of {config.pairs}", number, config.pairs)
        pairs.append(whole.pair(number, task.part(start, start + 1 / config.pairs)))
        record = result(whole, pairs)
        files.write_json(task.path / RESULT, record)
        task.say(f"Pair {number + 1} of {config.pairs} is done", number + 1, config.pairs)
        yield {
            "seconds": round(time.time() - began, 2),
            "pair": number,
            "rounds": len(pairs[-1]["rounds"]),
            "spent": sum(pairs[-1]["added"]["adaptive"]["asked"].values()),
        }
        task.check()
    yield {"verdict": result(whole, pairs)["verdict"]}
