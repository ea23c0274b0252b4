"""Trains a classifier on against attacks, and says what that costs and gains."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from core import kinds
from core.catalog import Config, UserError
from core.commands import commands, ended, given, out_file, show, takes_values, write


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument(
        "classifier",
        nargs="?",
        default="",
        metavar="CLASSIFIER",
        help="id or name of a run, or own/NAME; else the dataset's plain one",
    )
    parser.add_argument("--dataset", default="digits", help="name of a dataset (default digits)")
    parser.add_argument("--eps", help="strength trained against, for example 0.1 (harden.eps)")
    parser.add_argument("--images", help="images to see (train.images)")
    parser.add_argument("--name", default="", help="what to call what comes of it")
    parser.add_argument("--out", help="weights.safetensors, to be written as well")
    takes_values(parser, "a parameter, for example harden.attack_steps=10 or train.seed=1")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    return kinds.parts("harden", {"dataset": chosen.dataset})


@commands.add("harden", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> None:
    """Harden a classifier: train it on against attacks, and measure price and gain."""
    from core.kinds.harden import WEIGHTS

    out = out_file(arguments.out, ".safetensors") if arguments.out else None
    values = given(arguments, "harden", "eps") | given(arguments, "train", "images")
    values["harden.classifier"] = arguments.classifier
    choice = {"dataset": arguments.dataset}
    job = ended(kinds.submit("harden", choice, values, name=arguments.name, who="command line"))
    release = job.result().release
    if release is None:
        raise UserError(
            f"{job.name} was stopped before its end, so nothing is known of price and gain. "
            f"Resume it: python -m core resume {job.id}"
        )
    lines = [
        job.message,
        f"Attack it: python -m core attack --dataset {arguments.dataset} --classifier {job.id}",
    ]
    result = {"run": job.id, "name": job.name, **release.record()}
    if out:
        write(out, (job.path / WEIGHTS).read_bytes())
        result["written"] = [str(out)]
        lines.append(f"Wrote {out}")
    show(arguments, result, lines)
