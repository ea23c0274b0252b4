"""Trains a model or a classifier."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from core import kinds, runs
from core.catalog import Config, UserError, unknown
from core.commands import commands, follow, given, show, takes_values
from core.kinds.train import continued, trainers
from core.models import DEFAULT_FAMILY


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("--dataset", default=None, help="name of a dataset (default digits)")
    parser.add_argument("--family", default=None, help="name of a family (default gan)")
    parser.add_argument(
        "--kind", default=None, help="kind of job that trains, if it is no generative model"
    )
    parser.add_argument(
        "--classifier",
        action="store_const",
        const="classifier",
        dest="kind",
        help="train a classifier instead of a generative model",
    )
    parser.add_argument("--preset", help="start from a preset of the family")
    parser.add_argument("--like", metavar="RUN", help="start from the settings of another run")
    parser.add_argument(
        "--from",
        dest="parent",
        metavar="RUN[@STEP]",
        help="start from the trained weights of another run, and its settings (train.parent), also with another "
        "--dataset of the same size; --set further.layers=lora says what learns",
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
        *_choice(chosen.kind, chosen.dataset or "digits", chosen.family or DEFAULT_FAMILY)
    )


@commands.add("train", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> int:
    """Train a model or a classifier as a job of its own."""
    kind, dataset, family = arguments.kind, arguments.dataset, arguments.family
    chosen, old = {}, {}
    if arguments.like and arguments.parent:
        raise UserError(
            f"--from {arguments.parent} takes over the settings of that run, so --like has no place. Leave one out."
        )
    begun = runs.named(arguments.parent)[0] if arguments.parent else None
    if begun is not None and runs.generates(begun) and kind in (None, "train"):
        chosen, old = continued(begun, dataset or runs.dataset_of(begun))
        kind = kind or ("train" if family is None else None)
        dataset, family = chosen["dataset"], family or chosen["family"]
    elif begun is not None or arguments.like:
        model = begun or runs.find(arguments.like)
        chosen, old = kinds.flat(model.config)
        kind = kind or (model.kind if family is None else None)
        dataset, family = dataset or chosen["dataset"], family or chosen.get("family")
    elif kind not in (None, "train") and family:
        raise UserError(
            f"--{kind} and --family {family} exclude each other. Leave one of them out."
        )
    kind, choice = _choice(kind, dataset or "digits", family or DEFAULT_FAMILY)
    classes = kinds.parts(kind, choice)
    # another dataset or family has other parameters: only the rest is taken over
    values = {
        name: value
        for name, value in old.items()
        if (part := name.partition(".")[0]) in classes and choice.get(part) == chosen.get(part)
    }
    if arguments.preset:
        values |= _preset(choice, arguments.preset)
    values |= given(arguments, "train", "images", "seed", "gpus", "parent")
    job = kinds.submit(kind, choice, values, name=arguments.name, who="command line")
    if arguments.wait:
        return follow(job, arguments.json)
    lines = [
        f"Started {job.id}. Follow it on the Train page, or with: python -m core runs {job.id}"
    ]
    show(arguments, {"run": job.id, "status": job.status}, lines)
    return 0


def _preset(choice: Mapping[str, str], name: str) -> dict[str, Any]:
    from core.models import families

    presets = families.get(choice["family"]).presets if "family" in choice else {}
    if name not in presets:
        raise UserError(unknown("preset of this family", name, presets))
    return dict(presets[name])


def _choice(kind: str | None, dataset: str, family: str) -> tuple[str, dict[str, str]]:
    if kind in (None, "train"):
        return "train", {"dataset": dataset, "family": family}
    if kind not in (known := trainers()):
        raise UserError(unknown("kind of training", kind, known))
    return kind, {"dataset": dataset}
