"""Brings the weights of somebody's own classifier, to be attacked as ``own/NAME``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from core.catalog import Config, parse
from core.commands import commands, show, takes_values

_FLAGS = ("architecture", "resize", "crop", "mean", "std")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("weights", type=Path, help="a .safetensors file, or a .pt state dict")
    parser.add_argument("--name", default="", help="what it is called; the file's name otherwise")
    parser.add_argument("--dataset", default="digits", help="whose classes it knows (digits)")
    parser.add_argument(
        "--origin", default="torchvision", help="what its network comes from (torchvision)"
    )
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
    from core import brought

    return {"": brought.origins.get(chosen.origin).config}


@commands.add("bring", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> None:
    """Bring weights for a network of torchvision as a classifier that can be attacked."""
    from core import brought, datasets, weights

    values = dict(parse(arguments.set))
    values |= {name: v for name in _FLAGS if (v := getattr(arguments, name)) is not None}
    file = weights.read(arguments.weights)
    dataset = datasets.load(arguments.dataset, {})
    contents = weights.look(file)
    kept = brought.keep(
        arguments.name or brought.called(arguments.weights.name),
        file,
        values,
        dataset,
        arguments.origin,
    )
    facts = {
        "id": kept.id,
        "dataset": dataset.name,
        "kind": contents.kind,
        "tensors": len(contents.parts),
        "classes": contents.classes,
        "preprocessing": kept.record["preprocessing"],
        "notes": kept.record["notes"],
    }
    lines = [
        f"{kept.id}: {contents.kind} of {len(contents.parts):,} tensors, for {dataset.name}.",
        kept.note,
        *kept.record["notes"],
        f"Attack it: python -m core attack --dataset {dataset.name} --classifier {kept.id}",
    ]
    show(arguments, facts, lines)
