"""Compares two versions of a dataset."""

from __future__ import annotations

import argparse

from core.catalog import UserError
from core.commands import Terminal, commands, out_file, show, write


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("dataset", help="name of the version")
    parser.add_argument(
        "--against", metavar="DATASET", help="the version before (default: what it was made from)"
    )
    parser.add_argument("--out", metavar="FILE", help="also write the pictures, changes.html")


@commands.add("difference", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Say which images went, came or changed between two versions of a dataset."""
    from core import building, datasets
    from core.building import difference

    out = out_file(arguments.out, ".html") if arguments.out else None
    after = datasets.load(arguments.dataset, watch=Terminal())
    origin = difference.origin(after)
    name, values = arguments.against, {}
    if origin is not None and name in (None, origin[0]):
        name, values = origin
    if name is None:
        raise UserError(
            f"{after.name} was made from no other dataset, so there is no version before it. Name one: "
            f"difference {after.name} --against DATASET."
        )
    before = datasets.load(name, values, Terminal())
    found = building.compare(before, after)
    kinds = [difference.changes(found, before, after, kind) for kind in difference.KINDS]
    result = {
        "before": before.name,
        "after": after.name,
        "fingerprints": [before.fingerprint, after.fingerprint],
        "counts": found.counts,
        "sentence": found.sentence,
        "images": [change._asdict() for changes in kinds for change in changes],
    }
    lines = [f"{before.name} -> {after.name}: {found.sentence}"]
    for title, changes in zip(difference.KINDS.values(), kinds, strict=True):
        lines += [f"{title.lower():<14} {change}" for change in changes]
    if out is not None:
        write(out, difference.html(found, before, after))
        result["out"] = str(out)
        lines.append(f"Wrote {out}")
    show(arguments, result, lines)
