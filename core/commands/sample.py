"""Draws images from a run."""

from __future__ import annotations

import argparse
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import jobs, runs
from core.catalog import Config, UserError, parse
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

if TYPE_CHECKING:
    from core import latent

parameters = sampling_of_run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser, step=True)
    parser.add_argument("-n", type=int, default=64, help="how many (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default 0)")
    parser.add_argument("--label", help="class to draw, by its name; all classes otherwise")
    parser.add_argument("--columns", type=int, default=0, help="images per row of a PNG")
    parser.add_argument(
        "--out",
        required=True,
        help="grid.png; samples.npz with x (N, C, H, W) in [0, 1] and y; samples.zip with a file for each; "
        "or with -n 1 a file of the kind of data, such as x.wav",
    )
    parser.add_argument(
        "--between", type=int, nargs=2, metavar=("A", "B"), help="draw the way from image A to B"
    )
    parser.add_argument(
        "--blend",
        type=int,
        default=0,
        metavar="COLUMNS",
        help="draw each image on the way from the prompt to the second prompt, in so many columns",
    )
    parser.add_argument("--way", choices=("slerp", "lerp"), default="slerp", help="of --between")
    parser.add_argument(
        "--condition",
        metavar="FILE",
        help="a picture that the run turns into an image, such as a sketch; or a number, of an image of the test split",
    )
    takes_values(parser, "a sampling parameter, for example temperature=0.8")


@commands.add("sample", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> None:
    """Draw images from a run."""
    import numpy as np
    import torch

    from core import latent
    from core.ground import sheets, xmp
    from core.media import media
    from core.models import Decodes
    from core.tensors import device

    if not 1 <= arguments.n <= 100_000:
        raise UserError(
            f"-n must be at least 1 and at most 100000, got {arguments.n}. Draw more in several calls."
        )
    known = dict.fromkeys([".png", *(medium.suffix for medium in media)])
    out = out_file(arguments.out, *known, ".npz", ".zip")
    job = runs.find(arguments.run_id)
    if not runs.generates(job):
        raise UserError(
            f"{job.name} is a classifier, which draws no images. Choose a run of a generative model."
        )
    opened = runs.open_model(job, arguments.step)
    medium = opened.medium
    single = out.suffix == medium.suffix != ".png"  # one item in a file of its own
    if out.suffix not in (".png", ".npz", ".zip", medium.suffix) or (single and arguments.n != 1):
        raise UserError(
            f"Samples of {job.name} are written as .png, .npz, .zip or, with -n 1, {medium.suffix}, got "
            f"{arguments.out!r} with -n {arguments.n}. Choose one of them."
        )
    walks = isinstance(opened.model, Decodes)
    if arguments.between and not walks:
        raise UserError(f"{job.name} has no latent space to walk in. Leave --between out.")
    if arguments.condition is not None and (arguments.between or arguments.blend):
        raise UserError(
            "--condition makes one image, and --between or --blend a way. Leave one of them out."
        )
    if min(arguments.between or [0]) < 0:
        raise UserError(f"--between takes two image numbers from 0, got {arguments.between}.")
    assert opened.sampling is not None
    sampling = opened.sampling.of(parse(arguments.set), "sampling")
    if arguments.n * max(1, arguments.blend) > 100_000:
        raise UserError(
            f"-n times --blend must be at most 100000, got {arguments.n * arguments.blend}. Draw fewer images."
        )
    if arguments.blend and arguments.between:
        raise UserError("--blend and --between are two ways. Choose one of them.")
    y = None
    label = None if arguments.label is None else label_of(job, opened, arguments.label)
    if opened.classes:
        count = max([arguments.n, *(end + 1 for end in arguments.between or ())])
        y = torch.arange(count, device=device()) % len(opened.classes)  # (count,)
        if label is not None:
            y = torch.full_like(y, label)
    error = None
    if arguments.condition is not None:
        rendered = _rendered(job, opened, arguments.condition, sampling, arguments.seed)
        x, y, error = medium.from_model(torch.as_tensor(rendered.image[None])), None, rendered.error
        arguments.n = 1
    elif arguments.between:
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
    elif arguments.blend:
        space = latent.open_space(opened, sampling)
        points = latent.blended(space, range(arguments.n), arguments.seed, arguments.blend)
        x, y = medium.read(torch.as_tensor(space.items(points)), 256), None
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
    result = {
        "run": job.id,
        "step": opened.step,
        "seed": arguments.seed,
        "sampling": sampling.record(),
        **({"between": arguments.between, "way": arguments.way} if arguments.between else {}),
        **(
            {}
            if arguments.condition is None
            else {"condition": arguments.condition, "error": error}
        ),
        **({} if label is None else {"label": label, "class": opened.classes[label]}),
        **({"blend": arguments.blend} if arguments.blend else {}),
        "count": len(x),
        "out": str(out),
    }
    if out.suffix == ".npz":
        arrays = {"x": x.numpy()}
        if y is not None:
            arrays |= {"y": y.cpu().numpy(), "classes": np.array(opened.classes)}
        memory = io.BytesIO()
        np.savez_compressed(memory, allow_pickle=False, **arrays)
        content = memory.getvalue()
    elif out.suffix == ".zip":
        content = _packed(
            medium.files(medium.write(x, 256), 256), medium.suffix, y, opened.classes, result
        )
    elif single:
        content = medium.alone(medium.write(x, 256)[0], 256)
    else:
        usual = max(sheets.columns(len(opened.classes)), math.isqrt(arguments.n))
        columns = arguments.columns or arguments.blend or usual
        content = sheets.png(medium.drawn(x), columns, result, mark=xmp.made_by(job.id))
    write(out, content)
    of = "" if label is None else f" of class {opened.classes[label]!r}"
    if arguments.condition is not None:
        of += f" made of {arguments.condition}"
    images = "1 image" if len(x) == 1 else f"{len(x)} images"
    lines = [f"Wrote {images}{of} of {job.id}, step {opened.step}, to {out}"]
    if error is not None:
        lines.append(f"Mean squared error to the true image: {error:.4f}")
    if arguments.condition is not None:
        from core import latent

        result["varies"] = latent.varies(opened)
        if not result["varies"]:
            lines.append("The model has no noise: a condition gives the same image at every seed.")
    show(arguments, result, lines)


def _packed(
    files: list[bytes], suffix: str, y: Any, classes: Sequence[str], result: Mapping[str, Any]
) -> bytes:
    """Packs a file for each sample, called by its number, into a ZIP, with what they are of as ``samples.json``."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as packed:
        rows = []
        for i, content in enumerate(files):
            name = f"{i:0{len(str(len(files) - 1))}}{suffix}"
            packed.writestr(zipfile.ZipInfo(name), content)
            rows.append({"file": name} | ({} if y is None else {"class": classes[int(y[i])]}))
        about = json.dumps(dict(result) | {"samples": rows}, indent=1)
        packed.writestr(zipfile.ZipInfo("samples.json"), about)
    return memory.getvalue()


def _rendered(
    job: jobs.Job, opened: runs.Opened, condition: str, sampling: Config, seed: int
) -> latent.Rendered:
    """Makes an image of a picture file, or of the second image of a test image that is named by its number."""
    from core import latent

    if not latent.renders(opened.model):
        raise UserError(
            f"{job.name} ({opened.family}) is told no picture. Leave --condition out, or choose a run of a family that "
            "turns pictures into pictures."
        )
    dataset = latent.trained_on(job, Terminal())
    held_out = dataset.splits["test"]
    if not condition.isdecimal():
        try:
            content = Path(condition).read_bytes()
        except OSError as error:
            raise UserError(
                f"{condition} cannot be read ({error.strerror}). Name a picture."
            ) from None
        return latent.drawn(opened, dataset, content, sampling, seed)
    if len(condition) > 9 or int(condition) >= len(held_out):
        raise UserError(
            f"--condition must be a file, or the number of a test image from 0 to {len(held_out) - 1}, got "
            f"{condition}. Choose another."
        )
    return latent.held_out(opened, dataset, int(held_out[int(condition)]), sampling, seed)
