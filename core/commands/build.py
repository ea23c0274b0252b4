"""Builds a dataset by a plan."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from core.catalog import UserError
from core.commands import commands, ended, out_file, show, write
from core.ground.writing import many

_MOST = 2 * 2**20  # bytes of a plan


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("plan", help="plan.json")
    parser.add_argument("--name", default="", help="of the new dataset (default: that of the plan)")
    parser.add_argument("--dry-run", action="store_true", help="only say what it would give")
    parser.add_argument(
        "--save-plan", metavar="FILE", help="also write the plan with all that it names pinned"
    )


@commands.add("build", arguments=arguments)
def run(arguments: argparse.Namespace) -> int:
    """Build a dataset by a plan (plan.json): real, augmented, synthetic and adversarial items."""
    from core import building
    from core.building.build import opened
    from core.kinds import build

    plan = read(arguments.plan)
    if arguments.name:
        plan = plan.with_(name=arguments.name)
    out = (
        out_file(arguments.save_plan, ".json", flag="--save-plan") if arguments.save_plan else None
    )
    result: dict[str, Any] = {}
    lines: list[str] = []
    if arguments.dry_run or out is not None:
        dataset = opened(plan)
        plan = building.pinned(plan, dataset)
        result = {"plan_hash": plan.hash, **building.expected(plan, dataset)}
        lines += [
            f"{many(result['added'], 'item')} join, {result['images']:,} in all, about {result['megabytes']} MB."
        ]
        lines += result["notes"]
    if out is not None:
        write(out, plan.text().encode())
        lines.append(f"Wrote the plan to {out}.")
    if arguments.dry_run:
        show(arguments, result, lines)
        return 0
    job = ended(build.start(plan, who="command line"))
    version = job.result()
    if version is None:
        raise UserError(f"The build {job.id} was stopped before its end. Resume it.")
    counts = {
        "dataset": version["name"],
        "job": job.id,
        "counts": version["by_origin"],
        **{key: version[key] for key in ("fingerprint", "images", "added", "refused", "plan_hash")},
    }
    lines = [f"{version['name']}: {version['sentence']}", *version["notes"]]
    show(
        arguments,
        result | counts | {"notes": version["notes"], "rejected": version["refused"]},
        lines,
    )
    return 0


def read(text: str) -> Any:
    """Reads the plan of a file.

    Raises:
        UserError: If there is no such file, it is too large, or it is no plan.
    """
    from core.building import Plan

    file = Path(text)
    try:
        if file.stat().st_size > _MOST:
            raise UserError(
                f"{text} has more than {_MOST >> 20} MB, and no plan has. Choose another."
            )
        content = file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{text} cannot be read ({error}). Name a plan.json.") from None
    return Plan.read(content)
