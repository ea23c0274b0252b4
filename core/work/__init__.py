"""The kinds of background work: what each takes, and what it does.

One file in this folder is one kind, of the file's name: a function with ``@kinds.add`` that iterates over records. It
yields what is worth logging; the process of the job (``core.worker``) writes it, tells the state and asks for the stop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core import jobs, runs
from core.catalog import Config, Entry, Registry, UserError, assign
from core.settings import settings
from core.watch import Watch


@dataclass(frozen=True, kw_only=True)
class Kind(Entry):
    """A kind of job; ``make(task) -> Iterator[dict]`` yields what is worth logging.

    Attributes:
        lane: Jobs of one lane wait for each other.
        parts: Gives the configs that the choices of a form fill, by the part of the job's record.
    """

    lane: Literal["train", "short"]
    parts: Callable[[Mapping[str, str]], dict[str, type[Config]]]


kinds = Registry("job kind", Kind, "core.work")


class Task(Watch):
    """What a kind sees of its job: what was asked, where to write, and, as a watch, whom to tell and when to stop."""

    def __init__(self, job: jobs.Job, lead: bool = True) -> None:
        self.job = job
        self.path = job.path
        self.lead = lead  # of several processes, the first one: the others write nothing
        self.message = ""  # a last word on a job that has finished
        self._began = time.monotonic() - job.state.get("seconds", 0)  # a resumed job has used some
        self._told = 0.0
        self._pace: dict[str, float] | None = None

    def part(self, name: str) -> dict[str, Any]:
        """Gives one part of the job's config."""
        return dict(self.job.config[name])

    def say(self, text: str, done: float | None = None, total: float = 1.0, **fields: Any) -> None:
        """Shows a sentence, how far it is and other fields on the page, at most ten times a second.

        Time left is reckoned from the first call with ``done`` on.
        """
        if done is not None:
            if self._pace is None:
                self._pace = {"begun": done, "started": time.time()}
            fields = {**self._pace, "done": done, "total": total, **fields}
        if self.lead and time.monotonic() - self._told > 0.1:
            self._told = time.monotonic()
            jobs.set_state(self.path, message=text, told=time.time(), **fields)

    def stopped(self) -> str:
        """Tells why to stop now; empty to go on."""
        if (self.path / "STOP").exists():
            return "Stopped on request. Resume goes on from here."
        limit = settings().max_seconds
        if limit and time.monotonic() - self._began > limit:
            return f"Stopped at this server's limit of {limit} seconds."
        return ""


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
    if dataset := config.get("dataset"):  # said now rather than by the job
        from core import datasets

        dataset["config"] = datasets.check(dataset["name"], dataset["config"])
    total = config["train"]["images"] if "train" in config else 0
    if total > settings().max_images:
        raise UserError(
            f"train.images must be at most {settings().max_images} on this server, got {total}. Train for fewer images."
        )
    if kind in runs.KINDS:
        _allow_training(kind, config)
    about = jobs.get(target).name if target else config["dataset"]["name"]
    title = "-".join([about, config["family"]["name"] if "family" in config else kind])
    return jobs.create(kind, entry.lane, config, title=title, target=target, name=name, who=who)


def _allow_training(kind: str, config: dict[str, Any]) -> None:
    """Checks what a training asks of the server and of other runs, and names its parent in full."""
    train = config["train"]
    if config["augment"]["critic"]:
        _allow_critic(kind, config)
    if made_by := config.get("extra", {}).get("made_by"):
        run = jobs.find(made_by, "train")
        if run.config["dataset"] != config["dataset"]:
            raise UserError(
                f"{run.name} was trained on {runs.dataset_of(run)} as it was prepared then, and its images only join "
                "those. Choose a run that was trained on this dataset with the same settings."
            )
    if train["gpus"] > 1:
        from core.tensors import gpus

        if train["gpus"] > gpus():
            raise UserError(
                f"train.gpus must be at most {gpus()} on this server, got {train['gpus']}. Train on fewer GPUs."
            )
    if train["parent"]:
        run, step = runs.named(train["parent"])
        wanted = config["family"]["name"] if "family" in config else kind
        if runs.family_of(run) != wanted:
            raise UserError(
                f"{run.name} is of the family {runs.family_of(run)}, and a {wanted} cannot start from it. "
                "Choose a run of the same family, or leave train.parent out."
            )
        train["parent"] = f"{run.id}@{step}"


def _allow_critic(kind: str, config: dict[str, Any]) -> None:
    """Checks that there is a critic, and that it is shown augmented images at all."""
    from core.models import families

    name, values = config.get("family", {"name": kind, "config": {}}).values()
    if kind != "train" or not families.get(name).critic:
        raise UserError(
            f"augment.critic puts the pipeline before a GAN's critic, and a {name} has none. "
            "Leave augment.critic out: the pipeline then changes the training images."
        )
    if not config["augment"]["pipeline"] or values["augment"] == "off":
        raise UserError(
            f"augment.critic needs a pipeline and a critic that sees augmented images, got augment.pipeline="
            f"{config['augment']['pipeline']!r} and family.augment={values['augment']!r}. "
            "Name a pipeline, and choose adaptive or always; or leave augment.critic out."
        )


def extend(id: str, images: int) -> jobs.Job:
    """Lets a run see more images in all, from its newest checkpoint on: also one that has finished.

    The schedule goes on as if the run had had this length from the start: the learning rate rises to what it would be
    there, and falls to its end again; a VQ-VAE that has to returns to its first stage. :func:`lengthened` says so.

    Args:
        id: Of the run.
        images: Images in all, those it has seen included.

    Raises:
        UserError: If it is no longer than the run is, more than the server allows, or the run cannot go on.
    """
    job = jobs.get(id)
    if job.kind not in runs.KINDS:
        raise UserError(f"{job.name} trains nothing, so it cannot be extended. Choose a run.")
    parts_of = parts(job.kind, flat(job.config)[0])
    seen = int(job.state.get("done", 0))
    longer = parts_of["train"].of({**job.config["train"], "images": images}, "train").record()
    if longer["images"] <= seen:
        raise UserError(
            f"{job.name} has seen {seen} images already, so train.images must be above that, got {images}. "
            "Ask for more."
        )
    if longer["images"] > settings().max_images:
        raise UserError(
            f"train.images must be at most {settings().max_images} on this server, got {images}. "
            "Train for fewer images."
        )
    if runs.checkpoints(job) and not runs.resumable(job):
        raise UserError(
            f"{job.name} has no checkpoint that training could go on from. Start a new run from it instead."
        )
    return resume(id, {**job.config, "train": longer})


def resume(id: str, config: Mapping[str, Any] | None = None) -> jobs.Job:
    """Starts a job again as :func:`core.jobs.resume` does, but says at once when its images are no longer there.

    Raises:
        UserError: As there, or as :func:`core.datasets.check`; the job stays as it was then.
    """
    from core import datasets

    if dataset := jobs.get(id).config.get("dataset"):
        datasets.check(dataset["name"], dataset["config"])
    return jobs.resume(id, config)


def lengthened(id: str, images: int) -> str:
    """Says what :func:`extend` would do to the learning rate and the stages of a run; empty if its curve goes on.

    Raises:
        UserError: If the run cannot be read.
    """
    job = jobs.get(id)
    saved = runs.checkpoints(job)
    if not saved:
        return ""
    from core import training

    facts = runs.record(job)
    train = facts["train"]
    if not train["batch"]:
        return ""
    # a roll-back halves the rate for good
    back = sum({"warning", "images"} <= each.keys() for each in jobs.Log(job.path).read()[0])
    old, new = (math.ceil(n / train["batch"]) for n in (train["images"], images))
    config = training.TrainConfig.of(train, "train")
    return training.lengthened(
        config,
        runs.groups_of(facts),
        saved[-1],
        max(old, saved[-1]),
        max(new, saved[-1] + 1),
        0.5**back,
    )


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


# --- Training -------------------------------------------------------------------------------------------------------
