"""Puts items on the list of what must not be used any more, or shows it."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from core.catalog import UserError
from core.commands import commands, show
from core.ground.settings import settings
from core.ground.writing import day, many


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument(
        "items", nargs="*", metavar="FILE|DATASET:ROW", help="pictures, or items of datasets by row"
    )
    parser.add_argument("--reason", default="", help="why they must not be used")
    parser.add_argument(
        "--exact",
        action="store_true",
        help="only the very pixels of an item; else its near copies count, too",
    )
    parser.add_argument(
        "--undo", action="store_true", help="take them off the list, as --list names them"
    )
    parser.add_argument("--list", action="store_true", help="show what is on the list")


@commands.add("forget", arguments=arguments)
def run(arguments: argparse.Namespace) -> int:
    """Leave pictures or items out of every later import, build and export; and name the runs that saw them."""
    from core import datasets, runs
    from core.building import optout
    from core.datasets import optout as kept

    if not arguments.items and (arguments.undo or not arguments.list):
        raise UserError(
            "Name what is to be forgotten: pictures, or items as digits:5; or --list to see what is."
        )
    new = 0
    rows: dict[str, list[int]] = defaultdict(list)
    taken = kept.undo(arguments.items) if arguments.undo else 0
    for item in arguments.items if not arguments.undo else ():
        name, colon, row = item.rpartition(":")
        if colon and row.isdecimal() and name in datasets.names():
            rows[name].append(int(row))
            continue
        file = Path(item)
        try:
            if file.stat().st_size > settings().max_upload_mb * 2**20:
                raise UserError(
                    f"{item} has more than {settings().max_upload_mb} MB. Choose another."
                )
            data = file.read_bytes()
        except OSError as error:
            raise UserError(
                f"{item} is neither an item as digits:5 nor a file that can be read ({error.strerror}). Name one."
            ) from None
        new += kept.forget_file(data, file.name, arguments.reason, "command line")
    copies: dict[str, list[int]] = {}
    for name, some in rows.items():
        dataset = datasets.load(name)
        near = not arguments.exact
        new += kept.forget(dataset, some, arguments.reason, "command line", near)
        found = {row for item in some * near for row in kept.near_copies(dataset, item)}
        if more := sorted(found - set(some)):
            copies[name] = more
    flagged = {run.id: why for run in runs.listing() if (why := optout.retrain(run))}
    entries = optout.listed()
    lines = []
    if arguments.items:
        what = (
            f"{many(taken, 'item')} taken off" if arguments.undo else f"{many(new, 'item')} added"
        )
        lines.append(f"{what}; {len(entries):,} on the list.")
    for name, found in copies.items():
        shown = ", ".join(f"{name}:{row}" for row in found[:20]) + ", …" * (len(found) > 20)
        lines.append(
            f"Near copies that count from now on, too, {len(found):,} of them: {shown}. If one is another picture, "
            "take it back (--undo) and forget with --exact."
        )
    if arguments.list:
        lines += [f"{entry.source}: {entry.reason} ({day(entry.when)})" for entry in entries] or [
            "Nothing is on the list."
        ]
    lines += flagged.values()
    result = {
        "added": new,
        "taken_off": taken,
        "near_copies": copies,
        "listed": [
            {"source": entry.source, "reason": entry.reason, "who": entry.who, "when": entry.when}
            for entry in entries
        ],
        "retrain": list(flagged),
    }
    show(arguments, result, lines)
    return 0
