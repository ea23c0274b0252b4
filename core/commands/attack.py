"""Attacks a classifier, and says whether to believe the number."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import kinds
from core.catalog import Config, UserError
from core.commands import commands, given, out_file, show, takes_values, told, write
from core.ground import files
from core.ground.writing import percent, percents

if TYPE_CHECKING:
    from core.robustness import Report
    from core.robustness.releases import Release

FACTORY = """what package.module:factory gives: a torch.nn.Module (or a function of no arguments that returns one) that
  gets    images as float32 (N, channels, size, size), pixels from 0 to 1, of the channels and the size of --dataset;
          its own normalisation (mean, std, [-1, 1]) and resizing belong into its forward
  answers logits (N, classes), no softmax, in the order of the dataset's classes
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.epilog = f"{FACTORY}\n{parser.epilog or ''}"
    parser.add_argument(
        "--dataset", help="name of a dataset (default: the baseline's, else digits)"
    )
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
    parser.add_argument(
        "--baseline",
        metavar="REPORT",
        help="report.json, its folder, or an attack's id or name, of the release before: repeats its study on this "
        "classifier, and exits with 1 when the 95 %% interval of the change lies wholly below 0 (robust accuracy at "
        "its headline, over all classes)",
    )
    parser.add_argument("--junit", metavar="FILE", help="with --baseline: the outcome as JUnit XML")
    parser.add_argument("--markdown", metavar="FILE", help="with --baseline: the outcome in words")
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
    if not arguments.baseline and (arguments.junit or arguments.markdown):
        raise UserError(
            "--junit and --markdown write a comparison, which needs --baseline REPORT. Add it, or leave them out."
        )
    junit = out_file(arguments.junit, ".xml", flag="--junit") if arguments.junit else None
    words = out_file(arguments.markdown, ".md", flag="--markdown") if arguments.markdown else None
    values = given(arguments, "attack", "attacks", "eps", "n", "norm")
    baseline = _baseline(arguments.baseline) if arguments.baseline else None
    if baseline is None:
        choice = {"dataset": arguments.dataset or "digits"}
    else:
        choice, values = _repeated(baseline, arguments.dataset, values)
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
    from core.robustness import releases

    floor = arguments.min_robust
    fails = floor is not None and releases.short(report, floor)
    lines = [
        *(f"{v.colour}: {v.sentence}" for v in (report.robustness, report.verdict)),
        *rows,
        *answers,
        *_reference(choice["dataset"], report),
    ]
    if baseline is not None:
        release = releases.against(baseline, report)
        fails |= release.robust.worse
        more["baseline"] = release.record()
        lines += _compared(release)
        if junit:
            write(junit, releases.junit(release, floor).encode())
        if words:
            write(words, releases.markdown(release).encode())
    written = [str(path) for path in (arguments.out, junit, words) if path]
    if written:
        more["written"] = written
        lines.append(f"Wrote {', '.join(written)}")
    show(arguments, report.record() | more, lines)
    return 1 if fails else 0


def _baseline(text: str) -> Report:
    """Reads the report that a path, or the id or name of a job, stands for.

    Raises:
        UserError: If there is none.
    """
    from core import jobs
    from core.robustness import store

    path = Path(text)
    if path.is_file():
        return store.opened(path)
    folder = path if path.is_dir() else jobs.find(text, "attack").path
    report = store.read(folder)
    if report is None:
        raise UserError(f"{folder} holds no {store.FILE}. Name the report of an earlier attack.")
    return report


def _repeated(
    baseline: Report, dataset: str | None, values: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, Any]]:
    """Gives what repeats the study of a baseline, and refuses what could not be compared with it."""
    from core import datasets
    from core.robustness import extras, releases

    asked = {f"attack.{k}": v for k, v in releases.study_of(baseline).record().items()}
    name = str(baseline.data.get("name"))
    if dataset in (None, name):
        asked |= {f"dataset.{k}": v for k, v in (baseline.data.get("config") or {}).items()}
    choice, values = {"dataset": dataset or name}, asked | dict(values)
    config = kinds.configure("attack", choice, values)
    opened = datasets.load(choice["dataset"], config["dataset"]["config"])
    plan = extras.AttackConfig.of(config["attack"], "attack")
    releases.allow(baseline, opened, plan.study())
    return choice, values


def _compared(release: Release) -> list[str]:
    """Says what has changed since the baseline, what decides first."""
    width = max(len(row.name) for row in release.rows)
    return [
        release.sentence,
        *(
            f"{row.name:<{width}}  {percent(row.before.value):>6} -> {percent(row.after.value):>6}  {row.text}, "
            f"{row.chance}, n = {row.change.n}"
            for row in release.rows
        ),
        *release.notes,
    ]


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
