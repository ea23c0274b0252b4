"""Attacks a classifier, and says whether to believe the number."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import kinds
from core.catalog import Config, UserError
from core.commands import commands, given, show, takes_values, told
from core.ground import files
from core.ground.writing import percent, percents

if TYPE_CHECKING:
    from core.robustness import Report

FACTORY = """what package.module:factory gives: a torch.nn.Module (or a function of no arguments that returns one) that
  gets    images as float32 (N, channels, size, size), pixels from 0 to 1, of the channels and the size of --dataset;
          its own normalisation (mean, std, [-1, 1]) and resizing belong into its forward
  answers logits (N, classes), no softmax, in the order of the dataset's classes
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.epilog = f"{FACTORY}\n{parser.epilog or ''}"
    parser.add_argument("--dataset", default="digits", help="name of a dataset (default digits)")
    parser.add_argument(
        "--classifier",
        default="",
        help="id or name of a run, own/NAME, or package.module:factory of this machine (see below); "
        "else the dataset's plain one",
    )
    parser.add_argument(
        "--weights", type=Path, help="weights of package.module:factory, .safetensors or .pt"
    )
    parser.add_argument("--attacks", help="names with commas, for example quick,autoattack")
    parser.add_argument(
        "--eps", help="strengths with commas, for example 4/255,8/255; a sweep otherwise"
    )
    parser.add_argument("--n", help="images (default 1000)")
    parser.add_argument("--norm", help="linf, l2 or l1")
    parser.add_argument(
        "--min-robust",
        type=float,
        metavar="SHARE",
        help="exit with 1 when less is robust, or when the measurement cannot be believed (too few images, a masked "
        "gradient, another model than meant, stopped)",
    )
    parser.add_argument(
        "--out", type=Path, help="folder for report.json, report.html and adversarial.npz"
    )
    takes_values(parser, "a parameter, for example attack.seed=1 or dataset.size=28")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    return kinds.parts("attack", {"dataset": chosen.dataset or "digits"})


@commands.add("attack", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Attack a classifier: robust accuracy, and whether to believe it."""
    if arguments.min_robust is not None and not 0 <= arguments.min_robust <= 1:
        raise UserError(
            f"--min-robust must be 0 to 1, got {arguments.min_robust}. For example 0.4."
        )
    if arguments.weights and ":" not in arguments.classifier:
        raise UserError(
            "--weights belongs to --classifier package.module:factory. Leave it out, or give both."
        )
    values = given(arguments, "attack", "attacks", "eps", "n", "norm")
    choice = {"dataset": arguments.dataset}
    report, more = (
        _here(arguments, choice, values)
        if ":" in arguments.classifier
        else _job(arguments, choice, values)
    )
    rows = [
        f"{row.text:>10}  robust {percent(row.robust):>6}  ({percents(*row.interval)}, n = {row.n})"
        for row in report.results
    ]
    answers = [f"{c.outcome:>5}  {c.number:>2} {c.name}: {c.finding}" for c in report.checks]
    show(
        arguments,
        report.record() | more,
        [
            *(f"{v.colour}: {v.sentence}" for v in (report.robustness, report.verdict)),
            *rows,
            *answers,
            *_reference(arguments.dataset, report),
        ],
    )
    if arguments.min_robust is None:
        return 0
    short = (
        report.head.robust < arguments.min_robust
        or not report.verdict.believable
        or not report.complete
    )
    return 1 if short else 0


def _reference(dataset: str, report: Report) -> list[str]:
    """Says how to get something to compare the clean accuracy with, where there is nothing."""
    if not report.identity or report.identity.compared:
        return []
    return [
        f"No reference yet. To compare: python -m core train --classifier --dataset {dataset} --wait"
    ]


def _job(
    arguments: argparse.Namespace, choice: dict[str, str], values: dict[str, Any]
) -> tuple[Report, dict[str, Any]]:
    """Attacks as a job, and waits for it; gives the report and what goes with it."""
    from core.robustness import classifiers, store

    values["attack.classifier"] = classifiers.find(arguments.classifier)
    job = told(kinds.submit("attack", choice, values, who="command line"))
    report = store.read(job.path)
    if report is None or job.status not in ("finished", "stopped"):
        raise UserError(job.message or f"The job {job.id} is {job.status}. Start another one.")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        for file in job.path.iterdir():
            if file.suffix in (".npz", ".html") or file.name == store.FILE:
                files.write_atomic(arguments.out / file.name, file.read_bytes())
    return report, {"job": job.id}


def _here(
    arguments: argparse.Namespace, choice: dict[str, str], values: dict[str, Any]
) -> tuple[Report, dict[str, Any]]:
    """Attacks code of this machine in this process; a job never runs it."""
    from core import datasets, robustness
    from core.robustness import classifiers, extras, store
    from core.robustness.report import batch, html, pictures

    config = kinds.configure("attack", choice, values)
    plan = extras.AttackConfig.of(config["attack"], "attack")
    dataset = datasets.load(choice["dataset"], config["dataset"]["config"])
    plan.allow(dataset.medium)
    target = classifiers.from_code(arguments.classifier, arguments.weights, dataset)
    data = {"config": config["dataset"]["config"]}
    study = robustness.begin(target, dataset, plan.study(), data=data)
    report = study.report
    for report in study:
        sentences = f"{report.robustness.sentence} {report.verdict.sentence}"
        print(sentences, file=sys.stderr, flush=True)
    more = dict(extras.extras(plan, study, target, dataset))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        files.write_json(arguments.out / store.FILE, report.record())
        page = html(report, pictures(study))
        files.write_atomic(arguments.out / "report.html", page.encode())
        files.write_atomic(arguments.out / "adversarial.npz", batch(study))
    return report, more
