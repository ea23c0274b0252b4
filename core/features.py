"""Feature extractors: what an image looks like to a network, as numbers that distances can be taken of.

Features are standardised by the training images of the dataset, because a distance between raw features depends on
their arbitrary scale. Values from different extractors, or of different datasets, must never be compared: name and
hash travel with them.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as as_bytes
from torch import Tensor
from torch.nn import functional as F

from core import jobs, runs
from core.classifier import Classifier, ClassifierConfig
from core.datasets import Dataset
from core.settings import settings
from core.tensors import Images, to_float
from core.training import TrainConfig, Trainer, spec_of

# as long as the accuracy still rises; a change makes another judge, with another hash
_RECIPE = {"digits": 60_000, "other": 150_000}


@dataclass(frozen=True)
class Judge:
    """The project's own classifier, trained on a dataset and then frozen.

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
    def features(self, x: Images) -> np.ndarray:
        """Gives standardised features of images in [0, 1], float64 (N, D)."""
        parts = [(self.model.features(part) - self.centre) / self.scale for part in self._parts(x)]
        return torch.cat(parts).double().cpu().numpy()

    @torch.inference_mode()
    def probabilities(self, x: Images) -> np.ndarray:
        """Gives the probability of each class, float64 (N, K)."""
        parts = [self.model(part).double().softmax(1) for part in self._parts(x)]
        return torch.cat(parts).cpu().numpy()

    def _parts(self, x: Tensor) -> list[Tensor]:
        return [part.to(self.centre.device) for part in x.split(500)]


@dataclass(frozen=True)
class Components:
    """The first principal components of the pixels: for sets without a judge.

    Attributes:
        name: Of the extractor.
        hash: Tells components of other data apart.
        mean: Of the pixels, (P,).
        vectors: The components over their standard deviation, (P, D).
    """

    name: str
    hash: str
    mean: Tensor
    vectors: Tensor

    @torch.inference_mode()
    def features(self, x: Images) -> np.ndarray:
        """Gives standardised features of images in [0, 1], float64 (N, D)."""
        parts = [
            (_small(part.to(self.mean.device)) - self.mean) @ self.vectors for part in x.split(500)
        ]
        return torch.cat(parts).double().cpu().numpy()


def components(dataset: Dataset, device: torch.device, count: int = 64) -> Components:
    """Computes the principal components of up to 5 000 training images, on at most 32 px."""
    index = dataset.splits["train"]
    pick = index[np.linspace(0, len(index) - 1, min(len(index), 5000)).astype(int)]
    pixels = torch.cat([_small(part) for part in _float(dataset.x[pick], dataset, device)])
    mean = pixels.mean(0)
    _, scale, vectors = torch.linalg.svd((pixels - mean).double(), full_matrices=False)
    scale = scale / max(1, len(pixels) - 1) ** 0.5  # standard deviations along the components
    kept = min(count, int((scale > 1e-6).sum()))
    vectors = (vectors[:kept].T / scale[:kept]).float()
    return Components("pca", dataset.fingerprint[:16], mean, vectors)


def _small(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, min(32, x.shape[-1])).flatten(1)


def quick(dataset: Dataset, device: torch.device) -> Judge | Components:
    """Gives the extractor for looks during a training: the judge where it is there or soon trained, else components."""
    if dataset.labelled and len(dataset.classes) > 1:
        soon = dataset.size <= 8 or device.type == "cuda"
        if soon or _file(dataset).exists():
            return judge(dataset, device)
    return components(dataset, device)


_one_at_a_time = threading.Lock()


def _recipe(dataset: Dataset) -> dict[str, Any]:
    images = _RECIPE.get(dataset.name, _RECIPE["other"])
    return {
        "classifier": ClassifierConfig().record(),
        "train": TrainConfig(images=images, batch=128, precision="float32").record(),
        "spec": asdict(spec_of(dataset)),
        "data": dataset.fingerprint,
    }


def _file(dataset: Dataset) -> Path:
    recipe = json.dumps(_recipe(dataset), sort_keys=True)
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    return settings().cache / "judges" / f"{key}.safetensors"


def judge(dataset: Dataset, device: torch.device) -> Judge:
    """Opens the judge of a labelled dataset; the first time it is trained, which takes seconds to minutes.

    Raises:
        UserError: If the dataset has less than two classes.
    """
    facts, file = _recipe(dataset), _file(dataset)
    train = TrainConfig.of(facts["train"], "train")
    model: Classifier = runs.network(facts)
    with _one_at_a_time:
        if file.exists():
            weights = from_bytes(file.read_bytes())
        else:
            weights = _train(model, dataset, train, device)
            file.parent.mkdir(parents=True, exist_ok=True)
            jobs.write_atomic(file, as_bytes(weights))
    parts = {name: weights.pop(name).to(device) for name in ("centre", "scale", "accuracy")}
    model.load_state_dict(weights)
    model.to(device).eval().requires_grad_(False)
    accuracy = float(parts["accuracy"].cpu())
    return Judge("judge", file.stem, model, parts["centre"], parts["scale"], accuracy)


def _train(
    model: Classifier, dataset: Dataset, config: TrainConfig, device: torch.device
) -> dict[str, Tensor]:
    trainer = Trainer(model, dataset, config, device)
    for _ in trainer:
        pass
    judge = trainer.published()
    assert isinstance(judge, Classifier)
    with torch.inference_mode():
        x, _ = dataset.part("train")
        pick = np.linspace(0, len(x) - 1, min(len(x), 20_000)).astype(int)
        reference = torch.cat([judge.features(part) for part in _float(x[pick], dataset, device)])
        x, y = dataset.part("test")
        assert y is not None
        named = torch.cat([judge(part).argmax(1) for part in _float(x, dataset, device)])
    return {
        **{name: value.cpu().contiguous() for name, value in judge.state_dict().items()},
        "centre": reference.mean(0).cpu(),
        "scale": reference.std(0).clamp_min(1e-3).cpu(),
        "accuracy": (named.cpu() == torch.as_tensor(y)).float().mean(),
    }


def _float(x: np.ndarray, dataset: Dataset, device: torch.device) -> list[Tensor]:
    return [
        to_float(torch.as_tensor(part).to(device), dataset.levels)
        for part in np.array_split(x, max(1, len(x) // 500))
    ]
