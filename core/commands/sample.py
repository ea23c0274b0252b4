"""Draws images from a run."""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path

from core import runs
from core.catalog import UserError, parse
from core.commands import commands, named_class, sampling_of_run, show, takes_run, takes_values
from core.ground import files

parameters = sampling_of_run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser)
    parser.add_argument("-n", type=int, default=64, help="how many (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default 0)")
    parser.add_argument("--label", help="class to draw, by its name; all classes otherwise")
    parser.add_argument("--step", type=int, help="step of the checkpoint (default: the best one)")
    parser.add_argument("--columns", type=int, default=0, help="images per row of a PNG")
    parser.add_argument(
        "--out", required=True, help="grid.png, or samples.npz with x (N, C, H, W) in [0, 1] and y"
    )
    parser.add_argument(
        "--between", type=int, nargs=2, metavar=("A", "B"), help="draw the way from image A to B"
    )
    parser.add_argument("--way", choices=("slerp", "lerp"), default="slerp", help="of --between")
    takes_values(parser, "a sampling parameter, for example temperature=0.8")


@commands.add("sample", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> None:
    """Draw images from a run."""
    import numpy as np
    import torch

    from core import latent
    from core.ground import sheets
    from core.media import media
    from core.models import Decodes
    from core.tensors import device

    if not 1 <= arguments.n <= 100_000:
        raise UserError(
            f"-n must be at least 1 and at most 100000, got {arguments.n}. Draw more in several calls."
        )
    out = Path(arguments.out)
    known = [*dict.fromkeys(medium.suffix for medium in media), ".npz"]
    if out.suffix not in known:
        raise UserError(
            f"--out must end in {' or '.join(known)}, got {arguments.out!r}. Choose one of them."
        )
    if not out.parent.is_dir():
        raise UserError(
            f"The folder {out.parent} of --out does not exist. Make it, or choose another."
        )
    job = runs.find(arguments.run_id)
    if not runs.generates(job):
        raise UserError(
            f"{job.name} is a classifier, which draws no images. Choose a run of a generative model."
        )
    opened = runs.open_model(job, arguments.step)
    medium = media.get(opened.spec.medium)
    if out.suffix not in (medium.suffix, ".npz"):
        raise UserError(
            f"Samples of {job.name} are written as {medium.suffix} or .npz, got {arguments.out!r}. "
            "Choose one of the two."
        )
    walks = isinstance(opened.model, Decodes)
    if arguments.between and not walks:
        raise UserError(f"{job.name} has no latent space to walk in. Leave --between out.")
    if min(arguments.between or [0]) < 0:
        raise UserError(f"--between takes two image numbers from 0, got {arguments.between}.")
    assert opened.sampling is not None
    sampling = opened.sampling.of(parse(arguments.set), "sampling")
    y = label = None
    if opened.classes:
        if arguments.label is not None:
            label = named_class(arguments.label, opened.classes)
        count = max([arguments.n, *(end + 1 for end in arguments.between or ())])
        y = (
            torch.arange(count) % len(opened.classes)
            if label is None
            else torch.full((count,), label)
        )
        y = y.to(device())
    elif arguments.label is not None:
        raise UserError(
            f"{job.name} does not listen to labels, so --label has no meaning. Leave it out."
        )
    if arguments.between:
        way = latent.path(
            opened.model,
            tuple(arguments.between),
            y,
            arguments.seed,
            sampling,
            arguments.way,
            arguments.n,
        )
        x, y = medium.read(torch.as_tensor(way), 256), None
    else:
        seen = torch.cat(
            [
                opened.model.sample(
                    range(i, min(i + 500, arguments.n)),
                    None if y is None else y[i : i + 500],
                    arguments.seed,
                    sampling,
                ).cpu()
                for i in range(0, arguments.n, 500)
            ]
        )
        x = medium.from_model(seen)
    facts = {
        "run": job.id,
        "step": opened.step,
        "seed": arguments.seed,
        "sampling": sampling.record(),
        **({"between": arguments.between, "way": arguments.way} if arguments.between else {}),
        **({} if label is None else {"label": label, "class": opened.classes[label]}),
        "count": arguments.n,
        "out": str(out),
    }
    with files.full_disk_told():
        if out.suffix == ".npz":
            arrays = {"x": x.numpy()}
            if y is not None:
                arrays |= {"y": y.cpu().numpy(), "classes": np.array(opened.classes)}
            memory = io.BytesIO()
            np.savez_compressed(memory, allow_pickle=False, **arrays)
            files.write_atomic(out, memory.getvalue())
        else:
            columns = arguments.columns or max(
                sheets.columns(len(opened.classes)), math.isqrt(arguments.n)
            )
            files.write_atomic(out, medium.make(medium.write(x, 256), columns, facts))
    of = "" if label is None else f" of class {opened.classes[label]!r}"
    lines = [f"Wrote {arguments.n} images{of} of {job.id}, step {opened.step}, to {out}"]
    show(arguments, facts, lines)
