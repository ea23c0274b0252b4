"""Starves two classes to five images, and builds in rounds beside equal shares at the same budget.

``python -m benchmarks.adaptive --data digits faces --pairs 10 --source both --budget 400``

Each pair starves the classes to other five images and has other seeds; both ways draw the same items. Printed: the gain
on the starved classes and on all, in points of accuracy on real test images, with a bootstrap's interval (BCa) over the
pairs; what equal shares and no item at all reach beside it. One thread.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch

from benchmarks.evidence import row
from core import datasets
from core.building.adaptive import AdaptConfig, Adaptive
from core.building.adaptive_result import gained, result
from core.datasets import Dataset

DATA: dict[
    str, tuple[dict[str, Any], tuple[str, ...], str]
] = {  # its config, the classes, the chain
    "digits": ({}, ("3", "8"), "digits"),
    "faces": ({"size": 16, "count": 2000}, ("sad", "wink"), "faces"),
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
    parser.add_argument("--seed", type=int, default=20, help="of the first pair")
    parser.add_argument("--classes", nargs="*", help="those that are starved")
    parser.add_argument("--source", nargs="*", default=["both"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.data:
        values, names, chain = DATA[name]
        names = tuple(arguments.classes or names)
        whole = datasets.load(name, values)
        for source in arguments.source:
            began, pairs, trial = time.process_time(), [], None
            for number in range(arguments.pairs):
                config = AdaptConfig(
                    source=source,
                    budget=arguments.budget,
                    rounds=arguments.rounds,
                    steps=arguments.steps,
                    pairs=arguments.pairs,
                    pipeline=chain,
                    seed=arguments.seed + number,
                )
                trial = Adaptive(starved(whole, names, config.seed), config)
                pairs.append({**trial.pair(0), "pair": number})
                accuracy = pairs[-1]["accuracy"]
                of = {
                    arm: float(np.mean([at["classes"][name] for name in names]))
                    for arm, at in accuracy.items()
                }
                print(
                    f"  {name}, {source}, pair {number}: "
                    + ", ".join(
                        f"{arm} {of[arm]:.1f} (all {accuracy[arm]['all']:.1f})" for arm in of
                    )
                    + f", {len(pairs[-1]['rounds'])} rounds, asked for "
                    + str(
                        {
                            n: k
                            for n, k in pairs[-1]["added"]["adaptive"]["asked"].items()
                            if n in names
                        }
                    )
                    + f", missing {[pairs[-1]['added'][arm]['missing'] for arm in ('uniform', 'adaptive')]}"
                    + f", {time.process_time() - began:.0f} CPU-s",
                    flush=True,
                )
            assert trial is not None
            found = result(trial, pairs)
            for gain in found["gains"]:
                ends = gain
                if (
                    gain["low"] is None and len(pairs) > 2
                ):  # a short look: no verdict, but an interval
                    of, arm, against = (gain[key] for key in ("of", "arm", "against"))
                    ends = _short(pairs, names if of == "lacking" else (), arm, against)
                where = "the starved classes" if gain["of"] == "lacking" else "all classes"
                said = f"{ends['effect']:+.1f} points"
                if ends["low"] is not None:
                    said += f" [{ends['low']:+.1f}, {ends['high']:+.1f}]"
                row(
                    f"{name}, {gain['arm']} against {gain['against']}, {source} items, {where}: {said}",
                    f"n = {len(pairs)} pairs, {' and '.join(names)} starved to {FEW} images, budget "
                    f"{arguments.budget} in {arguments.rounds} rounds, {found['n_test']} test images, "
                    f"{arguments.steps} steps",
                )
            print("\n".join(found["notes"]), flush=True)


def _short(
    pairs: list[dict[str, Any]], names: tuple[str, ...], arm: str, against: str
) -> dict[str, Any]:
    """Gives the interval of few pairs by Student's t."""
    from core.ground.stats import mean_of_few

    def at(pair: dict[str, Any], of: str) -> float:
        found = pair["accuracy"][of]
        return float(np.mean([found["classes"][n] for n in names])) if names else found["all"]

    change = [at(pair, arm) - at(pair, against) for pair in pairs]
    ends = mean_of_few(change)
    return gained(change) | {"low": ends.low, "high": ends.high}


if __name__ == "__main__":
    main()
