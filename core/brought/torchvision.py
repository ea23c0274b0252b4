"""Weights for a classifier of torchvision, as they come through the web.

They are safetensors, or a state dict that passes every check; never a pickle with code, never TorchScript.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import brought, weights
from core.brought import origins
from core.catalog import Config, UserError, knob, unknown
from core.models import Spec
from core.runs import Opened
from core.target import laid_out
from core.tensors import Images, fingerprint
from core.weights import Package, names
from core.weights.names import Fit
from core.wrapped.strict import Bare

IMAGENET = 1000  # classes of torchvision's own weights
_AUX = {"inception_v3": ("AuxLogits.",), "googlenet": ("aux1.", "aux2.")}  # read in training alone
BY_CODE = "Bring it by code on your own machine: attack --classifier package.module:factory."

Shapes = Mapping[str, tuple[int, ...]]  # of tensors, by their names


class TorchvisionConfig(Config):
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


def _note(record: Mapping[str, Any]) -> str:
    """Says which network a kept one is, and what it does to an image."""
    done = preprocessing(record)
    size = (
        f"resized to {done['resize']} px" if done["resize"] > 0 else "kept at their own size"
    ) + (f", {done['crop']} px are cut from the middle" if done["crop"] > 0 else "")
    means, stds = (", ".join(f"{v:g}" for v in done[name]) for name in ("mean", "std"))
    origin = done["from"] if done["from"] == "as given" else f"from {done['from']}"
    inside = ", then normalised once more inside" if done.get("transform_input") else ""
    return (
        f"{record['config']['architecture']}. "
        f"Images are {size}; minus {means}, divided by {stds} ({origin}){inside}."
    )


@origins.add(
    "torchvision",
    "Weights for a network of torchvision",
    TorchvisionConfig,
    files=("safetensors", "pt", "pth", "ckpt"),
    note=_note,
)
def classifier(
    config: TorchvisionConfig,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """A network of torchvision with weights that were brought, behind what was done to its images in training."""
    if package is None:
        net, notes = _made(config.architecture, len(classes), config.transform_input), []
    else:
        net, notes = network(config, package.weights, len(classes))
    done = preprocessing(record) if record else tried(net, config, spec.channels, spec.size)
    about = {"kind": "brought", "architecture": config.architecture, "preprocessing": done}
    about["hash"] = fingerprint(net)
    return laid_out(brought.opened(Prepared(net, done), spec, classes, about, notes))


def architectures() -> list[str]:
    """Lists the networks of torchvision that classify images."""
    from torchvision import models

    return models.list_models(module=models)


def preprocessing(record: Mapping[str, Any]) -> dict[str, Any]:
    """Gives what a classifier that was kept does to an image."""
    if "preprocessing" in record:
        return dict(record["preprocessing"])
    config = TorchvisionConfig.of(record["config"], "classifier")  # kept before it was written down
    return settled(config, lambda: False)


def _made(architecture: str, classes: int, transform: bool = True) -> nn.Module:
    from torchvision import models

    more = {"init_weights": False, "aux_logits": False, "transform_input": transform}
    return models.get_model(
        architecture,
        weights=None,
        num_classes=classes,
        **(more if architecture in _AUX else {}),
    )


def _bare(architecture: str, classes: int, transform: bool = True) -> nn.Module:
    with Bare():
        return _made(architecture, classes, transform)


@cache
def _shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """Gives the shapes of a network's tensors, with as many classes as those of ImageNet."""
    return {
        name: tuple(value.shape)
        for name, value in _bare(architecture, IMAGENET).state_dict().items()
    }


def network(config: TorchvisionConfig, file: bytes, classes: int) -> tuple[nn.Module, list[str]]:
    """Builds a network of torchvision, and gives it the weights of a file; notes say what was left out.

    Raises:
        UserError: If there is no such network, or the weights do not fit; the first key that does not is named.
    """
    architecture = config.architecture
    if architecture not in architectures():
        raise UserError(unknown("architecture", architecture, architectures()))
    net = _bare(architecture, classes, config.transform_input)
    wanted = net.state_dict()
    contents = weights.look(file)
    shapes = {name: tuple(value.shape) for name, value in wanted.items()}
    fit = _fitted(architecture, contents.shapes, shapes)
    if not fit.whole:
        raise _misfit(architecture, classes, contents.shapes, fit, shapes)
    given = weights.load(file, contents, fit.chosen)
    full = {}
    for name, value in wanted.items():
        if name not in given:
            full[name] = torch.zeros((), dtype=torch.long) if value.is_meta else value
        elif given[name].is_floating_point() != value.is_floating_point():
            raise UserError(
                f"The tensor {name!r} of this file is of {str(given[name].dtype).removeprefix('torch.')}, and "
                f"{architecture} computes with {str(value.dtype).removeprefix('torch.')}. Quantised weights cannot be "
                f"read. Save the weights before they are quantised. {BY_CODE}"
            )
        else:
            full[name] = given[name].to(value.dtype)
            if not bool(full[name].isfinite().all()):
                raise UserError(
                    f"The tensor {name!r} of this file holds a number too large for float32. "
                    "All must be finite. Save the weights in float32."
                )
    net.load_state_dict(full, assign=True)
    return net.eval().requires_grad_(False), _notes(contents, fit)


def _notes(contents: weights.Contents, fit: Fit) -> list[str]:
    notes = [f"Taken from {contents.source!r} of the checkpoint."] if contents.source else []
    notes += [f"Another set of weights, {other!r}, was left." for other in contents.others[:3]]
    if fit.left:
        some = ", ".join(repr(name[:60]) for name in fit.left[:3])
        more = " …" if len(fit.left) > 3 else ""
        notes.append(f"Left out, because they stand outside the network: {some}{more}.")
        if any(re.search(r"(mean|std)$", name) for name in fit.left):
            notes.append("If these normalise the images, write their numbers in mean and std.")
    return notes


def _fitted(architecture: str, held: Shapes, wanted: Shapes) -> Fit:
    computed = {
        name
        for name in wanted
        if name.endswith(
            ("num_batches_tracked", "relative_position_index", "relative_coords_table")
        )
    }
    fit = names.fit(held, wanted, computed)
    aux = tuple(fit.prefix + name for name in _AUX.get(architecture, ()))
    extra = [name for name in fit.extra if not aux or not name.startswith(aux)]
    return replace(fit, extra=extra)


def _misfit(architecture: str, classes: int, held: Shapes, fit: Fit, wanted: Shapes) -> UserError:
    """Says what does not fit, and what to do about it, as far as that can be known."""
    fits = f"The weights do not fit {architecture} with {classes} classes"
    if fit.missing:
        what = f"{fit.missing[0]!r} is missing"
    elif fit.shapes:
        name = fit.shapes[0]
        what = f"{name!r} must have the shape {wanted[name]}, got {held[fit.chosen[name]]}"
    else:
        what = f"{fit.extra[0][:80]!r} belongs to no part of it"
    if other := _other_classes(fit, held, wanted):
        return UserError(
            f"{fits}: {what}. They tell {other} classes apart. Choose a dataset with as many classes."
        )
    if best := _nearest(architecture, held):
        return UserError(f"{fits}: {what}. They fit {best}. Choose that architecture.")
    if len(fit.chosen) - len(fit.shapes) > len(wanted) / 2:
        return UserError(
            f"{fits}: {what}. Most of them do fit, so the network was changed after torchvision made it. {BY_CODE}"
        )
    timm = any("patch_embed." in name for name in held)
    why = " (they are timm's names)" if timm else ""
    return UserError(f"{fits}: {what}. No network of torchvision has these tensors{why}. {BY_CODE}")


def _other_classes(fit: Fit, held: Shapes, wanted: Shapes) -> int:
    """Gives the number of classes in the file, if nothing but the last layer differs; else 0."""
    if fit.missing or fit.extra:
        return 0
    counts = set()
    for name in fit.shapes:
        ours, theirs = held[fit.chosen[name]], wanted[name]
        if len(ours) != len(theirs) or ours[1:] != theirs[1:]:
            return 0
        counts.add(ours[0])
    return counts.pop() if len(counts) == 1 and len(fit.shapes) <= 2 else 0


def _nearest(architecture: str, held: Shapes) -> str:
    """Finds another network that the weights fit, those of like names first; empty if there is none."""
    families: dict[str, list[str]] = {}
    for name in architectures():
        families.setdefault(re.split(r"[\d_]", name)[0], []).append(name)

    def unlike(name: str) -> float:
        return -difflib.SequenceMatcher(None, architecture, name).ratio()

    for family in sorted(families.values(), key=lambda some: min(map(unlike, some))):
        first = _shapes(family[0])
        if len(_fitted(family[0], held, first).chosen) < 0.3 * min(len(first), len(held)):
            continue  # other names altogether
        for name in sorted(family, key=unlike):
            fit = _fitted(name, held, wanted := _shapes(name))
            if name != architecture and (fit.whole or _other_classes(fit, held, wanted)):
                return name
    return ""


class Prepared(nn.Module):
    """A network with its preprocessing: resize, cut the middle, repeat grey, normalise."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, done: Mapping[str, Any]) -> None:
        super().__init__()
        self.net, self.resize, self.crop = net, done["resize"], done["crop"]
        self.register_buffer("mean", torch.tensor(done["mean"]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(done["std"]).view(1, -1, 1, 1))

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


def tried(net: nn.Module, config: TorchvisionConfig, channels: int, size: int) -> dict[str, Any]:
    """Finds what is to be done to images: what the config says, else what it was most likely trained with.

    Args:
        net: The network.
        config: What is known of it.
        channels, size: Of the dataset's images.

    Raises:
        UserError: If a mean or std is not one or three finite numbers, or the network cannot take such images.
    """

    def wrong(done: Mapping[str, Any]) -> str:
        try:
            with torch.no_grad():
                out = Prepared(net, done).eval()(torch.full((2, channels, size, size), 0.5))
        except Exception as error:  # whatever a network raises at images that it does not take
            return brought.raised(error)
        return "" if bool(out.isfinite().all()) else "its answer is not finite"

    own = {"resize": -1, "crop": -1, "mean": [0.5] * 3, "std": [0.5] * 3}
    done = settled(config, lambda: not wrong(own), size)
    if why := wrong(done):
        how = f"resized to {done['resize']} px" if done["resize"] > 0 else "at their own size"
        raise UserError(
            f"{config.architecture} cannot take images of {size} px {how} ({why}). "
            "Write in resize and crop what it was trained with."
        )
    return done


def settled(
    config: TorchvisionConfig, takes: Callable[[], bool], size: int = IMAGENET
) -> dict[str, Any]:
    """Settles what is done to an image; ``takes`` tells whether the network takes images of their own size.

    Raises:
        UserError: If the mean or the spread that was given is no row of numbers.
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
    if config.resize:
        resize = config.resize
    elif size < crop and takes():
        resize = -1  # most likely trained on small images as they were
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
        numbers = [float(word) for word in text.replace(";", ",").split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3) or not all(map(math.isfinite, numbers)):
        raise UserError(
            f"{name} must be one or three numbers with commas, got {text!r}. For example 0.5,0.5,0.5."
        )
    return numbers * (3 if len(numbers) == 1 else 1)
