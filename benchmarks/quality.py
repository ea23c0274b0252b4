"""Trains families for a number of CPU-seconds and measures them with the judge, over several seeds.

``python -m benchmarks.quality --data digits --family flow diffusion --seconds 60 --seeds 0 1 2``

Every Fréchet distance is given as a ratio to the floor: real test images against the same reference, with the same n.
Copying is the share of samples nearer to the training images than to equally many held-out ones (test); beside it stand
the values of the real valid images and of verbatim copies. One thread; a CPU-second is what the process itself used for
training, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.evidence import row
from core import datasets
from core.catalog import assign
from core.ground import sheets
from core.measure import distances
from core.measure.features import Judge, judge
from core.models import Scores, build, families
from core.tensors import to_bytes, to_float
from core.training import TrainConfig, Trainer, spec_of

DATA: dict[
    str, tuple[str, dict[str, Any], int, int]
] = {  # dataset, its config, training images, longest run
    "digits": ("digits", {}, 0, 200_000),
    "mnist16": ("mnist", {"size": 16}, 20_000, 10**9),
    "mnist28": ("mnist", {}, 0, 10**9),
    "cifar10": ("cifar10", {}, 0, 10**9),
}
CPU = torch.device("cpu")


def prepared(name: str) -> datasets.Dataset:
    """Loads the images, with the first of the training part if the case wants fewer."""
    source, values, count, _ = DATA[name]
    dataset = datasets.load(source, values)
    return fewer(dataset, count) if count else dataset


def fewer(dataset: datasets.Dataset, count: int) -> datasets.Dataset:
    """Keeps the first ``count`` training images, and the other splits whole."""
    keep = dict(dataset.splits) | {"train": dataset.splits["train"][:count]}
    kept = np.sort(np.concatenate(list(keep.values())))
    return datasets.assemble(
        dataset.x[kept],
        None if dataset.y is None else dataset.y[kept],
        dataset.classes,
        {name: np.searchsorted(kept, index) for name, index in keep.items()},
        levels=dataset.levels,
        name=dataset.name,
    )


def images_within(
    family: str, values: dict[str, Any], train: dict[str, Any], dataset: Any, seconds: float
) -> int:
    """Measures the speed on a throwaway model and gives the images that fit into the CPU-seconds."""
    trainer = started(family, values, TrainConfig.of(train | {"images": 10**9}, "train"), dataset)
    steps = iter(trainer)
    begun = 0.0
    for progress in steps:
        if begun == 0.0 and progress.step >= 5:
            begun, first = time.process_time(), progress.step
        elif begun and time.process_time() - begun > 4:
            speed = (progress.step - first) * trainer.batch / (time.process_time() - begun)
            return int(speed * seconds * 0.97)
    raise AssertionError


def started(family: str, values: dict[str, Any], config: TrainConfig, dataset: Any) -> Trainer:
    """Builds a model from the seed and its trainer."""
    torch.manual_seed(config.seed)
    return Trainer(build(family, values, spec_of(dataset)), dataset, config, CPU)


def measured(
    model: Any,
    family: str,
    sampling: dict[str, Any],
    dataset: datasets.Dataset,
    by: Judge,
    seed: int,
    n: int = 5000,
) -> dict[str, float]:
    """Measures a published model."""
    real = {
        part: to_float(torch.as_tensor(dataset.part(part)[0]), dataset.levels)
        for part in ("train", "test", "valid")
    }
    n = min(n, len(real["test"]))
    entry = families.get(family).sampling
    y = torch.arange(n) % model.classes if model.classes else None
    began = time.process_time()
    samples = torch.cat(
        [
            model.sample(ids, None if y is None else y[ids], seed, entry(**sampling))
            for ids in torch.arange(n).split(500)
        ]
    )
    spent = time.process_time() - began
    samples = torch.as_tensor(to_bytes(samples)).float() / 255
    features = {part: by.features(x) for part, x in real.items()} | {
        "samples": by.features(samples)
    }
    floor = distances.frechet(features["train"], features["test"][:n])
    distance = distances.frechet(features["train"], features["samples"])
    near = distances.overlap(features["test"][:n], features["samples"])
    few = slice(0, 2000)
    copies = distances.nearer_to_training(
        samples[few].numpy(), real["train"].numpy(), real["test"][few].numpy()
    )
    fresh = distances.nearer_to_training(
        real["valid"].numpy(), real["train"].numpy(), real["test"][few].numpy()
    )
    named = by.probabilities(samples)
    m = min(len(real["test"][few]), len(real["train"]))
    figures = {
        "ratio": distance / floor,
        "distance": distance,
        "floor": floor,
        "n": n,
        "precision": near.precision,
        "recall": near.recall,
        "coverage": near.coverage,
        "copying": copies.value,
        "copying_low": copies.low,
        "copying_high": copies.high,
        "copying_of_real": fresh.value,
        "copying_of_copies": (1 + m / len(real["train"])) / 2,
        "images_per_second": n / spent,
    }
    if y is not None:
        figures["conditional_accuracy"] = float((named.argmax(1) == y.numpy()).mean())
    if isinstance(model, Scores):
        generator = torch.Generator().manual_seed(0)
        labels = dataset.part("test")[1]
        index = torch.arange(min(1000, len(real["test"])))
        with torch.no_grad():
            score = model.log_prob(
                real["test"][index],
                None if labels is None else torch.as_tensor(labels)[index],
                generator,
            )
        figures["bits_per_dim"] = float(-score.mean()) / (
            real["test"][0].numel() * float(np.log(2))
        )
    return figures


def main() -> None:
    """Trains, measures and prints one line per run and one per family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=DATA, default="digits")
    parser.add_argument("--family", nargs="*", default=families.names())
    parser.add_argument(
        "--seconds", type=float, default=0, help="CPU-seconds; 60 for digits, else 150"
    )
    parser.add_argument("--images", type=int, default=0, help="train for so many images instead")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--preset", default="", help="a preset of the family")
    parser.add_argument(
        "--set", nargs="*", default=[], help="parameters: family.width=64 train.lr=1e-3"
    )
    parser.add_argument(
        "--sampling", nargs="*", default=[], help="choices of the sampling: guidance=2"
    )
    parser.add_argument("--out", type=Path, help="folder for sheets and a line of JSON per run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = prepared(arguments.data)
    by = judge(dataset, CPU)
    seconds = arguments.seconds or (60 if arguments.data == "digits" else 150)
    print(
        f"{arguments.data}: {len(dataset.splits['train'])} training images, judge {by.hash}, accuracy {by.accuracy:.1%}"
    )
    for family in arguments.family:
        entry = families.get(family)
        given = dict(entry.presets[arguments.preset]) if arguments.preset else {}
        given |= dict(item.split("=", 1) for item in arguments.set)
        parts = assign(given, {"family": entry.config, "train": TrainConfig})
        values, train = parts["family"], TrainConfig.of(parts["train"], "train").record()
        sampling = entry.sampling.of(
            dict(item.split("=", 1) for item in arguments.sampling), "sampling"
        ).record()
        images = arguments.images or min(
            DATA[arguments.data][3], images_within(family, values, train, dataset, seconds)
        )
        runs = []
        for seed in arguments.seeds:
            trainer = started(
                family,
                values,
                TrainConfig.of(train | {"seed": seed, "images": images}, "train"),
                dataset,
            )
            began = time.process_time()
            for _ in trainer:
                pass
            spent = time.process_time() - began
            model: Any = trainer.published()
            figures = measured(model, family, sampling, dataset, by, seed)
            figures |= {
                "cpu_seconds": spent,
                "images": images,
                "steps": trainer.step,
                "batch": trainer.batch,
            }
            figures |= trainer.held_out(model)
            runs.append(figures)
            print(
                f"  {family} seed {seed}: "
                + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()),
                flush=True,
            )
            if arguments.out:
                arguments.out.mkdir(parents=True, exist_ok=True)
                told = {"data": arguments.data, "family": family, "seed": seed, **figures}
                with (arguments.out / "quality.jsonl").open("a") as log:
                    log.write(json.dumps(told) + "\n")
                y = torch.arange(80) % model.classes if model.classes else None
                x = to_bytes(model.sample(range(80), y, 0, entry.sampling(**sampling)))
                (arguments.out / f"{arguments.data}-{family}-{seed}.png").write_bytes(
                    sheets.png(x, 10)
                )
        names = (
            "ratio",
            "copying",
            "conditional_accuracy",
            "recall",
            "bits_per_dim",
            "cpu_seconds",
            "images_per_second",
        )
        row(
            f"{arguments.data}, {family}: "
            + ", ".join(
                f"{name} {statistics.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})"
                for name in names
                if (values := [figures[name] for figures in runs if name in figures])
            )
        )


if __name__ == "__main__":
    main()
