"""Finds directions in the latent space of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from core import runs
from core.catalog import UserError
from core.commands import Terminal, commands, named_class, show, takes_run
from core.ground import files
from core.ground.writing import percent

KINDS = ("principal", "factors", "local", "labels", "attributes")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser)
    parser.add_argument("--kind", choices=KINDS, default="principal", help="(default principal)")
    parser.add_argument("--only", nargs="+", help="labels or attributes, for example smile glasses")
    parser.add_argument("--count", type=int, default=6, help="how many (default 6)")
    parser.add_argument("--image", type=int, default=0, help="image to move (default 0)")
    parser.add_argument("--label", help="its class, by name")
    parser.add_argument("--seed", type=int, default=0, help="seed of the image (default 0)")
    parser.add_argument("--step", type=int, help="step of the checkpoint (default: the best one)")
    parser.add_argument("--out", help="strips.png, one row per direction, from -3 to +3 steps")


@commands.add("directions", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Find directions in the latent space of a run, and show what they change."""
    import numpy as np

    from core import latent
    from core.ground import sheets
    from core.measure import features

    out = Path(arguments.out) if arguments.out else None
    if out is not None and (out.suffix != ".png" or not out.parent.is_dir()):
        raise UserError(
            f"--out must end in .png, in a folder that exists, got {arguments.out!r}. Choose another."
        )
    if not 1 <= arguments.count <= 100 or arguments.image < 0:
        raise UserError(
            f"--count must be from 1 to 100 and --image at least 0, got {arguments.count} and "
            f"{arguments.image}. Leave them out."
        )
    job = runs.find(arguments.run_id)
    opened = runs.open_model(job, arguments.step)
    space = latent.open_space(opened)
    labels = None
    if arguments.label is not None:
        if not opened.classes:
            raise UserError(
                f"{job.name} does not listen to labels, so --label has no meaning. Leave it out."
            )
        labels = [named_class(arguments.label, opened.classes)]
    point = space.draw([arguments.image], labels, arguments.seed)[0]
    if arguments.kind == "principal":
        found = latent.principal(space)
    elif arguments.kind == "factors":
        found = latent.factors(space, arguments.count)
    elif arguments.kind == "local":
        found = latent.local(space, point, arguments.count)
    else:
        dataset = latent.trained_on(job)
        reading = features.reader(dataset, Terminal())
        found = latent.regressed(space, dataset, reading, arguments.only)
        if not arguments.only:
            found = [each for each in found if each.kind == arguments.kind]
    found = found[: arguments.count]
    if not found:
        raise UserError(
            f"{job.name} has no directions of the kind {arguments.kind}. Choose another --kind."
        )
    rows = [
        {
            "name": each.name,
            "kind": each.kind,
            "share": each.share,
            "accuracy": each.accuracy,
            "measure": each.measure,
            "leaks": dict(list(each.leaks.items())[:5]),
            "notes": list(each.notes),
        }
        for each in found
    ]
    facts = {
        "run": job.id,
        "step": opened.step,
        "seed": arguments.seed,
        "image": arguments.image,
        **({} if labels is None else {"class": opened.classes[labels[0]]}),
        "directions": rows,
    }
    if out is not None:
        x = np.concatenate([latent.filmstrip(space, point, each).x for each in found])
        with files.full_disk_told():
            files.write_atomic(out, sheets.png(x, len(latent.AMOUNTS), facts))
        facts["out"] = str(out)
    lines = (
        []
        if labels is None
        else [f"Image {arguments.image} of class {opened.classes[labels[0]]!r}"]
    )
    for each in found:
        words = [f"{each.name}:"]
        if each.accuracy is not None:
            words.append(f"{each.measure} {each.accuracy:.2f} (guessing {each.chance:.2f}),")
            words.append(f"a step changes it by {each.share:+.2f} deviations,")
            other = next(iter(each.leaks.items()), None)
            words.append("nothing else" if other is None else f"{other[0]} by {other[1]:+.2f}")
        elif each.share is not None:
            words.append(f"{percent(each.share)} of what there is to explain")
        lines.append(" ".join(words))
    show(arguments, facts, lines)
