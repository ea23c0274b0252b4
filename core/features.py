"""Feature extractors: what an image looks like to a network, as numbers that distances can be taken of.

Features are standardised by the training images of the dataset, because a distance between raw features depends on
their arbitrary scale. Values from different extractors, or of different datasets, must never be compared: name and
hash travel with them. An extractor is an entry of :data:`extractors`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as as_bytes
from torch import Tensor, nn
from torch.nn import functional as F

from core import files, runs
from core.catalog import Config, Entry, Registry, UserError, optional
from core.classifier import Classifier, ClassifierConfig
from core.datasets import Dataset
from core.models import Spec
from core.nets import refresh_batch_statistics
from core.settings import settings
from core.tensors import Group, Images, Loss, to_float
from core.training import TrainConfig, Trainer, spec_of
from core.writing import percent

extractors = Registry("extractor", Entry)
"""What turns images into features. ``make(dataset, device, weights, told) -> Extractor``; ``weights`` is a file or
empty, ``told`` follows a training."""

Told = Callable[[str, float], None]  # a sentence and the share that is done; may raise to stop


def _quietly(words: str, done: float) -> None:
    """Says nothing."""


POOR = 0.9  # accuracy of a judge below which it is not asked
_FAR = 10.0  # standard deviations at which a feature stops: one that hardly ever varies would outweigh all others

# as long as the accuracy still rises; a change makes another judge, with another hash
_RECIPE = {"digits": 60_000, "other": 150_000}


@runtime_checkable
class Extractor(Protocol):
    """Turns images into features.

    Attributes:
        name: Of the entry in :data:`extractors`.
        hash: Tells extractors of other data, training or weights apart.
    """

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str: ...

    def features(self, x: Images) -> np.ndarray:
        """Gives features of images in [0, 1], float64 (N, D)."""
        ...


def choose(
    name: str,
    dataset: Dataset,
    device: torch.device,
    weights: str = "",
    told: Told = _quietly,
) -> tuple[Extractor, str]:
    """Opens an extractor, or the one to take instead of a judge that cannot judge; says so in a sentence, else empty.

    What has to be trained first tells how far it is, several times a second; what ``told`` raises ends it.

    Raises:
        UserError: If there is no such extractor, or what it needs is not there.
    """
    entry = extractors.get(name)
    if name != "judge":
        return entry.make(dataset, device, weights, told), ""
    if len(dataset.classes) < 2:
        few = "no labels" if not dataset.labelled else "one class only"
        why = f"{dataset.name} has {few}, so there is no judge"
    else:
        found = judge(dataset, device, told)
        if found.accuracy >= POOR:
            return found, ""
        why = (
            f"The judge of {dataset.name} names only {percent(found.accuracy, 0)} of the test images rightly, "
            f"below {percent(POOR, 0)}, so it is not asked"
        )
    return self_supervised(
        dataset, device, told
    ), f"{why}; features come from a network that learned from the images alone."


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
        return _bounded(parts)

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
            (small(part.to(self.mean.device)) - self.mean) @ self.vectors for part in x.split(500)
        ]
        return _bounded(parts)


def components(dataset: Dataset, device: torch.device, count: int = 64) -> Components:
    """Computes the principal components of up to 5 000 training images, on at most 32 px."""
    index = dataset.splits["train"]
    pick = index[np.linspace(0, len(index) - 1, min(len(index), 5000)).astype(int)]
    pixels = torch.cat([small(part) for part in _float(dataset.x[pick], dataset, device)])
    mean = pixels.mean(0)
    _, scale, vectors = torch.linalg.svd((pixels - mean).double(), full_matrices=False)
    scale = scale / max(1, len(pixels) - 1) ** 0.5  # standard deviations along the components
    kept = min(count, int((scale > 0.01 * scale[0].clamp_min(1e-4)).sum()))
    vectors = (vectors[:kept].T / scale[:kept]).float()
    return Components("pca", dataset.fingerprint[:16], mean, vectors)


def _bounded(parts: list[Tensor]) -> np.ndarray:
    return torch.cat(parts).clamp(-_FAR, _FAR).double().cpu().numpy()


def small(x: Images) -> Tensor:
    """Flattens images to pixels, at most 32 a side, (N, P)."""
    return F.adaptive_avg_pool2d(x, min(32, x.shape[-1])).flatten(1)


def quick(dataset: Dataset, device: torch.device, told: Told = _quietly) -> Judge | Components:
    """Gives the extractor for looks during a training: the judge where it is there or soon trained, else components."""
    if dataset.labelled and len(dataset.classes) > 1:
        soon = (dataset.size <= 8 or device.type == "cuda") and not settings().view_only
        if soon or judged(dataset):
            return judge(dataset, device, told)
    return components(dataset, device)


@extractors.add("judge", "Judge", Config)
def _judge(
    dataset: Dataset, device: torch.device, weights: str = "", told: Told = _quietly
) -> Judge:
    """The project's classifier, trained on the dataset: sees what tells its classes apart."""
    return judge(dataset, device, told)


@extractors.add("self", "Self-supervised", Config)
def _self(
    dataset: Dataset, device: torch.device, weights: str = "", told: Told = _quietly
) -> Contrast:
    """A small network that learned without labels to recognise an image after shifts and changes of light."""
    return self_supervised(dataset, device, told)


@extractors.add("pca", "Principal components", Config)
def _pca(
    dataset: Dataset, device: torch.device, weights: str = "", told: Told = _quietly
) -> Components:
    """The 64 directions in which the pixels vary most: nothing to train, blind to shapes."""
    return components(dataset, device)


@extractors.add("pixels", "Pixels", Config)
def _pixels(
    dataset: Dataset, device: torch.device, weights: str = "", told: Told = _quietly
) -> Pixels:
    """The pixels themselves, at most 32 a side: a shift by one of them counts as a large change."""
    index = dataset.splits["train"]
    pick = index[np.linspace(0, len(index) - 1, min(len(index), 5000)).astype(int)]
    pixels = torch.cat([small(part) for part in _float(dataset.x[pick], dataset, device)])
    scale = (pixels - pixels.mean(0)).square().mean().sqrt().clamp_min(1e-3)
    return Pixels("pixels", dataset.fingerprint[:16], pixels.mean(0), scale)


@dataclass(frozen=True)
class Pixels:
    """The pixels, centred and over their common spread.

    Attributes:
        name: Of the extractor.
        hash: Tells pixels of other data apart.
        mean: Of the training images, (P,).
        scale: Their spread around it, one number.
    """

    name: str
    hash: str
    mean: Tensor
    scale: Tensor

    @torch.inference_mode()
    def features(self, x: Images) -> np.ndarray:
        """Gives centred pixels of images in [0, 1], float64 (N, D)."""
        parts = [
            (small(part.to(self.mean.device)) - self.mean) / self.scale for part in x.split(500)
        ]
        return torch.cat(parts).double().cpu().numpy()


@extractors.add("inception", "Inception", Config)
def _inception(
    dataset: Dataset, device: torch.device, weights: str = "", told: Told = _quietly
) -> Published:
    """The network of published figures, trained on ImageNet: the only features whose distance is called FID."""
    return _published("inception", "inception-v3-compat", "2048", device, weights)


@extractors.add("dinov2", "DINOv2", Config)
def _dinov2(
    dataset: Dataset, device: torch.device, weights: str = "", told: Told = _quietly
) -> Published:
    """A large self-supervised network for photographs; nearer to human judgement than Inception."""
    return _published("dinov2", "dinov2-vit-s-14", "dinov2", device, weights)


@dataclass(frozen=True)
class Published:
    """A network of torch-fidelity; its features are not standardised, so that values equal published ones.

    Attributes:
        name: Of the extractor.
        hash: Tells networks and weights apart.
    """

    name: str
    hash: str
    net: Any
    device: torch.device

    @torch.inference_mode()
    def features(self, x: Images) -> np.ndarray:
        """Gives features of images in [0, 1], grey ones as three equal channels, float64 (N, D)."""
        parts = []
        for part in x.split(50):  # 299 pixels a side inside
            levels = part.mul(255).round().to(torch.uint8).expand(-1, 3, -1, -1)
            parts.append(self.net(levels.to(self.device))[0].double().cpu())
        return torch.cat(parts).numpy()


def _published(
    name: str, network: str, layer: str, device: torch.device, weights: str
) -> Published:
    file = Path(weights) if weights else None
    if file is not None and not file.is_file():
        raise UserError(
            f"evaluate.weights must name a file on the server, got {weights!r}. Correct the path, "
            "or leave it out to download the weights at first use."
        )
    if file is not None:
        try:  # the library would run what a file with other things than numbers says
            torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file raises many kinds
            raise UserError(
                f"{file} holds no plain weights ({type(error).__name__}). Give the file that torch-fidelity downloads, "
                "or leave evaluate.weights out."
            ) from None
    wanted = f"The extractor {name!r}", "choose judge, self, pca or pixels"
    library = optional("torch_fidelity", *wanted)  # registers its networks
    registry = optional("torch_fidelity.registry", *wanted).FEATURE_EXTRACTORS_REGISTRY
    try:
        net = registry[network](network, [layer], feature_extractor_weights_path=weights or None)
    except Exception as error:  # a download or a file that fails raises many kinds
        from core.catalog import broken_off

        raise UserError(
            f"The weights of {name} cannot be loaded ({broken_off(error)}). They are downloaded at first "
            "use; without a connection, give their file as evaluate.weights, or choose another extractor."
        ) from None
    mark = hashlib.sha256(f"{network} {library.__version__}".encode())
    for key, value in net.state_dict().items():
        mark.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
    return Published(
        name, mark.hexdigest()[:16], net.to(device).eval().requires_grad_(False), device
    )


# --- The judge, trained once per dataset ----------------------------------------------------------------------------

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


def judged(dataset: Dataset) -> bool:
    """Tells whether the judge of a dataset was trained already, so that opening it takes no time."""
    return _file(dataset).exists()


def judge(dataset: Dataset, device: torch.device, told: Told = _quietly) -> Judge:
    """Opens the judge of a labelled dataset; the first time it is trained, which takes seconds to minutes.

    Args:
        dataset: With labels.
        device: Where it works.
        told: Called several times a second while it is trained, with a sentence and the share that is done; what it
            raises ends the training, of which nothing is kept.

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
            settings().allow_change(f"train the judge of {dataset.name}")
            weights = _train(model, dataset, train, device, told)
            files.keep(file, as_bytes(weights))
    parts = {name: weights.pop(name).to(device) for name in ("centre", "scale", "accuracy")}
    model.load_state_dict(weights)
    model.to(device).eval().requires_grad_(False)
    accuracy = float(parts["accuracy"].cpu())
    return Judge("judge", file.stem, model, parts["centre"], parts["scale"], accuracy)


def _follow(trainer: Trainer, what: str, told: Told) -> None:
    """Trains to the end, telling how far it is."""
    told(f"{what}: 0 of {trainer.config.images:,} images", 0.0)
    for at in trainer:
        told(f"{what}: {at.images:,} of {at.total:,} images", at.images / at.total)


def _train(
    model: Classifier, dataset: Dataset, config: TrainConfig, device: torch.device, told: Told
) -> dict[str, Tensor]:
    trainer = Trainer(model, dataset, config, device)
    _follow(trainer, f"Training the judge of {dataset.name}, once for these images", told)
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
        "scale": spread(reference).cpu(),
        "accuracy": (named.cpu() == torch.as_tensor(y)).float().mean(),
    }


def spread(reference: Tensor) -> Tensor:
    """Gives the standard deviation of each feature, (D,), and 1 for one that no image of the reference moves.

    Such a unit has no scale of its own: divided by next to nothing, one sample that stirs it would outweigh all others.
    """
    found = reference.std(0)
    return torch.where(found < 1e-3, 1.0, found)


def taught(
    lessons: Dataset,
    dataset: Dataset,
    device: torch.device,
    seed: int = 0,
    told: Told = _quietly,
) -> Classifier:
    """Trains a classifier like the judge of ``dataset``, as long, on other images, to test what these teach."""
    facts = _recipe(dataset)
    train = TrainConfig.of(facts["train"] | {"seed": seed}, "train")
    trainer = Trainer(runs.network(facts), lessons, train, device)
    _follow(trainer, "Training a classifier on them", told)
    pupil = trainer.published()
    assert isinstance(pupil, Classifier)
    return pupil


# --- Without labels -------------------------------------------------------------------------------------------------


class Contrast(nn.Module):
    """Features that find an image again after a shift, a turn, a zoom, and a change of light, among all others.

    References:
        Chen et al., 2020, A simple framework for contrastive learning, https://arxiv.org/abs/2002.05709
    """

    name = "self"
    hash = ""
    centre: Tensor
    scale: Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        any_classes = Spec(spec.channels, spec.size, spec.levels, (0.5, 0.5))
        self.body = Classifier(ClassifierConfig(), any_classes)
        self.body.last = nn.Identity()  # type: ignore[assignment]
        self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
        self.register_buffer("centre", torch.zeros(64))
        self.register_buffer("scale", torch.ones(64))

    def forward(self, x: Images) -> Tensor:
        """Gives raw features, (N, 64)."""
        return self.body.features(x)

    @torch.inference_mode()
    def features(self, x: Images) -> np.ndarray:
        """Gives standardised features of images in [0, 1], float64 (N, D)."""
        parts = [
            (self(part.to(self.scale.device)) - self.centre) / self.scale for part in x.split(500)
        ]
        return _bounded(parts)

    def groups(self) -> list[Group]:
        """Gives all parameters as one group."""
        return [Group("contrast", list(self.parameters()), 2e-3, 0.9, 0.99, 0.01)]

    def losses(
        self, x: Images, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the cross entropy of finding the other view of each image among the batch, in nats."""
        views = torch.cat([_view(x, generator), _view(x, generator)])
        z = F.normalize(self.head(self(views)), dim=1)
        alike = z @ z.T / 0.2
        alike.fill_diagonal_(-math.inf)
        partner = torch.arange(2 * len(x), device=x.device).roll(len(x))
        value = F.cross_entropy(alike, partner)
        yield Loss("contrast", value, {"loss": value.detach()})

    def fit(self, x: Images, y: Tensor | None) -> None:
        """Recomputes the batch statistics for the averaged weights, then centre and scale of the features."""
        parts = x.tensor_split(-(-len(x) // 256))
        refresh_batch_statistics(self, (lambda part=part: self(part) for part in parts))
        self.eval()
        with torch.no_grad():
            found = torch.cat([self(part) for part in parts])
        self.centre.copy_(found.mean(0))
        self.scale.copy_(spread(found))


def _view(x: Images, generator: torch.Generator) -> Images:
    """Turns, zooms, shifts, brightens and hides a patch of each image, at random."""
    u = torch.rand(len(x), 8, generator=generator, device=x.device) * 2 - 1
    angle, zoom = u[:, 0] * 0.25, 1 + u[:, 1] * 0.2
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    turn = torch.stack([cos, -sin, u[:, 2] * 0.2, sin, cos, u[:, 3] * 0.2], 1).view(-1, 2, 3)
    grid = F.affine_grid(turn, list(x.shape), align_corners=False)
    seen = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    light = u[:, 4:6, None, None, None]
    middle = seen.mean((1, 2, 3), keepdim=True)
    seen = (seen - middle) * (1 + 0.4 * light[:, 0]) + middle + 0.15 * light[:, 1]
    where = torch.linspace(-1, 1, x.shape[-1], device=x.device)
    row = (where - u[:, 6, None]).abs() < 0.25
    column = (where - u[:, 7, None]).abs() < 0.25
    hidden = (row[:, :, None] & column[:, None]).unsqueeze(1)
    return torch.where(hidden, middle, seen)


def self_supervised(dataset: Dataset, device: torch.device, told: Told = _quietly) -> Contrast:
    """Opens the self-supervised extractor of a dataset; the first time it is trained, which takes about a minute."""
    spec = spec_of(dataset)
    train = TrainConfig(images=_RECIPE["other"], batch=256, precision="float32", average=100)
    facts = {"train": train.record(), "spec": asdict(spec), "data": dataset.fingerprint, "kind": 1}
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    file = settings().cache / "contrasts" / f"{key}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251 - the first weights, inside the fork
        model = Contrast(spec)
    with _one_at_a_time:
        if file.exists():
            weights = from_bytes(file.read_bytes())
        else:
            settings().allow_change(f"train the network that compares images of {dataset.name}")
            trainer = Trainer(model, dataset, train, device)
            what = f"Training the self-supervised features of {dataset.name}, once for these images"
            _follow(trainer, what, told)
            model = trainer.published()
            assert isinstance(model, Contrast)
            weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
            files.keep(file, as_bytes(weights))
    model.load_state_dict(weights)
    model.hash = key
    return model.to(device).eval().requires_grad_(False)


# --- Features of a split, computed once -----------------------------------------------------------------------------


def of_split(extractor: Extractor, dataset: Dataset, index: np.ndarray) -> np.ndarray:
    """Gives the features of images of a dataset, float32 (N, D); computed once, then from the cache.

    The name in the cache holds the dataset's fingerprint and the extractor's hash, so that neither an older version
    of the data nor another training is ever taken for this one.
    """
    mark = hashlib.sha256(np.ascontiguousarray(index, "<i8").tobytes()).hexdigest()[:12]
    name = f"{dataset.fingerprint[:16]}-{extractor.name}-{extractor.hash}-{mark}.npy"
    file = settings().cache / "features" / name
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError):  # not there, or damaged: computed again
        pass
    parts = []
    for some in np.array_split(index, max(1, len(index) // 2000)):
        x = to_float(torch.as_tensor(np.asarray(dataset.x[some])), dataset.levels)
        parts.append(extractor.features(x).astype(np.float32))
    found = np.concatenate(parts)
    memory = io.BytesIO()
    np.save(memory, found, allow_pickle=False)
    files.keep(file, memory.getvalue())
    return found


def _float(x: np.ndarray, dataset: Dataset, device: torch.device) -> list[Tensor]:
    return [
        to_float(torch.as_tensor(part).to(device), dataset.levels)
        for part in np.array_split(x, max(1, len(x) // 500))
    ]
