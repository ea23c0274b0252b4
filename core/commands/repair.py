"""Fills in what is not known of a picture, several times, by a run."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
from core.datasets import Dataset
from core.datasets.pictures import KINDS
from core.ground.writing import many

if TYPE_CHECKING:
    from core.latent import repair

parameters = sampling_of_run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser, step=True)
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help=KINDS)
    parser.add_argument(
        "--test", type=int, metavar="N", help="a test image of the dataset, in place of a picture"
    )
    parser.add_argument(
        "--into",
        metavar="DATASET:INDEX",
        help="an image of a dataset, in place of a picture: a fill takes its place in the next version",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--hole", action="append", default=[], metavar="X,Y,W,H",
        help="left, top, width and height of a hole, in pixels as the model sees the picture; again for more",
    )  # fmt: skip
    what.add_argument(
        "--mask",
        metavar="FILE|TEXT",
        help="a picture, white where the hole is, scaled to the model's size; or the text of a hole in a link (hole=…)",
    )
    what.add_argument(
        "--larger", type=int, metavar="2|4", help="enlarge the picture by this factor instead"
    )
    what.add_argument(
        "--beyond",
        metavar="SHARE[,PLACE]",
        help="go on beyond its edges instead: the picture takes this share of the side, for example 0.6,left",
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
    parser.add_argument(
        "--take", type=int, default=0, metavar="N", help="the fill that --into takes (default 0)"
    )
    parser.add_argument(
        "--save", metavar="NAME", help="with --into: make the new version at once, and call it so"
    )
    takes_values(parser, "a sampling parameter, for example steps=50")


@commands.add("repair", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> None:
    """Fill a hole in a picture, go on beyond its edge, or enlarge it, by a run."""
    import numpy as np

    from core import datasets, latent
    from core.ground import sheets, xmp
    from core.latent import holes, repair
    from core.quality import decisions

    out = out_file(arguments.out, ".png", ".npz") if arguments.out else None
    if not (arguments.hole or arguments.mask or arguments.beyond or arguments.larger is not None):
        raise UserError(
            "Nothing says what to fill in. Give --hole x,y,w,h, --mask FILE, --larger 2 or --beyond 0.6."
        )
    if sum(one is not None for one in (arguments.picture, arguments.test, arguments.into)) != 1:
        raise UserError(
            "There must be one picture. Name a file, a test image with --test 0, or --into DATASET:INDEX."
        )
    if arguments.save is not None and arguments.into is None:
        raise UserError("--save keeps a version with what --into has changed. Give --into as well.")
    if arguments.save:
        datasets.slug(
            arguments.save
        )  # a name that cannot be used is refused before anything is decided
    if arguments.into is not None and (arguments.larger is not None or arguments.beyond):
        raise UserError("--into fills a part of an image. Give --hole x,y,w,h or --mask FILE.")
    if not 1 <= arguments.fills <= repair.MOST:
        raise UserError(
            f"Between 1 and {repair.MOST} fills can be made at once, got {arguments.fills}. Try --fills 8."
        )
    if arguments.take and arguments.into is None:
        raise UserError("--take chooses the fill that --into takes. Give --into as well.")
    if not 0 <= arguments.take < arguments.fills:
        raise UserError(
            f"--take must be from 0 to {arguments.fills - 1}, one of the fills, got {arguments.take}. Choose another."
        )
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
    elif arguments.beyond:
        known = None  # follows from the picture
    elif arguments.mask:
        known = _masked(arguments.mask, shape)
    else:
        known = repair.holes(shape, [_box(text) for text in arguments.hole])
    dataset = latent.trained_on(job, Terminal())
    notes: tuple[str, ...] = ()
    target, index = (None, 0) if arguments.into is None else _item(arguments.into)
    if target is not None:
        x = target.images([index])
    elif arguments.test is not None:
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
    if known is None:
        x, inside = holes.framed(x, *_frame(arguments.beyond))
        x, known = (
            (x * (dataset.levels - 1)).round() / (dataset.levels - 1),
            repair.Known.mask(inside),
        )
    filled = repair.last(
        repair.fill(
            space, x, known, fills=arguments.fills, label=label, seed=arguments.seed,
            method=arguments.method, watch=Terminal(),
        )
    )  # fmt: skip
    near, far = repair.nearest(dataset, filled.images, known)
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
        "mask": "" if known.pixels is None else holes.written(hole.numpy()),
        "nearest": [
            {"image": int(i), "distance": round(float(d), 5)}
            for i, d in zip(near, far, strict=True)
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
    said = [
        f"{many(len(filled.images), 'fill')} by {filled.method} in {filled.seconds:.2f} s; "
        f"they disagree by {within:.3f} of the range in the hole",
        f"The nearest training image in the hole is {copied['image']}, at a distance of {copied['distance']:.3f}",
    ]
    lines = [
        *(said if bool(hole.any()) else ["Nothing is marked, so each fill is the picture itself"]),
        *notes,
        *([f"Wrote {out}"] if out else []),
    ]
    if target is not None:
        item = target.medium.kept(filled.images[[arguments.take]], target.levels)[0]
        how = {"method": filled.method, "fill": arguments.take, "label": label}
        how["hole"] = holes.boxes(hole.numpy())
        book = decisions.repair(
            target, index, item, run=job.id, seed=arguments.seed, how=how, who="command line",
            seen=decisions.open(target).version,
        )  # fmt: skip
        result["decisions"] = book.summary
        lines += [decisions.told(entry) for entry in book.entries if entry.id in book.new]
        lines += [book.news] if book.news else []
        if arguments.save is not None:
            saved = decisions.apply(target, arguments.save, "command line")
            result["saved"] = {"name": saved.name, "images": len(saved), "parent": saved.parent}
            lines.append(f"Saved {saved.name} with {len(saved):,} images.")
    show(arguments, result, lines)


def _item(text: str) -> tuple[Dataset, int]:
    """Opens the dataset of an image, and finds its index in it."""
    from core import datasets
    from core.quality import decisions

    name, _, number = text.rpartition(":")
    if not name or not number.isascii() or not number.isdecimal() or len(number) > 18:
        raise UserError(
            f"--into takes the name of a dataset and the number of an image, got {text!r}. For example digits:12."
        )
    dataset = datasets.load(name)
    decisions.known(dataset, [int(number)])
    return dataset, int(number)


def _frame(text: str) -> tuple[float, str]:
    """Reads how large the picture stands where in its frame."""
    share, _, place = text.partition(",")
    try:
        return float(share), place or "middle"
    except ValueError:
        raise UserError(
            f"--beyond takes a share and, if you like, a place, got {text!r}. For example --beyond 0.6,left."
        ) from None


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}). Name a picture.") from None


def _masked(text: str, shape: Sequence[int]) -> repair.Known:
    """Reads a mask for items of a shape: a file, or else the text that stands in a link."""
    from core.latent import holes, repair

    if not holes.is_text(text) or (
        len(text) < 256 and Path(text).exists()
    ):  # longer is no file's name
        return repair.painted(_read(text), shape)
    repair.holes(shape, [])  # refuses what is no picture
    return repair.Known.mask(~holes.read(text, tuple(shape[1:])))


def _box(text: str) -> list[int]:
    try:
        left, top, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"--hole takes x,y,w,h, four whole numbers, got {text!r}. For example --hole 2,2,4,4."
        ) from None
    return [left, top, width, height]
