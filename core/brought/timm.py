"""A classifier of timm: the name of its architecture, and a file of weights, perhaps with the config.json beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from torch import nn

from core import weights
from core.brought import Seen, origins
from core.brought.huggingface import (
    NAMES,
    RESAMPLES,
    SIDE,
    HuggingfaceConfig,
    prepended,
    rebuilt,
)
from core.catalog import UserError, knob, optional, unknown
from core.models import Spec
from core.runs import Opened
from core.weights import Package
from core.wrapped.preparation import given, matched, told
from core.wrapped.strict import filled

NEEDS = "A classifier of timm"


class TimmConfig(HuggingfaceConfig):
    """How weights become a classifier of timm."""

    architecture: str = knob(
        "",
        "Name of the network in timm, for example resnet18 or vit_tiny_patch16_224; empty reads it from config.json.",
    )


def knows(package: Package) -> bool:
    """Tells a folder whose config names an architecture of timm."""
    config = package.described("config.json")
    return isinstance(config.get("architecture"), str) and "architectures" not in config


def see(package: Package) -> Seen:
    """Says what a folder holds, before anything is built.

    Raises:
        UserError: If it is not let in.
    """
    config = package.json("config.json")
    name = architecture_of(TimmConfig(), package)
    contents = weights.look(package.weights)
    names = _names(config)
    return Seen(
        f"{name} (timm)",
        contents.parameters,
        classes=len(names) or contents.classes,
        names=tuple(names),
        notes=(told(prepared(TimmConfig(), name, package, 3)),),
    )


@origins.add(
    "timm",
    "A classifier of timm",
    TimmConfig,
    files=("safetensors", "pt", "pth"),
    note=lambda record: f"{record['facts']['architecture']}. {told(record['preprocessing'])}",
    knows=knows,
    see=see,
)
def classifier(
    config: TimmConfig,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """A network of timm with weights that were brought, behind the preprocessing that timm knows of it.

    Raises:
        UserError: If there is no such network, the weights do not fit, or the package that builds it is missing.
    """
    if record is not None:
        facts, done = record["facts"], record["preprocessing"]
        make = _maker(facts["architecture"], facts["answers"], done["channels"])
        notes: list[str] = list(record.get("notes", []))
        net = rebuilt(make, package, facts["architecture"])
    else:
        assert package is not None
        name, file = architecture_of(config, package), package.weights
        contents = weights.look(file)
        said = package.described("config.json")
        names = _names(said)
        answers = contents.classes or len(names) or said.get("num_classes")
        if type(answers) is not int or not 0 < answers <= NAMES:
            raise UserError(
                f"How many classes this {name} tells apart cannot be read off its last layer. Bring the config.json "
                "beside it, with num_classes."
            )
        done = prepared(config, name, package, 3)
        outputs, matching = matched(
            classes, names if len(names) == answers else (), answers, config.classes
        )
        net = filled(_maker(name, answers, 3), file, contents, name)
        facts = {"architecture": name, "answers": answers, "outputs": outputs}
        notes = [matching]
        if spec.channels not in (1, 3):
            raise UserError(
                f"{name} takes grey or colour, and the dataset has {spec.channels} channels. Choose another."
            )
    return prepended(net, done, facts, spec, classes, notes)


@cache
def architectures() -> frozenset[str]:
    """Lists the networks of timm; a name that says a place on the web or on the disk is none of them."""
    return frozenset(optional("timm", NEEDS).list_models())


def architecture_of(config: TimmConfig, package: Package) -> str:
    """Names the architecture that a person or config.json says.

    Raises:
        UserError: If timm has none of this name, or the config asks for another form of it.
    """
    said = package.described("config.json")
    name = config.architecture or said.get("architecture") or ""
    if not name:
        raise UserError(
            "Weights alone do not say which network of timm they are of. Write architecture, for example resnet18, or "
            "bring the config.json beside them."
        )
    name = str(name).partition(".")[0]  # behind the point stands which weights
    if name not in architectures():
        raise UserError(unknown("architecture", name, architectures()))
    if said.get("model_args"):
        raise UserError(
            f"config.json builds {name} with arguments of its own (model_args), which are not read. The network must "
            "be as timm names it. Bring it by code on your own machine, or as ONNX."
        )
    return name


def _names(config: Mapping[str, Any]) -> list[str]:
    names = config.get("label_names")
    if isinstance(names, list) and 0 < len(names) <= NAMES:
        return [str(name)[:200] for name in names]
    return []


def _maker(name: str, answers: int, channels: int) -> Callable[[], nn.Module]:
    library = optional("timm", NEEDS)
    if name not in architectures():  # of a record, which a person may have changed
        raise UserError(unknown("architecture", name, architectures()))
    return lambda: library.create_model(
        name, pretrained=False, num_classes=answers, in_chans=channels
    )


def prepared(config: TimmConfig, name: str, package: Package, channels: int) -> dict[str, Any]:
    """Settles what is done to images: what a person says, else config.json, else what timm knows of the network.

    Raises:
        UserError: If a number is not allowed.
    """
    library = optional("timm", NEEDS)
    known = library.get_pretrained_cfg(name)
    steps: dict[str, Any] = known.to_dict() if known is not None else {}
    told_by = package.described("config.json").get("pretrained_cfg")
    source = f"timm's {name}"
    if isinstance(told_by, dict):
        steps |= {k: v for k, v in told_by.items() if v is not None}
        source = "from config.json"
    size = steps.get("input_size") or (3, 224, 224)
    side = size[-1] if isinstance(size, list | tuple) and size else 224
    share = steps.get("crop_pct") or 0.875
    sound = type(side) is int and 1 <= side <= SIDE and isinstance(share, int | float)
    if not sound or not 0.1 < share <= 1:
        raise UserError(
            f"The size of images of {name} must be 1 to {SIDE} px and crop_pct 0.1 to 1, got {str(side)[:20]} and "
            f"{str(share)[:20]}. Bring the config.json as it was saved."
        )
    resample = steps.get("interpolation")
    mean, std = (
        ",".join(map(str, v)) if isinstance(v, list | tuple) else str(v)
        for v in (steps.get("mean", 0.5), steps.get("std", 0.5))
    )
    resize = config.resize or math.floor(side / share)
    crop = config.crop or (side if 0 < side < resize else -1)
    if config.mean and config.std:
        source = "as given"
    known = resample in RESAMPLES.values()
    return {
        "resize": resize,
        "crop": crop,
        "resample": resample if known else "bicubic",
        **({} if known or not resample else {"instead_of": str(resample)[:20]}),
        "channels": channels,
        "mean": given("mean", config.mean or mean, channels),
        "std": given("std", config.std or std, channels),
        "from": source,
    }
