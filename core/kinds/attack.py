"""Attacks a classifier as a job: the study, and what may go with it; partial results are kept and marked."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from core import jobs
from core.catalog import UserError
from core.ground import files
from core.ground.watch import Stopped
from core.kinds import Task, kinds, on_dataset

if TYPE_CHECKING:
    from core.robustness import AttackStudy, Report


def _allow(config: dict[str, Any]) -> None:
    from core import datasets
    from core.robustness.extras import AttackConfig

    medium = datasets.describe(config["dataset"]["name"]).medium
    AttackConfig.of(config["attack"], "attack").allow(medium)


def _read(job: jobs.Job) -> Report | None:
    from core.robustness import store

    return store.read(job.path)


@kinds.add(
    "attack",
    "Attack a classifier",
    lane="short",
    parts=on_dataset("attack", "core.robustness.extras", "AttackConfig"),
    allow=_allow,
    unit="checks",
    shape={"dataset": {"name": str}, "attack": {"classifier": str}},
    read=_read,
    files={
        "report.html": "Report (HTML)",
        "report.json": "Report (JSON)",
        "adversarial.npz": "Adversarial images (NPZ)",
    },
)
def attack(task: Task) -> Iterator[dict[str, Any]]:
    """Attacks a classifier on images of a dataset, and says whether to believe the number."""
    from core import robustness
    from core.robustness import classifiers, extras
    from core.robustness.report import html, pictures
    from core.robustness.store import FILE

    config = extras.AttackConfig.of(task.config("attack"), "attack")
    id = config.classifier or task.job.target
    if ":" in id:
        raise UserError(
            f"A job cannot run the code {id!r}. Use python -m core attack --classifier on your own machine."
        )
    ask = task.config("dataset")
    dataset = task.dataset()
    task.say("Opening the classifier")
    target = classifiers.target_of(id, dataset, task.aside())
    plan = config.study()
    data = {"config": ask["config"]}
    study = robustness.begin(target, dataset, plan, data=data, watch=task)
    saved = time.monotonic()
    for report in study:
        with files.full_disk_told():
            files.write_json(task.path / FILE, report.record())
            if report.done or time.monotonic() - saved > 5:  # seconds
                saved = time.monotonic()
                _keep_arrays(task, study)
        done = sum(check.outcome != "open" for check in report.checks)
        sentence = f"{report.robustness.sentence} {report.verdict.sentence}"
        task.say(sentence, done, len(report.checks))
        yield _record(report)
    if not study.stopped:
        for name, table in extras.extras(config, study, target, dataset, task):
            files.write_json(task.path / f"{name}.json", table)
            task.say(f"{name.capitalize()}: {table.get('done', '')}")
            yield {"stage": name}
    page = html(study.report, pictures(study))
    files.write_atomic(task.path / "report.html", page.encode())
    if study.stopped:
        raise Stopped(study.stopped)
    task.check()  # the extras of the study may have been cut short


def _keep_arrays(task: Task, study: AttackStudy) -> None:
    import numpy as np

    from core.robustness.report import batch

    files.write_atomic(task.path / "adversarial.npz", batch(study))
    memory = io.BytesIO()
    np.savez_compressed(
        memory,
        allow_pickle=False,
        fooled=np.stack(list(study.fooled.values())),
        attacks=np.array(list(study.fooled)),
        eps=np.array(study.grid, np.float64),
    )
    files.write_atomic(task.path / "matrix.npz", memory.getvalue())


def _record(report: Report) -> dict[str, Any]:
    return {
        "stage": "attack",
        "images": report.clean.n,
        "eps": report.headline,
        "robust": report.head.robust,
        "clean": report.clean.value,
        "robustness": report.robustness.colour,
        "verdict": report.verdict.colour,
        "complete": report.complete,
        "seconds": report.seconds,
    }
