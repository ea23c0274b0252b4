"""Deletes a run, or a classifier that was brought."""

from __future__ import annotations

import argparse

from core import jobs
from core.catalog import UserError
from core.commands import commands, show, takes_run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser)
    parser.add_argument("--yes", action="store_true", help="really delete")


@commands.add("delete", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Delete a run and all its files, or a classifier that was brought (own/NAME), for good."""
    from core import brought

    room, kind = (brought, "classifier") if brought.holds(arguments.run_id) else (jobs, "run")
    id = room.find(arguments.run_id).id
    if not arguments.yes:
        raise UserError(f"This deletes {id} and all its files for good. Add --yes to do it.")
    room.delete(id)
    show(arguments, {kind: id, "done": "delete"}, [f"{id}: deleted."])
