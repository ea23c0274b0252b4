"""Brings the weights of somebody's own classifier, to be attacked as ``own/NAME``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from core.catalog import Config, UserError, parse
from core.commands import commands, show, takes_values
from core.settings import settings

_FLAGS = ("architecture", "resize", "crop", "mean", "std")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("weights", type=Path, help="a .safetensors file, or a .pt state dict")
    parser.add_argument("--name", default="", help="what it is called; the file's name otherwise")
    parser.add_argument("--dataset", default="digits", help="whose classes it knows (digits)")
    parser.add_argument("--architecture", help="name in torchvision.models (resnet18)")
    parser.add_argument(
        "--resize", help="px of a side before the network; 0 as trained, -1 as it is"
    )
    parser.add_argument(
        "--crop", help="px of the square cut from the middle; 0 as trained, -1 none"
    )
    parser.add_argument("--mean", help="subtracted from each channel, for example 0.5,0.5,0.5")
    parser.add_argument("--std", help="each channel is divided by it, for example 0.25,0.25,0.25")
    takes_values(parser, "a parameter, for example transform_input=false")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    from core.robustness.foreign import ForeignConfig

    return {"": ForeignConfig}


@commands.add("bring", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> None:
    """Bring weights for a network of torchvision as a classifier that can be attacked."""
    from core import datasets
    from core.robustness import foreign

    values = dict(parse(arguments.set))
    values |= {name: v for name in _FLAGS if (v := getattr(arguments, name)) is not None}
    limit = settings().upload_mb
    try:
        with arguments.weights.open("rb") as opened:
            file = opened.read(limit * 2**20 + 1)  # one more than is allowed: it is refused
    except OSError as error:
        raise UserError(
            f"{arguments.weights} cannot be read ({error.strerror}). Give a .safetensors or .pt file."
        ) from None
    config = foreign.ForeignConfig.of(values, "classifier")
    dataset = datasets.load(arguments.dataset, {})
    inside = foreign.inspect(file)
    id = foreign.bring(
        arguments.name or foreign.called(arguments.weights.name), file, config, dataset
    )
    kept = foreign.kept(id)
    facts = {
        "id": id,
        "dataset": dataset.name,
        "kind": inside.kind,
        "tensors": inside.tensors,
        "classes": inside.classes,
        "preprocessing": kept["preprocessing"],
        "notes": kept["notes"],
    }
    lines = [
        f"{id}: {inside.kind} of {inside.tensors:,} tensors, for {dataset.name}.",
        foreign.told(kept["preprocessing"]),
        *kept["notes"],
        f"Attack it: python -m core attack --dataset {dataset.name} --classifier {id}",
    ]
    show(arguments, facts, lines)
