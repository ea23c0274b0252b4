"""Which classifiers can be attacked: those trained here, and those that somebody brings.

What comes through the web is weights for an architecture that we know, as safetensors or as a state dict that passes
every check; never a pickle with code, never TorchScript. Any module enters by code, on the engineer's own machine.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import shutil
import sys
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import jobs, runs
from core.catalog import Config, UserError, knob, unknown
from core.datasets import Dataset
from core.robustness.study import fingerprint
from core.settings import settings
from core.tensors import Images, device
from core.threat import Target

MEMBERS = 20_000  # files inside a state dict
OWN = "own/"
_HEAD = re.compile(r"(fc|classifier|heads?)\b.*bias$")


class ForeignConfig(Config):
    """How the weights that somebody brings become a classifier."""

    architecture: str = knob("resnet18", "Name of the network in torchvision.models.")
    resize: int = knob(
        0,
        "Side that images are resized to before the network; 0 reads it from torchvision's own weights, -1 leaves them "
        "as they are.",
        ge=-1,
        le=2048,
        unit="px",
    )
    crop: int = knob(
        0,
        "Side of the square that is cut from the middle; 0 reads it from torchvision's own weights, -1 cuts nothing.",
        ge=-1,
        le=2048,
        unit="px",
    )
    mean: str = knob(
        "",
        "What is subtracted from each channel, for example 0.485,0.456,0.406; empty reads it from torchvision.",
    )
    std: str = knob(
        "",
        "What each channel is divided by, for example 0.229,0.224,0.225; empty reads it from torchvision.",
    )


@dataclass(frozen=True)
class Choice:
    """A classifier that can be attacked on a dataset.

    Attributes:
        id: "" for the dataset's own plain one, the id of a run, or ``own/NAME``.
        title, note: For people.
    """

    id: str
    title: str
    note: str


@dataclass(frozen=True)
class Found:
    """What a file of weights holds.

    Attributes:
        kind: ``safetensors`` or ``state dict``.
        tensors: How many.
        megabytes: Together.
        classes: Outputs of the last layer, by the names that torchvision gives it; 0 where there is none of these.
    """

    kind: str
    tensors: int
    megabytes: float
    classes: int


def available(dataset: str) -> list[Choice]:
    """Lists the classifiers that fit a dataset: its own plain one, the trained ones, those that were brought."""
    found = [Choice("", "Plain classifier of this dataset", "Trained when it is first needed.")]
    for run in runs.listing():
        if run.kind == "classifier" and runs.dataset_of(run) == dataset and runs.checkpoints(run):
            defence = run.config.get("classifier", {}).get("defence", "none")
            note = {"none": "Plain training.", "noise": "Trained with noise."}.get(
                defence, f"Trained against attacks ({defence})."
            )
            found.append(Choice(run.id, run.name, note))
    for place in _own():
        facts = jobs.read_json(place / "classifier.json")
        if facts["dataset"] == dataset:
            found.append(
                Choice(OWN + place.name, place.name, f"Brought: {facts['config']['architecture']}.")
            )
    return found


def target_of(id: str, dataset: Dataset) -> Target:
    """Opens a classifier of :func:`available` for a dataset.

    Raises:
        UserError: If there is none of this id, or it does not fit the images or classes.
    """
    where = device()
    if not id:
        from core import features

        judge = features.judge(dataset, where)
        facts = {"kind": "plain", "hash": judge.hash, "accuracy": judge.accuracy}
        name = f"plain classifier of {dataset.name}"
        return Target(
            laid_out(judge.model, where, dataset.size),
            dataset.classes,
            dataset.channels,
            dataset.size,
            name=name,
            facts=facts,
            device=where,
        )
    if id.startswith(OWN):
        return _brought(id.removeprefix(OWN), dataset)
    run = jobs.find(id, "classifier")
    opened = runs.open_model(run)
    _same_classes(run.name, opened.classes, dataset)
    spec = opened.spec
    facts = {
        "kind": "run",
        "run": run.id,
        "step": opened.step,
        "hash": fingerprint(opened.model),
        "training": dict(run.config.get("classifier", {})),
        "dataset": runs.record(run)["dataset"]["fingerprint"],
    }
    return Target(
        laid_out(opened.model, where, spec.size),
        opened.classes,
        spec.channels,
        spec.size,
        name=run.name,
        facts=facts,
        device=where,
    )


def laid_out(module: nn.Module, where: torch.device, size: int) -> nn.Module:
    """Lays the weights of convolutions out as a processor likes them: a quarter faster at 28 px, slower at 8."""
    if where.type == "cpu" and size >= 16:
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return module


def _same_classes(name: str, classes: Sequence[str], dataset: Dataset) -> None:
    if list(classes) != list(dataset.classes):
        raise UserError(
            f"{name} tells {len(classes)} classes apart ({', '.join(list(classes)[:3])} …), {dataset.name} has "
            f"{len(dataset.classes)} ({', '.join(list(dataset.classes)[:3])} …). Choose the dataset that it belongs to."
        )


# --- Weights through the web ----------------------------------------------------------------------------------------


def architectures() -> list[str]:
    """Lists the networks of torchvision that classify images."""
    from torchvision import models

    return models.list_models(module=models)


def inspect(file: bytes) -> Found:
    """Looks at a file of weights, without trusting it.

    Raises:
        UserError: If it is a pickle, TorchScript, a bomb, damaged, or too large.
    """
    weights, kind = _weights(file)
    size = sum(t.nbytes for t in weights.values()) / 2**20
    heads = [name for name, t in weights.items() if t.ndim == 1 and _HEAD.match(name)]
    last = max(heads, key=lambda name: [int(part) for part in re.findall(r"\d+", name)], default="")
    return Found(kind, len(weights), size, len(weights[last]) if last else 0)


def bring(name: str, file: bytes, config: ForeignConfig, dataset: Dataset) -> str:
    """Keeps weights for a known architecture as a classifier of a dataset; gives its id, ``own/NAME``.

    Raises:
        UserError: If the server is view-only, the name is not allowed or taken, the weights are not safe or do not fit.
    """
    from safetensors.torch import save as as_bytes

    settings().allow_change("bring a classifier")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,59}", name.strip()):
        raise UserError(
            f"A classifier's name must be 1 to 60 letters, digits, dashes, underscores or spaces, got {name!r}. "
            "For example 'my-resnet'."
        )
    name = re.sub(r"\s+", "-", name.strip()).lower()
    place = _folder() / name
    if place.exists():
        raise UserError(
            f"There is a classifier {name!r} already. Choose another name, or delete that one first."
        )
    settings().allow_disk(len(file) / 2**20)
    weights, _ = _weights(file)
    net = _network(config.architecture, weights, len(dataset.classes))
    prepared(net, config, dataset.channels)  # its values are checked now
    facts = {
        "config": config.record(),
        "dataset": dataset.name,
        "classes": list(dataset.classes),
        "channels": dataset.channels,
        "size": dataset.size,
    }
    new = place.with_name(f".new-{uuid.uuid4().hex}")
    with jobs.full_disk_told():
        new.mkdir(parents=True)
        try:
            plain = {key: value.contiguous().clone() for key, value in weights.items()}
            (new / "model.safetensors").write_bytes(as_bytes(plain))
            jobs.write_json(new / "classifier.json", facts)
            new.rename(place)
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
            raise
    return OWN + name


def delete(id: str) -> None:
    """Deletes a classifier that was brought.

    Raises:
        UserError: If the server is view-only, or there is none of this id.
    """
    settings().allow_change("delete a classifier")
    shutil.rmtree(_place(id.removeprefix(OWN)), ignore_errors=True)


def _folder() -> Path:
    return settings().home.absolute() / "classifiers"


def _own() -> list[Path]:
    try:
        with os.scandir(_folder()) as entries:
            return sorted(
                Path(e.path) for e in entries if e.is_dir() and not e.name.startswith(".")
            )
    except FileNotFoundError:
        return []


def _place(name: str) -> Path:
    known = {place.name: place for place in _own()}
    if name not in known:  # never a path made of what somebody typed
        raise UserError(unknown("classifier", name, known))
    return known[name]


def _brought(name: str, dataset: Dataset) -> Target:
    place = _place(name)
    facts = jobs.read_json(place / "classifier.json")
    _same_classes(name, facts["classes"], dataset)
    weights, _ = _weights((place / "model.safetensors").read_bytes())
    config = ForeignConfig.of(facts["config"], "classifier")
    net = _network(config.architecture, weights, len(facts["classes"]))
    model, said = prepared(net, config, dataset.channels)
    about = {
        "kind": "brought",
        "architecture": config.architecture,
        "preprocessing": said,
        "hash": fingerprint(net),
    }
    return Target(
        laid_out(model, device(), dataset.size),
        facts["classes"],
        dataset.channels,
        dataset.size,
        name=name,
        facts=about,
        device=device(),
    )


def _weights(file: bytes) -> tuple[dict[str, Tensor], str]:
    """Reads weights from bytes that nobody vouches for: names to tensors, and the kind of file."""
    limit = settings().upload_mb
    if len(file) > limit * 2**20:
        raise UserError(
            f"Weights must be at most {limit} MB on this server, got {len(file) / 2**20:.0f} MB. Use a smaller network."
        )
    if file[:2] == b"PK":
        return _state_dict(file, limit), "state dict"
    if file[:1] == b"\x80" or file[:2] == b"\x1f\x8b":
        raise UserError(
            "This file is a pickle, which can run any program when it is opened. "
            "Save the weights with safetensors.torch.save_file, or with torch.save(model.state_dict(), file)."
        )
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(file), "safetensors"
    except (SafetensorError, ValueError, OverflowError) as error:
        raise UserError(
            f"This file holds no weights that can be read ({error}). "
            "Save them with safetensors.torch.save_file, or with torch.save(model.state_dict(), file)."
        ) from None


def _state_dict(file: bytes, limit: int) -> dict[str, Tensor]:
    again = "Save it again with torch.save(model.state_dict(), file), or as safetensors."
    try:
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise UserError(f"This file is damaged ({error}). {again}") from None
    names = [member.filename for member in members]
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise UserError(
            "This file is TorchScript, which is a program. Save the weights alone: "
            "torch.save(model.state_dict(), file)."
        )
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise UserError(f"This file has compressed parts, which torch.save never writes. {again}")
    total = sum(member.file_size for member in members)
    if total > limit * 2**20 or len(members) > MEMBERS:
        raise UserError(
            f"This file would unpack to {total / 2**20:.0f} MB in {len(members)} parts; at most {limit} MB in "
            f"{MEMBERS} parts are allowed. {again}"
        )
    try:
        loaded = torch.load(io.BytesIO(file), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for what it refuses
        reason = (
            str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        )
        raise UserError(
            f"This file holds more than weights, or is damaged ({reason}). {again}"
        ) from None
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise UserError(f"This file holds no state dict but {type(loaded).__name__}. {again}")
    weights: dict[str, Tensor] = {}
    for name, value in loaded.items():
        if (
            not isinstance(name, str)
            or not isinstance(value, Tensor)
            or value.layout != torch.strided
        ):
            raise UserError(
                f"The entry {str(name)[:80]!r} of this file is no plain tensor. {again}"
            )
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise UserError(
                f"The tensor {name[:80]!r} claims {value.numel()} numbers and holds fewer. {again}"
            )
        weights[name.removeprefix("module.")] = value
    return weights


def _network(architecture: str, weights: Mapping[str, Tensor], classes: int) -> nn.Module:
    """Builds a network of torchvision without memory, and gives it the weights.

    Raises:
        UserError: If there is no such network, or the weights do not fit; the first key that does not is named.
    """
    from torchvision import models

    if architecture not in architectures():
        raise UserError(unknown("architecture", architecture, architectures()))
    more = {"init_weights": False} if architecture in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        net = models.get_model(architecture, weights=None, num_classes=classes, **more)
    wanted = net.state_dict()
    fits = f"{architecture} with {classes} classes"
    for name, value in wanted.items():
        if name not in weights and not name.endswith("num_batches_tracked"):
            raise UserError(
                f"The weights do not fit {fits}: {name!r} is missing. Choose the architecture that they come from."
            )
        if name in weights and weights[name].shape != value.shape:
            raise UserError(
                f"The weights do not fit {fits}: {name!r} must have the shape {tuple(value.shape)}, "
                f"got {tuple(weights[name].shape)}. Choose the architecture, and a dataset with as many classes."
            )
    for name in weights:
        if name not in wanted:
            raise UserError(
                f"The weights do not fit {fits}: {name!r} belongs to no part of it. "
                "Choose the architecture that they come from."
            )
    full = {
        name: weights.get(name, torch.zeros((), dtype=torch.long)).to(value.dtype)
        for name, value in wanted.items()
    }
    net.load_state_dict(full, assign=True)
    return net.eval().requires_grad_(False)


class Prepared(nn.Module):
    """A network with its preprocessing: resize, cut the middle, repeat grey, normalise."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, net: nn.Module, resize: int, crop: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.net, self.resize, self.crop = net, resize, crop
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Images) -> Tensor:
        """Gives logits of images in [0, 1]."""
        if self.resize > 0 and self.resize != x.shape[-1]:
            x = F.interpolate(x, (self.resize, self.resize), mode="bilinear", antialias=True)
        if 0 < self.crop < x.shape[-1]:
            edge = (x.shape[-1] - self.crop) // 2
            x = x[..., edge : edge + self.crop, edge : edge + self.crop]
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        return self.net((x - self.mean) / self.std)


def prepared(
    net: nn.Module, config: ForeignConfig, channels: int
) -> tuple[Prepared, dict[str, Any]]:
    """Puts the preprocessing before a network: what the config says, else that of torchvision's own weights.

    Raises:
        UserError: If a mean or std is not one or three numbers.
    """
    from torchvision import models

    resize, crop, mean, std = -1, -1, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    source = "ImageNet's mean and spread"
    try:
        known: Any = models.get_model_weights(config.architecture).DEFAULT.transforms()  # pyright: ignore
        resize, crop = known.resize_size[0], known.crop_size[0]
        mean, std = list(known.mean), list(known.std)
        source = f"torchvision's weights of {config.architecture}"
    except (ValueError, AttributeError):
        pass
    resize, crop = config.resize or resize, config.crop or crop
    mean, std = _numbers("mean", config.mean) or mean, _numbers("std", config.std) or std
    if min(std) <= 0:
        raise UserError(f"std must be above 0, got {config.std!r}. For example 0.229,0.224,0.225.")
    said = {"resize": resize, "crop": crop, "mean": mean, "std": std, "from": source}
    return Prepared(net, resize, crop, mean, std), said


def _numbers(name: str, text: str) -> list[float]:
    if not text.strip():
        return []
    try:
        found = [float(word) for word in text.replace(";", ",").split(",")]
    except ValueError:
        found = []
    if len(found) not in (1, 3):
        raise UserError(
            f"{name} must be one or three numbers with commas, got {text!r}. For example 0.5,0.5,0.5."
        )
    return found * (3 if len(found) == 1 else 1)


# --- By code, on the engineer's own machine -------------------------------------------------------------------------


def from_code(place: str, weights: str | Path | None, dataset: Dataset) -> Target:
    """Makes a classifier by calling ``package.module:factory`` of this machine, with weights from a file.

    Raises:
        UserError: If the place cannot be imported, gives no module, or the weights do not fit.
    """
    module_name, _, factory = place.partition(":")
    example = "Write package.module:factory, for example mymodels.resnet:make."
    if not module_name or not factory:
        raise UserError(
            f"A classifier by code needs a module and a function, got {place!r}. {example}"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        made = getattr(importlib.import_module(module_name), factory)
    except ImportError as error:
        raise UserError(f"{module_name} cannot be imported ({error}). {example}") from None
    except AttributeError:
        raise UserError(f"{module_name} has no {factory}. {example}") from None
    net = made if isinstance(made, nn.Module) else made()
    if not isinstance(net, nn.Module):
        raise UserError(f"{place} gave {type(net).__name__}, not a torch.nn.Module. {example}")
    if weights is not None:
        try:
            found, _ = _weights(Path(weights).read_bytes())
        except OSError as error:
            raise UserError(f"{weights} cannot be read ({error}). Give --weights a file.") from None
        wanted = net.state_dict()
        for name in [*wanted, *found]:
            if name not in found or name not in wanted or found[name].shape != wanted[name].shape:
                raise UserError(
                    f"{weights} does not fit {place}: {name!r} is missing or has another shape. "
                    "Give the weights that belong to it."
                )
        net.load_state_dict(found)
    net.eval().requires_grad_(False)
    facts = {"kind": "code", "place": place, "hash": fingerprint(net)}
    return Target(
        net,
        dataset.classes,
        dataset.channels,
        dataset.size,
        name=place,
        facts=facts,
        device=device(),
    )
