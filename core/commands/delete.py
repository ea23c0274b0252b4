"""Deletes a run."""

from __future__ import annotations

import argparse

from core import jobs
from core.catalog import UserError
from core.commands import show, takes_run

HELP = "Delete a run and all its files, for good."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser)
    parser.add_argument("--yes", action="store_true", help="really delete")


def run(arguments: argparse.Namespace) -> None:
    """Deletes the run's folder."""
    job = jobs.find(arguments.run_id)
    if not arguments.yes:
        raise UserError(f"This deletes {job.id} and all its files for good. Add --yes to do it.")
    jobs.delete(job.id)
    show(arguments, {"run": job.id, "done": "delete"}, [f"{job.id}: deleted."])
