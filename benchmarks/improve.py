"""Improves a dataset within some minutes, and asks a longer experiment whether the verdict is right.

``python -m benchmarks.improve --data digits --minutes 3 --pairs 20``

``digits`` has two classes that are starved to five training images; ``cifar10-images`` is a folder of pictures below
``SIMULACRA_DATA_DIR``. The job runs as a person's would, in a home of its own. The longer experiment compares the
training images before and after with other seeds and more steps; its interval says whether the answer was right.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence import row

FEW = 5  # training images of a starved class
STARVED = (3, 8)


def starved() -> Any:
    """Gives digits with few training images of two classes, and saves them."""
    from core import datasets

    whole = datasets.load("digits")
    assert whole.y is not None
    train = whole.splits["train"]
    keep = np.concatenate(
        [
            mine[: FEW if label in STARVED else len(mine)]
            for label in range(len(whole.classes))
            for mine in [train[whole.y[train] == label]]
        ]
    )
    rows = np.sort(np.concatenate([keep, whole.splits["valid"], whole.splits["test"]]))
    splits = {
        name: np.searchsorted(rows, np.sort(keep) if name == "train" else index)
        for name, index in whole.splits.items()
    }
    few = datasets.assemble(
        whole.x[rows],
        whole.y[rows],
        whole.classes,
        splits,
        levels=whole.levels,
        name="starved",
        source=whole.source,
    )
    return datasets.save("starved", few)


def pictures() -> Any:
    """Imports the folder of pictures."""
    from core import datasets
    from core.ground.settings import settings

    folder = settings().data / "cifar10-images"
    read = datasets.load("folder", {"path": str(folder.absolute()), "size": 32})
    return datasets.save("pictures", read)


def longer(dataset: Any, version: Any, pairs: int, steps: int) -> Any:
    """Compares the training images of two versions by the same test images, with seeds of its own."""
    from core.building.experiment import Experiment, ExperimentConfig
    from core.building.improve import Effect

    config = ExperimentConfig(
        per_class=str(int(np.bincount(dataset.y[dataset.splits["train"]]).max())),
        chain=False,
        trivial=False,
        steps=steps,
        robust=False,
        seed=4711,
    )
    bench = Experiment(dataset, config)
    before, after = (bench.dataset_of(*each.part("train")) for each in (dataset, version))
    table: list[tuple[float, float]] = []
    for pair in range(pairs):
        table.append(
            tuple(bench.accuracy(bench.pupil(data, pair)) for data in (before, after))  # pyright: ignore
        )
        print(f"  pair {pair + 1}: {table[-1][0]:.1f} and {table[-1][1]:.1f} %", flush=True)
    return Effect.of(*zip(*table, strict=True))


def main() -> None:
    """Improves, checks, and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits", choices=["digits", "cifar10-images"])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--pairs", type=int, default=20, help="of the longer experiment")
    parser.add_argument("--steps", type=int, default=0, help="of it; 0 takes twice as many")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["SIMULACRA_HOME"] = home
        import torch

        from core import datasets, jobs, kinds

        torch.set_num_threads(2)
        dataset = starved() if arguments.data == "digits" else pictures()
        job = kinds.submit(
            "improve", {"dataset": dataset.name}, {"improve.minutes": arguments.minutes}
        )
        from core.commands import wait

        job = wait(job)
        found = job.result()
        if job.status != "finished" or found is None:
            raise SystemExit(
                f"{job.status}: {job.message}\n{(Path(job.path) / 'worker.log').read_text()}"
            )
        for step in found["steps"]:
            print(
                f"  {step['status']:>8} {step['seconds']:6.1f} s  {step['title']}: {step['sentence']}"
            )
        for each in found["contributions"]:
            print(f"  {each['title']}: {each['sentence']}")
        print(f"  {found['sentence']}")
        name = f"{arguments.data}, {arguments.minutes:g} min"
        used = found["seconds"] / found["limit"]
        row(f"Improve, {name}, time that was used: {used:.0%} of it", "2 threads")
        effect = found["effect"]
        said = found["verdict"] if effect is None else f"{found['verdict']}, {effect['sentence']}"
        row(f"Improve, {name}, its answer: {said}", f"n = {found['n_test']} test images")
        if found["version"] is None:
            return
        version = datasets.load(found["version"])
        steps = arguments.steps or 2 * found["proof"]["config"]["steps"]
        check = longer(dataset, version, arguments.pairs, steps)
        right = {"helps": check.value > 0, "hurts": check.value < 0}.get(
            found["verdict"], check.verdict == "cannot tell"
        )
        row(
            f"Improve, {name}, a longer experiment: {check.verdict}, {check.sentence}",
            f"{steps:,} steps, other seeds; the answer was {'right' if right else 'wrong'}",
        )
        jobs.delete(job.id)


if __name__ == "__main__":
    main()
