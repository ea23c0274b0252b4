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

import numpy as np
import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as as_bytes
from torch import Tensor

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


_one_at_a_time = threading.Lock()


def judge(dataset: Dataset, device: torch.device) -> Judge:
    """Opens the judge of a labelled dataset; the first time it is trained, which takes seconds to minutes.

    Raises:
        UserError: If the dataset has less than two classes.
    """
    images = _RECIPE.get(dataset.name, _RECIPE["other"])
    train = TrainConfig(images=images, batch=128, precision="float32")
    config = ClassifierConfig()
    facts = {
        "classifier": config.record(),
        "train": train.record(),
        "spec": asdict(spec_of(dataset)),
        "data": dataset.fingerprint,
    }
    recipe = json.dumps(facts, sort_keys=True)
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    file = settings().home / "cache" / "judges" / f"{key}.safetensors"
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
    return Judge("judge", key, model, parts["centre"], parts["scale"], accuracy)


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
