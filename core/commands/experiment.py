"""Measures whether an augmentation, or synthetic images, help a classifier."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from core import kinds
from core.catalog import Config
from core.commands import commands, ended, given, show, takes_values
from core.ground.writing import percent


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("--dataset", default="digits", help="name of a dataset (default digits)")
    parser.add_argument("--pipeline", help="a preset or a saved pipeline (experiment.pipeline)")
    parser.add_argument("--per-class", help="real images per class, for example 5,10,20")
    parser.add_argument("--referee", help="what learns: small, probe, tune or trainer")
    parser.add_argument("--backbone", help="a classifier that was brought, own/NAME (probe, tune)")
    parser.add_argument(
        "--trainer",
        metavar="MODULE:FIT",
        help="package.module:fit from here, called as fit(x, y, classes, seed, steps); gives predict(x)",
    )
    parser.add_argument(
        "--proof",
        action="store_true",
        help="compare with what the version holds: its augmented, synthetic and adversarial items",
    )
    parser.add_argument("--quick", action="store_true", help="3 pairs, no verdict")
    parser.add_argument("--expect", action="store_true", help="only say how long it would take")
    takes_values(parser, "a parameter, for example experiment.synthetic=true")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    return kinds.parts("experiment", {"dataset": chosen.dataset})


@commands.add("experiment", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Measure whether a pipeline or synthetic images help: paired arms, an interval, a verdict."""
    from core import datasets
    from core.building import experiment as trials

    names = ("pipeline", "per_class", "referee", "backbone", "trainer")
    values = given(arguments, "experiment", *names)
    if arguments.trainer:
        values |= {"experiment.referee": "trainer", "experiment.trainer_folder": str(Path.cwd())}
    if arguments.proof:
        implied = trials.implied(datasets.load(arguments.dataset))
        values = {f"experiment.{name}": value for name, value in implied.items()} | values
    if arguments.quick:
        values["experiment.quick"] = True
    choice = {"dataset": arguments.dataset}
    checked = kinds.configure("experiment", choice, values)
    config = trials.ExperimentConfig.of(checked["experiment"], "experiment")
    dataset = datasets.load(arguments.dataset, checked["dataset"]["config"])
    trials.check(dataset, config)
    if arguments.expect:
        seconds = trials.expected_seconds(dataset, config)
        show(arguments, {"seconds": seconds}, [f"About {seconds:.0f} s."])
        return 0
    job = ended(kinds.submit("experiment", choice, values, who="command line"))
    result = job.result() or {}
    lines = []
    for cell in result.get("cells", []):
        line = f"{result['arms'][cell['arm']]}, {cell['size']} per class: {percent(cell['mean'] / 100)}"
        if cell["idle"]:
            line += f", not tested: {cell['idle']}"
        elif cell["p"] is not None:
            line += f", {cell['effect']:+.1f} [{cell['low']:+.1f}, {cell['high']:+.1f}]"
            line += f", p = {cell['p']:.3f}: {cell['verdict']}"
            if cell["worth"]:
                line += f". {cell['worth']['sentence']}"
        elif cell["arm"] != "none":
            line += f", {cell['effect']:+.1f}"
        if cell["used"]:
            line += f" {cell['used']}" if line.endswith(".") else f"; {cell['used']}"
        lines.append(line)
    lines += [*result.get("notes", []), *filter(None, [result.get("verdict")])]
    show(arguments, {"job": job.id, **result}, lines)
    return 0
