"""Measures how far one dataset lies from another."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from core import kinds
from core.catalog import Config
from core.commands import Terminal, commands, ended, given, show, takes_values


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("dataset", help="name of a dataset")
    parser.add_argument("against", nargs="?", help="another one; none takes images of the same one")
    parser.add_argument("--corruption", help="what is done to the other images (drift.corruption)")
    parser.add_argument("--severity", type=int, help="1 to 5 (drift.severity)")
    parser.add_argument("--run", dest="run_id", help="a model to measure on both, as a job")
    takes_values(parser, "a parameter, for example drift.images=500 or dataset.size=16")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    return kinds.parts("drift", {"dataset": chosen.dataset or "digits"})


@commands.add("drift", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Say how far a dataset moved from another, by class, and what a generative model is worth on both."""
    from core import datasets, runs
    from core.building import drift

    values = given(arguments, "drift", "against", "corruption", "severity")
    if arguments.run_id:
        values["drift.run"] = runs.find(arguments.run_id, generator=True).id
    choice = {"dataset": arguments.dataset}
    checked = kinds.configure("drift", choice, values)
    config = drift.DriftConfig.of(checked["drift"], "drift")
    if not config.run:
        dataset = datasets.load(arguments.dataset, checked["dataset"]["config"])
        found = drift.drift(dataset, drift.other_of(dataset, config), config, Terminal())
        result: dict[str, Any] = found.record() | {"worth": None}
        lines = drift.told(result)
    else:
        job = ended(kinds.submit("drift", choice, values, who="command line"))
        result = (job.result() or {}) | {"job": job.id}
        lines = drift.told(result) if "classes" in result else []
        worth = result.get("worth")
        for row in worth["rows"] if worth else []:
            kid, floor = row["kid"], row["floor"]
            lines.append(
                f"{row['title']}, on {row['on']}: KID {drift.three(kid['value'])} "
                f"[{drift.three(kid['low'])}, {drift.three(kid['high'])}], "
                f"real images {drift.three(floor['value'])}, n = {row['n']:,}"
            )
        lines += [worth["sentence"]] if worth else []
    show(arguments, result, lines)
    return 0
