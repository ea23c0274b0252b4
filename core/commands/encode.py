"""Finds pictures in the latent space of a run."""

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
    show,
    takes_run,
    takes_values,
    write,
)
from core.datasets.pictures import KINDS


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser, step=True)
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help=KINDS)
    parser.add_argument(
        "--test", type=int, nargs="+", default=[], metavar="N", help="test images of the dataset"
    )
    parser.add_argument(
        "--label", help="name of their class (default: that of the nearest training images)"
    )
    parser.add_argument(
        "--out", help="sheet.png with image, reconstruction and difference, or points.npz"
    )
    takes_values(parser, "a sampling parameter, for example steps=50")


@commands.add("encode", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Find pictures in the latent space of a run, by its encoder or by search."""
    import numpy as np
    import torch

    from core import datasets, latent
    from core.ground import sheets, xmp

    out = out_file(arguments.out, ".png", ".npz") if arguments.out else None
    if not arguments.pictures and not arguments.test:
        raise UserError(
            "There is nothing to encode. Name a picture, or test images with --test 0 1 2."
        )
    job = runs.find(arguments.run_id)
    opened = runs.open_model(job, arguments.step)
    sampling = opened.sampling.of(parse(arguments.set), "sampling") if opened.sampling else None
    label = None if arguments.label is None else label_of(job, opened, arguments.label)
    space = latent.open_space(opened, sampling)
    dataset = latent.trained_on(job, Terminal())
    names, parts, notes = [], [], {}
    for name in arguments.pictures:
        try:
            content = Path(name).read_bytes()
        except OSError as error:
            raise UserError(f"{name} cannot be read ({error.strerror}). Name a picture.") from None
        prepared = datasets.prepare(content, dataset)
        names.append(name)
        parts.append(prepared.seen)
        notes[name] = list(prepared.notes)
    test = dataset.splits["test"]
    for number in arguments.test:
        if not 0 <= number < len(test):
            raise UserError(f"--test takes 0 to {len(test) - 1}, got {number}. Choose another.")
        names.append(f"test {number}")
        parts.append(dataset.images(test[[number]]))
    x = torch.cat(parts)
    labels = None
    if opened.classes:
        if label is not None:
            labels = [label] * len(x)
        elif (guesses := latent.guess(dataset, x)) is not None:
            labels = guesses.tolist()
    points, images, rows = [], [], []
    for i, name in enumerate(names):
        *_, last = latent.find(space, x[i : i + 1], None if labels is None else labels[i])
        points.append(last.point)
        images.append(last.image)
        row = {"image": name, "error": last.error, "seconds": round(last.seconds, 3)}
        row |= {"notes": notes[name]} if name in notes else {}
        rows.append(row | ({} if labels is None else {"class": opened.classes[labels[i]]}))
    result = {
        "run": job.id,
        "step": opened.step,
        "by": space.encodes or "search",
        "sampling": space.sampling.record(),
        "images": rows,
    }
    if out is not None:
        if out.suffix == ".npz":
            memory = io.BytesIO()
            codes = torch.stack(points).cpu().numpy()
            original = space.medium.kept(x)
            recon = np.concatenate([space.items(point) for point in points])
            np.savez_compressed(memory, allow_pickle=False, points=codes, x=original, recon=recon)
            content = memory.getvalue()
        else:
            original, recon = space.medium.shown(x), np.stack(images)
            sheet = np.concatenate([original, recon, latent.difference(original, recon)])
            content = sheets.png(sheet, len(x), result, mark=xmp.partly_by(job.id))
        write(out, content)
        result["out"] = str(out)
    lines = [
        f"{row['image']}: mean squared error {row['error']:.5f}, {row['seconds']:.2f} s"
        + (f", as class {row['class']!r}" if "class" in row else "")
        for row in rows
    ]
    lines += [f"{name}: {note}" for name in notes for note in notes[name]]
    show(arguments, result, lines)
