"""The classifiers of a dataset: its own plain one, those that were trained here, and those that somebody brings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core import brought, jobs, runs
from core.catalog import UserError
from core.datasets import Dataset
from core.ground.watch import UNWATCHED, Watch
from core.measure import features
from core.runs import Opened
from core.target import Target, laid_out
from core.tensors import device, fingerprint


@dataclass(frozen=True)
class Choice:
    """A classifier that can be attacked on a dataset.

    Attributes:
        id: "" for the dataset's own plain one, the id of a run, or of what was brought.
        title, note: For people.
        hardened: Whether it was trained against attacks.
        answers_only: Whether it has no gradients, so that attacks that take them are not offered.
    """

    id: str
    title: str
    note: str
    hardened: bool = False
    answers_only: bool = False


def available(dataset: str) -> list[Choice]:
    """Lists the classifiers that fit a dataset: its own plain one, the trained ones, those that were brought."""
    choices = [Choice("", "Plain classifier of this dataset", "The dataset's own.")]
    for run in runs.listing():
        if runs.classifies(run) and runs.dataset_of(run) == dataset and runs.checkpoints(run):
            defence = training(run).get("defence", "none")
            notes = {"none": "Plain training.", "noise": "Trained with noise."}
            note = notes.get(defence, f"Trained against attacks ({defence}).")
            choices.append(Choice(run.id, run.name, note, defence not in notes))
    return choices + [
        Choice(
            model.id,
            model.name,
            model.note,
            answers_only=bool(model.record.get("facts", {}).get("answers_only")),
        )
        for model in brought.listing(dataset)
    ]


def find(text: str) -> str:
    """Finds the id of a classifier by its id or name; empty stays empty, the dataset's own plain one.

    Raises:
        UserError: If nothing fits, or several do.
    """
    if not text:
        return text
    return (brought.find(text) if brought.holds(text) else _run(text)).id


def training(run: jobs.Job) -> dict[str, Any]:
    """Gives the parameters of the network that a run trained; ``defence`` says against what."""
    if "harden" in run.config:
        return {"defence": "pgd", **run.config["harden"]}
    return dict(run.config.get("classifier", {}))


def open_model(id: str, dataset: Dataset, watch: Watch = UNWATCHED) -> Opened:
    """Opens a classifier of :func:`available` for a dataset; its plain one is trained where it is not there yet.

    Args:
        id: Of the classifier; empty for the plain one.
        dataset: Whose images and classes it is to fit.
        watch: Follows that training; who ends it ends it with nothing kept.

    Raises:
        UserError: If there is none of this id, or it does not fit the images or classes.
    """
    if not id:
        return _plain(dataset, watch)
    opened = brought.open_model(id, dataset) if brought.holds(id) else of_run(_run(id))
    if opened.classes != tuple(dataset.classes):
        raise UserError(
            f"{opened.name} tells {len(opened.classes)} classes apart ({', '.join(opened.classes[:3])} …), "
            f"{dataset.name} has {len(dataset.classes)} ({', '.join(dataset.classes[:3])} …). "
            "Choose the dataset that it belongs to."
        )
    return opened


def of_run(run: jobs.Job, step: int | None = None) -> Opened:
    """Opens the classifier of a run, of its checkpoint at a step or of the one that is looked at by itself.

    Raises:
        UserError: As :func:`core.runs.open_model`.
    """
    opened = runs.open_model(run, step)
    card = {
        "kind": "run",
        "run": run.id,
        "step": opened.step,
        "hash": fingerprint(opened.model),
        "training": training(run),
        "dataset": runs.record(run)["dataset"]["fingerprint"],
    }
    return laid_out(replace(opened, name=run.name, card=card))


def target_of(id: str, dataset: Dataset, watch: Watch = UNWATCHED) -> Target:
    """Puts a classifier under test, which :func:`open_model` opens."""
    return Target.of(open_model(id, dataset, watch))


def from_code(path: str, weights: str | Path | None, dataset: Dataset) -> Target:
    """Puts under test what ``package.module:factory`` of this machine gives, with weights from a file.

    Raises:
        UserError: If it cannot be imported, gives no module, the weights do not fit, or it cannot classify items of the
            dataset.
    """
    origin = brought.origins.get("factory")
    config = origin.config.of({"place": path, "weights": str(weights or "")}, "classifier")
    spec = brought.spec_of(dataset)
    return Target.of(origin.make(config, None, spec, dataset.classes, None))


def _plain(dataset: Dataset, watch: Watch) -> Opened:
    judge = features.judge(dataset, device(), watch)
    model = judge.model
    card = {"kind": "plain", "hash": judge.hash, "accuracy": judge.accuracy}
    name = f"plain classifier of {dataset.name}"
    opened = Opened("", 0, 0, "classifier", model, model.spec, tuple(dataset.classes), None)
    return laid_out(replace(opened, name=name, card=card))


def _run(text: str) -> jobs.Job:
    kinds = (kind.name for kind in jobs.kinds if kind.trained and kind.trained.classifies)
    return jobs.find(text, *kinds)
