"""Goes on with a run."""

from __future__ import annotations

import argparse

from core import jobs
from core.commands import follow, show, takes_run

HELP = "Go on with a stopped, failed or interrupted run."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser)
    parser.add_argument("--wait", action="store_true", help="follow the training to its end")


def run(arguments: argparse.Namespace) -> int:
    """Queues the run again."""
    job = jobs.resume(jobs.find(arguments.run_id).id)
    if arguments.wait:
        return follow(job, arguments.json)
    show(arguments, {"run": job.id, "done": "resume"}, [f"{job.id}: queued again."])
    return 0
