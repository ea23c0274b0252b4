"""Keeps the picture of a plane beside a run, for the Overview to open with."""

from __future__ import annotations

import argparse

from core import runs
from core.catalog import UserError
from core.commands import Terminal, commands, show, takes_run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser)


@commands.add("pad", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Keep a plane of a run's latent space as a picture, which the Overview opens with."""
    from core import latent

    job = runs.find(arguments.run_id)
    if job.shipped:
        raise UserError(
            f"{job.name} ships with Simulacra and is for looking only, so nothing is kept beside it. "
            "Choose a run that was trained here."
        )
    file = latent.shelve(job, Terminal())
    show(arguments, {"run": job.id, "file": str(file)}, [f"Kept {file}."])
