"""Brings somebody's own model: a classifier is attacked as ``own/NAME``, a generative one is a run."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.catalog import Config, UserError, parse
from core.commands import commands, ended, show, takes_values
from core.ground.writing import many

PROGRAM = """what package.module:factory gives: a torch.nn.Module with one of
  velocity(x, t, y)                 data - noise at x = (1 - t) noise + t data, images from -1 to 1
  decode(z, y) and latent_dim       images from 0 to 1 of rows of normal numbers; perhaps encode(x, y)
  sample(ids, y, seed, sampling)    the images of these ids of this seed, from 0 to 1
  where y is None or shares of the classes (N, K), and its attribute classes is K; the factory gets the path of
  --weights, or None when the run is opened again, with the weights of its checkpoint
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.epilog = f"{PROGRAM}\n{parser.epilog or ''}"
    parser.add_argument(
        "weights",
        type=Path,
        nargs="?",
        help="a .safetensors file or .pt state dict; a folder or ZIP with a .json that describes it",
    )
    parser.add_argument(
        "--code",
        metavar="PLACE",
        default="",
        help="package.module:factory of this machine instead, which gives a generator (see below)",
    )
    parser.add_argument("--weights", dest="file", metavar="FILE", help="what --code gets to read")
    parser.add_argument("--name", default="", help="what it is called; the file's name otherwise")
    parser.add_argument("--dataset", default="digits", help="whose classes it knows (digits)")
    parser.add_argument(
        "--origin", default="", help="where its network comes from, if its files do not tell"
    )
    parser.add_argument(
        "--licence", help="of a generative model, best as an SPDX id; what it says itself otherwise"
    )
    parser.add_argument(
        "--consent",
        help="of the people whose pictures a generative model has learned from: unknown, given, not needed, withdrawn",
    )
    for name, help in _flags().items():
        parser.add_argument(f"--{name}", dest=f"of.{name}", metavar="VALUE", help=help)
    takes_values(parser, "a parameter, for example transform_input=false")


def _flags() -> dict[str, str]:
    """Gives the parameters of all origins that take weights, and what they are."""
    from core import brought

    return {
        name: knob.help.replace("%", "%%")
        for origin in brought.origins
        if origin.files
        for name, knob in origin.config.knobs().items()
    }


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    from core import brought

    if chosen.code:
        from core.wrapped.program import ProgramConfig

        return {"": ProgramConfig}
    origin = chosen.origin or brought.USUAL
    if chosen.weights and not chosen.origin:
        origin = brought.origin_of(brought.read(Path(chosen.weights))).name
    return {"": brought.origins.get(origin).config}


@commands.add("bring", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> None:
    """Bring the weights of a model: a classifier that can be attacked, or a generative model."""
    from core import brought, datasets, jobs, runs, weights
    from core.weights import Package

    values = dict(parse(arguments.set))
    if bool(arguments.code) == bool(arguments.weights) or (arguments.file and not arguments.code):
        raise UserError(
            "bring takes a file or folder, or --code package.module:factory (with --weights FILE, if it reads any). "
            "Give one of the two."
        )
    dataset = datasets.load(arguments.dataset, {})
    origin, package = arguments.origin, Package(arguments.code, {})
    if arguments.code:
        values |= {"place": arguments.code}
        if arguments.file:
            values["weights"] = str(Path(arguments.file).absolute())
        origin = _offered(arguments.code, arguments.file)
    else:
        values |= {
            name: v for name in _flags() if (v := getattr(arguments, f"of.{name}")) is not None
        }
        package = brought.read(arguments.weights)
    name = arguments.name or brought.called(package.name)
    said = {name: getattr(arguments, name) for name in ("licence", "consent")}
    terms = {name: value for name, value in said.items() if value is not None} or None
    if package.files and not arguments.json:
        _tell(package, origin)
    model = brought.keep(name, package, values, dataset, origin, terms)
    record, note = model.record, model.note
    use = f"Attack it: python -m core attack --dataset {dataset.name} --classifier {model.id}"
    if model.origin.sampling is not None:
        record = runs.record(ended(jobs.get(model.id)))
        found = {"origin": model.origin.name, **record["brought"]}
        note = replace(model, record=found).note  # says what was found in it, too
        use = f"Sample it: python -m core sample {model.id} --out grid.png"
    result: dict[str, Any] = {"id": model.id, "dataset": dataset.name, "origin": model.origin.name}
    what = many(package.files, "file") if package.files else f"a {origin} by code"
    if package.lone and model.origin.see is None:  # else that has said what it is
        contents = weights.look(package.weights)
        result |= {
            "kind": contents.kind,
            "tensors": len(contents.parts),
            "classes": contents.classes,
        }
        what = f"{contents.kind} of {len(contents.parts):,} tensors"
    if "package" in record:
        result |= {"seconds": record["package"]["seconds"], "terms": record["terms"]}
    result |= {"preprocessing": record.get("preprocessing", {}), "notes": record["notes"]}
    lines = [
        f"{model.id}: {what}, for {dataset.name}.",
        note,
        *record["notes"],
        *(
            [f"A picture takes {record['package']['seconds']:.3g} s here."]
            if "package" in record
            else []
        ),
        use,
    ]
    if arguments.code:
        lines.append(
            f"A server or a command opens it with SIMULACRA_CODE={arguments.code}, and finds its module by PYTHONPATH."
        )
    show(arguments, result, lines)


def _tell(package: Any, origin: str) -> None:
    """Says what a package holds before it is kept."""
    from core import brought

    entry = brought.origins.get(origin) if origin else brought.origin_of(package)
    if entry.see is None:
        return
    seen = entry.see(package)
    made = " × ".join(map(str, seen.shape)) or "items of any shape"
    does, draws = ("takes", "") if entry.sampling is None else ("makes", ", draws as usual")
    print(
        f"{seen.title}: {seen.parameters:,} numbers ({seen.megabytes:,.1f} MB), {does} {made}, "
        f"{seen.classes or 'no'} class{'es' * (seen.classes != 1)}{f', {seen.sampler}' if seen.sampler else draws}."
    )


def _offered(place: str, weights: str | None) -> str:
    """Tells what a program of this machine offers, and lets the job that tries it run this program.

    Whoever typed the place has allowed it, for this command and what it starts alone.
    """
    from core.ground.settings import settings
    from core.wrapped import program

    net, _ = program.made(place, Path(weights) if weights else None)
    allowed = [settings().code, place]
    found = [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    os.environ["SIMULACRA_CODE"] = ",".join(filter(None, allowed))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, found))
    settings.cache_clear()
    return program.kind_of(net, place)
