"""Trains a classifier: the judge of what the models make, and what attacks are tried on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from core import jobs, runs
from core.catalog import Config, UserError, knob
from core.kinds import Task, kinds, train
from core.kinds.train import AugmentConfig, augmentation, begin, follow

if TYPE_CHECKING:
    from core.classifier import Classifier
    from core.datasets import Dataset
    from core.models import Curve, Spec


class ExtraConfig(Config):
    """Images of a generative model that a classifier learns from as well."""

    made_by: str = knob(
        "",
        "Id or name of a run that listens to the classes of this dataset: its images are added to the training images.",
        title="Add images of a run",
        advanced=True,
    )
    made_images: int = knob(
        5000,
        "How many images of that run are added.",
        title="Images to add",
        ge=1,
        le=1_000_000,
        unit="images",
        log=True,
        advanced=True,
    )


def _parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core import datasets
    from core.classifier import ClassifierConfig
    from core.training import TrainConfig

    return {
        "dataset": datasets.config_of(choice["dataset"]),
        "classifier": ClassifierConfig,
        "extra": ExtraConfig,
        "augment": AugmentConfig,
        "train": TrainConfig,
    }


def _allow(config: dict[str, Any]) -> None:
    from core import datasets

    train.allow(config, "classifier")
    if made_by := config["extra"]["made_by"]:
        run = runs.find(made_by, generator=True)
        if not datasets.alike(run.config["dataset"], config["dataset"]):
            raise UserError(
                f"{run.name} was trained on {runs.dataset_of(run)} as it was prepared then, and its images only join "
                "those. Choose a run that was trained on this dataset with the same settings."
            )


def _build(record: Mapping[str, Any], spec: Spec) -> Classifier:
    from core.classifier import Classifier, ClassifierConfig

    return Classifier(ClassifierConfig.of(record["classifier"], "classifier"), spec)


def _curves(record: Mapping[str, Any]) -> Sequence[Curve]:
    from core.classifier import CURVES

    return CURVES


@kinds.add(
    "classifier",
    "Train a classifier",
    lane="train",
    parts=_parts,
    unit="images",
    shape={"dataset": {"name": str}, "train": {"images": int}},
    read=partial(jobs.outcome, name=train.RECORD),
    files=train.FILES,
    allow=_allow,
    processes=train.processes,
    resumes=train.RESUMES,
    trained=jobs.Trained("classifier", _build, _curves, classifies=True),
)
def train_classifier(task: Task) -> Iterator[dict[str, Any]]:
    """Trains a classifier, the judge of what the models make; reports its accuracy on the test split at the end."""
    extra = ExtraConfig.of(task.job.config.get("extra"), "extra")
    dataset, record = begin(
        task,
        {"classifier": task.config("classifier"), "extra": extra.record(), **augmentation(task)},
    )
    yield from follow(task, extended(dataset, extra), record, None)
    if not task.lead:
        return
    import numpy as np
    import torch

    opened = runs.open_model(jobs.get(task.job.id))
    index, y = dataset.splits["test"], dataset.y
    if y is None or not len(index):
        return
    with torch.inference_mode():
        where = next(opened.model.parameters()).device
        right = [
            opened.model(dataset.images(rows, where)).argmax(1).cpu() == torch.as_tensor(y[rows])
            for rows in np.split(index, range(500, len(index), 500))
        ]
    yield {
        "step": opened.step,
        "images": opened.images,
        "test_accuracy": float(torch.cat(right).float().mean()),
        "n_test": len(index),
    }


def extended(dataset: Dataset, extra: ExtraConfig) -> Dataset:
    """Adds images of a run, as many of each class, to the training images; the same images at every call.

    Raises:
        UserError: If the run ignores classes, or was not trained on this very dataset: one that has seen held-out
            images would carry them into the training.
    """
    if not extra.made_by:
        return dataset
    import numpy as np
    import torch

    from core import datasets

    run = runs.find(extra.made_by, generator=True)
    opened, record = runs.open_model(run), runs.record(run)
    if record["dataset"]["fingerprint"] != dataset.fingerprint:
        raise UserError(
            f"{run.name} was trained on other images than {dataset.name} holds, so its images may not be added. "
            f"Choose a run that was trained on {dataset.name} with the same settings."
        )
    if not opened.classes:
        raise UserError(
            f"{run.name} does not listen to classes, so its images have no labels. "
            "Choose a run that learned the classes, or train one with family.conditional=true."
        )
    assert dataset.y is not None
    ids = torch.arange(extra.made_images)
    labels = ids % len(opened.classes)
    where = next(opened.model.parameters()).device
    pixels = []
    for part in ids.split(500):
        x = opened.model.sample(part, labels[part].to(where), 0, opened.usual)
        shown = dataset.medium.items(x)  # the very images that people see
        pixels.append(dataset.medium.write(shown, dataset.levels))
    x, y = np.concatenate(pixels), labels.numpy()
    new = np.arange(len(dataset), len(dataset) + len(x))
    return datasets.assemble(
        np.concatenate([np.asarray(dataset.x), x]),
        np.concatenate([dataset.y, y]),
        dataset.classes,
        {**dataset.splits, "train": np.concatenate([dataset.splits["train"], new])},
        levels=dataset.levels,
        name=dataset.name,
        parent=dataset.fingerprint,
        source=dataset.source,
        medium=dataset.medium.name,
    )
