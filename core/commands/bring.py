"""Brings the weights of somebody's own model: a classifier is attacked as ``own/NAME``, a generative one is a run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.catalog import Config, parse
from core.commands import commands, ended, show, takes_values


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument(
        "weights",
        type=Path,
        help="a .safetensors file or .pt state dict; a folder or ZIP with a .json that describes it",
    )
    parser.add_argument("--name", default="", help="what it is called; the file's name otherwise")
    parser.add_argument("--dataset", default="digits", help="whose classes it knows (digits)")
    parser.add_argument(
        "--origin", default="", help="where its network comes from, if its files do not tell"
    )
    for name, help in _flags().items():
        parser.add_argument(f"--{name}", metavar="VALUE", help=help)
    takes_values(parser, "a parameter, for example transform_input=false")


def _flags() -> dict[str, str]:
    """Gives the parameters of all origins that take weights, and what they are."""
    from core import brought

    return {
        name: knob.help.replace("%", "%%")
        for origin in brought.origins
        if origin.files
        for name, knob in origin.config.knobs().items()
    }


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    from core import brought

    origin = chosen.origin or brought.USUAL
    if chosen.weights and not chosen.origin:
        origin = brought.origin_of(brought.read(Path(chosen.weights))).name
    return {"": brought.origins.get(origin).config}


@commands.add("bring", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> None:
    """Bring the weights of a model: a classifier that can be attacked, or a generative model."""
    from core import brought, datasets, jobs, runs, weights

    values = dict(parse(arguments.set))
    values |= {name: v for name in _flags() if (v := getattr(arguments, name)) is not None}
    package = brought.read(arguments.weights)
    dataset = datasets.load(arguments.dataset, {})
    model = brought.keep(
        arguments.name or brought.called(package.name),
        package,
        values,
        dataset,
        arguments.origin,
    )
    record = model.record
    use = f"Attack it: python -m core attack --dataset {dataset.name} --classifier {model.id}"
    if model.origin.sampling is not None:
        record = runs.record(ended(jobs.get(model.id)))
        use = f"Sample it: python -m core sample {model.id} --out grid.png"
    result: dict[str, Any] = {"id": model.id, "dataset": dataset.name, "origin": model.origin.name}
    what = f"{len(package.files)} files"
    if package.lone:
        contents = weights.look(package.weights)
        result |= {
            "kind": contents.kind,
            "tensors": len(contents.parts),
            "classes": contents.classes,
        }
        what = f"{contents.kind} of {len(contents.parts):,} tensors"
    result |= {"preprocessing": record.get("preprocessing", {}), "notes": record["notes"]}
    lines = [
        f"{model.id}: {what}, for {dataset.name}.",
        model.note,
        *record["notes"],
        use,
    ]
    show(arguments, result, lines)
