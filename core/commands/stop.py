"""Stops a run."""

from __future__ import annotations

import argparse

from core import jobs
from core.commands import commands, show, takes_run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser)


@commands.add("stop", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Stop a run; it saves a checkpoint first."""
    job = jobs.stop(jobs.find(arguments.run_id).id)
    show(arguments, {"run": job.id, "done": "stop"}, [f"{job.id}: asked to stop."])
