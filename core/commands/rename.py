"""Gives a run another name or note."""

from __future__ import annotations

import argparse

from core import jobs
from core.catalog import UserError
from core.commands import commands, show, takes_run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser)
    parser.add_argument("--name", help="the new name")
    parser.add_argument("--note", help="the new note")


@commands.add("rename", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Give a run another name or note."""
    if arguments.name is None and arguments.note is None:
        raise UserError("Nothing to change: give --name or --note.")
    job = jobs.describe(jobs.find(arguments.run_id).id, name=arguments.name, note=arguments.note)
    show(
        arguments,
        {"run": job.id, "name": job.name, "note": job.note},
        [f"{job.id}: {job.name}. {job.note}"],
    )
