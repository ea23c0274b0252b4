"""Which classifiers can be attacked: those trained here, and those that somebody brings.

What comes through the web is weights for an architecture that we know, as safetensors or as a state dict that passes
every check; never a pickle with code, never TorchScript. Any module enters by code, on the engineer's own machine.
"""

from __future__ import annotations

import difflib
import importlib
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from core import jobs, runs
from core.catalog import Config, UserError, knob, unknown
from core.datasets import Dataset
from core.files import delete_folder, full_disk_told, new_folder, read_json, write_json
from core.robustness import weights as files
from core.robustness.weights import fingerprint
from core.settings import settings
from core.target import Target
from core.tensors import Images, device
from core.watch import UNWATCHED, Watch

OWN = "own/"
IMAGENET = 1000  # classes of torchvision's own weights
_HEAD = re.compile(r"(?:^|\.)(?:fc|classifier|heads?)\b")  # of a name that ends in "bias"
_AUX = {"inception_v3": ("AuxLogits.",), "googlenet": ("aux1.", "aux2.")}  # read in training alone
BY_CODE = "Bring it by code on your own machine: attack --classifier package.module:factory."


class ForeignConfig(Config):
    """How the weights that somebody brings become a classifier."""

    architecture: str = knob("resnet18", "Name of the network in torchvision.models.")
    resize: int = knob(
        0,
        "Side that images are resized to before the network. 0 is as trained: images that are smaller than those of "
        "ImageNet keep their size where the network takes it, else torchvision's own; -1 leaves them as they are.",
        ge=-1,
        le=2048,
        unit="px",
        log=True,
    )
    crop: int = knob(
        0,
        "Side of the square that is cut from the middle. 0 is as trained: torchvision's own where images are resized "
        "to more than that, else nothing is cut; -1 cuts nothing.",
        ge=-1,
        le=2048,
        unit="px",
        log=True,
    )
    mean: str = knob(
        "",
        "What is subtracted from each channel, for example 0.485,0.456,0.406; empty reads it from torchvision.",
    )
    std: str = knob(
        "",
        "What each channel is divided by, for example 0.229,0.224,0.225; empty reads it from torchvision.",
    )
    transform_input: bool = knob(
        True,
        "Inception and GoogLeNet alone: what they were given is normalised once more inside, as torchvision does "
        "with its own weights; off for a network that was made without them (weights=None).",
        title="Transform input",
        advanced=True,
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
        source: Where in a checkpoint they stand; empty for a plain file.
        others: Other places of the checkpoint that hold a set of weights, and were left.
    """

    kind: str
    tensors: int
    megabytes: float
    classes: int
    source: str = ""
    others: tuple[str, ...] = ()


def available(dataset: str) -> list[Choice]:
    """Lists the classifiers that fit a dataset: its own plain one, the trained ones, those that were brought."""
    found = [Choice("", "Plain classifier of this dataset", "The dataset's own.")]
    for run in runs.listing():
        if run.kind == "classifier" and runs.dataset_of(run) == dataset and runs.checkpoints(run):
            defence = run.config.get("classifier", {}).get("defence", "none")
            note = {"none": "Plain training.", "noise": "Trained with noise."}.get(
                defence, f"Trained against attacks ({defence})."
            )
            found.append(Choice(run.id, run.name, note))
    for place in _own():
        facts = read_json(place / "classifier.json")
        if facts["dataset"] == dataset:
            note = f"Brought: {facts['config']['architecture']}. {told(_kept(facts))}"
            found.append(Choice(OWN + place.name, place.name, note))
    return found


def target_of(id: str, dataset: Dataset, watch: Watch = UNWATCHED) -> Target:
    """Opens a classifier of :func:`available` for a dataset; its plain one is trained where it is not there yet.

    Args:
        id: Of the classifier; empty for the plain one.
        dataset: Whose images and classes it is to fit.
        watch: Follows that training; who ends it ends it with nothing kept.

    Raises:
        UserError: If there is none of this id, or it does not fit the images or classes.
    """
    where = device()
    if not id:
        from core import features

        judge = features.judge(dataset, where, watch)
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
    found = files.look(file)
    size = sum(part.nbytes for part in found.parts.values()) / 2**20
    return Found(
        found.kind, len(found.parts), size, _classes(found.parts), found.source, found.others
    )


def _classes(parts: Mapping[str, files.StoredTensor]) -> int:
    heads = [
        name
        for name, part in parts.items()
        if len(part.shape) == 1
        and name.endswith("bias")
        and _HEAD.search(name)
        and "aux" not in name.lower()
    ]
    last = max(
        heads, key=lambda name: [int(part) for part in re.findall(r"\d{1,9}", name)], default=""
    )
    return parts[last].shape[0] if last else 0


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
    net, notes = _network(config, file, len(dataset.classes))
    _, said = prepared(net, config, dataset.channels, dataset.size)
    facts = {
        "config": config.record(),
        "preprocessing": said,
        "notes": notes,
        "dataset": dataset.name,
        "classes": list(dataset.classes),
        "channels": dataset.channels,
        "size": dataset.size,
    }
    with full_disk_told(), new_folder(place) as new:
        (new / "model.safetensors").write_bytes(as_bytes(net.state_dict()))
        write_json(new / "classifier.json", facts)
    return OWN + name


def called(file: str) -> str:
    """Makes a classifier's name of the name of its file.

    >>> called("best model.ckpt.pt")
    'best model-ckpt'
    """
    plain = re.sub(r"[^A-Za-z0-9 _-]+", "-", Path(file).stem).strip("-_ ")
    return plain[:60] or "classifier"


def kept(id: str) -> dict[str, Any]:
    """Gives what was written down of a classifier that was brought: what it does to an image, and notes.

    Raises:
        UserError: If there is none of this id, or its record is damaged.
    """
    facts = read_json(_place(id.removeprefix(OWN)) / "classifier.json")
    return {**facts, "preprocessing": _kept(facts), "notes": facts.get("notes", [])}


def delete(id: str) -> None:
    """Deletes a classifier that was brought.

    Raises:
        UserError: If the server is view-only, or there is none of this id.
    """
    settings().allow_change("delete a classifier")
    with full_disk_told():
        delete_folder(_place(id.removeprefix(OWN)))


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
    facts = read_json(place / "classifier.json")
    _same_classes(name, facts["classes"], dataset)
    config = ForeignConfig.of(facts["config"], "classifier")
    weights = (place / "model.safetensors").read_bytes()
    net, _ = _network(config, weights, len(facts["classes"]))
    said = _kept(facts)
    model = Prepared(net, said["resize"], said["crop"], said["mean"], said["std"])
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


def _kept(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Gives what a classifier that was kept does to an image."""
    if "preprocessing" in facts:
        return dict(facts["preprocessing"])
    config = ForeignConfig.of(facts["config"], "classifier")  # kept before this was written down
    return _settled(config, lambda: False)


def told(said: Mapping[str, Any]) -> str:
    """Says in words what a classifier does to an image."""
    size = (
        f"resized to {said['resize']} px" if said["resize"] > 0 else "kept at their own size"
    ) + (f", {said['crop']} px are cut from the middle" if said["crop"] > 0 else "")
    means, stds = (", ".join(f"{v:g}" for v in said[name]) for name in ("mean", "std"))
    origin = said["from"] if said["from"] == "as given" else f"from {said['from']}"
    inside = ", then normalised once more inside" if said.get("transform_input") else ""
    return f"Images are {size}; minus {means}, divided by {stds} ({origin}){inside}."


class _Bare(TorchFunctionMode):
    """Makes what a network will be filled with without memory; what it computes for itself is real."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones):
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _bare(architecture: str, classes: int, transform: bool = True) -> nn.Module:
    from torchvision import models

    more = {"init_weights": False, "aux_logits": False, "transform_input": transform}
    with _Bare():
        return models.get_model(
            architecture,
            weights=None,
            num_classes=classes,
            **(more if architecture in _AUX else {}),
        )


@cache
def _shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """Gives the shapes of a network's tensors, with as many classes as those of ImageNet."""
    return {
        name: tuple(value.shape)
        for name, value in _bare(architecture, IMAGENET).state_dict().items()
    }


def _network(config: ForeignConfig, file: bytes, classes: int) -> tuple[nn.Module, list[str]]:
    """Builds a network of torchvision without memory, and gives it the weights of a file; notes say what was left.

    Raises:
        UserError: If there is no such network, or the weights do not fit; the first key that does not is named.
    """
    architecture = config.architecture
    if architecture not in architectures():
        raise UserError(unknown("architecture", architecture, architectures()))
    net = _bare(architecture, classes, config.transform_input)
    wanted = net.state_dict()
    contents = files.look(file)
    found = _fitted(architecture, contents.parts, {n: tuple(v.shape) for n, v in wanted.items()})
    if not found.whole:
        raise _misfit(architecture, classes, contents.parts, found, wanted)
    read = files.load(file, contents, found.chosen)
    full = {}
    for name, value in wanted.items():
        if name not in read:
            full[name] = torch.zeros((), dtype=torch.long) if value.is_meta else value
        elif read[name].is_floating_point() != value.is_floating_point():
            raise UserError(
                f"The tensor {name!r} of this file is of {str(read[name].dtype).removeprefix('torch.')}, and "
                f"{architecture} computes with {str(value.dtype).removeprefix('torch.')}. Quantised weights cannot be "
                f"read. Save the weights before they are quantised. {BY_CODE}"
            )
        else:
            full[name] = read[name].to(value.dtype)
            if not bool(full[name].isfinite().all()):
                raise UserError(
                    f"The tensor {name!r} of this file holds a number too large for float32. "
                    "All must be finite. Save the weights in float32."
                )
    net.load_state_dict(full, assign=True)
    return net.eval().requires_grad_(False), _notes(contents, found)


def _notes(contents: files.Contents, found: files.Fit) -> list[str]:
    notes = [f"Taken from {contents.source!r} of the checkpoint."] if contents.source else []
    notes += [f"Another set of weights, {other!r}, was left." for other in contents.others[:3]]
    if found.left:
        some = ", ".join(repr(name[:60]) for name in found.left[:3])
        more = " …" if len(found.left) > 3 else ""
        notes.append(f"Left out, because they stand outside the network: {some}{more}.")
        if any(re.search(r"(mean|std)$", name) for name in found.left):
            notes.append("If these normalise the images, write their numbers in mean and std.")
    return notes


def _fitted(
    architecture: str,
    parts: Mapping[str, files.StoredTensor],
    wanted: Mapping[str, tuple[int, ...]],
) -> files.Fit:
    made = {
        name
        for name in wanted
        if name.endswith(
            ("num_batches_tracked", "relative_position_index", "relative_coords_table")
        )
    }
    found = files.fit(parts, wanted, made)
    aux = tuple(found.prefix + name for name in _AUX.get(architecture, ()))
    extra = [name for name in found.extra if not aux or not name.startswith(aux)]
    return files.Fit(found.prefix, found.chosen, found.missing, extra, found.shapes, found.left)


def _misfit(
    architecture: str,
    classes: int,
    parts: Mapping[str, files.StoredTensor],
    found: files.Fit,
    wanted: Mapping[str, Tensor],
) -> UserError:
    """Says what does not fit, and what to do about it, as far as that can be known."""
    fits = f"The weights do not fit {architecture} with {classes} classes"
    if found.missing:
        what = f"{found.missing[0]!r} is missing"
    elif found.shapes:
        name = found.shapes[0]
        what = (
            f"{name!r} must have the shape {tuple(wanted[name].shape)}, "
            f"got {parts[found.chosen[name]].shape}"
        )
    else:
        what = f"{found.extra[0][:80]!r} belongs to no part of it"
    if not found.missing and not found.extra and (other := _other_classes(found, parts, wanted)):
        return UserError(
            f"{fits}: {what}. They tell {other} classes apart. Choose a dataset with as many classes."
        )
    if best := _nearest(architecture, parts):
        return UserError(f"{fits}: {what}. They fit {best}. Choose that architecture.")
    if len(found.chosen) - len(found.shapes) > len(wanted) / 2:
        return UserError(
            f"{fits}: {what}. Most of them do fit, so the network was changed after torchvision made it. {BY_CODE}"
        )
    timm = any("patch_embed." in name for name in parts)
    why = " (they are timm's names)" if timm else ""
    return UserError(f"{fits}: {what}. No network of torchvision has these tensors{why}. {BY_CODE}")


def _other_classes(
    found: files.Fit, parts: Mapping[str, files.StoredTensor], wanted: Mapping[str, Any]
) -> int:
    """Gives the number of classes in the file, if nothing but the last layer differs; else 0."""
    counts = set()
    for name in found.shapes:
        here, there = (
            parts[found.chosen[name]].shape,
            tuple(getattr(wanted[name], "shape", wanted[name])),
        )
        if len(here) != len(there) or here[1:] != there[1:]:
            return 0
        counts.add(here[0])
    return counts.pop() if len(counts) == 1 and len(found.shapes) <= 2 else 0


def _nearest(architecture: str, parts: Mapping[str, files.StoredTensor]) -> str:
    """Finds another network that the weights fit, those of like names first; empty if there is none."""
    families: dict[str, list[str]] = {}
    for name in architectures():
        families.setdefault(re.split(r"[\d_]", name)[0], []).append(name)

    def unlike(name: str) -> float:
        return -difflib.SequenceMatcher(None, architecture, name).ratio()

    for family in sorted(families.values(), key=lambda names: min(map(unlike, names))):
        first = _shapes(family[0])
        if len(_fitted(family[0], parts, first).chosen) < 0.3 * min(len(first), len(parts)):
            continue  # other names altogether
        for name in sorted(family, key=unlike):
            found = _fitted(name, parts, wanted := _shapes(name))
            head = not found.missing and not found.extra and _other_classes(found, parts, wanted)
            if name != architecture and (found.whole or head):
                return name
    return ""


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
    net: nn.Module, config: ForeignConfig, channels: int, size: int
) -> tuple[Prepared, dict[str, Any]]:
    """Puts the preprocessing before a network: what the config says, else what it was most likely trained with.

    Args:
        net: The network.
        config: What is known of it.
        channels, size: Of the dataset's images.

    Raises:
        UserError: If a mean or std is not one or three finite numbers, or the network cannot take such images.
    """

    def tried(said: Mapping[str, Any]) -> str:
        model = Prepared(net, said["resize"], said["crop"], said["mean"], said["std"]).eval()
        try:
            with torch.no_grad():
                out = model(torch.full((2, channels, size, size), 0.5))
        except Exception as error:  # whatever a network raises at images that it does not take
            return _raised(error)
        return "" if bool(out.isfinite().all()) else "its answer is not finite"

    def takes() -> bool:
        own = {"resize": -1, "crop": -1, "mean": [0.5] * 3, "std": [0.5] * 3}
        return not tried(own)

    said = _settled(config, takes, size)
    if wrong := tried(said):
        how = f"resized to {said['resize']} px" if said["resize"] > 0 else "at their own size"
        raise UserError(
            f"{config.architecture} cannot take images of {size} px {how} ({wrong}). "
            "Write in resize and crop what it was trained with."
        )
    return Prepared(net, said["resize"], said["crop"], said["mean"], said["std"]), said


def _settled(
    config: ForeignConfig, takes: Callable[[], bool], size: int = IMAGENET
) -> dict[str, Any]:
    """Settles what is done to an image; ``takes`` tells whether the network takes images of their own size."""
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
    if config.resize:
        resize = config.resize
    elif size < crop and takes():
        resize = -1  # trained on small images: nobody blew them up to those of ImageNet
    crop = config.crop or (crop if resize > 0 else -1)
    if crop >= (resize if resize > 0 else size):
        crop = -1  # nothing would be cut
    given = _numbers("mean", config.mean), _numbers("std", config.std)
    if all(given):
        source = "as given"
    mean, std = given[0] or mean, given[1] or std
    if min(std) <= 0:
        raise UserError(f"std must be above 0, got {config.std!r}. For example 0.229,0.224,0.225.")
    return {
        "resize": resize,
        "crop": crop,
        "mean": mean,
        "std": std,
        "from": source,
        "transform_input": config.architecture in _AUX and config.transform_input,
    }


def _numbers(name: str, text: str) -> list[float]:
    if not text.strip():
        return []
    try:
        found = [float(word) for word in text.replace(";", ",").split(",")]
    except ValueError:
        found = []
    if len(found) not in (1, 3) or not all(map(math.isfinite, found)):
        raise UserError(
            f"{name} must be one or three numbers with commas, got {text!r}. For example 0.5,0.5,0.5."
        )
    return found * (3 if len(found) == 1 else 1)


# --- By code, on the engineer's own machine -------------------------------------------------------------------------


def from_code(place: str, weights: str | Path | None, dataset: Dataset) -> Target:
    """Makes a classifier by calling ``package.module:factory`` of this machine, with weights from a file.

    Raises:
        UserError: If the place cannot be imported, gives no module, the weights do not fit, or it cannot answer images
            of the dataset.
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
    try:
        net = made if isinstance(made, nn.Module) else made()
    except Exception as error:  # whatever the program of this machine raises
        raise UserError(
            f"{place} could not be called without arguments ({_raised(error)}). "
            "It must give a torch.nn.Module. Call it in Python to see where it fails."
        ) from error
    if not isinstance(net, nn.Module):
        raise UserError(f"{place} gave {type(net).__name__}, not a torch.nn.Module. {example}")
    if weights is not None:
        _fill(net, Path(weights), place)
    net.eval().requires_grad_(False)
    facts = {"kind": "code", "place": place, "hash": fingerprint(net)}
    channels, size = dataset.channels, dataset.size
    target = Target(net, dataset.classes, channels, size, name=place, facts=facts, device=device())
    try:
        target.with_().logits(torch.full((2, channels, size, size), 0.5))
    except UserError:
        raise
    except Exception as error:  # whatever a network raises at images that it does not take
        raise UserError(
            f"{place} cannot answer images of {channels} × {size} × {size} ({_raised(error)}). It gets images as "
            f"{dataset.name} has them, float32 from 0 to 1. Resize them or repeat their channel in its forward, or "
            "choose the dataset that it was trained for."
        ) from error
    return target


def _raised(error: Exception) -> str:
    """Names an error of somebody else's program in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__


def _fill(net: nn.Module, weights: Path, place: str) -> None:
    """Gives a network of this machine the weights in a file, whatever a wrapper has put before their names."""
    limit = settings().upload_mb
    try:
        with weights.open("rb") as opened:
            file = opened.read(limit * 2**20 + 1)
    except OSError as error:
        raise UserError(f"{weights} cannot be read ({error}). Give --weights a file.") from None
    contents = files.look(file)
    wanted = net.state_dict()
    made = {name for name in wanted if name.endswith("num_batches_tracked")}
    found = files.fit(contents.parts, {n: tuple(v.shape) for n, v in wanted.items()}, made)
    for name in [*found.missing, *found.shapes, *found.extra]:
        raise UserError(
            f"{weights} does not fit {place}: {name!r} is missing or has another shape. "
            "Give the weights that belong to it."
        )
    read = files.load(file, contents, found.chosen)
    net.load_state_dict(wanted | read)
