"""Turns pictures into another kind with a run, or joins two datasets as domains to train one for it."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

from core import jobs, runs
from core.catalog import UserError, parse
from core.commands import Terminal, commands, out_file, show, takes_values, write
from core.datasets.pictures import KINDS
from core.ground.writing import many, percent, percents


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("run_id", metavar="RUN", nargs="?", help="id, start of an id, or name")
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help=KINDS)
    parser.add_argument("--step", type=int, help="of the checkpoint (default: the best one)")
    parser.add_argument(
        "--split",
        choices=("train", "valid", "test"),
        help="items of the dataset instead of pictures",
    )
    parser.add_argument("-n", type=int, default=8, help="how many of them (default 8)")
    parser.add_argument("--from", dest="source", help="what they are: happy, glasses=no, smile=low")
    parser.add_argument("--to", dest="target", help="what they become")
    parser.add_argument("--strength", type=float, default=1.0, help="0.1 to 2 (default 1)")
    parser.add_argument(
        "--everything", action="store_true", help="also what both kinds have in common may change"
    )
    parser.add_argument(
        "--colours", action="store_true", help="by colours alone, without the model"
    )
    parser.add_argument(
        "--compare", action="store_true",
        help="measure the model against colours alone on -n held-out images",
    )  # fmt: skip
    parser.add_argument(
        "--mix", type=int, nargs=2, metavar=("A", "B"),
        help="sample A of --seed with the colours and textures of sample B, from each layer on",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    parser.add_argument("--out", help="sheet.png of before and after, or pictures.npz")
    parser.add_argument(
        "--domains", nargs=2, metavar=("A", "B"),
        help="join two datasets as the classes of one, A in the size and frame of B; as 'mnist size=16'",
    )  # fmt: skip
    parser.add_argument("--name", help="of the joined set (default: A-B)")
    takes_values(parser, "a sampling parameter, for example steps=50")


WAYS = {  # what each way of the command listens to
    "domains": {"name"},
    "mix": {"run_id", "step", "seed", "out", "set"},
    "compare": {"run_id", "step", "source", "target", "strength", "everything", "n", "seed", "set"},
    "colours": {"run_id", "step", "pictures", "split", "source", "target", "n", "out", "set"},
}


def check(given: argparse.Namespace) -> None:
    """Refuses what would be asked for in vain.

    Raises:
        UserError: If a flag belongs to another way of the command than the one that is taken.
    """
    parser = argparse.ArgumentParser()
    arguments(parser)
    usual = vars(parser.parse_args([]))
    asked = {name for name, value in usual.items() if getattr(given, name) != value}
    written = {
        "run_id": "RUN",
        "pictures": "PICTURE",
        "n": "-n",
        "source": "--from",
        "target": "--to",
    }
    for way, listens in WAYS.items():
        if way not in asked:
            continue
        for name in sorted(asked - listens - {way}):
            raise UserError(
                f"--{way} does nothing with {written.get(name, f'--{name}')}. Leave one of them out."
            )
    if "name" in asked and "domains" not in asked:
        raise UserError("--name is that of a set that --domains joins. Leave it out.")
    if "pictures" in asked and asked & {"split", "n"}:
        raise UserError("Pictures are named, or taken with --split and -n. Leave one of them out.")


@commands.add("translate", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Turn pictures into another kind with a run, and keep the rest of them; or join two sets for it."""
    check(arguments)
    if arguments.domains:
        joined(arguments)
        return
    if arguments.run_id and arguments.mix:
        mix(arguments)
        return
    if not (arguments.run_id and arguments.source and arguments.target):
        raise UserError(
            "translate needs a run, --from and --to, or --domains with two datasets. "
            "For example: translate RUN --split test --from neutral --to happy."
        )
    from core import latent
    from core.measure import features

    out = out_file(arguments.out, ".png", ".npz") if arguments.out else None
    job = runs.find(arguments.run_id)
    opened = runs.open_model(job, arguments.step)
    sampling = opened.sampling.of(parse(arguments.set), "sampling") if opened.sampling else None
    space = latent.open_space(opened, sampling)
    dataset = latent.trained_on(job, Terminal())
    offered = latent.changeable(space, dataset)
    if not offered:
        raise UserError(latent.why_not(space))
    aspect = latent.aspect_of(offered, arguments.source, arguments.target)
    if not 1 <= arguments.n <= 10_000:
        raise UserError(f"-n must be from 1 to 10,000, got {arguments.n}. Leave it out for 8.")
    watch, kind = Terminal(), {"run": job.id, "step": opened.step}
    reading = features.reader(dataset, watch)
    masked = not (arguments.everything or dataset.imported("domains"))
    chosen = {
        "strength": arguments.strength, "masked": masked, "reading": reading,
        "seed": arguments.seed, "watch": watch,
    }  # fmt: skip
    if arguments.compare:
        del chosen["reading"]
        found = latent.standings(
            space, dataset, arguments.source, arguments.target, reading, count=arguments.n, **chosen
        )
        show(arguments, kind | found.record(), [found.sentence, *map(_line, found.ways)])
        return
    x, names, rows = _taken(arguments, dataset, aspect)
    if arguments.colours:
        images = latent.colours(dataset, aspect, arguments.source, arguments.target, x)
        method, seconds = "colours", 0.0
    else:
        ids = None if rows is None else rows.tolist()
        done = latent.translate(
            space, dataset, x, arguments.source, arguments.target, ids=ids, **chosen
        )
        images, method, seconds = done.images, done.method, done.seconds
    judged = latent.judged(dataset, reading, aspect, arguments.target, x, images)
    real = None if rows is None else latent.truth(dataset, rows, aspect, arguments.target)
    result = kind | {
        "from": arguments.source,
        "to": arguments.target,
        "strength": arguments.strength,
        "method": method,
        "pictures": names,
        "n": len(x),
        "reached": judged.reached.value,
        "reader_accuracy": judged.accuracy,
        "kept": {name: share.value for name, share in judged.kept.items()},
        "seconds": round(seconds, 3),
    }
    if real is not None:
        error = (images.cpu() - dataset.medium.read(_tensor(real), 256)).square().mean()
        result["error_to_truth"] = float(error)
    if out is not None:
        _write(out, job, dataset, x, images, real, result)
        result["out"] = str(out)
    low, high = judged.reached.interval
    lines = [
        f"{many(len(x), 'picture')}: a reader that is right on {percent(judged.accuracy)} of held-out images takes "
        f"{percent(judged.reached.value, 0)} for {arguments.target} ({percents(low, high, 0)}).",
    ]
    if judged.least is not None:
        name, least = judged.least
        lines.append(f"Kept least: {name}, as before in {percent(least.value, 0)}.")
    show(arguments, result, lines)


def _tensor(x: Any) -> Any:
    import torch

    return torch.as_tensor(x)


def _line(way: Any) -> str:
    from core.latent import TRANSLATIONS

    kept = "" if way.kept is None else f", content kept {percent(way.kept.value, 0)}"
    return (
        f"{TRANSLATIONS[way.method]}: reached {percent(way.reached.value, 0)}{kept}, both {percent(way.both.value, 0)}"
        f", distance {way.distance:.1f} times that of real images"
    )


def _taken(arguments: argparse.Namespace, dataset: Any, aspect: Any) -> tuple[Any, list[str], Any]:
    """Gives pictures (N, C, H, W), what they are called, and their rows where they are items."""
    import torch

    from core import datasets

    if arguments.split:
        split = dataset.splits[arguments.split]
        met = aspect.met(datasets.columns(dataset).values[split])
        rows = split[met == aspect.index(arguments.source)][: arguments.n]
        if not len(rows):
            raise UserError(
                f"No image of {arguments.split} is {arguments.source!r}. Choose another split or --from."
            )
        return dataset.images(rows), [f"{arguments.split} {row}" for row in rows], rows
    if not arguments.pictures:
        raise UserError(
            "There is nothing to translate. Name a picture, or take items with --split test -n 8."
        )
    parts = []
    for name in arguments.pictures:
        try:
            content = Path(name).read_bytes()
        except OSError as error:
            raise UserError(f"{name} cannot be read ({error.strerror}). Name a picture.") from None
        parts.append(datasets.prepare(content, dataset).seen)
    return torch.cat(parts), list(arguments.pictures), None


def _write(
    out: Path, job: jobs.Job, dataset: Any, x: Any, images: Any, real: Any, result: dict[str, Any]
) -> None:
    import numpy as np

    from core.ground import sheets, xmp

    medium = dataset.medium
    if out.suffix == ".npz":
        memory = io.BytesIO()
        more = {} if real is None else {"truth": real}
        np.savez_compressed(
            memory, allow_pickle=False, before=x.numpy(), x=images.cpu().numpy(), **more
        )
        write(out, memory.getvalue())
        return
    rows = [medium.shown(x), medium.shown(images.cpu())]
    rows += [] if real is None else [real]
    write(out, sheets.png(np.concatenate(rows), len(x), result, mark=xmp.partly_by(job.id)))


def mix(arguments: argparse.Namespace) -> None:
    """Gives one sample the look of another, from each layer of the decoder on."""
    import numpy as np
    import torch

    from core import latent
    from core.ground import sheets, xmp

    out = out_file(arguments.out, ".png", ".npz") if arguments.out else None
    job = runs.find(arguments.run_id)
    opened = runs.open_model(job, arguments.step)
    sampling = opened.sampling.of(parse(arguments.set), "sampling") if opened.sampling else None
    space = latent.open_space(opened, sampling)
    if not all(0 <= number <= 10**9 for number in arguments.mix):
        raise UserError(
            f"--mix takes numbers from 0 to 1,000,000,000, got {arguments.mix}. For example 0 1."
        )
    count = latent.mixable(space)
    if not count:
        raise UserError(latent.NO_LAYERS)
    points = space.draw(arguments.mix, None, arguments.seed)
    made = torch.cat([latent.mixed(space, points[:1], points[1:], k) for k in range(count)])
    result = {
        "run": job.id, "seed": arguments.seed, "shape": arguments.mix[0], "look": arguments.mix[1], "layers": count,
    }  # fmt: skip
    if out is not None:
        both = space.images(points)
        if out.suffix == ".npz":
            memory = io.BytesIO()
            x = made.cpu().numpy()
            np.savez_compressed(memory, allow_pickle=False, x=x, both=both)
            write(out, memory.getvalue())
        else:
            sheet = np.concatenate([both, space.medium.shown(made)])
            write(out, sheets.png(sheet, len(sheet), result, mark=xmp.made_by(job.id)))
        result["out"] = str(out)
    lines = [
        f"The shape of sample {arguments.mix[0]} with the look of sample {arguments.mix[1]}, "
        f"from each of {many(count, 'layer')} on."
    ]
    show(arguments, result, lines)


def joined(arguments: argparse.Namespace) -> None:
    """Joins two datasets as domains, and keeps them under a name."""
    from core import datasets
    from core.building import domains

    sets = []
    for text in arguments.domains:
        name, *values = text.split()
        sets.append(datasets.load(name, parse(values), Terminal()))
    name = datasets.free(arguments.name or f"{sets[0].name}-{sets[1].name}")
    saved = datasets.save(name, domains.joined(*sets, watch=Terminal()))
    result = {
        "dataset": saved.name,
        "domains": list(saved.classes),
        "images": saved.counts(),
        "terms": dict(saved.terms),
        "notes": list(saved.notes),
    }
    lines = [
        *saved.notes,
        f"Kept as {saved.name}. Train on it: python -m core train --dataset {saved.name} "
        "--family diffusion",
    ]
    show(arguments, result, lines)
