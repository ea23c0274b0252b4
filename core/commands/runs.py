"""Lists the runs."""

from __future__ import annotations

import argparse
import sys

from core import jobs, runs
from core.commands import commands, show, summary
from core.ground.writing import percent


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("run_id", nargs="?", metavar="RUN", help="show this one")


@commands.add("runs", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """List the runs, or show one."""
    if arguments.run_id:
        job = runs.find(arguments.run_id)
        result = summary(job) | {
            "path": str(job.path),
            "config": dict(job.config),
            "checkpoints": runs.checkpoints(job),
        }
        show(arguments, result, [f"{key:<22} {value}" for key, value in result.items()])
        return
    rows = [
        {
            "run": job.id,
            "name": job.name,
            "status": "shipped" if job.shipped else job.status,
            "family": runs.family_of(job),
            "dataset": runs.dataset_of(job),
            "done": job.share,
            "message": job.message,
        }
        for job in runs.listing()
    ]
    lines = [
        f"{row['run']:<44} {row['status']:<12} {percent(row['done'], 0):>5}  {row['family']:<10} "
        f"{row['dataset']:<14} {row['name']}"
        for row in rows
    ]
    problems = [f"damaged: {text}" for _, text in jobs.damaged()]
    if problems:
        print("\n".join(problems), file=sys.stderr)
    show(arguments, {"runs": rows}, lines or ["No runs yet. Start one with: python -m core train"])
