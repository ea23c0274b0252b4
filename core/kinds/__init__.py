"""The kinds of background work: what each takes, and what it does.

One file in this folder is one kind, of the file's name: a function with ``@kinds.add`` that iterates over records. It
yields what is worth logging; the process of the job (``core.worker``) writes it and tells the state. What a kind says
of its jobs is :class:`core.jobs.Kind`.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from core import datasets, jobs
from core.catalog import Config, assign
from core.ground.settings import settings
from core.ground.watch import Watch
from core.jobs import kinds


class Task(Watch):
    """What a kind sees of its job: what was asked, where to write, and, as a watch, whom to tell and when to stop.

    Attributes:
        lead: Of several processes, the first one: the others write nothing.
        message: A sentence for a job that has finished.
        done, total: How much is done, and of how much, as it was told last.
    """

    def __init__(self, job: jobs.Job, lead: bool = True) -> None:
        self.job = job
        self.path = job.path
        self.lead = lead
        self.message = ""
        self.done: float = job.state.get("done") or 0
        self.total: float = job.state.get("total") or 0
        self._began = time.monotonic() - job.state.get("seconds", 0)  # a resumed job has used some
        self._told = 0.0
        self._pace: dict[str, float] = {}

    def config(self, name: str) -> dict[str, Any]:
        """Gives one part of the job's config."""
        return dict(self.job.config[name])

    def dataset(self) -> datasets.Dataset:
        """Opens the dataset that was asked for, telling how far that is, and gives torch the threads of this server.

        Raises:
            UserError: If its files cannot be used.
            Stopped: If somebody asked for the end.
        """
        import torch

        torch.set_num_threads(settings().worker_threads)
        ask = self.config("dataset")
        self.say("Preparing the data")
        return datasets.load(ask["name"], ask["config"], self.aside())

    def say(self, text: str, done: float | None = None, total: float = 1.0, **fields: Any) -> None:
        """Shows a sentence, how far it is and other fields on the page, at most ten times a second.

        Time left is reckoned from the first call with ``done`` on.
        """
        if done is not None:
            self.done, self.total = done, total
            self._pace = self._pace or {"begun": done, "started": time.time()}
            fields = {**self._pace, "done": done, "total": total, **fields}
        if self.lead and time.monotonic() - self._told > 0.1:
            self._told = time.monotonic()
            jobs.set_state(self.path, message=text, told=time.time(), **fields)

    def stopped(self) -> str:
        """Tells why to stop now; empty to go on. Of several processes the others follow the first."""
        if not self.lead:
            return ""
        if (self.path / "STOP").exists():
            kind = jobs.kinds.get(self.job.kind)
            how = "Resume goes on from here." if kind.trained else kind.resumes
            return f"Stopped on request. {how}"
        limit = settings().max_seconds
        if limit and time.monotonic() - self._began > limit:
            return f"Stopped at this server's limit of {limit} seconds."
        return ""


def on_dataset(part: str, module: str, config: str) -> Callable[..., dict[str, type[Config]]]:
    """Declares the parts of a job on a dataset: what prepares its images, and a config, imported when asked for."""

    def parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
        cls = getattr(importlib.import_module(module), config)
        return {"dataset": datasets.config_of(choice["dataset"]), part: cls}

    return parts


def submit(
    kind: str,
    choice: Mapping[str, str],
    values: Mapping[str, Any] | None = None,
    *,
    target: str = "",
    name: str = "",
    who: str = "",
) -> jobs.Job:
    """Checks everything that was asked for and starts the job.

    Args:
        kind: A name of :data:`kinds`.
        choice: By part, the entry that was chosen: ``{"dataset": "digits", "family": "gan"}``.
        values: Parameters by dotted or short name: ``{"family.beta": 2}``; the rest keep their defaults.
        target: Id of the run that it works on; empty for a kind that makes one.
        name: What the person calls the job.
        who: Who asks.

    Raises:
        UserError: If a name or value is not allowed, or the server refuses; nothing is written then.
    """
    settings().allow_change("start a job")
    entry = kinds.get(kind)
    config = configure(kind, choice, values)
    if dataset := config.get("dataset"):  # refused at once, rather than by the job
        dataset["config"] = datasets.check(dataset["name"], dataset["config"])
    if settings().device not in ("auto", "cpu"):
        from core.tensors import device

        device()
    entry.allow(config)
    about = jobs.get(target).name if target else choice.get("dataset", "")
    title = f"{about}-{choice.get('family', kind)}"
    return jobs.create(kind, entry.lane, config, title=title, target=target, name=name, who=who)


def resume(id: str, config: Mapping[str, Any] | None = None) -> jobs.Job:
    """Starts a job again as :func:`core.jobs.resume` does, but says at once when its images are no longer there.

    Raises:
        UserError: As there, or as :func:`core.datasets.check`; the job stays as it was then.
    """
    if dataset := jobs.get(id).config.get("dataset"):
        datasets.check(dataset["name"], dataset["config"])
    return jobs.resume(id, config)


def parts(kind: str, choice: Mapping[str, str]) -> dict[str, type[Config]]:
    """Gives the config class of every part of a job, for forms, flags and validation.

    Raises:
        UserError: If a chosen name does not exist.
    """
    return kinds.get(kind).parts(choice)


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


@dataclass(frozen=True)
class Expected:
    """How long a job will take, by one of before.

    Attributes:
        seconds: In all.
        job: The finished one that is most like it, at whose pace it goes.
        alike: Whether that one had the same values.
    """

    seconds: float
    job: jobs.Job
    alike: bool


def expected(
    before: Iterable[tuple[jobs.Job, float]], values: Mapping[str, Any], images: float
) -> Expected | None:
    """Foretells how long a job takes; None where none of before has finished.

    Args:
        before: Jobs that did the same, and how many images each looked at.
        values: What was asked for, by dotted name, without what does not change the pace.
        images: How many it looks at.
    """
    found = [
        (
            -sum(flat(job.config)[1].get(name, value) != value for name, value in values.items()),
            not job.shipped,
            job.created,
            job,
            job.took * images / theirs,
        )
        for job, theirs in before
        if job.took and theirs
    ]
    if not found:
        return None
    same, *_, job, seconds = max(found, key=itemgetter(0, 1, 2))
    return Expected(seconds, job, not same)
