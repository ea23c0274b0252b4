"""Starves two classes to five images, and builds in rounds beside equal shares at the same budget.

``python -m benchmarks.adaptive --data digits faces --pairs 10 --source both augmented --budget 400``

Each pair draws which two classes are starved, which images they keep, and all other seeds; both ways draw the same
items. Printed: the gain on the starved classes and on all, in points of accuracy on real test images, with a
bootstrap's interval (BCa) over the pairs (Student's below six); what equal shares and no item at all reach beside it.
One thread.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

import numpy as np
import torch

from benchmarks.evidence import row
from core import datasets
from core.building.adaptive import AdaptConfig, Adaptive
from core.building.adaptive_result import gained
from core.datasets import Dataset
from core.ground.stats import mean_of_few

DATA: dict[str, tuple[dict[str, Any], str]] = {  # its config, and the chain
    "digits": ({}, "digits"),
    "faces": ({"size": 16, "count": 2000}, "faces"),
}
FEW = 5  # training images that a starved class keeps


def starved(dataset: Dataset, names: tuple[str, ...], seed: int) -> Dataset:
    """Leaves some classes five training images each, drawn by the seed; what is held out stays whole."""
    assert dataset.y is not None
    rng, train = np.random.default_rng(seed), dataset.splits["train"]
    gone = [
        rng.permutation(train[dataset.y[train] == dataset.classes.index(name)])[FEW:]
        for name in names
    ]
    kept = np.setdiff1d(np.arange(len(dataset)), np.concatenate(gone))
    return datasets.assemble(
        dataset.x[kept],
        dataset.y[kept],
        dataset.classes,
        {
            split: np.searchsorted(kept, np.intersect1d(rows, kept))
            for split, rows in dataset.splits.items()
        },
        levels=dataset.levels,
        name=dataset.name,
        source=dataset.source,
    )


def main() -> None:
    """Runs the pairs of each dataset, and prints the gains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", default=[*DATA], choices=[*DATA])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--budget", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=40, help="of the first pair")
    parser.add_argument("--classes", nargs="*", help="those that are starved in every pair")
    parser.add_argument("--pipeline", help="the chain (default: the usual one of the dataset)")
    parser.add_argument("--source", nargs="*", default=["both", "augmented"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.data:
        values, chain = DATA[name]
        whole = datasets.load(name, values)
        for source in arguments.source:
            compared(name, whole, source, arguments.pipeline or chain, arguments)


def compared(name: str, whole: Dataset, source: Any, chain: str, arguments: Any) -> None:
    """Does the pairs of one dataset and one source, and writes their rows."""
    began, notes = time.process_time(), Counter[str]()
    reached: dict[str, list[dict[str, float]]] = {"the starved classes": [], "all classes": []}
    for number in range(arguments.pairs):
        seed = arguments.seed + number
        few = (
            arguments.classes
            or np.random.default_rng([seed, 2]).permutation(whole.classes)[:2].tolist()
        )
        config = AdaptConfig(
            source=source,
            budget=arguments.budget,
            rounds=arguments.rounds,
            steps=arguments.steps,
            pairs=1,
            pipeline=chain,
            seed=seed,
        )
        trial = Adaptive(starved(whole, tuple(few), seed), config)
        pair = trial.pair(0)
        accuracy = pair["accuracy"]
        of = {arm: float(np.mean([at["classes"][n] for n in few])) for arm, at in accuracy.items()}
        reached["the starved classes"].append(of)
        reached["all classes"].append({arm: at["all"] for arm, at in accuracy.items()})
        asked = pair["added"]["adaptive"]["asked"]
        notes["stopped early"] += bool(pair["stopped"])
        for reason, count in pair["refused"].items():
            notes[f"samples refused by {reason}"] += count
        print(
            f"  {name}, {source}, pair {number} ({' and '.join(few)}): "
            + ", ".join(f"{arm} {of[arm]:.1f} (all {accuracy[arm]['all']:.1f})" for arm in of)
            + f", {len(pair['rounds'])} rounds, {sum(asked.values())} items, {[asked[n] for n in few]} of these, "
            + f"{time.process_time() - began:.0f} CPU-s",
            flush=True,
        )
    conditions = (
        f"n = {arguments.pairs} pairs, each with 2 classes starved to {FEW} images, budget {arguments.budget} in "
        f"{arguments.rounds} rounds, chain {chain}, {len(trial.trial.test)} test images, {arguments.steps} steps"
    )
    for where, pairs in reached.items():
        for arm, against in (("adaptive", "uniform"), ("adaptive", "real"), ("uniform", "real")):
            change = [pair[arm] - pair[against] for pair in pairs]
            gain = gained(change)
            if gain["low"] is None and len(change) > 2:  # a short look: no verdict, but an interval
                ends = mean_of_few(change)
                gain |= {"low": ends.low, "high": ends.high}
            said = f"{gain['effect']:+.1f} points"
            if gain["low"] is not None:
                said += f" [{gain['low']:+.1f}, {gain['high']:+.1f}]"
            items = f"{source} items" + (f" by {chain}" if arguments.pipeline else "")
            row(f"{name}, {arm} against {against}, {items}, {where}: {said}", conditions)
    print(f"  {dict(notes)}", flush=True)


if __name__ == "__main__":
    main()
