"""Trains a model further on 300 pictures of a class that it never saw, beside one from scratch, at equal CPU-seconds.

``python -m benchmarks.further --family diffusion --seconds 10 --seeds 0 1 2 3 4``

MNIST at 8×8: the parent learns nine digits, 300 pictures of the tenth are the new set, others of it the reference. A
seed chooses the 300 pictures and the noise. The Fréchet distance is that of the judge's features (it knows all ten) to
the reference, in units of what real test pictures of the class have; copying is the share of samples nearer to the 300
than to 300 held-out ones, beside that of other real pictures. Needs MNIST in SIMULACRA_DATA_DIR. One thread.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.evidence import row
from core import datasets
from core.ground import stats
from core.measure import distances
from core.measure.features import judge
from core.models import build, families
from core.tensors import to_bytes
from core.training import FineTuneConfig, TrainConfig, Trainer, further, spec_of

CPU = torch.device("cpu")
COUNT = 300  # pictures of the new class
SAMPLES = 900


def parts_of(
    whole: datasets.Dataset, digit: int, seed: int
) -> tuple[Any, datasets.Dataset, dict[str, Tensor]]:
    """Gives the set of the parent, the new one, and real pictures of the class: few, held out, a reference, test."""
    assert whole.y is not None
    names = tuple(name for place, name in enumerate(whole.classes) if place != digit)
    splits = {part: index[whole.y[index] != digit] for part, index in whole.splits.items()}
    kept = np.sort(np.concatenate(list(splits.values())))
    y = whole.y[kept] - (whole.y[kept] > digit)
    old = datasets.assemble(
        whole.x[kept],
        y,
        names,
        {part: np.searchsorted(kept, i) for part, i in splits.items()},
        name="nine",
    )
    mine = np.concatenate([i[whole.y[i] == digit] for p, i in whole.splits.items() if p != "test"])
    mine = np.random.default_rng(seed).permutation(mine)
    test = whole.splits["test"][whole.y[whole.splits["test"]] == digit]
    few, held, reference = mine[:COUNT], mine[COUNT : 2 * COUNT], mine[2 * COUNT :]
    index = np.arange(2 * COUNT)
    new = datasets.assemble(
        whole.x[np.concatenate([few, held])],
        np.zeros(2 * COUNT, np.int64),
        (whole.classes[digit],),
        {"train": index[:COUNT], "valid": index[COUNT:], "test": index[:0]},
        name="tenth",
    )
    real = {"few": few, "held": held, "reference": reference, "test": test}
    return old, new, {name: torch.as_tensor(whole.x[i]).float() / 255 for name, i in real.items()}


def speed(trainer: Trainer, seconds: float = 1.5) -> float:
    """Measures the images a CPU-second of a throwaway training."""
    for _ in range(3):
        trainer.one_step()
    began, first = time.process_time(), trainer.step
    while time.process_time() - began < seconds:
        trainer.one_step()
    return (trainer.step - first) * trainer.batch / (time.process_time() - began)


def started(
    family: str, data: datasets.Dataset, images: int, seed: int, parent: Any, asked: FineTuneConfig
) -> Trainer:
    """Builds a network, from scratch or from a parent, and its trainer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = build(family, {}, spec_of(data))
    config = TrainConfig(images=images, seed=seed)
    if parent is None:
        return Trainer(model, data, config, CPU)
    model.load_state_dict(further.inherited(model, parent, parent.names, data.classes))
    further.choose(model, asked, families.get(family).sampling(), seed)
    return Trainer(model, data, config, CPU, pace=asked.share)


def main() -> None:
    """Trains and measures; prints one line per run, and one per choice of layers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="diffusion")
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--digit", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10, help="CPU-seconds of each training")
    parser.add_argument("--before", type=float, default=60, help="CPU-seconds of the parent")
    parser.add_argument("--layers", nargs="*", default=["all", "last", "lora", "embeddings"])
    parser.add_argument(
        "--rates", type=float, nargs="*", default=[0.0], help="shares of the learning rate"
    )
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    family, usual = asked.family, families.get(asked.family).sampling()
    whole = datasets.load("mnist", {"size": asked.size})
    by = judge(whole, CPU)
    old, new, _ = parts_of(whole, asked.digit, 0)
    plain = FineTuneConfig()
    pace = speed(started(family, old, 10**9, 0, None, plain))
    before = started(family, old, int(pace * asked.before), 0, None, plain)
    for _ in before:
        pass
    parent: Any = before.published()
    parent.names = old.classes
    print(f"parent: {before.step} steps, judge {by.accuracy:.1%}", flush=True)
    ways: dict[str, tuple[Any, FineTuneConfig]] = {"scratch": (None, plain)}
    for layers in asked.layers:
        if layers in further.ways(build(family, {}, spec_of(new))):
            for rate in asked.rates:
                name = layers + (f" at {rate:g}" if rate else "")
                ways[name] = parent, FineTuneConfig(layers=layers, rate=rate, rank=asked.rank)  # type: ignore[arg-type]
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    copied: dict[str, list[Any]] = {name: [] for name in ways}
    true = []
    for seed in asked.seeds:
        _, new, real = parts_of(whole, asked.digit, seed)
        seen = {name: by.features(x) for name, x in real.items()}
        floor = distances.frechet(seen["reference"], seen["test"][:SAMPLES])
        few, held = real["few"].numpy(), real["held"].numpy()
        true.append(distances.nearer_to_training(real["reference"][:SAMPLES].numpy(), few, held))
        untouched = by.features(drawn(parent, None, seed, usual))
        apart = distances.frechet(seen["reference"], untouched) / floor
        print(
            f"  seed {seed}: the parent as it is {apart:.1f} × real, "
            f"real pictures copy {true[-1].value:.3f} ({true[-1].low:.3f} to {true[-1].high:.3f})",
            flush=True,
        )
        for name, (begun, config) in ways.items():
            images = int(speed(started(family, new, 10**9, seed, begun, config)) * asked.seconds)
            trainer = started(family, new, images, seed, begun, config)
            began = time.process_time()
            for _ in trainer:
                pass
            spent = time.process_time() - began
            model: Any = trainer.published()
            x = drawn(
                model,
                torch.zeros(SAMPLES, dtype=torch.long) if model.classes else None,
                seed,
                usual,
            )
            ratios[name].append(distances.frechet(seen["reference"], by.features(x)) / floor)
            copied[name].append(distances.nearer_to_training(x.numpy(), few, held))
            print(
                f"    {name}: {ratios[name][-1]:.2f} × real, copying {copied[name][-1].value:.3f} "
                f"({copied[name][-1].low:.3f} to {copied[name][-1].high:.3f}), {trainer.step} steps, {spent:.1f} CPU-s",
                flush=True,
            )
    high = max(each.high for each in true)
    for name in ways:
        logs = [math.log(a / b) for a, b in zip(ratios["scratch"], ratios[name], strict=True)]
        over = stats.mean_of_few(logs)
        row(
            f"Trained further on {COUNT} pictures of an unseen digit, {family}, {name}: "
            f"distance {math.exp(over.value):.2f} × lower than from scratch "
            f"({math.exp(over.low):.2f} to {math.exp(over.high):.2f}); "
            f"{np.mean(ratios[name]):.2f} × real; copying {np.mean([c.value for c in copied[name]]):.3f} "
            f"(at most {max(c.value for c in copied[name]):.3f}), real pictures "
            f"{np.mean([c.value for c in true]):.3f} (intervals to {high:.3f}); "
            "copying beyond real pictures' interval in "
            f"{sum(c.value > r.high for c, r in zip(copied[name], true, strict=True))} of {len(true)} seeds",
            f"MNIST {asked.size} px, digit {asked.digit}; {asked.seconds:g} CPU-seconds each, parent "
            f"{asked.before:g} on the other nine; n = {SAMPLES} samples, {len(asked.seeds)} seeds, "
            "95 % interval over seeds",
        )


def drawn(model: Any, y: Tensor | None, seed: int, usual: Any) -> Tensor:
    """Draws samples as they would be stored, (N, C, H, W) in [0, 1]."""
    parts = [
        model.sample(ids, None if y is None else y[ids], seed, usual)
        for ids in torch.arange(SAMPLES).split(300)
    ]
    return torch.as_tensor(to_bytes(torch.cat(parts))).float() / 255


if __name__ == "__main__":
    main()
