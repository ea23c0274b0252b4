"""Measures runs, and puts them side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import measure, runs
from core.catalog import Config, UserError, parse
from core.commands import commands, given, show, takes_values, wait, write
from core.measure import Comparison, Evaluation, Measurement


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument(
        "run_ids",
        nargs="+",
        metavar="RUN",
        help="id, start of an id, or name; several are compared",
    )
    parser.add_argument("--metrics", help="standard (default), all, or names with commas")
    parser.add_argument("--samples", help="images to draw (default 5000)")
    parser.add_argument("--step", help="step of the checkpoint (default: the best one)")
    parser.add_argument("--extractor", help="what sees the images (default judge)")
    parser.add_argument("--seed", help="seed of the samples (default 0)")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="read the newest evaluations instead of measuring again",
    )
    parser.add_argument(
        "--report", metavar="FILE", help="also write a report of the first run, one HTML file"
    )
    takes_values(
        parser, "a parameter, for example evaluate.neighbours=3 or sampling.truncation=0.7"
    )


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    from core import kinds
    from core.models import families

    names = families.names()
    if chosen.run_ids:
        names = [runs.family_of(runs.find(chosen.run_ids[0], generator=True))]
    configs: dict[str, type[Config]] = {"evaluate": measure.EvaluateConfig}
    for name in names:
        sampling = kinds.parts("evaluate", {"sampling": name})["sampling"]
        configs["sampling" if chosen.run_ids else f"({name}) sampling"] = sampling
    return configs


@commands.add("evaluate", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Measure runs: quality, variety, classes, likelihood, and whether they copy."""
    from core.kinds import evaluate

    out = Path(arguments.report) if arguments.report else None
    if out is not None and not out.parent.is_dir():
        raise UserError(
            f"The folder {out.parent} of --report does not exist. Make it, or choose another."
        )
    targets = [runs.find(text) for text in arguments.run_ids]
    names = ("metrics", "samples", "step", "extractor", "seed")
    values = given(arguments, "evaluate", *names) | parse(arguments.set)
    evaluations, failed = [], False
    if not arguments.compare:
        for target in targets:
            evaluate.check(target, values)  # all of them before the first one is measured
    for target in targets:
        if arguments.compare:
            if (newest := measure.latest(target)) is None:
                raise UserError(
                    f"{target.name} has no evaluation yet. Leave --compare out to measure it."
                )
            evaluations.append(newest)
            continue
        job = wait(evaluate.start(target, values, who="command line"))
        if job.status != "finished":
            failed = True
            print(f"error: {job.message or job.status}", file=sys.stderr)
        if (job.path / "evaluation.json").exists():
            evaluations.append(measure.read(job))
    lines, compared = [], []
    if len(evaluations) > 1:
        comparison = measure.compare(evaluations)
        lines, compared = _side_by_side(comparison), _compared(comparison)
    elif evaluations:
        lines = _alone(evaluations[0])
    if out is not None and evaluations:
        from core.measure import report

        write(out, report.html(evaluations[0]))
        lines.append(f"Wrote the report to {out}")
    result = {
        "evaluations": [_result(evaluation) for evaluation in evaluations],
        "comparison": compared,
    }
    show(arguments, result, lines)
    return 1 if failed else 0


def _result(evaluation: Evaluation) -> dict[str, Any]:
    verdict = measure.verdict(evaluation)
    return {
        "run": evaluation.run,
        "name": evaluation.name,
        "family": evaluation.family,
        "dataset": evaluation.dataset,
        "step": evaluation.step,
        "evaluation": evaluation.job,
        "finished": evaluation.finished,
        "conditions": dict(evaluation.conditions),
        "metrics": {
            m.metric: {
                "title": m.title,
                "value": m.value,
                "interval": None if m.low is None else [m.low, m.high],
                "floor": m.floor,
                "n": m.n,
                "extractor": f"{m.extractor}@{m.hash}" if m.extractor else "",
                "seconds": m.seconds,
                "note": m.note,
                "details": dict(m.details),
            }
            for m in evaluation.measurements
        },
        "classes": [dict(row) for row in evaluation.classes],
        "copies": verdict.copies,
        "verdict": verdict.sentence,
        "sentences": list(measure.sentences(evaluation)),
        "warnings": list(evaluation.warnings),
    }


def _compared(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "metric": row.metric,
            "direction": row.direction,
            "values": [cell.value if cell else None for cell in row.cells],
            "best": [comparison.evaluations[k].run for k in row.best],
            "tie": len(row.best) > 1,
            "refused": row.refused,
        }
        for row in comparison.rows
    ]


def _cell(m: Measurement | None) -> str:
    if m is None or not m.known:
        return "–"
    interval = f" [{m.written(m.low)}, {m.written(m.high)}]" if m.interval else ""
    return m.written(m.value) + interval


def _alone(evaluation: Evaluation) -> list[str]:
    lines = [
        f"{evaluation.name}, step {evaluation.step}, {evaluation.conditions.get('n_samples', 0)} samples"
    ]
    for m in evaluation.measurements:
        direction = {"lower": "lower is better", "higher": "higher is better", "": ""}
        if not m.known:
            lines.append(f"{m.title:<44} not measured: {m.note}")
            continue
        floor = f"real images {m.written(m.floor)}" if m.floor is not None else ""
        parts = filter(None, (floor, f"n {m.n}", direction[m.entry.direction]))
        lines.append(f"{m.title:<44} {_cell(m):<28} {', '.join(parts)}")
    notes = [f"{m.title}: {m.note}" for m in evaluation.measurements if m.known and m.note]
    return [
        *lines,
        *(f"note: {text}" for text in (*evaluation.warnings, *notes)),
        *measure.sentences(evaluation),
    ]


def _side_by_side(comparison: Comparison) -> list[str]:
    lines = [
        f"{'':<44} "
        + " ".join(f"{evaluation.name[:27]:<28}" for evaluation in comparison.evaluations)
    ]
    for row in comparison.rows:
        if row.refused:
            lines.append(f"{row.title:<44} {row.refused}")
            continue
        cells = " ".join(f"{_cell(cell):<28}" for cell in row.cells)
        names = [comparison.evaluations[k].name for k in row.best]
        best = f"tie: {', '.join(names)}" if len(names) > 1 else "".join(names)
        lines.append(f"{row.title:<44} {cells} {best}".rstrip())
    return [*lines, *comparison.differences]
