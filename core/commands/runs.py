"""Lists the runs, and other jobs."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Any

from core import jobs, runs
from core.commands import commands, show, summary
from core.ground.writing import percent


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("run_id", nargs="?", metavar="RUN", help="show this one")
    parser.add_argument(
        "--all", action="store_true", help="other jobs, too: races, evaluations, attacks …"
    )


@commands.add("runs", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """List the runs, or show one."""
    if arguments.run_id:
        job = (jobs if arguments.all else runs).find(arguments.run_id)
        result = summary(job) | {"path": str(job.path), "config": dict(job.config)}
        if runs.is_run(job):
            result["checkpoints"] = runs.checkpoints(job)
        show(arguments, result, [f"{key:<22} {value}" for key, value in result.items()])
        return
    listed = jobs.listing()
    result: dict[str, Any] = {
        "runs": [_row(job) | {"family": runs.family_of(job)} for job in listed if runs.is_run(job)]
    }
    lines = [_line(row["run"], row["family"], row) for row in result["runs"]]
    lines = lines or ["No runs yet. Start one with: python -m core train"]
    others = [job for job in listed if not runs.is_run(job)]
    if arguments.all:
        result["jobs"] = [_row(job, "job") | {"kind": job.kind} for job in others]
        lines += [_line(row["job"], row["kind"], row) for row in result["jobs"]]
    elif mine := Counter(job.kind for job in others if not job.shipped):
        counted = ", ".join(f"{count:,} × {kind}" for kind, count in sorted(mine.items()))
        lines.append(f"Other jobs: {counted}. List them with: python -m core runs --all")
    problems = [f"damaged: {text}" for _, text in jobs.damaged()]
    if problems:
        print("\n".join(problems), file=sys.stderr)
    show(arguments, result, lines)


def _row(job: jobs.Job, what: str = "run") -> dict[str, Any]:
    return {
        what: job.id,
        "name": job.name,
        "status": "shipped" if job.shipped else job.status,
        "dataset": job.config.get("dataset", {}).get("name", ""),
        "done": job.share,
        "message": job.message,
    }


def _line(id: str, what: str, row: dict[str, Any]) -> str:
    return (
        f"{id:<44} {row['status']:<12} {percent(row['done'], 0):>5}  {what:<10} "
        f"{row['dataset']:<14} {row['name']}"
    )
