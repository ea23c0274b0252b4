"""The project's own classifier, trained once per dataset and then frozen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core import runs
from core.classifier import Classifier, ClassifierConfig
from core.datasets import Dataset, evenly
from core.ground.watch import UNWATCHED, Watch
from core.measure.features.embedding import LENGTHS, bounded, spread
from core.measure.features.extractors import extractors
from core.media import EVERY
from core.tensors import Batch
from core.training import TrainConfig, Trainer, spec_of
from core.training.trained import file_of, finished, once


@dataclass(frozen=True)
class Judge:
    """A classifier that looks at what is made.

    Attributes:
        name: Of the extractor.
        hash: Tells judges of other data or other training apart.
        accuracy: Share of the test images that it names rightly.
    """

    name: str
    hash: str
    model: Classifier
    centre: Tensor
    scale: Tensor
    accuracy: float

    @torch.inference_mode()
    def features(self, x: Batch) -> np.ndarray:
        """Gives standardised features of images in [0, 1], float64 (N, D)."""
        parts = [(self.model.features(part) - self.centre) / self.scale for part in self._parts(x)]
        return bounded(parts)

    @torch.inference_mode()
    def probabilities(self, x: Batch) -> np.ndarray:
        """Gives the probability of each class, float64 (N, K)."""
        parts = [self.model(part).double().softmax(1) for part in self._parts(x)]
        return torch.cat(parts).cpu().numpy()

    def _parts(self, x: Tensor) -> list[Tensor]:
        return [part.to(self.centre.device) for part in x.split(500)]


def _recipe(dataset: Dataset) -> dict[str, Any]:
    images = LENGTHS.get(dataset.name) or LENGTHS.get(dataset.medium.name, LENGTHS["other"])
    practised = {"practised": dataset.medium.name} if dataset.medium.practise else {}
    return practised | {
        "classifier": ClassifierConfig().record(),
        "train": TrainConfig(images=images, batch=128, precision="float32").record(),
        "spec": spec_of(dataset).record(),
        "data": dataset.fingerprint,
    }


def _file(dataset: Dataset) -> Path:
    return file_of("judges", _recipe(dataset))


def judged(dataset: Dataset) -> bool:
    """Tells whether the judge of a dataset was trained already, so that opening it takes no time."""
    return _file(dataset).exists()


def judge(dataset: Dataset, device: torch.device, watch: Watch = UNWATCHED) -> Judge:
    """Opens the judge of a labelled dataset; the first time it is trained, which takes seconds to minutes.

    Args:
        dataset: With labels.
        device: Where it works.
        watch: Follows the training; who ends it ends it with nothing kept.

    Raises:
        UserError: If the dataset has less than two classes.
    """
    recipe, file = _recipe(dataset), _file(dataset)
    model: Classifier = runs.network(recipe)
    train = TrainConfig.of(recipe["train"], "train")
    weights = once(
        file,
        f"the judge of {dataset.name}",
        lambda: Trainer(model, dataset, train, device, practise=dataset.medium.practise),
        lambda net: _measured(net, dataset, device),
        watch,
    )
    parts = {name: weights.pop(name).to(device) for name in ("centre", "scale", "accuracy")}
    model.load_state_dict(weights)
    model.to(device).eval().requires_grad_(False)
    accuracy = float(parts["accuracy"].cpu())
    return Judge("judge", file.stem, model, parts["centre"], parts["scale"], accuracy)


@torch.inference_mode()
def _measured(net: Classifier, dataset: Dataset, device: torch.device) -> dict[str, Tensor]:
    """Gives the weights, what standardises the features, and the share of test images that it names rightly."""
    some = evenly(dataset.splits["train"], 20_000)
    reference = torch.cat([net.features(x) for x in dataset.batches(some, device=device)])
    test = dataset.splits["test"]
    named = torch.cat([net(x).argmax(1) for x in dataset.batches(test, device=device)])
    assert dataset.y is not None
    return {
        **net.state_dict(),
        "centre": reference.mean(0),
        "scale": spread(reference),
        "accuracy": (named.cpu() == torch.as_tensor(dataset.y[test])).float().mean(),
    }


def taught(
    lessons: Dataset,
    dataset: Dataset,
    device: torch.device,
    seed: int = 0,
    watch: Watch = UNWATCHED,
) -> Classifier:
    """Trains a classifier like the judge of ``dataset``, as long, on other images, to test what these teach."""
    recipe = _recipe(dataset)
    train = TrainConfig.of(recipe["train"] | {"seed": seed}, "train")
    practise = dataset.medium.practise
    trainer = Trainer(runs.network(recipe), lessons, train, device, practise=practise)
    return finished(trainer, "Training a classifier on them", watch)


@extractors.add("judge", "Judge", labels=True, takes=EVERY)
def _judge(
    dataset: Dataset, device: torch.device, weights: str = "", watch: Watch = UNWATCHED
) -> Judge:
    """The project's classifier, trained on the dataset: sees what tells its classes apart."""
    return judge(dataset, device, watch)
