"""Measures a run: quality, variety, classes, likelihood, and whether it copies."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from core import datasets, jobs, runs
from core.catalog import Config, UserError
from core.ground.settings import settings
from core.ground.watch import Stopped
from core.kinds import Expected, Task, configure, expected, flat, kinds, submit

if TYPE_CHECKING:
    import numpy as np

    from core.measure import Evaluation


def start(
    run: jobs.Job, values: Mapping[str, Any] | None = None, *, name: str = "", who: str = ""
) -> jobs.Job:
    """Checks what was asked for and starts the evaluation of a run.

    Args:
        run: Of a generative model.
        values: Parameters by dotted or short name: ``{"samples": 1000, "sampling.temperature": 0.8}``.
        name: What the person calls it.
        who: Who asks.

    Raises:
        UserError: If the run draws no images or has no checkpoint yet, or a name or value is not allowed.
    """
    choice = check(run, values)
    return submit("evaluate", choice, values, target=run.id, name=name, who=who)


def check(run: jobs.Job, values: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Refuses what :func:`start` would refuse, and gives the choice that it starts with.

    Raises:
        UserError: If the run draws no images, lacks the checkpoint, or a value is not allowed.
    """
    from core.measure import chosen

    if not runs.generates(run):
        raise UserError(
            f"{run.name} is a classifier, which draws no images. Choose a run of a generative model."
        )
    choice = {"sampling": runs.family_of(run)}
    config = configure("evaluate", choice, values)["evaluate"]
    chosen(config["metrics"])
    steps = runs.checkpoints(run)
    if not steps:
        raise UserError(
            f"{run.name} has no checkpoint yet. Wait for its first one, or choose another run."
        )
    if config["step"] and config["step"] not in steps:
        raise UserError(
            f"{run.name} has no checkpoint at step {config['step']}. It has: {', '.join(map(str, steps))}."
        )
    if dataset := run.config.get("dataset"):
        datasets.check(dataset["name"], dataset["config"])
    return choice


def foretell(run: jobs.Job, values: Mapping[str, Any] | None = None) -> Expected | None:
    """Foretells how long it takes to measure a run, by what it took before: it, or else others of its kind.

    Raises:
        UserError: If a value is not allowed.
    """
    family = runs.family_of(run)
    asked = flat(configure("evaluate", {"sampling": family}, values))[1]
    images = asked.pop("evaluate.samples")
    for name in ("evaluate.step", "evaluate.seed"):
        asked.pop(name)
    alike = {
        other.id
        for other in runs.listing()
        if runs.family_of(other) == family and runs.dataset_of(other) == runs.dataset_of(run)
    }
    every = [
        (job, job.config["evaluate"]["samples"])
        for job in jobs.listing("evaluate")
        if job.target in alike and job.took
    ]
    return expected([one for one in every if one[0].target == run.id] or every, asked, images)


def _parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core.measure import EvaluateConfig

    return {"evaluate": EvaluateConfig, "sampling": runs.sampling(choice["sampling"])}


def _read(job: jobs.Job) -> Evaluation | None:
    from core import measure

    return measure.read(job) if (job.path / "evaluation.json").exists() else None


@kinds.add(
    "evaluate",
    "Evaluate a model",
    lane="short",
    parts=_parts,
    shape={"evaluate": {"samples": int}},
    read=_read,
)
def evaluate(task: Task) -> Iterator[dict[str, Any]]:
    """Draws samples of a run and measures them, metric by metric."""
    import torch

    from core import measure
    from core.measure.breakdown import per_class, per_image, slow_map
    from core.measure.study import Evaluator

    torch.set_num_threads(settings().worker_threads)
    run = jobs.get(task.job.target)
    config = measure.EvaluateConfig.of(task.config("evaluate"), "evaluate")
    chosen = task.config("sampling")
    sampling = runs.sampling(chosen["name"]).of(chosen["config"], "sampling")
    opened = runs.open_model(run, config.step or None)
    source = runs.record(run)["dataset"]
    task.say("Preparing the data")
    dataset = datasets.load(source["name"], source["config"])
    if dataset.fingerprint != source["fingerprint"]:
        raise UserError(
            f"The dataset {dataset.name} has changed since {run.name} was trained, so it cannot be judged by it. "
            "Restore the images, or train a new run on the changed ones."
        )
    evaluation = measure.Evaluation(
        job=task.job.id,
        run=run.id,
        name=run.name,
        family=opened.family,
        dataset=dataset.name,
        step=opened.step,
        images=opened.images,
        created=task.job.created,
        finished=False,
        conditions={},
        measurements=(),
        classes=(),
        warnings=(),
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "scikit-learn", "scipy")},
        },
        path=task.path,
    )
    evaluator = Evaluator(opened, dataset, config, sampling, task)

    def looked() -> dict[str, np.ndarray]:
        """Writes what is known of single images and classes, and gives the former."""
        nonlocal evaluation
        arrays = per_image(evaluator)
        measure.write_arrays(task.path, arrays)
        evaluation = replace(
            evaluation,
            conditions=evaluator.conditions(),
            classes=tuple(per_class(evaluator)),
            warnings=tuple(evaluator.warnings),
        )
        measure.write(evaluation)
        return arrays

    try:
        evaluator.prepare()
        arrays = looked()
        for measurement in evaluator.measure():
            evaluation = replace(evaluation, measurements=(*evaluation.measurements, measurement))
            measure.write(evaluation)
            yield {
                "step": opened.step,
                "metric": measurement.metric,
                "value": measurement.value,
                "low": measurement.low,
                "high": measurement.high,
            }
        if evaluator.late and evaluator.judge is not None:  # now it can name the samples
            arrays = looked()
        if config.map:
            evaluator.watch.say("Laying out the map", 0.92)
            layout = slow_map(arrays["made_features"], arrays["real_features"], config.seed)
            measure.write_map(task.path, layout)
        measure.write(replace(evaluation, finished=True))
        task.say("", 100, 100)
    except Stopped:
        task.check()
        raise
