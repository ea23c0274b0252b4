"""Says what a dataset lacks, and what a budget would best be spent on."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from core.catalog import Config, UserError
from core.commands import Terminal, commands, given, out_file, show, takes_values, write
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
    parser.add_argument("--out", help="with --budget: the plan as plan.json, for the command build")
    parser.add_argument(
        "--pipeline", help="the chain that makes the copies (default: the usual one)"
    )
    parser.add_argument("--run", dest="run_id", help="a run whose samples make up half of the plan")
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
    from core import datasets, runs
    from core.building import proposal
    from core.building.coverage import GapsConfig, coverage
    from core.building.failures import failures
    from core.building.set_measures import set_measures
    from core.catalog import assign

    out = out_file(arguments.out, ".json") if arguments.out else None
    if out is not None and arguments.budget is None:
        raise UserError("--out writes the plan of a budget, and none is given. Add --budget 200.")
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
        given_to = proposal.shared_out(found, arguments.budget)
        result["proposed"] = proposal.names_of(given_to, found)
        said = ", ".join(f"{n:,} of {name}" for name, n in result["proposed"].items())
        lines.append(f"With {arguments.budget:,} items, add {said or 'nothing'}.")
        run = runs.find(arguments.run_id, generator=True).id if arguments.run_id else ""
        plan = proposal.proposal(
            dataset,
            found,
            given_to,
            start=arguments.dataset,
            values=values["dataset"],
            pipeline=arguments.pipeline or datasets.usual_chain(dataset),
            run=run,
            copies=0.5 if run else 1.0,
        )
        result["plan"] = plan.record()
        if out is not None:
            write(out, plan.text().encode())
            lines.append(f"Wrote the plan to {out}; build it with: python -m core build {out}")
    show(arguments, result, [*lines, *found.notes])
    return 0
