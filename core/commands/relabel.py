"""Sends a dataset's labels to Label Studio, and brings what people decided there back."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import kinds
from core.catalog import Config, UserError, parse
from core.commands import Terminal, commands, show, takes_values
from core.ground.settings import settings


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("dataset", help="name of a dataset")
    parser.add_argument(
        "--out", metavar="FOLDER", help="write the tasks for Label Studio into this new folder"
    )
    parser.add_argument(
        "--doubtful",
        type=int,
        default=0,
        metavar="N",
        help="with --out: only images whose label the inspection calls wrong or lists for a look, at most N",
    )
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        type=int,
        metavar="IMAGE",
        help="with --out: only this image; may be repeated",
    )
    parser.add_argument(
        "--decisions",
        metavar="FILE",
        help="bring back what was decided: Label Studio's export as JSON",
    )
    parser.add_argument(
        "--save", metavar="NAME", help="with --decisions: keep the result as a version of this name"
    )
    takes_values(parser, "a parameter of the dataset, for example dataset.size=16")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    return kinds.parts("inspect", {"dataset": chosen.dataset or "digits"})


@commands.add("relabel", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Let people label images in Label Studio: tasks out, their decisions back, with undo."""
    from core import datasets
    from core.quality import decisions, relabelling

    if bool(arguments.out) == bool(arguments.decisions):
        raise UserError(
            "relabel needs --out FOLDER, to write tasks, or --decisions FILE, to bring answers back. Write one of them."
        )
    if arguments.save and arguments.out:
        raise UserError("--save keeps what came back as a version. Write it with --decisions.")
    values = kinds.configure("inspect", {"dataset": arguments.dataset}, parse(arguments.set))
    dataset = datasets.load(arguments.dataset, values["dataset"]["config"])
    if arguments.out:
        images = arguments.image or list(range(len(dataset)))
        if arguments.doubtful:
            images = relabelling.doubtful(dataset, arguments.doubtful)
        written = relabelling.write(dataset, images, Path(arguments.out).absolute(), Terminal())
        show(arguments, {"dataset": dataset.name, **written}, [
            f"{written['tasks']:,} tasks of {dataset.name} in {arguments.out}.",
            f"In Label Studio: make a project, paste {relabelling.LAYOUT} under Labeling Setup (Code), import "
            f"{relabelling.TASKS}, label, and export as JSON.",
            f"Then: python -m core relabel {dataset.name} --decisions EXPORT.json --save NAME",
        ])  # fmt: skip
        return 0
    file = Path(arguments.decisions)
    answers = relabelling.read(dataset, _content(file))
    book = relabelling.decide(
        dataset,
        answers,
        reason=f"Label Studio, {file.name}",
        who="command line",
        seen=decisions.open(dataset).version,
    )
    result: dict[str, Any] = {
        "dataset": dataset.name,
        "relabelled": len(answers.relabel),
        "confirmed": len(answers.accept),
        "excluded": len(answers.exclude),
        "refused": [list(pair) for pair in answers.refused],
        "of_another_state": answers.other,
        "decided": list(book.new),
        "decisions": book.summary,
    }
    lines = [answers.sentence]
    if answers.other:
        lines.append(answers.warning)
    lines += [f"{what} {why}" for what, why in answers.refused]
    lines += [f"{e.id}  {decisions.told(e)}" for e in book.entries if e.id in book.new]
    if arguments.save:
        saved = decisions.apply(dataset, arguments.save, "command line")
        result["saved"] = {"name": saved.name, "images": len(saved), "parent": saved.parent}
        lines.append(f"Saved {saved.name} with {len(saved):,} images.")
    else:
        lines.append(f"Take one back with: python -m core inspect {dataset.name} --undo ID")
    show(arguments, result, lines)
    return 0


def _content(file: Path) -> bytes:
    """Reads the export, which may not be larger than an upload."""
    most = settings().max_upload_mb * 2**20
    try:
        with file.open("rb") as opened:
            data = opened.read(most + 1)
    except OSError as error:
        raise UserError(
            f"--decisions must be a file that can be read, got {str(file)!r} ({error.strerror}). Choose another."
        ) from None
    if len(data) > most:
        raise UserError(
            f"{file.name!r} has more than {settings().max_upload_mb} MB, which is all that is read. Export fewer tasks."
        )
    return data
