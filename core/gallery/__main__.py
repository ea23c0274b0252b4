"""Trains the runs that ship with the code and packs them beside this file: ``python -m core.gallery [NAME …]``.

Every run is made from the choice, the values and the seed below, by the same jobs that a page starts. They train in the
home of the settings, where a finished one is taken as it is if it was asked for the same; so an interrupted making goes
on where it was. Packed is what looking needs: the checkpoint that pages open, a thinned log, some of the sheets, the
first samples of an evaluation. Matrices and kernels are stored with 16 bits; loading widens them again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes

from core import jobs, kinds, latent, measure, runs
from core.catalog import UserError, unknown
from core.ground import files, sheets, xmp
from core.ground.settings import settings
from core.kinds import improve

RECORDS = 120  # of a log that are kept, besides those that measured something
SHEETS = 260_000  # bytes of sample sheets per run
PIXELS = 400_000  # bytes of the samples that stay with an evaluation
ROWS = 2  # of pictures in a sheet of a run whose sheets do not all fit
LARGEST_MB = 16  # of the whole gallery
LEVELS = 1.0  # of 255 that 16 bits may move a sample on average


@dataclass(frozen=True)
class Recipe:
    """One run that ships: the request for it, and the name and note that stand beside it."""

    kind: str
    choice: Mapping[str, str]
    name: str
    note: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    pad: bool = False  # whether its latent plane opens the Overview
    target: str = ""  # the run of the gallery that it is about


FEW = {"family.components": 10}  # more would not fit into the gallery
SKETCH = {"dataset.pair": "sketch", "family.width": 12}


def _model(
    dataset: str, family: str, name: str, images: int, more: Mapping[str, Any] | None = None
) -> Recipe:
    values = {"train.images": images, "train.seed": 0, **(more or {})}
    return Recipe("train", {"dataset": dataset, "family": family}, name, values=values)


MODELS: dict[str, Recipe] = {
    "shipped-digits-gan": _model("digits", "gan", "Digits, GAN", 200_000),
    "shipped-digits-vae": _model("digits", "vae", "Digits, VAE", 400_000, FEW),
    "shipped-digits-vqvae": _model("digits", "vqvae", "Digits, VQ-VAE", 150_000),
    "shipped-digits-flow": _model("digits", "flow", "Digits, flow", 200_000),
    "shipped-digits-diffusion": _model("digits", "diffusion", "Digits, diffusion", 200_000),
    "shipped-faces-gan": replace(_model("faces", "gan", "Faces, GAN", 80_000), pad=True),
    "shipped-faces-vae": _model("faces", "vae", "Faces, VAE", 300_000, FEW),
    "shipped-faces-diffusion": _model("faces", "diffusion", "Faces, diffusion", 150_000),
}
# what it makes follows the sketches that it is told, so that it stands in no list beside the others
RENDERED = {
    "shipped-faces-pix2pix": _model("faces", "pix2pix", "Faces from sketches", 25_600, SKETCH)
}
MEASURED = {  # every one of the others, with as many samples as the smaller dataset has test images
    f"{id}-measured": Recipe(
        "evaluate",
        {"sampling": model.choice["family"]},
        f"{model.name}, measured",
        values={"evaluate.samples": 500, "evaluate.seed": 0},
        target=id,
    )
    for id, model in MODELS.items()
}

# in the order in which they are listed; the first one is shown to a visitor who has chosen nothing
RECIPES: dict[str, Recipe] = {
    **MODELS,
    **RENDERED,
    "shipped-digits-classifier": Recipe(
        "classifier",
        {"dataset": "digits"},
        "Digits, classifier",
        values={"train.images": 60_000, "train.seed": 0},
    ),
    "shipped-digits-robust": Recipe(
        "classifier",
        {"dataset": "digits"},
        "Digits, adversarially trained classifier",
        values={"classifier.defence": "pgd", "train.images": 100_000, "train.seed": 0},
    ),
    "shipped-race": Recipe(
        "race",
        {"dataset": "digits"},
        "Five families on digits",
        values={"race.seconds": 40, "race.turns": 16, "race.seed": 0},
    ),
    "shipped-digits-improved": Recipe(
        "improve",
        {"dataset": "digits"},
        "Digits with two rare classes, improved",
        values={"dataset.rare": True, "improve.minutes": 3.0},
    ),
    **MEASURED,
    "shipped-digits-classifier-attacked": Recipe(
        "attack",
        {"dataset": "digits"},
        "Digits, classifier, attacked",
        values={
            "attack.classifier": "shipped-digits-classifier",
            "attack.attacks": "noise,quick,autoattack",
            "attack.corruptions": True,
            "attack.transfer": "shipped-digits-robust",
        },
        target="shipped-digits-classifier",
    ),
}


def job_of(recipe: Recipe) -> jobs.Job:
    """Finds the job of a recipe in this home, or starts it; one about a run that was made since does not count."""
    config = kinds.configure(recipe.kind, recipe.choice, recipe.values)
    for job in jobs.listing(recipe.kind):
        try:  # parameters that came later have the values that they had before
            same = kinds.configure(recipe.kind, *kinds.flat(job.config)) == config
        except UserError:
            continue
        before = recipe.target and job.created < jobs.get(recipe.target).created
        if same and job.target == recipe.target and not job.shipped and not before:
            if job.status in ("interrupted", "stopped"):
                return jobs.resume(job.id)
            if job.active or job.status == "finished":
                return job
    return kinds.submit(
        recipe.kind, recipe.choice, recipe.values, target=recipe.target, name=recipe.name
    )


def pack(job: jobs.Job, id: str, recipe: Recipe, gallery: Path = jobs.SHIPPED) -> Path:
    """Writes what looking at a finished job needs into the gallery.

    Raises:
        UserError: If it did not finish, or its samples do not survive 16 bits.
    """
    if job.status != "finished":
        raise UserError(
            f"{job.id} is {job.status}, and only a finished job ships. {job.message} Resume it, or start again."
        )
    target = gallery / id
    with files.new_folder(target, replace=True) as new:
        texts = {"name": recipe.name, "note": recipe.note, "who": "Simulacra"}
        _write(new / "job.json", files.read_json(job.path / "job.json") | texts)
        state = files.read_json(job.path / "state.json")
        _write(new / "state.json", {k: v for k, v in state.items() if k not in ("pid", "node")})
        records = _thinned(files.Log(job.path).read()[0])
        lines = (json.dumps(_rounded(r), separators=(",", ":")) + "\n" for r in records)
        (new / "log.jsonl").write_text("".join(lines), encoding="utf-8")
        if runs.is_run(job):
            _write(new / "run.json", files.read_json(job.path / "run.json"))
            step = str(runs.preferred(job))
            source, checkpoint = job.path / "checkpoints" / step, new / "checkpoints" / step
            checkpoint.mkdir(parents=True)
            _write(checkpoint / "facts.json", files.read_json(source / "facts.json"))
            weights = load_file(source / "model.safetensors")
            halved = {name: _halved(value) for name, value in weights.items()}
            (checkpoint / "model.safetensors").write_bytes(as_bytes(halved))
        if job.kind == "evaluate":
            evaluation = files.read_json(job.path / "evaluation.json")
            _write(new / "evaluation.json", evaluation | {"job": id})
            _samples(measure.read(job), new)
        if job.kind == "attack":
            for name in ("report.json", "corruptions.json", "transfer.json"):
                value = _rounded(files.read_json(job.path / name), 7)
                (new / name).write_text(
                    json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n", "utf-8"
                )
        if job.kind == "improve":
            _write(new / improve.RESULT, files.read_json(job.path / improve.RESULT))
            shutil.copytree(job.path / improve.JOINED, new / improve.JOINED)
        for folder in [job.path / "samples", *(job.path / "samples").glob("*/")]:
            _sheets(folder, new / folder.relative_to(job.path))
    if job.kind == "train":
        moved = _moved(job, target)
        if moved > LEVELS:
            raise UserError(
                f"16 bits move the samples of {job.id} by {moved:.2f} levels, at most {LEVELS} are allowed. "
                "Store its weights with 32 bits."
            )
    if recipe.pad:
        latent.shelve(jobs.read(target))
    return target


def _write(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _thinned(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keeps evenly spaced records, and every one that says more than a step's losses."""
    every = -(-len(records) // RECORDS)
    counts = Counter(name for record in records for name in record)
    rare = {name for name, count in counts.items() if count <= RECORDS // 2}
    return [
        record
        for number, record in enumerate(records)
        if number % every == 0 or number == len(records) - 1 or record.keys() & rare
    ]


def _rounded(value: Any, digits: int = 5) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(part, digits) for name, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part, digits) for part in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def _halved(value: torch.Tensor) -> torch.Tensor:
    large = value.is_floating_point() and value.ndim > 1
    return value.half() if large and float(value.abs().max()) < 6e4 else value


def _samples(evaluation: measure.Evaluation, target: Path) -> None:
    """Keeps as many of an evaluation's first samples as fit, all of its real images, and their places on the map."""
    arrays, layout = evaluation.arrays(), measure.projection(evaluation, "tsne")
    assert arrays is not None
    assert layout is not None
    made = len(arrays.made)
    keep = min(made, PIXELS // arrays.made[0].size)
    measure.write_arrays(target, arrays.first(keep))
    measure.write_map(target, np.concatenate([layout[:keep], layout[made:]]))


def _sheets(source: Path, target: Path) -> None:
    """Copies all sheets, or, where they do not fit, some of them, evenly spread, each with its first rows."""
    files = sorted(source.glob("*.png"), key=lambda file: int(file.stem))
    content = {file.name: file.read_bytes() for file in files}
    if sum(map(len, content.values())) > SHEETS:
        content = {name: _first_rows(sheet) for name, sheet in content.items()}
        keep = max(2, int(len(content) * SHEETS / sum(map(len, content.values()))))
        names = list(content)
        picked = {names[round(i * (len(names) - 1) / (keep - 1))] for i in range(keep)}
        content = {name: sheet for name, sheet in content.items() if name in picked}
    for name, sheet in content.items():
        target.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(sheet)


def _first_rows(sheet: bytes) -> bytes:
    metadata = sheets.metadata(sheet)
    columns = metadata.pop("columns")
    own = {name: value for name, value in metadata.items() if name not in ("count", "tile")}
    return sheets.png(sheets.tiles(sheet)[: ROWS * columns], columns, own, mark=xmp.read(sheet))


def _moved(job: jobs.Job, target: Path) -> float:
    """Measures how far the packed weights' samples are from the original ones, in levels of 255."""
    first, second = (
        opened.model.sample(range(64), None, 0, opened.usual).float()
        for opened in map(runs.open_model, (job, jobs.read(target)))
    )
    return float((first - second).abs().mean()) * 255


def main() -> int:
    """Trains, packs, and lists what ships."""
    parser = argparse.ArgumentParser(prog="python -m core.gallery", description=__doc__)
    parser.add_argument(
        "name",
        nargs="*",
        help="runs to make anew, with what is about them; without any, those not there",
    )
    arguments = parser.parse_args()
    try:
        for name in arguments.name:
            if name not in RECIPES:
                raise UserError(unknown("run of the gallery", name, RECIPES))
        missing = [id for id in RECIPES if not (jobs.SHIPPED / id).exists()]
        anew = arguments.name or missing
        for id in [id for id, each in RECIPES.items() if id in anew or each.target in anew]:
            job = job_of(RECIPES[id])
            print(f"{id}: {job.id}", flush=True)
            while job.active:
                time.sleep(1)
                job = jobs.get(job.id)
            pack(job, id, RECIPES[id])
        _stamp()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sizes = {
        id: sum(f.stat().st_size for f in (jobs.SHIPPED / id).rglob("*") if f.is_file()) / 1e6
        for id in RECIPES
    }
    print("\n".join(f"{id:<28} {size:6.2f} MB" for id, size in sizes.items()))
    print(f"{'together':<28} {sum(sizes.values()):6.2f} MB of at most {LARGEST_MB}")
    return 0 if sum(sizes.values()) <= LARGEST_MB else 1


def _stamp() -> None:
    """Lets the runs be listed in the order of the recipes, and so what was measured of them.

    Each is a second older than the one before it, the first as old as the newest of them.
    """
    listed: dict[str, list[Path]] = {}
    for id, recipe in RECIPES.items():
        if (file := jobs.SHIPPED / id / "job.json").exists():
            apart = recipe.target or not jobs.kinds.get(recipe.kind).trained
            listed.setdefault(recipe.kind if apart else "", []).append(file)
    for paths in listed.values():
        requests = {file: files.read_json(file) for file in paths}
        newest = max(request["created"] for request in requests.values())
        for number, (file, request) in enumerate(requests.items()):
            _write(file, request | {"created": int(newest) - number})


if __name__ == "__main__":
    if settings().view_only:
        sys.exit("This server is for viewing only. Unset SIMULACRA_VIEW_ONLY to make the gallery.")
    sys.exit(main())
