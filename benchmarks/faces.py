"""Draws 10 000 faces at 16, 32 and 64 px, and trains a GAN and a VAE on them for a given time (``--train SECONDS``)."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.evidence import row
from core import datasets, jobs, kinds, runs
from core.datasets import faces
from core.ground import sheets
from core.tensors import to_bytes


def main() -> None:
    """Measures and prints; writes a sheet per family into ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=float, default=0, help="seconds of training per family")
    parser.add_argument("--out", type=Path, default=Path())
    arguments = parser.parse_args()
    for size in (16, 32, 64):
        start, cpu = time.perf_counter(), time.process_time()
        faces.draw(faces.attributes(0, 10_000), size)
        row(
            f"10 000 faces at {size} px: {time.perf_counter() - start:.1f} s ({time.process_time() - cpu:.1f} s of CPU)"
        )
    if not arguments.train:
        return
    datasets.load("faces")
    for family in ("gan", "vae"):
        job = kinds.submit(
            "train",
            {"dataset": "faces", "family": family},
            {"train.images": 10_000_000, "train.schedule": "constant"},
        )
        while job.active:
            time.sleep(0.2)
            job = jobs.get(job.id)
            if (
                job.status == "running"
                and time.time() - job.state["started"] > arguments.train
                and not job.stopping
            ):
                jobs.stop(job.id)
        opened = runs.open_model(job)
        assert opened.sampling is not None
        x = to_bytes(opened.model.sample(range(60), None, 0, opened.sampling()))
        file = arguments.out / f"faces-{family}.png"
        file.write_bytes(sheets.png(x, 10, scale=3, gap=2))
        row(
            f"faces, {family}: {opened.images} images in {arguments.train:.0f} s from the job's start, "
            f"{opened.images / job.state['seconds']:.0f} images/s: {file}"
        )


if __name__ == "__main__":
    main()
