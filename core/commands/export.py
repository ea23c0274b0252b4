"""Writes a dataset as a ZIP, after adding augmented copies or synthetic images if asked for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from core import kinds, runs
from core.catalog import Config, UserError, parse
from core.commands import commands, ended, out_file, show, takes_values


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("dataset", help="name of a dataset")
    parser.add_argument("--out", help="dataset.zip")
    parser.add_argument("--build", metavar="NAME", help="first build a dataset of this name")
    parser.add_argument("--pipeline", help="with --build: add augmented copies (build.pipeline)")
    parser.add_argument(
        "--run", dest="model", help="with --build: add samples of a run (build.run)"
    )
    takes_values(parser, "a parameter, for example build.per_class=500 or dataset.size=16")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    return kinds.parts("build", {"dataset": chosen.dataset or "digits"})


@commands.add("export", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Write a dataset as ZIP (class folders, manifest.csv), or build a larger one first."""
    from core import building, datasets

    if not arguments.out and not arguments.build:
        raise UserError(
            "An export needs --out dataset.zip or --build NAME, got neither. Write one of them."
        )
    if not arguments.build and (arguments.pipeline or arguments.model):
        raise UserError(
            "--pipeline and --run make a new dataset, which needs a name. Add --build NAME."
        )
    out = out_file(arguments.out, ".zip") if arguments.out else None
    values: dict[str, Any] = parse(arguments.set)
    choice = {"dataset": arguments.dataset}
    result: dict[str, Any] = {}
    lines: list[str] = []
    if arguments.build:
        values["build.name"] = arguments.build
        if arguments.pipeline:
            values["build.pipeline"] = arguments.pipeline
        if arguments.model:
            values["build.run"] = runs.find(arguments.model, generator=True).id
        job = ended(kinds.submit("build", choice, values, who="command line"))
        version = job.result()
        if version is None:
            raise UserError(f"The build {job.id} was stopped before its end. Resume it.")
        result |= version
        lines.append(f"{version['name']}: {version['sentence']}")
        dataset = datasets.load(version["name"])
    else:
        config = kinds.configure("build", choice, values)["dataset"]["config"]
        dataset = datasets.load(arguments.dataset, config)
    if out is not None:
        result |= {"out": str(out), **building.archive(dataset, out)}
        lines.append(
            f"Wrote {result['images']:,} images of {dataset.name} to {out} ({result['bytes'] / 2**20:.1f} MB)"
        )
    show(arguments, result, lines)
    return 0
