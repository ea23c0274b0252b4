"""Finds directions in the latent space of a run."""

from __future__ import annotations

import argparse
import sys

from core import runs
from core.catalog import UserError
from core.commands import Terminal, commands, label_of, out_file, show, takes_run, write
from core.ground.writing import duration, percent

KINDS = ("principal", "factors", "local", "labels", "attributes", "named")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser, step=True)
    parser.add_argument("--kind", choices=KINDS, default="principal", help="(default principal)")
    parser.add_argument("--only", nargs="+", help="labels or attributes, for example smile glasses")
    parser.add_argument("--count", type=int, default=6, help="how many (default 6)")
    parser.add_argument("--image", type=int, default=0, help="image to move (default 0)")
    parser.add_argument("--label", help="its class, by name")
    parser.add_argument("--seed", type=int, default=0, help="seed of the image (default 0)")
    parser.add_argument(
        "--name", nargs=2, metavar=("NUMBER", "NAME"),
        help="give the direction of this number in the list a name, or take it away with an empty one",
    )  # fmt: skip
    parser.add_argument("--out", help="strips.png, one row per direction, from -3 to +3 steps")


@commands.add("directions", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Find directions in the latent space of a run, and show what they change."""
    import numpy as np

    from core import latent
    from core.ground import sheets, xmp
    from core.measure import features

    out = out_file(arguments.out, ".png") if arguments.out else None
    if not 1 <= arguments.count <= 100 or arguments.image < 0:
        raise UserError(
            f"--count must be from 1 to 100 and --image at least 0, got {arguments.count} and "
            f"{arguments.image}. Leave them out."
        )
    job = runs.find(arguments.run_id)
    opened = runs.open_model(job, arguments.step)
    space = latent.open_space(opened)
    label = None if arguments.label is None else label_of(job, opened, arguments.label)
    labels = None if label is None else [label]
    point = space.draw([arguments.image], labels, arguments.seed)[0]
    if latent.costly(space, arguments.kind):
        took = duration(latent.foretold(space, arguments.kind))
        print(f"Finding them takes about {took} here.", file=sys.stderr, flush=True)
    if arguments.kind == "principal":
        directions = latent.principal(space, watch=Terminal())
    elif arguments.kind == "factors":
        directions = latent.factors(space, arguments.count)
    elif arguments.kind == "local":
        directions = latent.local(space, point, arguments.count)
    elif arguments.kind == "named":
        directions = list(latent.named(space).values())
    else:
        dataset = latent.trained_on(job, Terminal())
        reading = features.reader(dataset, Terminal())
        directions = latent.regressed(space, dataset, reading, arguments.only)
        if not arguments.only:
            directions = [d for d in directions if d.kind == arguments.kind]
    directions = directions[: arguments.count]
    if not directions:
        raise UserError(
            f"{job.name} has no directions of the kind {arguments.kind}. Choose another --kind."
        )
    if arguments.name:
        number, name = arguments.name
        if not number.isdecimal() or not 1 <= int(number) <= len(directions):
            raise UserError(
                f"--name takes the number of a direction, 1 to {len(directions)} here, got {number!r}. "
                "List them without --name."
            )
        latent.call(space, directions[int(number) - 1], name)
    known = latent.named(space)
    if arguments.kind == "named":
        directions = list(known.values())
    called = [known[id].name if (id := latent.id_of(d, known)) else "" for d in directions]
    rows = [
        {
            "name": d.name,
            "kind": d.kind,
            "called": name,
            "share": d.share,
            "accuracy": d.accuracy,
            "measure": d.measure,
            "leaks": dict(list(d.leaks.items())[:5]),
            "notes": list(d.notes),
        }
        for d, name in zip(directions, called, strict=True)
    ]
    result = {
        "run": job.id,
        "step": opened.step,
        "seed": arguments.seed,
        "image": arguments.image,
        **({} if label is None else {"class": opened.classes[label]}),
        "directions": rows,
    }
    if out is not None and directions:
        x = np.concatenate([latent.filmstrip(space, point, d)[0] for d in directions])
        write(out, sheets.png(x, len(latent.AMOUNTS), result, mark=xmp.made_by(job.id)))
        result["out"] = str(out)
    lines = []
    if label is not None:
        lines.append(f"Image {arguments.image} of class {opened.classes[label]!r}")
    for number, (d, name) in enumerate(zip(directions, called, strict=True), 1):
        line = (
            f"{number}. {d.name}" + (f", called {name}" if name not in ("", d.name) else "") + ":"
        )
        if d.accuracy is not None:
            other = [f"{name} by {change:+.2f}" for name, change in d.leaks.items()]
            line += (
                f" {d.measure} {d.accuracy:.2f} (guessing {d.chance:.2f}), a step changes it by {d.share:+.2f} "
                f"deviations, {other[0] if other else 'nothing else'}"
            )
        elif d.share is not None:
            line += f" {percent(d.share)} of what there is to explain"
        elif d.kind == "named":
            line += " " + " ".join(d.notes)
        lines.append(line)
    show(arguments, result, lines)
