"""The kinds of background work, and the process that does one job: ``python -m core.worker JOB``.

A kind is a record iterator: it yields what is worth logging, and its consumer here writes it, tells the state and
asks for the stop. Adding a kind is one function with ``@kinds.add``.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import jobs, runs
from core.catalog import Config, Registry, UserError, assign
from core.settings import settings

if TYPE_CHECKING:
    from torch import nn

    from core.datasets import Dataset

kinds = Registry("job kind")
WATCHED = 20_000  # images of the shortest training that is worth a measure of quality
COPYING = 0.6  # share of samples nearer to training than to held-out images from which a model is said to copy


class Task:
    """What a kind sees of its job: what was asked, where to write, and whether to stop."""

    def __init__(self, job: jobs.Job) -> None:
        self.job = job
        self.path = job.path
        self._began = time.time() - job.state.get("seconds", 0)  # a resumed job has used some
        self._told = 0.0

    def part(self, name: str) -> dict[str, Any]:
        """Gives one part of the job's config."""
        return dict(self.job.config[name])

    def say(self, message: str, **fields: Any) -> None:
        """Shows a sentence and fields on the page, at most ten times a second."""
        if time.time() - self._told > 0.1:
            self._told = time.time()
            jobs.set_state(self.path, message=message, told=self._told, **fields)

    def stopped(self) -> str:
        """Tells why to stop now; empty to go on."""
        if (self.path / "STOP").exists():
            return "Stopped on request. Resume goes on from here."
        limit = settings().max_seconds
        if limit and time.time() - self._began > limit:
            return f"Stopped at this server's limit of {limit} seconds."
        return ""


def submit(
    kind: str,
    choice: Mapping[str, str],
    values: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    who: str = "",
) -> jobs.Job:
    """Checks everything that was asked for and starts the job.

    Args:
        kind: A name of :data:`kinds`.
        choice: By part, the entry that was chosen: ``{"dataset": "digits", "family": "gan"}``.
        values: Parameters by dotted or short name: ``{"family.beta": 2}``; the rest keep their defaults.
        name: What the person calls the run.
        who: Who asks.

    Raises:
        UserError: If a name or value is not allowed, or the server refuses; nothing is written then.
    """
    settings().allow_change("start a job")
    entry = kinds.get(kind)
    config = configure(kind, choice, values)
    if config["dataset"]["config"].get("path") == "":  # said now rather than by the job
        from core import datasets

        datasets.load(config["dataset"]["name"], config["dataset"]["config"])
    total = config["train"]["images"] if "train" in config else 0
    if total > settings().max_images:
        raise UserError(
            f"train.images must be at most {settings().max_images} on this server, got {total}. Train for fewer images."
        )
    title = "-".join(
        [config["dataset"]["name"], config["family"]["name"] if "family" in config else kind]
    )
    return jobs.create(kind, entry.extra["lane"], config, title=title, name=name, who=who)


def parts(kind: str, choice: Mapping[str, str]) -> dict[str, type[Config]]:
    """Gives the config class of every part of a job, for forms, flags and validation.

    Raises:
        UserError: If a chosen name does not exist.
    """
    return kinds.get(kind).extra["parts"](choice)


def configure(
    kind: str, choice: Mapping[str, str], values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Validates the parameters of a job and completes them with the defaults.

    Raises:
        UserError: With the name, the value and what is allowed.
    """
    classes = parts(kind, choice)
    given = assign(values or {}, classes)
    config: dict[str, Any] = {}
    for part, cls in classes.items():
        plain = cls.of(given[part], part).record()
        config[part] = {"name": choice[part], "config": plain} if part in choice else plain
    return config


def flat(config: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Turns a job's config back into the choice and the dotted values that made it, to change and start again."""
    choice = {
        part: value["name"]
        for part, value in config.items()
        if "name" in value and "config" in value
    }
    values = {
        f"{part}.{name}": plain
        for part, value in config.items()
        for name, plain in (value["config"] if part in choice else value).items()
    }
    return choice, values


# --- Training -------------------------------------------------------------------------------------------------------


def _model_parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core import datasets
    from core.models import families
    from core.training import TrainConfig

    return {
        "dataset": datasets.config_of(choice["dataset"]),
        "family": families.get(choice["family"]).config,
        "train": TrainConfig,
    }


def _classifier_parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core import datasets
    from core.classifier import ClassifierConfig
    from core.training import TrainConfig

    return {
        "dataset": datasets.config_of(choice["dataset"]),
        "classifier": ClassifierConfig,
        "train": TrainConfig,
    }


@kinds.add("train", "Train a model", Config, lane="train", parts=_model_parts)
def train_model(task: Task) -> Iterator[dict[str, Any]]:
    """Trains a generative model, with sample sheets of the same noise as it learns."""
    dataset, facts = _begin(task, {"family": task.part("family")})

    def sheet(model: Any, step: int, images: int) -> None:
        from core import sheets
        from core.models import families
        from core.tensors import to_bytes

        sampling = families.get(facts["family"]["name"]).extra["sampling"]()
        columns = sheets.columns(len(facts["dataset"]["classes"]))
        count = columns * max(1, 64 // columns)
        y = None
        if model.classes:
            import torch

            y = torch.arange(count, device=next(model.parameters()).device) % model.classes
        x = to_bytes(model.sample(range(count), y, facts["train"]["seed"], sampling))
        jobs.write_atomic(
            task.path / "samples" / f"{step}.png",
            sheets.png(x, columns, {"step": step, "images": images}),
        )

    yield from _train(task, dataset, facts, sheet)


@kinds.add("classifier", "Train a classifier", Config, lane="train", parts=_classifier_parts)
def train_classifier(task: Task) -> Iterator[dict[str, Any]]:
    """Trains a classifier, the judge of what the models make; reports its accuracy on the test split at the end."""
    dataset, facts = _begin(task, {"classifier": task.part("classifier")})
    yield from _train(task, dataset, facts, None)
    if task.stopped():
        return
    import torch

    from core.tensors import to_float

    opened = runs.open_model(jobs.get(task.job.id))
    x, y = dataset.part("test")
    if y is None or not len(x):
        return
    with torch.inference_mode():
        where = next(opened.model.parameters()).device
        right = [
            opened.model(to_float(torch.as_tensor(x[i]).to(where), dataset.levels)).argmax(1).cpu()
            == torch.as_tensor(y[i])
            for i in torch.arange(len(x)).split(500)
        ]
    yield {
        "step": opened.step,
        "images": opened.images,
        "test_accuracy": float(torch.cat(right).float().mean()),
        "n_test": len(x),
    }


def _begin(task: Task, what: dict[str, Any]) -> tuple[Dataset, dict[str, Any]]:
    """Loads the dataset and completes the record of the run; a resumed run keeps the record that it has."""
    import torch

    from core import datasets
    from core.tensors import device
    from core.training import spec_of

    ask = task.part("dataset")
    task.say("Preparing the data")
    dataset = datasets.load(
        ask["name"],
        ask["config"],
        progress=lambda done, total: task.say(f"Preparing the data: {done} of {total} images"),
    )
    if (task.path / "run.json").exists():
        facts = jobs.read_json(task.path / "run.json")
        if facts["dataset"]["fingerprint"] != dataset.fingerprint:
            raise UserError(
                f"The dataset {dataset.name} has changed since this run began, so it cannot be resumed. "
                "Restore the images, or start a new run on the changed ones."
            )
        torch.set_num_threads(facts["threads"])
        return dataset, facts
    torch.set_num_threads(settings().worker_threads)
    spec = spec_of(dataset)
    facts = {
        **what,
        "train": task.part("train"),
        "dataset": {
            **ask,
            "fingerprint": dataset.fingerprint,
            "classes": list(dataset.classes),
            "images": {part: len(index) for part, index in dataset.splits.items()},
        },
        "spec": {
            "channels": spec.channels,
            "size": spec.size,
            "levels": spec.levels,
            "shares": list(spec.shares),
        },
        "threads": torch.get_num_threads(),
        "device": str(device()),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "scikit-learn")},
        },
        "revision": _revision(),
    }
    (task.path / "samples").mkdir(exist_ok=True)
    jobs.write_json(task.path / "run.json", facts)
    return dataset, facts


def _watch(task: Task, dataset: Dataset) -> Callable[[Any, int, float], dict[str, float]]:
    """Measures how near samples are to held-out images, and whether they are nearer still to the training images.

    The test images are never looked at. It takes at most a tenth of the time, but always the last look.
    """
    import numpy as np
    import torch

    from core import features, metrics
    from core.models import families
    from core.tensors import device, to_bytes, to_float

    sampling = families.get(task.part("family")["name"]).extra["sampling"]()
    n = min(500, len(dataset.splits["valid"]), len(dataset.splits["train"]))
    spaced = {
        part: np.linspace(0, len(dataset.splits[part]) - 1, count).astype(int)
        for part, count in (("train", min(len(dataset.splits["train"]), 10_000)), ("valid", n))
    }
    real: dict[str, Any] = {}
    cost, since = 0.0, time.monotonic()

    def prepare() -> None:
        task.say("Preparing the measure of quality")
        by = real["by"] = features.quick(dataset, device())
        for part, index in spaced.items():
            x = torch.as_tensor(np.asarray(dataset.x[dataset.splits[part][index]]))
            real[part] = to_float(x, dataset.levels)
        real["features"] = by.features(real["valid"])
        few = real["train"][np.linspace(0, len(real["train"]) - 1, n).astype(int)]
        real["floor"] = metrics.sliced_wasserstein(by.features(few), real["features"])

    def look(model: Any, seed: int, done: float) -> dict[str, float]:
        nonlocal cost, since
        if n < 10 or done < 0.02 or (done < 1 and time.monotonic() - since < 10 * cost):
            return {}
        began = time.monotonic()
        if not real:
            prepare()
            began = time.monotonic()
        made = [model.sample(ids, None, seed, sampling) for ids in torch.arange(n).split(100)]
        x = to_float(torch.as_tensor(to_bytes(torch.cat(made))))
        distance = metrics.sliced_wasserstein(real["by"].features(x), real["features"])
        copies = metrics.nearer_to_training(x.numpy(), real["train"].numpy(), real["valid"].numpy())
        since = time.monotonic()
        cost = since - began
        return {
            "distance": distance,
            "distance_floor": real["floor"],
            "copying": copies.value,
            "copying_low": copies.low,
            "copying_high": copies.high,
        }

    return look


def _score(look: Mapping[str, float]) -> float | None:
    """Orders checkpoints, lower is better: by the distance, those that copy behind all others; None without a look."""
    if not look:
        return None
    return look["distance"] + 1e6 * max(0.0, look["copying_low"] - COPYING)


def _train(
    task: Task,
    dataset: Dataset,
    facts: dict[str, Any],
    sheet: Callable[[nn.Module, int, int], None] | None,
) -> Iterator[dict[str, Any]]:
    """Runs the training loop: a record at each progress, a sheet and a checkpoint at each moment to publish."""
    from core.tensors import device
    from core.training import TrainConfig, Trainer, batch_of

    model = runs.network(facts)
    config = TrainConfig.of(facts["train"], "train")
    if config.batch == 0:  # from now on it is the run's own, whatever a later version advises
        facts["train"]["batch"] = batch_of(model, config)
        jobs.write_json(task.path / "run.json", facts)
        config = TrainConfig.of(facts["train"], "train")
    trainer = Trainer(model, dataset, config, device())
    facts_now = jobs.get(task.job.id)
    state, problems = runs.newest_state(facts_now)
    if state is not None:
        trainer.restore(state)
    runs.cut(facts_now, trainer.step)
    begun = min(trainer.step * trainer.batch, config.images)
    for problem in problems:
        yield {
            "step": trainer.step,
            "warning": f"{problem} Training goes on from step {trainer.step} instead.",
        }
    saved, started = time.monotonic(), time.time()
    watched = sheet is not None and config.watch and config.images >= WATCHED
    watch = _watch(task, dataset) if watched else None
    for progress in trainer:
        reason = task.stopped()
        values: dict[str, Any] = dict(progress.values)
        if progress.note:  # what came after the step that it went back to never happened
            runs.cut(facts_now, progress.step)
            values["warning"] = progress.note
        ends = progress.step == progress.steps
        if progress.publish or reason or time.monotonic() - saved > 60:
            published = trainer.published()
            held_out = trainer.held_out(published)
            values |= held_out
            if sheet is not None and (progress.publish or reason):
                sheet(published, progress.step, progress.images)
            look = watch(published, config.seed, progress.step / progress.steps) if watch else {}
            values |= look
            # a generative model's own loss says little about its samples
            score = _score(look) if sheet else next(iter(held_out.values()), None)
            runs.save_checkpoint(
                task.path,
                published,
                trainer.state(),
                {"step": progress.step, "images": progress.images, "score": score},
            )
            saved = time.monotonic()
        record = {
            "step": progress.step,
            "images": progress.images,
            "seconds": round(progress.seconds, 3),
            "images_per_second": round(progress.images_per_second, 1),
            **values,
        }
        task.say(
            "",
            begun=begun,
            started=started,
            done=progress.images,
            total=progress.total,
            speed=progress.images_per_second,
            seconds=progress.seconds,
            step=progress.step,
            peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        )
        yield record
        if reason and not ends:
            return


def _revision() -> str:
    """Reads the git revision of the code; empty outside a checkout."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=5,
            cwd=Path(__file__).parent,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip()


# --- The process ----------------------------------------------------------------------------------------------------


def work(path: Path) -> int:
    """Does one job from waiting to its end; gives the exit code."""
    from filelock import FileLock, Timeout

    try:
        alive = FileLock(path / "alive.lock").acquire(
            timeout=5
        )  # somebody may be looking whether we live
    except Timeout:
        return 1  # another process has the job
    with alive:
        os.nice(settings().nice)
        job = jobs.get(path.name)
        try:
            with jobs.slot(job) as mine:
                if not mine:
                    jobs.set_state(
                        path,
                        status="stopped",
                        message="Stopped while it waited. Resume queues it again.",
                    )
                    return 0
                jobs.set_state(
                    path,
                    status="running",
                    message="Starting",
                    pid=os.getpid(),
                    node=platform.node(),
                    speed=0,
                )
                task = Task(job)
                last: dict[str, Any] = {}
                with jobs.full_disk_told():
                    for record in kinds.get(job.kind).make(task):
                        jobs.Log(path).append(record)
                        last |= record
                if not last:  # killed after its last checkpoint: nothing was left to do
                    for record in jobs.Log(path).read()[0]:
                        last |= record
                reason = task.stopped()
                ended = not reason or last.get("images") == (job.config.get("train") or {}).get(
                    "images"
                )
                done = {
                    "done": last.get("images", 0),
                    "speed": 0,
                    "step": last.get("step", 0),
                    "last": last,
                }
                jobs.set_state(
                    path,
                    status="finished" if ended else "stopped",
                    message="" if ended else reason,
                    **done,
                )
        except UserError as error:
            print(error, file=sys.stderr)
            jobs.set_state(path, status="failed", message=str(error), speed=0)
        except Exception:
            traceback.print_exc()
            message = (
                f"Something went wrong inside Simulacra. The details are in {path / 'worker.log'}."
            )
            jobs.set_state(path, status="failed", message=message, speed=0)
            return 1
    return 0


if __name__ == "__main__":
    from core import worker  # the one that other modules import, not a second copy called __main__

    sys.exit(worker.work(Path(sys.argv[1])))
