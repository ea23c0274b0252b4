"""Trains a model or a classifier."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from core import kinds, runs
from core.catalog import Config, UserError, parse
from core.commands import commands, follow, show, takes_values
from core.models import DEFAULT_FAMILY


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("--dataset", default=None, help="name of a dataset (default digits)")
    parser.add_argument("--family", default=None, help="name of a family (default gan)")
    parser.add_argument(
        "--classifier", action="store_true", help="train a classifier instead of a generative model"
    )
    parser.add_argument("--preset", help="start from a preset of the family")
    parser.add_argument("--like", metavar="RUN", help="start from the settings of another run")
    parser.add_argument(
        "--from",
        dest="parent",
        metavar="RUN[@STEP]",
        help="start from the trained weights of another run, and its settings (train.parent)",
    )
    parser.add_argument("--gpus", help="GPUs that share each batch (train.gpus)")
    parser.add_argument("--images", help="images to see (train.images)")
    parser.add_argument("--seed", help="seed (train.seed)")
    parser.add_argument("--name", default="", help="what to call the run")
    takes_values(
        parser, "a parameter, for example family.beta=2; the short name works while it is unique"
    )
    parser.add_argument("--wait", action="store_true", help="follow the training to its end")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    return kinds.parts(
        *_choice(chosen.classifier, chosen.dataset or "digits", chosen.family or DEFAULT_FAMILY)
    )


@commands.add("train", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Train a model or a classifier as a job of its own."""
    values: dict[str, Any] = {}
    classifier, dataset, family = arguments.classifier, arguments.dataset, arguments.family
    if arguments.like and arguments.parent:
        raise UserError(
            f"--from {arguments.parent} takes over the settings of that run, so --like has no place. Leave one out."
        )
    if arguments.like or arguments.parent:
        model = runs.named(arguments.parent)[0] if arguments.parent else runs.find(arguments.like)
        chosen, old = kinds.flat(model.config)
        classifier = classifier or (model.kind == "classifier" and family is None)
        # another dataset or family has other parameters: only the rest is taken over
        same = {
            "dataset": dataset in (None, chosen["dataset"]),
            "family": not classifier and family in (None, chosen.get("family")),
            "classifier": classifier,
            "extra": classifier,
        }
        values = {
            name: value for name, value in old.items() if same.get(name.partition(".")[0], True)
        }
        dataset, family = dataset or chosen["dataset"], family or chosen.get("family")
    kind, choice = _choice(classifier, dataset or "digits", family or DEFAULT_FAMILY)
    if classifier and family and not (arguments.like or arguments.parent):
        raise UserError(
            f"--classifier and --family {family} exclude each other. Leave one of them out."
        )
    if arguments.preset:
        values |= _preset(choice, arguments.preset)
    values |= parse(arguments.set)
    values |= {
        f"train.{n}": v
        for n in ("images", "seed", "gpus", "parent")
        if (v := getattr(arguments, n)) is not None
    }
    job = kinds.submit(kind, choice, values, name=arguments.name, who="command line")
    if arguments.wait:
        return follow(job, arguments.json)
    lines = [
        f"Started {job.id}. Follow it on the Train page, or with: python -m core runs {job.id}"
    ]
    show(arguments, {"run": job.id, "status": job.status}, lines)
    return 0


def _preset(choice: Mapping[str, str], name: str) -> dict[str, Any]:
    from core.catalog import unknown
    from core.models import families

    presets = families.get(choice["family"]).presets if "family" in choice else {}
    if name not in presets:
        raise UserError(unknown("preset of this family", name, presets))
    return dict(presets[name])


def _choice(classifier: bool, dataset: str, family: str) -> tuple[str, dict[str, str]]:
    return (
        ("classifier", {"dataset": dataset})
        if classifier
        else ("train", {"dataset": dataset, "family": family})
    )
