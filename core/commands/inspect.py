"""Inspects a dataset, and acts on what was found."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from core import work
from core.catalog import Config, UserError, parse
from core.commands import ended, show, takes_values

HELP = "Find out what is wrong with a dataset; exclude or relabel what was found as a new version."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("dataset", help="name of a dataset")
    parser.add_argument("--list", metavar="KIND", help="list the issues of one kind: label, near …")
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="KIND",
        help="exclude all issues of a kind",
    )
    parser.add_argument(
        "--relabel", action="store_true", help="give suspected label errors the label that fits"
    )
    parser.add_argument("--save", metavar="NAME", help="keep the result as a version of this name")
    parser.add_argument("--against", metavar="DATASET", help="compare it with a real dataset")
    takes_values(parser, "a parameter, for example inspect.strictness=1.5 or dataset.size=16")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    return work.parts("inspect", {"dataset": chosen.dataset or "digits"})


def run(arguments: argparse.Namespace) -> int:
    from core import datasets, quality
    from core.quality import decisions

    for kind in [*arguments.exclude, *([arguments.list] if arguments.list else [])]:
        quality.checks.get(kind)
    choice = {"dataset": arguments.dataset}
    values = parse(arguments.set)
    config = work.configure("inspect", choice, values)["dataset"]["config"]
    dataset = datasets.load(arguments.dataset, config)
    if arguments.against:
        facts = quality.compare(datasets.load(arguments.against), dataset)
        show(arguments, facts, [facts["sentence"]])
        return 0
    job = quality.newest(dataset)
    if job is None or job.active or values:
        job = (
            job
            if job is not None and job.active
            else work.submit("inspect", choice, values, who="command line")
        )
        job = ended(job)
    found = quality.findings(job)
    if found is None:
        raise UserError(f"The inspection {job.id} has not ended. Resume it, or start another one.")
    seen = decisions.open(dataset).version
    for kind in arguments.exclude:
        images = [issue.image for issue in found.issues if issue.kind == kind]
        if images:
            seen = decisions.decide(
                dataset, "exclude", images, kind=kind, who="command line", seen=seen
            ).version
    if arguments.relabel:
        wrong = [
            issue for issue in found.issues if issue.kind == "label" and issue.label is not None
        ]
        if wrong:
            decisions.decide(
                dataset,
                "relabel",
                [issue.image for issue in wrong],
                [issue.label or 0 for issue in wrong],
                kind="label",
                who="command line",
                seen=seen,
            )
    facts: dict[str, Any] = {"job": job.id, "dataset": dataset.name, "images": found.n}
    facts |= {"counts": found.counts, "facts": found.facts, "seconds": found.seconds}
    lines = [f"{found.n:,} images in {found.seconds:.1f} s ({job.id})"]
    lines += [
        f"{found.counts[entry.name]:>6,} {entry.title}: {entry.caption}"
        for entry in quality.checks
        if entry.name in found.counts
    ] or ["Nothing is wrong with single images."]
    for fact in found.facts.values():
        lines += [one["sentence"] for one in (fact if isinstance(fact, list) else [fact])]
    if arguments.list:
        mine = [issue for issue in found.issues if issue.kind == arguments.list]
        facts["issues"] = [json.loads(json.dumps(issue.__dict__)) for issue in mine]
        lines += [f"image {issue.image} ({issue.split}): {issue.sentence}" for issue in mine]
    book = decisions.open(dataset)
    if book.damaged:
        lines.append(book.damaged)
    facts["decisions"] = book.summary
    lines.append(f"Decisions: {book.summary['sentence']} {book.summary['warning']}".strip())
    if arguments.save:
        made = quality.apply(dataset, arguments.save, "command line")
        facts["saved"] = {"name": made.name, "images": len(made), "parent": made.parent}
        lines.append(f"Saved {made.name} with {len(made):,} images.")
    show(arguments, facts, lines)
    return 0
