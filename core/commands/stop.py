"""Stops a run."""

from __future__ import annotations

import argparse

from core import jobs
from core.commands import show, takes_run

HELP = "Stop a run; it saves a checkpoint first."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser)


def run(arguments: argparse.Namespace) -> None:
    """Asks the run's process to end."""
    job = jobs.stop(jobs.find(arguments.run_id).id)
    show(arguments, {"run": job.id, "done": "stop"}, [f"{job.id}: asked to stop."])
