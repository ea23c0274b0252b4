"""Gives a run another name or note, and a model that was brought its terms."""

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
    parser.add_argument("--licence", help="of a model that was brought, best as an SPDX id")
    parser.add_argument(
        "--consent",
        help="of the people whose pictures it has learned from: unknown, given, not needed or withdrawn",
    )


@commands.add("rename", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Give a run another name or note, or a model that was brought its licence and consent."""
    terms = {"licence": arguments.licence, "consent": arguments.consent}
    stated = any(value is not None for value in terms.values())
    if arguments.name is None and arguments.note is None and not stated:
        raise UserError("Nothing to change: give --name, --note, --licence or --consent.")
    job = jobs.find(arguments.run_id)
    if stated:
        from core import brought

        brought.state(job, **terms)
    job = jobs.describe(job.id, name=arguments.name, note=arguments.note)
    show(
        arguments,
        {"run": job.id, "name": job.name, "note": job.note},
        [f"{job.id}: {job.name}. {job.note}"],
    )
