"""Trains the default model as a newcomer does, and lets a classifier judge 1 000 of its images.

The classifier is trained on real digits first; its accuracy on their test split is printed. Then: seconds of the
default training (wall clock of the whole job, and of its steps), the share of each class among the samples, and the
mean confidence of the judge. With ``--family vae`` for the other family. Writes ``--sheet FILE`` with 100 samples.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks.evidence import row
from core import jobs, kinds, runs
from core.ground import files, sheets
from core.models import DEFAULT_FAMILY
from core.tensors import to_bytes


def train(kind: str, choice: dict[str, str], values: dict[str, object]) -> tuple[jobs.Job, float]:
    """Trains in a job and waits; gives the job and its wall-clock seconds."""
    start = time.perf_counter()
    job = kinds.submit(kind, choice, values)
    while job.active:
        time.sleep(0.1)
        job = jobs.get(job.id)
    if job.status != "finished":
        raise SystemExit(f"{job.id} {job.status}: {job.message}")
    return job, time.perf_counter() - start


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default=DEFAULT_FAMILY)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    judge_job, _ = train("classifier", {"dataset": "digits"}, {"train.images": 60_000})
    log = files.Log(judge_job.path).read()[0]
    accuracy = next(
        record["test_accuracy"] for record in reversed(log) if "test_accuracy" in record
    )
    judge = runs.open_model(judge_job).model
    print(f"judge: {accuracy:.1%} on the test split of digits")
    for seed in range(arguments.seeds):
        job, wall = train(
            "train", {"dataset": "digits", "family": arguments.family}, {"train.seed": seed}
        )
        opened = runs.open_model(job)
        assert opened.sampling is not None
        x = opened.model.sample(range(1000), None, 0, opened.sampling())
        with torch.inference_mode():
            probabilities = judge(x).softmax(1)
        shares = torch.bincount(probabilities.argmax(1), minlength=10) / 1000
        default = arguments.family == DEFAULT_FAMILY and not seed
        row(
            f"{arguments.family} on digits, seed {seed}: {wall:.1f} s in all, {job.state['seconds']:.1f} s of steps on "
            f"{runs.record(job)['threads']} thread(s); "
            f"smallest class {float(shares.min()):.1%}, largest {float(shares.max()):.1%}, "
            f"mean confidence {float(probabilities.max(1).values.mean()):.3f}",
            said=f"{wall:.0f} s of training" if default else "",
        )
        if arguments.sheet:
            arguments.sheet.write_bytes(sheets.png(to_bytes(x[:100]), 10, scale=6, gap=2))


if __name__ == "__main__":
    main()
