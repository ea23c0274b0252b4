"""Builds in rounds that ask for what a referee gets wrong, and proves what that gains."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from core import kinds
from core.catalog import Config
from core.commands import commands, ended, given, show, takes_values
from core.ground.writing import many


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("dataset", help="name of a dataset")
    parser.add_argument("--budget", type=int, help="items that join, at most (adapt.budget)")
    parser.add_argument("--pairs", type=int, help="paired repetitions (adapt.pairs)")
    takes_values(parser, "a parameter, for example adapt.source=augmented")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    return kinds.parts("adapt", {"dataset": chosen.dataset or "digits"})


@commands.add("adapt", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Build in rounds that ask for what a small referee gets wrong, beside equal shares at the same budget."""
    values = given(arguments, "adapt", "budget", "pairs")
    job = ended(kinds.submit("adapt", {"dataset": arguments.dataset}, values, who="command line"))
    result = job.result() or {}
    lines = []
    for pair in result.get("each", [])[:1]:
        lines += [
            f"Round {row['round']}: {row['valid']:.1f} % of valid right, surer by {row['gain']:+.1f} "
            f"[{row['low']:+.1f}, {row['high']:+.1f}]; asked for "
            + ", ".join(f"{name}: {n}" for name, n in row["asked"].items() if n)
            for row in pair["rounds"]
        ]
    for gain in result.get("gains", []):
        ends = "" if gain["low"] is None else f" [{gain['low']:+.1f}, {gain['high']:+.1f}]"
        of = "all classes" if gain["of"] == "all" else ", ".join(result["classes"])
        arms = result["arms"]
        lines.append(
            f"{arms[gain['arm']]} against {arms[gain['against']].lower()}, {of}: {gain['effect']:+.1f} points{ends} "
            f"({many(gain['n'], 'pair')})"
        )
    lines += [*result.get("notes", []), *filter(None, [result.get("verdict")])]
    show(arguments, {"job": job.id, **result}, lines)
    return 0
