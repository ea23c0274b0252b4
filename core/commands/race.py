"""Lets families race."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from core import jobs, kinds
from core.catalog import Config
from core.commands import commands, given, show, takes_values, told


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("--dataset", default="digits", help="name of a dataset (default digits)")
    parser.add_argument("--families", help="names, separated by commas (default all)")
    parser.add_argument("--seconds", help="training time of each family (race.seconds)")
    parser.add_argument("--seed", help="seed (race.seed)")
    parser.add_argument("--name", default="", help="what to call the race")
    takes_values(parser, "a parameter, for example race.turns=10")
    parser.add_argument("--wait", action="store_true", help="follow the race to its end")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    return kinds.parts("race", {"dataset": chosen.dataset})


@commands.add("race", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Train families for the same time on the same data, and compare them."""
    values = given(arguments, "race", "families", "seconds", "seed")
    choice = {"dataset": arguments.dataset}
    job = kinds.submit("race", choice, values, name=arguments.name, who="command line")
    if not arguments.wait:
        lines = [f"Started {job.id}. Follow it on the Race page."]
        show(arguments, {"race": job.id, "status": job.status}, lines)
        return 0
    job = told(job)
    _result(arguments, job)
    return 0 if job.status in ("finished", "stopped") else 1


def _result(arguments: argparse.Namespace, job: jobs.Job) -> None:
    """Prints where each family is at the end, the nearest to real images first."""
    about, standings = job.result()
    last = sorted((records[-1] for records in standings.values()), key=lambda row: row["ratio"])
    result = {"race": job.id, "status": job.status, "message": job.message, "measure": about}
    lines = [f"{job.id}: {job.status}. {job.message}".strip()]
    for row in last:
        low, high = row["copying_low"], row["copying_high"]
        lines.append(
            f"{row['family']:<12} distance {row['ratio']:6.2f} times that of real images, copying "
            f"{row['copying']:.2f} ({low:.2f} to {high:.2f}), {row['images']} images in {row['seconds']:.0f} s"
        )
    if about:
        lines.append(
            f"n = {about['n']}, features of the {about['extractor']}; copying of real images is "
            f"{about['copying_of_real']:.2f}, of verbatim copies {about['copying_of_copies']:.2f}."
        )
    show(arguments, result | {"standings": last}, lines)
