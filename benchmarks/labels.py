"""Plants wrong labels in sets of many kinds and sizes, and measures whether what is said of them is true.

``SIMULACRA_DATA_DIR=… python -m benchmarks.labels [--folder PICTURES] [--only photos] [--rates 0 0.05 0.1]``

Sets: digits, drawn faces of 32 px in colour, MNIST (where it is there), and a folder of class folders of photographs;
two classes of each; classes of very different sizes; and labels that are all random. For each it prints how many of the
labels the predictor names, the average precision of the ranking, how many labels are called suspect, the share of these
that was planted beside the share that was estimated, the share of the planted ones that is found beside the share that
is promised, and whether the set is judged at all (``RELIABLE`` in :mod:`core.quality.labels`). One thread.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.evidence import row
from core import datasets
from core.catalog import UserError
from core.quality import labels, measures


def fewer(whole: datasets.Dataset, rows: np.ndarray, kept: Sequence[int] = ()) -> datasets.Dataset:
    """Keeps some images of a dataset, and of the classes those in ``kept``, all in training."""
    assert whole.y is not None
    rows = rows[np.isin(whole.y[rows], kept)] if len(kept) else rows
    y = np.searchsorted(kept, whole.y[rows]) if len(kept) else whole.y[rows]
    classes = [whole.classes[k] for k in kept] if len(kept) else whole.classes
    none = np.arange(0)
    return datasets.assemble(
        np.asarray(whole.x[rows]),
        y.astype(np.int64),
        tuple(classes),
        {"train": np.arange(len(rows)), "valid": none, "test": none},
        levels=whole.levels,
        name=whole.name,
    )


def sets(folder: str, only: Sequence[str]) -> Iterator[tuple[str, datasets.Dataset]]:
    """Gives the sets, each with its name."""
    whole = {
        "digits": datasets.load("digits"),
        "faces": datasets.load("faces", {"size": 32, "count": 2000}),
    }
    try:
        whole["mnist"] = datasets.load("mnist")
    except UserError as error:
        print(f"without MNIST: {error}")
    if folder:
        copy = Path(tempfile.mkdtemp(prefix="simulacra-bench-"))
        try:
            shutil.copytree(folder, copy / "pictures")
            whole["photos"] = datasets.bring(
                f"bench-{copy.name[-8:].lower()}", {"path": str(copy / "pictures"), "size": 32}
            )
        finally:
            shutil.rmtree(copy, ignore_errors=True)
    rng = np.random.default_rng(0)
    for name, data in whole.items():
        if only and name not in only:
            continue
        order = rng.permutation(len(data))
        for n in (100, 300, 1000, 3000, 5000):
            if n < len(data) or (n >= len(data) > n / 2):
                yield f"{name} {min(n, len(data))}", fewer(data, np.sort(order[:n]))
        yield f"{name}, two classes", fewer(data, np.sort(order[:3000]), (0, 3))
        assert data.y is not None
        rare = np.flatnonzero((data.y != 0) | (np.cumsum(data.y == 0) <= 30))
        yield f"{name}, one rare", fewer(data, np.sort(rng.permutation(rare)[:1500]))


def main() -> None:
    """Plants, judges and prints a line per set, share of wrong labels and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default="", help="a folder of class folders of photographs")
    parser.add_argument("--only", nargs="*", default=[], help="digits, faces, mnist, photos")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rates", type=float, nargs="*", default=[0.0, 0.05, 0.1])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'set':<20} {'wrong':>6} {'named':>6} {'AP':>6} {'suspects':>8} {'real':>6} {'told':>6} {'found':>6} "
        f"{'told':>6}  judged"
    )
    for name, data in sets(arguments.folder, arguments.only):
        assert data.y is not None
        known = measures.measure(data)
        for rate in [*arguments.rates, 1.0]:  # 1: all labels are random
            for seed in range(arguments.seeds):
                rng, y = np.random.default_rng(seed), np.array(data.y)
                wrong = np.sort(rng.permutation(len(y))[: round(rate * len(y))])
                y[wrong] = (y[wrong] + rng.integers(1, len(data.classes), len(wrong))) % len(
                    data.classes
                )
                if rate == 1:
                    y = rng.permutation(np.array(data.y))
                judgement = labels.judge(
                    known.features, y, data.classes, known.keys, np.zeros(len(y), bool)
                )
                line(name, rate, judgement, np.flatnonzero(y != data.y))


def line(name: str, rate: float, judgement: labels.Judgement, wrong: np.ndarray) -> None:
    """Prints what is said of one set beside what is true."""
    summary = judgement.summary
    hits = np.isin(judgement.rows[np.argsort(judgement.chance[0], kind="stable")], wrong)
    order = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    suspect = np.isin(judgement.rows[judgement.suspect], wrong)
    figures = (
        summary["accuracy"],
        order[hits].mean() if hits.any() else None,
        summary["suspects"],
        suspect.mean() if len(suspect) else None,
        summary["precision"],
        suspect.sum() / hits.sum() if hits.any() and summary["judged"] else None,
        summary["found"],
    )
    told = " ".join(
        f"{'-':>6}"
        if value is None
        else f"{value:>8}"
        if isinstance(value, int)
        else f"{value:6.3f}"
        for value in figures
    )
    print(f"{name:<20} {rate:6.2f} {told}  {summary['judged'] or 'no'}", flush=True)
    if rate == 0.05:
        row(
            f"Wrong labels in {name}, one in twenty: {len(judgement.rows[judgement.suspect])} suspects, "
            f"{suspect.mean() if len(suspect) else 0:.3f} of them planted, {summary['precision'] or 0:.3f} estimated"
        )


if __name__ == "__main__":
    main()
