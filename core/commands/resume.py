"""Goes on with a run."""

from __future__ import annotations

import argparse
import sys

from core import jobs, kinds
from core.commands import commands, follow, show, takes_run
from core.kinds import train


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser)
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        help="how many images it is to see in all, more than before",
    )
    parser.add_argument("--wait", action="store_true", help="follow the training to its end")


@commands.add("resume", arguments=arguments)
def run(arguments: argparse.Namespace) -> int:
    """Go on with a stopped, failed or interrupted run, or give a finished one more images."""
    job = jobs.find(arguments.run_id)
    more = arguments.images
    note = ""
    if more is None:
        job = kinds.resume(job.id)
    else:
        note = train.lengthened(job.id, more)  # before the job changes the record
        job = train.extend(job.id, more)
    if arguments.wait:
        if note:
            print(note, file=sys.stderr)
        return follow(job, arguments.json)
    result = {"run": job.id, "done": "resume", "note": note}
    show(arguments, result, [f"{job.id}: queued again.", *([note] if note else [])])
    return 0
