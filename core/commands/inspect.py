"""Inspects a dataset, and acts on what was found."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from core import kinds
from core.catalog import Config, UserError, parse
from core.commands import commands, ended, show, takes_values


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("dataset", help="name of a dataset")
    parser.add_argument("--list", metavar="KIND", help="list the issues of one kind: label, near …")
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="KIND",
        help="leave out all issues of a kind",
    )
    parser.add_argument(
        "--relabel",
        action="store_true",
        help="give labels that are more probably wrong than right the one that fits",
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="IMAGE=CLASS",
        help="give one image this label, for example 40=Box; may be repeated",
    )
    parser.add_argument(
        "--drop",
        action="append",
        default=[],
        type=int,
        metavar="IMAGE",
        help="leave out one image; may be repeated",
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        type=int,
        metavar="IMAGE",
        help="nothing is wrong with one image; may be repeated",
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, kept with the decisions")
    parser.add_argument(
        "--undo",
        action="append",
        default=[],
        metavar="DECISION",
        help="take a decision back by its id, or the last one with 'last'; may be repeated",
    )
    parser.add_argument("--save", metavar="NAME", help="keep the result as a version of this name")
    parser.add_argument("--against", metavar="DATASET", help="compare it with a real dataset")
    takes_values(parser, "a parameter, for example inspect.strictness=1.5 or dataset.size=16")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    return kinds.parts("inspect", {"dataset": chosen.dataset or "digits"})


def _label(dataset: Any, text: str) -> tuple[int, int]:
    """Reads ``IMAGE=CLASS``: the image, and the number of the class."""
    image, _, name = text.partition("=")
    if not image.isdecimal() or name not in dataset.classes:
        classes = ", ".join(dataset.classes[:10]) + " …" * (len(dataset.classes) > 10)
        raise UserError(
            f"--label must be IMAGE=CLASS with the number of an image and a class of {dataset.name} "
            f"({classes or 'it has none'}), got {text!r}. For example --label 40={(dataset.classes or ('Box',))[0]}."
        )
    return int(image), dataset.classes.index(name)


@commands.add("inspect", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Find out what is wrong with a dataset; leave out or relabel what was found as a new version."""
    from core import datasets, quality
    from core.quality import decisions, sets

    if arguments.list:
        quality.checks.get(arguments.list)
    for kind in arguments.exclude:
        if (entry := quality.checks.get(kind)).single:
            raise UserError(
                f"--exclude {kind} would decide all of {entry.title!r} in one way, and there a person decides each "
                f"one. See them with --list {kind}, then use --label IMAGE=CLASS or --drop IMAGE."
            )
    choice = {"dataset": arguments.dataset}
    values = parse(arguments.set)
    config = kinds.configure("inspect", choice, values)["dataset"]["config"]
    dataset = datasets.load(arguments.dataset, config)
    labels = [_label(dataset, text) for text in arguments.label]
    single = [*arguments.drop, *arguments.keep, *(image for image, _ in labels)]
    decisions.known(dataset, single)
    if arguments.against:
        comparison = sets.compare(datasets.load(arguments.against), dataset)
        show(arguments, comparison, [comparison["sentence"]])
        return 0
    job = quality.newest(dataset)
    if job is None or (values and not job.active):
        job = kinds.submit("inspect", choice, values, who="command line")
    findings = ended(job).result()
    if findings is None:
        raise UserError(f"The inspection {job.id} has not ended. Resume it, or start another one.")
    book, who = decisions.open(dataset), "command line"
    for id in arguments.undo:
        hold = [entry.id for entry in book.entries if not entry.undone]
        last = hold[-1] if id == "last" and hold else id
        book = decisions.undo(dataset, last, who=who, seen=book.version)
    seen = book.version

    def decide(what: str, images: list[int], label: Any = None, kind: str = "") -> None:
        nonlocal seen
        if images:
            book = decisions.decide(
                dataset,
                what,
                images,
                label,
                kind=kind,
                reason=arguments.reason,
                who=who,
                seen=seen,
            )
            seen = book.version

    for kind in arguments.exclude:
        decide("exclude", [i.image for i in findings.issues if i.kind == kind], kind=kind)
    judged = findings.overview["labels"]
    if arguments.relabel:
        wrong = [issue for issue in findings.issues if issue.kind == "label" and issue.sure]
        labels = [(issue.image, issue.label or 0) for issue in wrong] + labels
    decide("exclude", arguments.drop)
    decide("accept", arguments.keep)
    new = dict(labels)  # a label that was given for one image wins over a suggestion for all
    decide("relabel", list(new), list(new.values()), "label" if arguments.relabel else "")
    book = decisions.open(dataset)
    unmoved = arguments.relabel and not judged["judged"]
    if unmoved and arguments.save and not book.summary["changed"]:
        raise UserError(
            f"{judged['sentence']} So --relabel changes nothing, and a version would be the same. Look at the labels "
            "with --list doubt, and decide about single ones with --label IMAGE=CLASS."
        )
    names = ("judged", "reason", "accuracy", "precision", "suspects", "sure", "found", "n")
    result: dict[str, Any] = {
        "job": job.id,
        "dataset": dataset.name,
        "images": findings.n,
        "counts": findings.counts,
        "facts": findings.overview,
        "seconds": findings.seconds,
        "labels": {name: judged[name] for name in names},
        "checks": findings.looked(),
    }
    lines = [f"{findings.n:,} images in {findings.seconds:.1f} s ({job.id})"]
    lines += [
        f"{findings.counts[entry.name]:>6,} {entry.title}: {entry.caption}"
        for entry in quality.checks
        if entry.name in findings.counts
    ] or ["Nothing is wrong with single images."]
    blind: dict[str, list[str]] = {}  # the checks by what they compare and cannot see
    for row in result["checks"]:
        blind.setdefault(f"{row['compared']} {row['cannot_see']}", []).append(
            f"{row['title']} ({row['found']:,} found)"
        )
    lines += [f"{', '.join(titles)}: {limit}" for limit, titles in blind.items()]
    for fact in findings.overview.values():
        lines += [row["sentence"] for row in (fact if isinstance(fact, list) else [fact])]
    if arguments.list:
        issues = [issue for issue in findings.issues if issue.kind == arguments.list]
        result["issues"] = [vars(issue) for issue in issues]
        lines += [f"image {issue.image} ({issue.split}): {issue.sentence}" for issue in issues]
    if unmoved:
        lines.append("--relabel changed nothing: labels cannot be judged here.")
    if book.damaged:
        lines.append(book.damaged)
    result["decisions"] = book.summary
    hold = [entry for entry in book.entries if not entry.undone]
    names = ("id", "time", "who", "action", "images", "labels", "kind", "reason")
    result["decided"] = [{name: getattr(entry, name) for name in names} for entry in hold]
    lines.append(f"Decisions: {book.summary['sentence']} {book.summary['warning']}".strip())
    lines += [f"{entry.id}  {decisions.told(entry)}" for entry in hold]
    if arguments.save:
        saved = decisions.apply(dataset, arguments.save, who)
        result["saved"] = {"name": saved.name, "images": len(saved), "parent": saved.parent}
        lines.append(f"Saved {saved.name} with {len(saved):,} images.")
    show(arguments, result, lines)
    return 0
