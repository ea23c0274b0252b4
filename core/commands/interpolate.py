"""Makes a film of the way through several images of a run."""

from __future__ import annotations

import argparse

from core import runs
from core.catalog import UserError, parse
from core.commands import (
    commands,
    label_of,
    out_file,
    sampling_of_run,
    show,
    takes_run,
    takes_values,
    write,
)

parameters = sampling_of_run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser, step=True)
    parser.add_argument(
        "--through", type=int, nargs="+", default=[0, 1, 2], metavar="ID",
        help="images to pass, by their numbers (default 0 1 2)",
    )  # fmt: skip
    parser.add_argument(
        "--label", nargs="+", default=[], help="their classes by name, one or one for each"
    )
    parser.add_argument("--frames", type=int, default=60, help="of the whole film (default 60)")
    parser.add_argument(
        "--way", choices=("spline", "slerp", "lerp"), default="spline", help="from one to the next"
    )
    parser.add_argument("--open", action="store_true", help="stop at the last image; no loop")
    parser.add_argument("--fps", type=float, default=25, help="frames per second (default 25)")
    parser.add_argument("--scale", type=int, default=8, help="size of a pixel (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the images (default 0)")
    parser.add_argument(
        "--out",
        required=True,
        help="film.gif, film.webp, film.mp4 (needs ffmpeg), strip.png, or way.wav of a model of sounds",
    )
    takes_values(parser, "a sampling parameter, for example truncation=0.8")


@commands.add("interpolate", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> None:
    """Make a film of the way through several images of a run."""
    from core import latent
    from core.ground import sheets, xmp

    out = out_file(arguments.out, ".gif", ".webp", ".mp4", ".png", ".wav")
    if out.suffix == ".mp4":
        latent.encoder()  # said before anything is computed
    if not 1 <= arguments.scale <= 64:
        raise UserError(f"--scale must be from 1 to 64, got {arguments.scale}. Try 8.")
    ids = arguments.through
    if min(ids) < 0:
        raise UserError(f"--through takes image numbers from 0, got {min(ids)}. Choose others.")
    job = runs.find(arguments.run_id)
    opened = runs.open_model(job, arguments.step)
    sampling = opened.sampling.of(parse(arguments.set), "sampling") if opened.sampling else None
    space = latent.open_space(opened, sampling)
    labels = None
    if arguments.label:
        if len(arguments.label) not in (1, len(ids)):
            raise UserError(
                f"--label takes 1 class or {len(ids)}, one for each image, got {len(arguments.label)}. "
                "Leave it out to draw any."
            )
        labels = [label_of(job, opened, text) for text in arguments.label]
        labels *= len(ids) if len(labels) == 1 else 1
    points = latent.walk(
        space,
        space.draw(ids, labels, arguments.seed),
        arguments.frames,
        arguments.way,
        not arguments.open,
    )
    joins = space.medium.join if out.suffix == ".wav" else None
    if out.suffix == ".wav" and joins is None:
        raise UserError(
            f"{job.name} makes {space.medium.title.lower()}, and only sounds are joined to one. Choose .gif, .webp, "
            ".mp4 or .png."
        )
    x = space.images(points) if joins is None else space.items(points)
    classes = None if labels is None else [opened.classes[label] for label in labels]
    result = {
        "run": job.id,
        "step": opened.step,
        "seed": arguments.seed,
        "sampling": space.sampling.record(),
        "through": ids,
        "labels": labels,
        "classes": classes,
        "way": arguments.way,
        "loop": not arguments.open,
        "frames": len(x),
        "fps": arguments.fps,
    }
    if joins is not None:
        content = joins(x)
    elif out.suffix == ".png":
        content = sheets.png(x, min(len(x), 12), result, mark=xmp.made_by(job.id))
    else:
        pack = {".gif": latent.gif, ".webp": latent.webp, ".mp4": latent.mp4}[out.suffix]
        content = pack(x, arguments.fps, result, arguments.scale)
    write(out, content)
    lines = [f"Wrote {len(x)} frames of {job.id}, step {opened.step}, to {out}"]
    if classes is not None:
        lines.append(f"Classes: {', '.join(classes)}")
    show(arguments, result | {"out": str(out)}, lines)
