"""Says what a dataset lacks, and what a budget would best be spent on."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np

from core.catalog import Config, UserError
from core.commands import Terminal, commands, given, show, takes_values
from core.ground.writing import percent


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("dataset", help="name of a dataset")
    parser.add_argument(
        "--by", help="class, cluster and names of attributes, with commas (gaps.by)"
    )
    parser.add_argument("--target", help="uniform, reference or failures (gaps.target)")
    parser.add_argument(
        "--want",
        action="append",
        default=[],
        metavar="CLASS=SHARE",
        help="the share that you want of a class, for example 3=0.2; may be repeated",
    )
    parser.add_argument("--budget", type=int, help="propose what to add, so many items in all")
    takes_values(parser, "a parameter, for example gaps.clusters=8 or dataset.size=16")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    from core import datasets
    from core.building.coverage import GapsConfig

    return {"dataset": datasets.config_of(chosen.dataset or "digits"), "gaps": GapsConfig}


def _wanted(texts: list[str]) -> dict[str, float]:
    wanted = {}
    for text in texts:
        name, _, share = text.rpartition("=")
        try:
            wanted[name] = float(share)
        except ValueError:
            raise UserError(
                f"--want must be CLASS=SHARE with a number, got {text!r}. For example --want 3=0.2."
            ) from None
    return wanted


@commands.add("gaps", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Say what a dataset has too little of, how good it is as a whole, and what a budget is best spent on."""
    from core import datasets
    from core.building.coverage import GapsConfig, coverage
    from core.building.failures import failures
    from core.building.set_measures import set_measures
    from core.building.shares import filled
    from core.catalog import assign

    values = assign(given(arguments, "gaps", "by", "target"), parameters(arguments))
    config = GapsConfig.of(values["gaps"], "gaps")
    dataset = datasets.load(arguments.dataset, values["dataset"])
    watch = Terminal()
    found = coverage(
        dataset, config, wanted=_wanted(arguments.want), failures=failures(dataset), watch=watch
    )
    measures = set_measures(dataset, found, config, watch)
    result: dict[str, Any] = {
        "dataset": dataset.name,
        **found.record(),
        "measures": [each.record() for each in measures],
    }
    lines = [found.sentence]
    for each in found.slices:
        ends = f"{percent(each.share.value)} of the set, wanted {percent(each.target)}"
        bad = [
            f"{percent(e.value, 0)} {failure.title}"
            + ("" if e.n >= 30 else f" (n = {e.n}: cannot tell)")
            for e, failure in zip(each.failures, found.failures, strict=True)
            if e.n
        ]
        lines.append("; ".join([f"  {each.name}: {each.n:,} items, {ends}, {each.verdict}", *bad]))
    for measure in measures:
        parts = [
            f"{word} {e.value:.3g} [{e.low:.3g}, {e.high:.3g}], n = {e.n:,}"
            for word, e in (
                ("before", measure.before),
                ("with what was added", measure.after),
                ("real images", measure.floor),
            )
            if e
        ]
        lines.append(f"{measure.title}: {'; '.join(parts) or measure.why}")
    if arguments.budget is not None:
        if not 0 <= arguments.budget <= 1_000_000:
            raise UserError(
                f"--budget must be from 0 to 1,000,000, got {arguments.budget}. Choose another."
            )
        counts = np.array([each.n for each in found.slices])
        target = np.array([each.target for each in found.slices])
        given_to = filled(counts, target, arguments.budget)
        result["proposed"] = {
            each.name: int(n) for each, n in zip(found.slices, given_to, strict=True) if n
        }
        said = ", ".join(f"{n:,} of {name}" for name, n in result["proposed"].items())
        lines.append(f"With {arguments.budget:,} items, add {said or 'nothing'}.")
    show(arguments, result, [*lines, *found.notes])
    return 0
