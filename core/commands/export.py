"""Writes a dataset in the layouts that people use, or as a ZIP; can build a larger one before."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import kinds, runs
from core.catalog import Config, UserError, parse
from core.commands import Terminal, commands, ended, out_file, show, takes_values


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("dataset", help="name of a dataset")
    parser.add_argument(
        "--as",
        dest="layouts",
        metavar="LAYOUTS",
        help="folder, parquet, webdataset, croissant, npz, coco: any of them, with commas between",
    )
    parser.add_argument("--out", help="a new folder (with --as), or dataset.zip")
    parser.add_argument(
        "--purpose", help="what it leaves for, research or commercial: a licence may forbid it"
    )
    parser.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="CHECK=REASON",
        help="with --as: why it leaves although a check at the door holds it; the card says so",
    )
    parser.add_argument("--build", metavar="NAME", help="first build a dataset of this name")
    parser.add_argument("--pipeline", help="with --build: add augmented copies (build.pipeline)")
    parser.add_argument(
        "--run", dest="model", help="with --build: add samples of a run (build.run)"
    )
    takes_values(parser, "a parameter, for example build.per_class=500 or dataset.size=16")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    from core import building

    parts = kinds.parts("build", {"dataset": chosen.dataset or "digits"})
    return {**parts, "export": building.ExportConfig}


@commands.add("export", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Write a dataset as Parquet, folders, WebDataset, Croissant, NumPy or COCO, or as a ZIP, and read it back."""
    from core import building, datasets
    from core.building import door

    if arguments.layouts is not None and not arguments.out:
        raise UserError("--as writes into a new folder, which needs a name. Add --out FOLDER.")
    if not arguments.out and not arguments.build:
        raise UserError(
            "An export needs --as LAYOUTS and --out FOLDER, --out dataset.zip or --build NAME, got none of them. "
            "Write one, for example --as parquet --out exported."
        )
    if not arguments.build and (arguments.pipeline or arguments.model):
        raise UserError(
            "--pipeline and --run make a new dataset, which needs a name. Add --build NAME."
        )
    out = None
    if arguments.out:
        out = Path(arguments.out) if arguments.layouts else out_file(arguments.out, ".zip")
    values: dict[str, Any] = parse(arguments.set)
    own = {name[7:]: values.pop(name) for name in [*values] if name.startswith("export.")}
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
    if out is not None and arguments.layouts:
        own |= {"layouts": arguments.layouts, "overrides": "\n".join(arguments.override)}
        own |= {"purpose": arguments.purpose} if arguments.purpose else {}
        wanted = building.ExportConfig.of(own, "export")
        record = building.export(
            dataset, wanted.chosen(), out, Terminal(), config=wanted, overrides=wanted.reasons()
        )
        result |= record
        lines += [
            f"{row['layout']:<11} {row['files']:>7,} files {row['bytes'] / 2**20:>9.1f} MB "
            f"{row['seconds']:>7.1f} s  {row['checked']}"
            for row in record["layouts"]
        ]
        lines += [f"Overridden ({r['check']}): {r['sentence']}" for r in record["door"]]
        lines.append(f"Wrote {record['images']:,} items of {dataset.name} to {out}")
    elif out is not None:
        refusals = door.check(dataset, door.DoorConfig(near=False))
        result |= {"out": str(out), **building.archive(dataset, out)}
        result["door"] = [refusal.record() for refusal in refusals]
        # a ZIP is for oneself, too: it is told what would hold it, and goes
        lines += [f"At the door ({r.check}): {r.sentence}" for r in refusals]
        lines.append(
            f"Wrote {result['images']:,} images of {dataset.name} to {out} ({result['bytes'] / 2**20:.1f} MB)"
        )
    show(arguments, result, lines)
    return 0
