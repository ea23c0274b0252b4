"""Any module, by code: on the engineer's own machine, never through the web and never kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core import brought, weights
from core.brought import origins
from core.catalog import Config, UserError, knob
from core.models import Spec
from core.runs import Opened
from core.target import Target
from core.tensors import fingerprint
from core.weights import Package, names
from core.weights.package import PICKLED
from core.wrapped import program


class FactoryConfig(Config):
    """Which program of this machine makes the network."""

    place: str = knob("", "package.module:factory, which gives a torch.nn.Module.")
    weights: str = knob("", "File of weights that it gets; empty leaves its own.", path=True)


@origins.add("factory", "A module of this machine", FactoryConfig)
def classifier(
    config: FactoryConfig,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """What package.module:factory of this machine gives, with weights from a file.

    Raises:
        UserError: If there is no such module, the weights do not fit, or it cannot answer the dataset's images.
    """
    name = config.place
    net = _called(name)
    if config.weights:
        _fill(net, Path(config.weights), name)
    about = {"kind": "code", "place": name, "hash": fingerprint(net)}
    opened = replace(brought.opened(net, spec, classes, about), name=name)
    try:
        Target.of(opened).logits(torch.full((2, *opened.blank.shape), 0.5))
    except UserError:
        raise
    except Exception as error:  # whatever a network raises at images that it does not take
        raise UserError(
            f"{name} cannot answer images of {' × '.join(map(str, spec.shape))} ({brought.raised(error)}). It gets "
            "images as the dataset has them, float32 from 0 to 1. Resize them or repeat their channel in its forward, "
            "or choose the dataset that it was trained for."
        ) from error
    return opened


def _called(name: str) -> nn.Module:
    _, make = program.found(name, "A classifier")
    net = make
    if not isinstance(make, nn.Module):
        net = program.called(name, make, "without arguments", "a torch.nn.Module")
    if not isinstance(net, nn.Module):
        raise UserError(
            f"{name} gave {type(net).__name__}, not a torch.nn.Module. {program.EXAMPLE}"
        )
    return net


def _fill(net: nn.Module, path: Path, name: str) -> None:
    """Gives a network the weights in a file, whatever a wrapper has put before their names."""
    file = Package.read(path, PICKLED).weights
    contents = weights.look(file)
    wanted = net.state_dict()
    may_miss = {name for name in wanted if name.endswith("num_batches_tracked")}
    fit = names.fit(contents.shapes, {n: tuple(v.shape) for n, v in wanted.items()}, may_miss)
    for name in [*fit.missing, *fit.shapes, *fit.extra]:
        raise UserError(
            f"{path} does not fit {name}: {name!r} is missing or has another shape. "
            "Give the weights that belong to it."
        )
    net.load_state_dict(wanted | weights.load(file, contents, fit.chosen))
