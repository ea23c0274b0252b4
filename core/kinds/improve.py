"""Improves a dataset within a time: mends what is safe, adds what helps, proves it once on the test images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import datasets, jobs
from core.catalog import UserError
from core.ground import files, sheets, xmp
from core.ground.watch import Watch
from core.ground.writing import percent
from core.kinds import Task, kinds, on_dataset, submit

if TYPE_CHECKING:
    from core.building.improve import ImproveConfig
    from core.datasets import Dataset

RESULT, JOINED = "improve.json", "joined"
SHOWN = 24  # of the items that joined from each origin, kept as a sheet
PATIENCE = 20  # seconds that a training may wait for its turn
GRACE = 15  # seconds that a stopped training may take to save what it has


def _allow(config: dict[str, Any]) -> None:
    """Refuses at once a name that is taken, and not after all the minutes."""
    if name := config["improve"].get("name", ""):
        datasets.free(name)


@kinds.add(
    "improve",
    "Improve a dataset",
    lane="short",
    parts=on_dataset("improve", "core.building.improve", "ImproveConfig"),
    allow=_allow,
    read=partial(jobs.outcome, name=RESULT),
    files={RESULT: "Everything (JSON)"},
    resumes="Resume begins anew, with all of its time.",
)
def improve(task: Task) -> Iterator[dict[str, Any]]:
    """Finds out what makes a dataset better, within a time; the result is a new version with its proof, or a reason."""
    from core.building import improve as study

    config = study.ImproveConfig.of(task.config("improve"), "improve")
    earlier = None
    if config.again:
        earlier = jobs.get(config.again).result()
        if earlier is None:
            raise UserError(
                f"The improvement {config.again} has no result, so it cannot be done again. Start a new one."
            )
    dataset, asked = task.dataset(), task.job.config["dataset"]
    train = partial(_train, who=task.job.name)
    work = study.Improvement(
        dataset, config, asked["name"], asked["config"], train, task, earlier, who="Improve"
    )
    try:
        for record in work.run():
            files.write_json(task.path / RESULT, record | {"done": False})
            yield {"seconds": record["seconds"], "steps": len(record["steps"])}
    finally:  # what is known stays, also of one that was stopped
        record = work.record(ended=True)
        if work.version is not None:
            _sheets(work.version, record["added"], task.path / JOINED)
        files.write_json(task.path / RESULT, record | {"done": True})
    task.say("", 1.0)
    yield {"verdict": record["verdict"], "version": record["version"]}


def _sheets(version: Dataset, added: Mapping[str, Any], folder: Path) -> None:
    """Keeps some of the items that joined as a sheet for each origin, so that they are seen without the version."""
    from core.building.version import provenance

    columns, train = provenance(version), version.splits["train"]
    folder.mkdir(exist_ok=True)
    for origin in added:
        rows = datasets.evenly(train[columns["origin"][train] == origin], SHOWN)
        runs = sorted({*columns["run"][rows].astype(str).tolist()} - {""})
        mark = xmp.made_by(", ".join(runs)) if runs else None
        sheet = sheets.png(version.pictures(rows), len(rows), mark=mark)
        (folder / f"{origin}.png").write_bytes(sheet)


def _train(
    name: str,
    values: Mapping[str, Any],
    dataset: Dataset,
    config: ImproveConfig,
    seconds: float,
    watch: Watch,
    who: str = "",
) -> str:
    """Trains a generative model as a job of its own, for about so many seconds; gives the id of the run.

    Raises:
        UserError: If no slot became free in time, or the training failed.
        Stopped: If somebody asked for the end; the training is stopped as well, and keeps its checkpoint.
    """
    images = max(500, int(_pace(dataset, config) * 0.8 * seconds))
    given = {"train.images": images, "train.seed": config.seed, "train.watch": False}
    given |= {f"dataset.{key}": value for key, value in values.items()}
    job = submit(
        "train", {"dataset": name, "family": config.family}, given, name=f"for {who}", who="Improve"
    )
    end = time.monotonic() + seconds
    try:
        while job.active and time.monotonic() < end:
            watch.say(f"Training a generative model: {percent(job.share, 0)}")
            watch.check()
            if job.status == "queued" and time.monotonic() > end - seconds + PATIENCE:
                raise UserError(
                    f"No place became free within {PATIENCE} s for the training of a generative model."
                )
            time.sleep(0.2)
            job = jobs.get(job.id)
    finally:
        if job.active:
            jobs.stop(job.id)
    while job.active and time.monotonic() < end + GRACE:  # until its checkpoint is whole
        watch.check()
        time.sleep(0.2)
        job = jobs.get(job.id)
    if job.status not in ("finished", "stopped"):
        raise UserError(
            f"The training of a generative model is {job.status}: {job.message or job.id}. See it on Train."
        )
    return job.id


def _pace(dataset: Dataset, config: ImproveConfig) -> float:
    """Measures how many images a second the generative model learns from, by a few of its steps."""
    import torch

    from core.models import build
    from core.training import TrainConfig, Trainer, batch_of, spec_of

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = build(config.family, {}, spec_of(dataset))
    batch = min(batch_of(model, TrainConfig()), max(8, len(dataset.splits["train"])))
    trainer = Trainer(
        model, dataset, TrainConfig(images=10**6, batch=batch, watch=False), torch.device("cpu")
    )
    trainer.one_step()
    began = time.perf_counter()
    for _ in range(5):
        trainer.one_step()
    return 5 * batch / max(time.perf_counter() - began, 1e-6)
