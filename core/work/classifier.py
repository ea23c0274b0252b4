"""Trains a classifier: the judge of what the models make, and what attacks are tried on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core import jobs, runs
from core.catalog import Config
from core.work import Task, kinds
from core.work.train import begin, follow


def _parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core import datasets
    from core.classifier import ClassifierConfig
    from core.training import TrainConfig

    return {
        "dataset": datasets.config_of(choice["dataset"]),
        "classifier": ClassifierConfig,
        "train": TrainConfig,
    }


@kinds.add("classifier", "Train a classifier", Config, lane="train", parts=_parts)
def train_classifier(task: Task) -> Iterator[dict[str, Any]]:
    """Trains a classifier, the judge of what the models make; reports its accuracy on the test split at the end."""
    dataset, facts = begin(task, {"classifier": task.part("classifier")})
    yield from follow(task, dataset, facts, None)
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
