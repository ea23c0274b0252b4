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
    if arguments.run_id.startswith("own/"):
        from core.robustness import foreign

        id = arguments.run_id
        foreign.kept(id)
        if not arguments.yes:
            raise UserError(f"This deletes the classifier {id} for good. Add --yes to do it.")
        foreign.delete(id)
        show(arguments, {"classifier": id, "done": "delete"}, [f"{id}: deleted."])
        return
    job = jobs.find(arguments.run_id)
    if not arguments.yes:
        raise UserError(f"This deletes {job.id} and all its files for good. Add --yes to do it.")
    jobs.delete(job.id)
    show(arguments, {"run": job.id, "done": "delete"}, [f"{job.id}: deleted."])
