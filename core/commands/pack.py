"""Puts a run into one file that opens elsewhere."""

from __future__ import annotations

import argparse

from core import runs
from core.catalog import parse
from core.commands import (
    commands,
    out_file,
    sampling_of_run,
    show,
    takes_run,
    takes_values,
    write,
)

parameters = sampling_of_run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser, step=True)
    parser.add_argument("--out", required=True, help="the file, pack.zip")
    parser.add_argument("--licence", help="of the model; that of its dataset otherwise")
    parser.add_argument(
        "--consent", help="unknown, given, not needed or withdrawn; that of its dataset otherwise"
    )
    takes_values(parser, "a sampling parameter that is usual where it is opened: guidance=2")


@commands.add("pack", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> None:
    """Pack a run into one file, which `bring` opens elsewhere: the same samples, bit for bit."""
    from core import brought, packs
    from core.weights import Package

    out = out_file(arguments.out, ".zip")
    job = runs.find(arguments.run_id, generator=True)
    given = {"licence": arguments.licence, "consent": arguments.consent}
    terms = {name: value for name, value in given.items() if value is not None}
    if terms:
        terms = brought.TermsConfig.of(terms, "terms").record()
    content = packs.pack(job, arguments.step, parse(arguments.set), terms)
    write(out, content)
    said = packs.read(Package.sent([(out.name, content)]))
    result = {
        "run": job.id,
        "family": said.family,
        "step": said.step,
        "bytes": len(content),
        "terms": dict(said.terms),
        "sampling": dict(said.sampling),
        "out": str(out),
    }
    licence = said.terms["licence"] or "not stated"
    lines = [
        f"{out}: {job.name} ({said.family}, step {said.step:,}), {len(content) / 2**20:.1f} MB, licence {licence}.",
        f"Open it elsewhere: python -m core bring {out.name} --dataset {runs.dataset_of(job)}",
    ]
    show(arguments, result, lines)
