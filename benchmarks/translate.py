"""Translates held-out faces and, between two sets, digits: what is reached, what stays, and against what costs nothing.

``--domains`` also joins digits and MNIST at 16 px, trains a diffusion model on them in a home of its own, and compares.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.evidence import row
from core import datasets, jobs, kinds, latent, runs, worker
from core.building import domains
from core.ground import sheets
from core.ground.writing import percent
from core.measure import features

SHOWN = 8


def main() -> None:
    """Measures and prints; writes a picture into ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100, help="held-out faces")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--domains", type=int, default=0, metavar="IMAGES", help="to train with")
    parser.add_argument("--run", default="", help="a run that was trained on both, to train none")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.domains or arguments.run:
        between(arguments.domains, arguments.run, arguments.n)
    else:
        smiles(arguments.n, arguments.out)


def smiles(count: int, out: Path) -> None:
    """Makes neutral faces happy, and compares with the same people drawn smiling."""
    dataset = datasets.load("faces")
    reading = features.reader(dataset)
    aspect = latent.aspects(dataset)["class"]
    test = dataset.splits["test"]
    assert dataset.y is not None
    assert dataset.attributes is not None
    rows = test[dataset.y[test] == aspect.index("neutral")][:count]
    x = dataset.images(rows)
    drawn = latent.truth(dataset, rows, aspect, "happy")
    assert drawn is not None
    real = torch.as_tensor(drawn).float() / 255
    changed = ((real - x).abs().amax(1, keepdim=True) > 2 / 255).float()
    worn = torch.as_tensor(dataset.attributes["glasses"][rows] > 0)
    sheet = [dataset.pictures(rows[:SHOWN]), drawn[:SHOWN]]
    for family in ("vae", "diffusion"):
        space = latent.open_space(runs.open_model(jobs.get(f"shipped-faces-{family}")))
        latent.translate(space, dataset, x[:1], "neutral", "happy")  # what is computed once
        began = time.process_time()
        made = latent.translate(space, dataset, x, "neutral", "happy", ids=rows.tolist()).images
        spent = time.process_time() - began
        sheet.append(dataset.medium.shown(made[:SHOWN]))
        seen = latent.judged(dataset, reading, aspect, "happy", x, made)
        keep = _within((made - x).square(), 1 - changed)
        edit = _within((made - real).square(), changed)
        nothing = _within((x - real).square(), changed)
        glasses = reading.read(made)[:, reading.names.index("glasses")] > 0.5
        row(
            f"neutral to happy, {family}: taken for happy {percent(seen.reached.value)} of {len(rows)}, error outside "
            f"the edit {keep:.5f}, inside {edit / nothing:.2f} of doing nothing, glasses kept "
            f"{percent(float((glasses == worn).float().mean()))}, {1000 * spent / len(rows):.0f} CPU-ms each"
        )
    (out / "translated.png").write_bytes(
        sheets.png(np.concatenate(sheet), min(SHOWN, len(rows)), scale=3, gap=2)
    )


def _within(square: torch.Tensor, where: torch.Tensor) -> float:
    error = square.mean(1, keepdim=True)
    return float((error * where).sum() / where.sum())


def between(images: int, run: str, count: int) -> None:
    """Joins digits and MNIST at 16 px, trains on both, and compares the ways from digits to MNIST."""
    values = {"size": 16, "count": 12_000}
    mnist = datasets.load("mnist", values)
    judge = features.reader(mnist)
    if run:
        job, spent = runs.find(run), 0.0
    else:
        os.environ["SIMULACRA_HOME"] = tempfile.mkdtemp()
        from core.ground.settings import settings

        settings.cache_clear()
        both = domains.joined(datasets.load("digits"), mnist)
        datasets.save("digits-mnist", both)
        jobs.spawn = lambda path: None  # type: ignore[assignment]
        job = kinds.submit(
            "train",
            {"dataset": "digits-mnist", "family": "diffusion"},
            {"train.images": images, "train.batch": 64},
        )
        began = time.process_time()
        worker.work(job.path)
        spent = time.process_time() - began
    dataset = latent.trained_on(job)
    reading = features.reader(dataset)
    space = latent.open_space(runs.open_model(job))
    source, target = dataset.classes
    found = latent.standings(space, dataset, source, target, reading, count=count, masked=False)
    aspect = latent.aspects(dataset)["class"]
    rows = latent.examples(dataset, aspect, source, count)
    x = dataset.images(rows)
    assert dataset.attributes is not None
    true = dataset.attributes[domains.CONTENT][rows]
    made: dict[str, Any] = {
        "model": latent.translate(
            space, dataset, x, source, target, masked=False, ids=rows.tolist()
        ).images,
        "colours": latent.colours(dataset, aspect, source, target, x),
        "nothing": x,
    }
    train = runs.record(job)["train"]
    conditions = f"diffusion, {train['images']:,} images in batches of {train['batch']}"
    conditions += f", {spent:.0f} CPU-s" if spent else ""
    for way in found.ways:
        alone = float((judge.read(made[way.method]).argmax(1).numpy() == true).mean())
        kept = percent(way.kept.value if way.kept else None)
        row(
            f"digits to MNIST at 16 px, {latent.TRANSLATIONS[way.method]}: taken for MNIST "
            f"{percent(way.reached.value)} of {found.n}, digit kept {kept} (as read by a network that knows MNIST "
            f"alone {percent(alone)}), both {percent(way.both.value)}, distance {way.distance:.1f} × floor",
            conditions,
        )


if __name__ == "__main__":
    main()
