"""Inspects a dataset: what is wrong with which images, and what is true of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from core import jobs
from core.ground import files
from core.kinds import Expected, Task, configure, expected, flat, kinds, on_dataset

if TYPE_CHECKING:
    from core.quality import Inspection


def foretell(dataset: str, images: int, values: Mapping[str, Any]) -> Expected | None:
    """Foretells how long it takes to inspect so many images of a dataset, by what it took before.

    Raises:
        UserError: If a value is not allowed.
    """
    asked = flat(configure("inspect", {"dataset": dataset}, values))[1]
    before = [
        (job, job.state.get("total") or 0)
        for job in jobs.listing("inspect")
        if job.config["dataset"]["name"] == dataset
    ]
    return expected(before, asked, images)


def _read(job: jobs.Job) -> Inspection | None:
    from core.quality import findings

    return findings(job)


def _allow(config: dict[str, Any]) -> None:
    from core import datasets

    datasets.describe(config["dataset"]["name"]).medium.require("inspection")


@kinds.add(
    "inspect",
    "Inspect a dataset",
    lane="short",
    parts=on_dataset("inspect", "core.quality", "InspectConfig"),
    allow=_allow,
    unit="images",
    read=_read,
)
def inspect(task: Task) -> Iterator[dict[str, Any]]:
    """Looks for duplicates, leaks, wrong labels, outliers and poor images; nothing is changed."""
    from core import quality

    dataset = task.dataset()
    files.write_json(
        task.path / "content.json", {"fingerprint": dataset.fingerprint, "rules": quality.RULES}
    )
    n, config = len(dataset), quality.InspectConfig.of(task.config("inspect"))
    for step in task.each(quality.inspect(dataset, config, task)):
        if isinstance(step, quality.Inspection):
            quality.keep(step, task.path)
            task.say("", n, n)
            yield {"images": n, "seconds": round(step.seconds, 1), "found": step.counts}
            return
        name, share = step
        task.say(name, int(share * n), n)
        yield {"images": int(share * n), "passed": name}
