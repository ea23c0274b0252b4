"""Attacks a classifier as a job: the study, and what may go with it; partial results are kept and marked."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from core import files, jobs
from core.catalog import Config, UserError
from core.watch import Stopped
from core.work import Task, kinds

if TYPE_CHECKING:
    from core.robustness import Study


def _parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core import datasets
    from core.robustness.campaign import AttackConfig

    return {"dataset": datasets.config_of(choice["dataset"]), "attack": AttackConfig}


@kinds.add(
    "attack",
    "Attack a classifier",
    Config,
    lane="short",
    parts=_parts,
    unit="checks",
    shape={"dataset": {"name": str}, "attack": {"classifier": str}},
    read=partial(jobs.outcome, name="report.json"),
    files={
        "report.html": "Report (HTML)",
        "report.json": "Report (JSON)",
        "adversarial.npz": "Adversarial images (NPZ)",
    },
)
def attack(task: Task) -> Iterator[dict[str, Any]]:
    """Attacks a classifier on images of a dataset, and says whether to believe the number."""
    from core import robustness
    from core.robustness import campaign, foreign
    from core.robustness.report import html, pictures
    from core.threat import Halted

    config = campaign.AttackConfig.of(task.part("attack"), "attack")
    id = config.classifier or task.job.target
    if ":" in id:
        raise UserError(
            f"A job cannot run the code {id!r}. Use python -m core attack --classifier on your own machine."
        )
    ask = task.part("dataset")
    dataset = task.dataset()
    task.say("Opening the classifier")

    def told(words: str, share: float) -> None:
        task.say(words)
        if task.stopped():
            raise Halted

    try:
        target = foreign.target_of(id, dataset, told)
    except Halted:
        task.check()
        return
    plan = config.study()
    x, y, indices, data = robustness.images_of(dataset, plan)
    data = data | {"config": ask["config"]}
    study = robustness.Study(
        target, x, y, plan, indices=indices, data=data, dataset=dataset, stop=task.stopped
    )
    kept = time.monotonic()
    for report in study:
        ends = report["complete"] or bool(study.stopped)
        with files.full_disk_told():
            files.write_json(task.path / "report.json", report)
            if ends or time.monotonic() - kept > 5:  # a clock may be set back
                kept = time.monotonic()
                _keep_arrays(task, study)
        checks = report["checks"]
        done = sum(check["outcome"] != "open" for check in checks)
        said = f"{report['robustness']['sentence']} {report['verdict']['sentence']}"
        task.say(said, done, len(checks))
        yield _record(report)
    if not study.stopped:
        for name, table in campaign.extras(config, study, target, dataset, task.stopped):
            files.write_json(task.path / f"{name}.json", table)
            task.say(f"{name.capitalize()}: {table.get('done', '')}")
            yield {"stage": name}
    page = html(study.report, pictures(study))
    files.write_atomic(task.path / "report.html", page.encode())
    if study.stopped:
        raise Stopped(study.stopped)
    task.check()  # what goes with the study may have been cut


def _keep_arrays(task: Task, study: Study) -> None:
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


def _record(report: Mapping[str, Any]) -> dict[str, Any]:
    head = next(row for row in report["results"] if row["eps"] == report["headline"])
    return {
        "stage": "attack",
        "images": report["clean"]["n"],
        "eps": head["eps"],
        "robust": head["robust"],
        "clean": report["clean"]["value"],
        "robustness": report["robustness"]["colour"],
        "verdict": report["verdict"]["colour"],
        "complete": report["complete"],
        "seconds": report["seconds"],
    }
