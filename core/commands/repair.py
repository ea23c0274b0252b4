"""Fills in what is not known of a picture, several times, by a run."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from core import runs
from core.catalog import UserError, parse
from core.commands import (
    Terminal,
    commands,
    label_of,
    out_file,
    sampling_of_run,
    show,
    takes_run,
    takes_values,
    write,
)
from core.datasets.pictures import KINDS
from core.ground.writing import many

parameters = sampling_of_run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser, step=True)
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help=KINDS)
    parser.add_argument(
        "--test", type=int, metavar="N", help="a test image of the dataset, in place of a picture"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--hole", action="append", default=[], metavar="X,Y,W,H",
        help="left, top, width and height of a hole, in pixels as the model sees the picture; again for more",
    )  # fmt: skip
    what.add_argument(
        "--mask",
        metavar="FILE",
        help="a picture, white where the hole is; scaled to the model's size",
    )
    what.add_argument(
        "--larger", type=int, metavar="2|4", help="enlarge the picture by this factor instead"
    )
    parser.add_argument("--fills", type=int, default=8, help="how many (default 8)")
    parser.add_argument("--label", help="name of its class (default: the model finds out)")
    parser.add_argument("--seed", type=int, default=0, help="of the fills (default 0)")
    parser.add_argument(
        "--method",
        default="",
        help="particles, search, codes, slices or repaint (default: the best that fits)",
    )
    parser.add_argument(
        "--out", help="fills.npz, or sheet.png with the picture, its fills and where they disagree"
    )
    takes_values(parser, "a sampling parameter, for example steps=50")


@commands.add("repair", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> None:
    """Fill a hole in a picture, go on beyond its edge, or enlarge it, by a run."""
    import numpy as np

    from core import datasets, latent
    from core.ground import sheets, xmp
    from core.latent import repair

    out = out_file(arguments.out, ".png", ".npz") if arguments.out else None
    if not (arguments.hole or arguments.mask or arguments.larger is not None):
        raise UserError(
            "Nothing says what to fill in. Give --hole x,y,w,h, --mask FILE, or --larger 2."
        )
    if (arguments.picture is None) == (arguments.test is None):
        raise UserError("There must be one picture. Name a file, or a test image with --test 0.")
    if not 0 <= arguments.seed < 2**31:
        raise UserError(f"--seed must be from 0 to {2**31 - 1}, got {arguments.seed}. Try 0.")
    job = runs.find(arguments.run_id)
    opened = runs.open_model(job, arguments.step)
    sampling = opened.sampling.of(parse(arguments.set), "sampling") if opened.sampling else None
    label = None if arguments.label is None else label_of(job, opened, arguments.label)
    space = latent.open_space(opened, sampling)
    shape = space.model.spec.shape
    if arguments.larger is not None:
        known = repair.Known.smaller(arguments.larger)
    elif arguments.mask:
        known = repair.painted(_read(arguments.mask), shape)
    else:
        known = repair.holes(shape, [_box(text) for text in arguments.hole])
    dataset = latent.trained_on(job)
    notes: tuple[str, ...] = ()
    if arguments.test is not None:
        test = dataset.splits["test"]
        if not 0 <= arguments.test < len(test):
            raise UserError(
                f"--test takes 0 to {len(test) - 1}, got {arguments.test}. Choose another."
            )
        x = dataset.images(test[[arguments.test]])
    elif arguments.larger is not None:
        x, notes = repair.read_smaller(_read(arguments.picture), dataset, arguments.larger)
    else:
        prepared = datasets.prepare(_read(arguments.picture), dataset)
        x, notes = prepared.seen, prepared.notes
    filled = repair.last(
        repair.fill(
            space, x, known, fills=arguments.fills, label=label, seed=arguments.seed,
            method=arguments.method, watch=Terminal(),
        )
    )  # fmt: skip
    index, far = repair.nearest(dataset, filled.images, known)
    apart = repair.disagreement(filled.images)
    hole = known.hole(shape)
    within = float(apart[hole].mean()) if bool(hole.any()) else 0.0
    result = {
        "run": job.id,
        "step": opened.step,
        "method": filled.method,
        "sampling": space.sampling.record(),
        "fills": len(filled.images),
        "seed": arguments.seed,
        "class": None if label is None else opened.classes[label],
        "hole": int(hole.sum()),
        "nearest": [
            {"image": int(i), "distance": round(float(d), 5)}
            for i, d in zip(index, far, strict=True)
        ],
        "disagreement": within,
        "missed": [round(float(value), 5) for value in filled.missed],
        "known_error": float(known.error(filled.images, x).max()),
        "seconds": round(filled.seconds, 3),
        "notes": list(notes),
    }
    if out is not None:
        if out.suffix == ".npz":
            memory = io.BytesIO()
            np.savez_compressed(memory, x=filled.images.numpy(), known=(~hole).numpy())
            content = memory.getvalue()
        else:
            content = sheets.png(
                repair.sheet(space.medium, x, known, filled.images),
                min(10, len(filled.images) + 2),
                result,
                mark=xmp.partly_by(job.id),
            )
        write(out, content)
        result["out"] = str(out)
    copied = min(result["nearest"], key=lambda near: near["distance"])
    lines = [
        f"{many(len(filled.images), 'fill')} by {filled.method} in {filled.seconds:.2f} s; "
        f"they disagree by {within:.3f} of the range in the hole",
        f"The nearest training image in the hole is {copied['image']}, at a distance of {copied['distance']:.3f}",
        *notes,
        *([f"Wrote {out}"] if out else []),
    ]
    show(arguments, result, lines)


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}). Name a picture.") from None


def _box(text: str) -> list[int]:
    try:
        left, top, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"--hole takes x,y,w,h, four whole numbers, got {text!r}. For example --hole 2,2,4,4."
        ) from None
    return [left, top, width, height]
