"""Improves a dataset within a time, and proves it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from core import kinds
from core.catalog import Config, UserError
from core.commands import commands, ended, given, show, takes_values
from core.ground.writing import duration


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("dataset", metavar="DATASET", help="name of a dataset")
    parser.add_argument("--minutes", type=float, help="how long it may take (improve.minutes)")
    parser.add_argument("--name", help="what the new version is called (improve.name)")
    takes_values(parser, "a parameter, for example improve.generate=false")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    return kinds.parts("improve", {"dataset": chosen.dataset or "digits"})


@commands.add("improve", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Make a dataset better within some minutes: mend, augment, generate, prove; or say that nothing helps."""
    from core import datasets
    from core.building import improve

    choice, values = {"dataset": arguments.dataset}, given(arguments, "improve", "minutes", "name")
    checked = kinds.configure("improve", choice, values)
    improve.check(datasets.load(arguments.dataset, checked["dataset"]["config"]))
    job = ended(kinds.submit("improve", choice, values, who="command line"))
    result = job.result()
    if result is None:
        raise UserError(f"{job.id} was stopped before it knew anything. Start it again.")
    marks = {"done": "✓", "left out": "–", "failed": "✕"}
    lines = [
        f"{marks[step['status']]} {step['title']} ({duration(step['seconds'])}): {step['sentence']}"
        for step in result["steps"]
    ]
    lines += [f"{row['title']}: {row['sentence']}" for row in result["contributions"]]
    if result["robust"]:
        lines.append(f"Under attack: {result['robust']['sentence']}")
    lines.append(result["sentence"] or f"It has no answer: {job.message or 'it was stopped.'}")
    if result["version"]:
        lines.append(
            f"The new version is {result['version']}. Take it away with: "
            f"python -m core export {result['version']} --as folder --out FOLDER"
        )
    show(arguments, {"job": job.id, **result}, lines)
    return 0
