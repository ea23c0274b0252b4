"""Shows what a pipeline does, applies it to a folder of pictures, and keeps recipes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.catalog import UserError
from core.commands import commands, out_file, show, write
from core.ground import files
from core.ground.settings import settings

if TYPE_CHECKING:
    from core.augment import Pipeline
    from core.ground.xmp import Mark


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument(
        "pipeline", nargs="?", help="a preset, a saved pipeline, or a recipe file (.json, .yaml)"
    )
    parser.add_argument(
        "--dataset", default="digits", help="whose images are shown (default digits)"
    )
    parser.add_argument("-n", type=int, default=8, help="images (default 8)")
    parser.add_argument("--draws", type=int, default=6, help="versions of each (default 6)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    parser.add_argument("--out", help="grid.png: each image with its versions")
    parser.add_argument("--folder", help="a folder of pictures to apply the pipeline to")
    parser.add_argument("--to", help="the folder that the changed pictures are written to")
    parser.add_argument("--size", type=int, default=224, help="px that pictures are scaled to")
    parser.add_argument("--save", metavar="NAME", help="keep the pipeline under this name")
    parser.add_argument(
        "--export",
        metavar="FORMAT",
        help="print the recipe: json, yaml, torchvision, albumentations",
    )


@commands.add("augment", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Preview a pipeline as PNG, apply it to a folder of pictures, import or export its recipe."""
    from core import augment, datasets

    if arguments.pipeline is None:
        form = datasets.describe(arguments.dataset).medium.item
        offered = [(one.id, one.title, one.why, one.pipeline) for one in augment.presets()]
        offered += [(one.id, one.name, "", one.pipeline) for one in augment.saved()]
        rows = [
            {"id": id, "title": title, "why": why}
            for id, title, why, pipeline in offered
            if pipeline.fits(form)
        ]
        steps = [
            {"name": e.name, "title": e.title, "caption": e.caption}
            for e in augment.augmentations
            if form in e.takes
        ]
        lines = [f"{row['id']:<24} {row['title']}: {row['why']}".rstrip(" :") for row in rows]
        lines += ["steps of a recipe:", *(f"  {s['name']:<18} {s['caption']}" for s in steps)]
        show(arguments, {"pipelines": rows, "steps": steps}, lines)
        return
    for flag, value in (("-n", arguments.n), ("--draws", arguments.draws)):
        if not 1 <= value <= 64:
            raise UserError(
                f"{flag} must be at least 1 and at most 64, got {value}. Choose another number."
            )
    if not 8 <= arguments.size <= 1024:
        raise UserError(
            f"--size must be at least 8 and at most 1024, got {arguments.size}. Leave it out to use 224."
        )
    if bool(arguments.folder) != bool(arguments.to):
        raise UserError(
            "--folder and --to go together: where pictures are read, and where they are written. Write both."
        )
    pipeline = _pipeline(arguments.pipeline)
    result: dict[str, Any] = {
        "pipeline": pipeline.name,
        "hash": pipeline.hash,
        "steps": len(pipeline.steps),
    }
    lines = [
        f"{pipeline.name or arguments.pipeline}: {', '.join(s.title for s in pipeline.steps if s.on)}"
    ]
    if arguments.save:
        result["saved"] = augment.save(pipeline, arguments.save, "command line")
        lines.append(f"Saved as {result['saved']}")
    if arguments.export:
        result["recipe"] = augment.export(pipeline, arguments.export)
        lines = [result["recipe"].rstrip("\n")]
    if arguments.out:
        result["out"] = _preview(pipeline, arguments)
        lines.append(
            f"Wrote {arguments.n} images with {arguments.draws} versions each to {result['out']}"
        )
    if arguments.folder:
        result |= _applied(pipeline, arguments)
        lines.append(f"Wrote {result['pictures']} pictures to {arguments.to}")
        lines += [f"left out {name}: {why}" for name, why in result["refused"]]
    show(arguments, result, lines)


def _pipeline(text: str) -> Pipeline:
    from core import augment

    file = Path(text)
    if file.suffix.lower() in (".json", ".yaml", ".yml"):
        try:
            return augment.read(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"The recipe {text!r} cannot be read ({error}). Write the path of a JSON or YAML file."
            ) from None
    return augment.load(text)


def _preview(pipeline: Pipeline, arguments: argparse.Namespace) -> str:
    import numpy as np
    import torch

    from core import augment, datasets
    from core.ground import sheets

    out = out_file(arguments.out, ".png")
    dataset = datasets.load(arguments.dataset)
    medium = dataset.medium
    spaced = datasets.evenly(np.arange(len(dataset)), arguments.n)
    x = dataset.items(spaced)
    y = None if dataset.y is None else torch.as_tensor(dataset.y[spaced])
    chain = augment.Chain(pipeline, augment.Context(x, y, len(dataset.classes)))
    versions = augment.grid(chain, x, arguments.seed, arguments.draws, y)
    whole = np.concatenate([medium.write(x, 256)[:, None], versions], 1)  # (N, 1 + draws, C, H, W)
    sheet = sheets.png(
        medium.pictures(whole.reshape(-1, *x.shape[1:])),
        arguments.draws + 1,
        {"pipeline": pipeline.record(), "seed": arguments.seed, "dataset": dataset.name},
        mark=_mark(pipeline),
        gap=2,
        scale=max(1, 96 // dataset.size),
    )
    write(out, sheet)
    return str(out)


def _mark(pipeline: Pipeline) -> Mark:
    """Gives the mark of a picture that a chain has changed."""
    from core.building.marks import source_type
    from core.ground.xmp import Mark

    steps = json.dumps([{"step": step.name} for step in pipeline.steps if step.on])
    return Mark(source_type("augmented", parameters=steps) or "", origin="augmented")


def _applied(pipeline: Pipeline, arguments: argparse.Namespace) -> dict[str, Any]:
    """Writes every picture of a folder, changed; the folders below it are kept, originals are not touched."""
    import numpy as np
    import torch

    from core import augment
    from core.datasets.decoding import span_of_files
    from core.datasets.files import Directory
    from core.datasets.pictures import Refused, decode, most_bytes
    from core.ground import xmp
    from core.media import media
    from core.tensors import to_bytes, to_float

    source, target = Path(arguments.folder), Path(arguments.to)
    if not source.is_dir():
        raise UserError(
            f"There is no folder {arguments.folder!r}. Write the path of a folder of pictures."
        )
    if target.exists() and any(target.iterdir()):
        raise UserError(
            f"The folder {arguments.to!r} is not empty, and nothing is ever overwritten. Choose another one."
        )
    if pipeline.mixing:
        raise UserError(
            f"{pipeline.mixing[0]} mixes other images in, and a picture of a folder stands alone. Switch it off."
        )
    chain = augment.Chain(pipeline)
    limit = settings().max_megapixels
    count, refused = 0, []
    with Directory(source) as folder:
        refused += folder.refused
        pictures = sorted(folder.files, key=lambda file: file.name)
        span = span_of_files(folder, pictures)
        for number, file in enumerate(pictures):
            try:
                data = folder.read(file, most_bytes(limit))
                picture = decode(data, arguments.size, megapixels=limit, span=span)
                if isinstance(picture, str):
                    raise Refused(picture)
            except Refused as reason:
                refused.append((file.name, str(reason)))
                continue
            x = to_float(torch.as_tensor(np.array(picture.pixels)))[None]
            image = to_bytes(chain(x, arguments.seed, [number]))[0]  # (1 or 3, H, W)
            out = (target / file.name).with_suffix(".png")
            if out.exists():  # two pictures that differ in their ending alone
                out = out.with_name(f"{out.stem}-{number}.png")
            with files.full_disk_told():
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_bytes(xmp.write(media.get("image").alone(image, 256), _mark(pipeline)))
            count += 1
    return {"pictures": count, "refused": [list(pair) for pair in refused], "to": str(target)}
