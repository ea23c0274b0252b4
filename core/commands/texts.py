"""Looks for what is wrong with the texts of a dataset, and hides what tells of people."""

from __future__ import annotations

import argparse

from core import datasets
from core.catalog import UserError, parse, unknown
from core.commands import Terminal, commands, show, takes_values
from core.ground.writing import many


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("dataset", help="name of a dataset of texts")
    parser.add_argument("--list", metavar="KIND", help="list the texts of one kind: exact, near …")
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="KIND",
        help="leave out all texts of a kind in the next version",
    )
    parser.add_argument(
        "--save", metavar="NAME", help="keep what was decided so far as a version of this name"
    )
    parser.add_argument(
        "--mask",
        action="store_true",
        help="make a version without e-mail addresses and long numbers",
    )
    parser.add_argument(
        "--name", default="", help="of the masked version (default: the next free one)"
    )
    takes_values(parser, "a parameter of the dataset, for example count=500")


@commands.add("texts", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Look for duplicates, leaks, odd signs and personal data in texts."""
    from core.quality import decisions, texts

    if arguments.list and arguments.list not in texts.KINDS:
        raise UserError(unknown("kind of issue", arguments.list, list(texts.KINDS)))
    for kind in arguments.exclude:
        if kind not in texts.KINDS:
            raise UserError(unknown("kind of issue", kind, list(texts.KINDS)))
    dataset = datasets.load(arguments.dataset, parse(arguments.set))
    found = texts.look(dataset, Terminal())
    result = {"dataset": dataset.name, "texts": len(dataset), "issues": found.counts}
    lines = [f"{texts.KINDS[kind][0]:<22} {count:>6}" for kind, count in found.counts.items()]
    if arguments.list:
        of = found.of(arguments.list)
        result["list"] = [
            {"text": issue.item, "other": issue.other, "says": issue.says} for issue in of
        ]
        lines = [f"{issue.item:>6}  {issue.says}" for issue in of]
    if arguments.exclude:
        left: set[int] = set()
        for kind in dict.fromkeys(arguments.exclude):
            if items := sorted({issue.item for issue in found.of(kind)} - left):
                seen = decisions.open(dataset).version
                decisions.decide(
                    dataset, "exclude", items, kind=kind, who="command line", seen=seen
                )
                left.update(items)
        result["excluded"] = len(left)
        lines.append(f"{many(len(left), 'text')} will be left out of the next version.")
    if arguments.save:
        saved = decisions.apply(dataset, arguments.save, "command line")
        result["saved"] = {"name": saved.name, "texts": len(saved), "parent": saved.parent}
        lines.append(f"Saved {saved.name} with {len(saved):,} texts.")
    if arguments.mask:
        version = texts.masked(dataset, arguments.name)
        result["version"] = version.name
        lines.append(f"Saved {version.name}: {version.notes[-1]}")
    show(arguments, result, lines)
