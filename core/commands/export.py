"""Writes a dataset in the layouts that people use, or as a ZIP; can build a larger one before."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import kinds, runs
from core.catalog import Config, UserError, parse
from core.commands import Terminal, commands, ended, out_file, show, takes_values

if TYPE_CHECKING:
    from core.building import ExportConfig
    from core.datasets import Dataset


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
        help="why it leaves although a check at the door holds it; the card says so. A ZIP goes with a warning where "
        "only its licence is unknown or no SPDX id, and every other check holds it; near copies are looked for only "
        "with --as",
    )
    parser.add_argument(
        "--watermark",
        action="store_true",
        help="with --as: mark the pixels of synthetic pictures of 64 px or more, invisibly; detect finds it",
    )
    parser.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="with --as and one layout: send it to the Hugging Face hub (extra hub; token in HF_TOKEN)",
    )
    parser.add_argument(
        "--private", action="store_true", help="with --push: only its owner sees it"
    )
    parser.add_argument(
        "--replace", action="store_true", help="with --push: the files that are there give way"
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
    from core.building import door, optout
    from core.datasets import hub

    sent = arguments.push is not None
    if arguments.layouts is None and (sent or arguments.watermark):
        raise UserError("--push and --watermark belong to layouts. Add --as parquet, for example.")
    if not sent and (arguments.private or arguments.replace):
        raise UserError("--private and --replace belong to --push. Add --push OWNER/NAME.")
    if sent:
        if len({name.strip() for name in (arguments.layouts or "").split(",")} - {""}) != 1:
            raise UserError(
                f"--push sends one layout, got {arguments.layouts!r}. Choose one; the hub shows --as parquet best."
            )
        hub.allow_push(arguments.push)
    if arguments.layouts is not None and not arguments.out and not sent:
        raise UserError("--as writes into a new folder, which needs a name. Add --out FOLDER.")
    if not arguments.out and not sent and not arguments.build:
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
    if arguments.layouts:
        own |= {"layouts": arguments.layouts, "overrides": "\n".join(arguments.override)}
        own |= {"purpose": arguments.purpose} if arguments.purpose else {}
        own |= {"watermark": True} if arguments.watermark else {}
        wanted = building.ExportConfig.of(own, "export")
        record, said = _laid_out(dataset, wanted, out, arguments)
        result |= record
        lines += said
    elif out is not None:
        asked = door.DoorConfig.of({"purpose": arguments.purpose} if arguments.purpose else {})
        reasons = door.parsed(arguments.override)
        packed = building.pack(dataset, out, asked.purpose, reasons)
        result |= {"out": str(out), **packed}
        lines += [
            f"{'Overridden' if told['reason'] else 'At the door'} ({told['check']}): {told['sentence']}"
            for told in packed["door"]
        ]
        if staying := optout.staying(dataset):
            lines.append(staying)
        lines.append(
            f"Wrote {result['images']:,} {dataset.medium.title.lower()} of {dataset.name} to {out} "
            f"({result['bytes'] / 2**20:.1f} MB)"
        )
    show(arguments, result, lines)
    return 0


def _laid_out(
    dataset: Dataset, wanted: ExportConfig, out: Path | None, chosen: argparse.Namespace
) -> tuple[dict[str, Any], list[str]]:
    """Writes the layouts, and sends one; what was only made to be sent does not stay. Gives record and lines."""
    from core import building
    from core.building.export import sentence
    from core.datasets import hub
    from core.ground import scratch

    with contextlib.ExitStack() as stack:
        folder = out or stack.enter_context(scratch.temporary()) / "out"
        record = building.export(
            dataset,
            wanted.chosen(),
            folder,
            Terminal(),
            config=wanted,
            overrides=wanted.reasons(),
            watermark=wanted.watermark,
        )
        lines = [
            f"{row['layout']:<11} {row['files']:>7,} files {row['bytes'] / 2**20:>9.1f} MB "
            f"{row['seconds']:>7.1f} s  {row['checked']}"
            for row in record["layouts"]
        ]
        lines += [f"Overridden ({r['check']}): {r['sentence']}" for r in record["door"]]
        lines.append(sentence(record))
        if out is None:
            record["out"] = None
        else:
            lines.append(f"Wrote {record['images']:,} items of {dataset.name} to {out}")
        if chosen.push is not None:
            only = record["layouts"][0]["layout"]
            sent = hub.pushed(folder / only, chosen.push, chosen.private, chosen.replace)
            record["push"] = sent
            lines.append(f"Sent {only} to {sent['url']} (commit {sent['commit'][:12]})")
    return record, lines
