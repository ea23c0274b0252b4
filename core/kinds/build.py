"""Builds a version of a dataset by a plan: items of many origins join its training items."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from core import datasets, jobs
from core.catalog import UserError
from core.ground import files
from core.kinds import Task, kinds, on_dataset, submit

if TYPE_CHECKING:
    from core.building import Plan
    from core.datasets import Dataset

RESULT, PLAN, MADE = "build.json", "plan.json", "made.json"


def start(plan: Plan, name: str = "", who: str = "") -> jobs.Job:
    """Submits the build of a plan.

    Args:
        plan: What is wanted.
        name: Of the new dataset; that of the plan where it is empty.
        who: Who asks.

    Raises:
        UserError: As :func:`core.kinds.submit`.
    """
    values: dict[str, Any] = {"build.plan": plan.text(), "build.name": name or plan.name}
    values |= {f"dataset.{key}": value for key, value in plan.values.items()}
    return submit("build", {"dataset": plan.dataset}, values, who=who)


def asked(config: Mapping[str, Any], dataset: Dataset) -> Plan:
    """Gives the plan that a job was asked for, also in the spelling of before there were plans.

    Raises:
        UserError: If it is none, or of another dataset.
    """
    from core.building import BuildConfig

    build = BuildConfig.of(config["build"], "build")
    source, plan = config["dataset"], build.planned(dataset)
    if plan.dataset != source["name"] and build.plan:
        raise UserError(
            f"The plan starts from {plan.dataset!r}, and the build from {source['name']!r}. Name the same dataset."
        )
    return plan.with_(
        dataset=source["name"], values=dict(source["config"]), name=build.name or plan.name
    )


def _allow(config: dict[str, Any]) -> None:
    """Refuses at once a plan that cannot be read, and a name that is taken."""
    from core.building import BuildConfig, Plan

    build = BuildConfig.of(config["build"], "build")
    name = build.name
    if build.plan:
        name = name or Plan.read(build.plan).name
    _free(name)


def _free(name: str) -> str:
    slug = datasets.slug(name)
    if slug in datasets.names():
        raise UserError(
            f"There is a dataset {slug!r} already. Names are used once: choose another for build.name."
        )
    return slug


@kinds.add(
    "build",
    "Build a dataset",
    lane="short",
    parts=on_dataset("build", "core.building", "BuildConfig"),
    allow=_allow,
    read=partial(jobs.outcome, name=RESULT),
    files={PLAN: "Plan (JSON)"},
    resumes="Resume builds it anew, of the same items.",
)
def build(task: Task) -> Iterator[dict[str, Any]]:
    """Builds the dataset of a plan: augmented, synthetic and adversarial items join the training items."""
    from core import building
    from core.ground import sheets, xmp

    began = time.time()
    if (done := _kept(task)) is not None:  # it ended between the dataset and its record
        yield done
        return
    dataset = task.dataset()
    if (task.path / PLAN).exists():  # what it has begun by, whatever its names stand for by now
        plan = building.Plan.of(files.read_json(task.path / PLAN))
    else:
        plan = asked(task.job.config, dataset)
    name = _free(plan.name)
    plan = building.pinned(plan, dataset)
    files.write_atomic(task.path / PLAN, plan.text().encode())
    version, record, rejected = building.build(plan, task, dataset)
    shown = {}
    for reason, items in rejected.items():
        shown[reason] = f"rejected-{reason}.png"
        pictures = dataset.medium.pictures(items, dataset.levels)
        files.write_atomic(task.path / shown[reason], sheets.png(pictures, 8, mark=xmp.made_by("")))
    record = {
        "name": name,
        "fingerprint": version.fingerprint,
        "rejected": next(iter(shown.values()), None),
        "rejected_by": shown,
        "seconds": round(time.time() - began, 1),
        **record,
    }
    files.write_json(task.path / MADE, record)
    datasets.save(name, version)
    task.say("", 1.0)
    yield _ended(task, record)


def _kept(task: Task) -> dict[str, Any] | None:
    """Ends a build whose dataset was saved before its process was killed; None where there is none."""
    made = task.path / MADE
    if not made.exists():
        return None
    record = files.read_json(made)
    name = record["name"]
    if name not in datasets.names() or datasets.load(name).fingerprint != record["fingerprint"]:
        return None
    return _ended(task, record)


def _ended(task: Task, record: dict[str, Any]) -> dict[str, Any]:
    files.write_json(task.path / RESULT, record)
    (task.path / MADE).unlink()
    return {
        "images": record["images"],
        "seconds": record["seconds"],
        "dataset": record["name"],
        "added": record["added"],
    }
