"""What a run has learned from: a hash of every item, kept beside its record; and what it must not be used for.

``fitted.npz`` in a run's folder holds 8-byte digests of all training and validation items, those of the runs that it
started from or that made items of its dataset included. Where that is not known, a run may have seen everything.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core import datasets, jobs, runs
from core.catalog import UserError
from core.datasets import Dataset
from core.datasets.attributes import generator
from core.datasets.dataset import digests
from core.ground import files
from core.ground.cache import Cache

FILE = "fitted.npz"


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a run has learned from.

    Attributes:
        train: Digests of what it was trained on, sorted uint64 (n,); None where that is not known.
        valid: Of what its checkpoints were chosen by, sorted uint64 (m,).
        shape: Of the items, as they are stored; a digest of another shape says nothing.
        levels: Of the items.
        unknown: Why it is not known, or not all of it: the end of a sentence; empty where it is known.
    """

    train: np.ndarray | None = field(repr=False)
    valid: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64), repr=False)
    shape: tuple[int, ...] = ()
    levels: int = 0
    unknown: str = ""

    @property
    def known(self) -> bool:
        """Whether all that it has learned from is known."""
        return self.train is not None and not self.unknown

    def compares(self, dataset: Dataset) -> bool:
        """Tells whether items of a dataset would have the same digests: same shape, same levels."""
        return self.shape == tuple(dataset.shape) and self.levels == dataset.levels

    def seen(self, keys: np.ndarray, part: str = "") -> np.ndarray:
        """Tells which of some digests it has learned from, bool (n,); of one part, or of both."""
        train = self.valid[:0] if self.train is None else self.train
        parts = {"train": train, "valid": self.valid}
        return np.isin(keys, parts[part] if part else np.concatenate(list(parts.values())))


_UNKNOWN = Fitted(None, unknown="nobody recorded it")
_opened = Cache[Fitted](64)


def keep(path: Path, dataset: Dataset, sources: Iterable[Fitted] = ()) -> None:
    """Writes what a training is about to learn from into the folder of its run, unless it is there.

    Args:
        path: The run's folder.
        dataset: Whose training and validation items it sees.
        sources: What the models have learned from that it starts from, or that made items of the dataset.
    """
    if (path / FILE).exists():
        return
    write(path, _of_dataset(dataset, sources))


def write(path: Path, whole: Fitted) -> None:
    """Writes what a run has learned from into its folder."""
    memory = io.BytesIO()
    np.savez(
        memory,
        allow_pickle=False,
        train=np.zeros(0, np.uint64) if whole.train is None else whole.train,
        valid=whole.valid,
        shape=np.array(whole.shape, np.int64),
        levels=np.array(whole.levels),
        unknown=np.array(whole.unknown),
    )
    with files.full_disk_told():
        files.write_atomic(path / FILE, memory.getvalue())


def _of_dataset(dataset: Dataset, sources: Iterable[Fitted] = ()) -> Fitted:
    """Joins the digests of what is not test with what is known of other models."""
    train, valid = (
        [digests(np.asarray(dataset.x[dataset.splits[part]]))] for part in ("train", "valid")
    )
    unknown = []
    known = dataset.attributes or {}
    made = set(known.get("run", np.zeros(0, str)).astype(str).tolist())
    if (
        known.get("parameters", np.zeros(0)).dtype.kind == "U"
    ):  # an attacked sample has learned, too
        made |= {generator(said) for said in np.unique(known["parameters"]).tolist()}
    for other in [*sources, *(named(id) for id in sorted(made - {""}))]:
        if other.train is not None and other.compares(dataset):
            train.append(other.train)
            valid.append(other.valid)
        elif other.train is not None:
            unknown.append("a model that it builds on has learned from items of another size")
        if other.unknown:
            unknown.append(other.unknown)
    reason = unknown[0] if unknown else ""
    learned, chosen = (np.unique(np.concatenate(parts)) for parts in (train, valid))
    return Fitted(learned, chosen, tuple(dataset.shape), dataset.levels, reason)


def named(id: str) -> Fitted:
    """Gives what a run has learned from, by its id; of one that is gone nobody knows."""
    try:
        return of(jobs.get(id))
    except UserError:
        return Fitted(None, unknown=f"the run {id:.80} is gone")


def of(run: jobs.Job) -> Fitted:
    """Gives what a run has learned from.

    An older run has no file; it is worked out from its dataset where that still has the fingerprint of its record.
    """
    file = run.path / FILE
    try:
        stamp = (file if file.exists() else run.path / "run.json").stat().st_mtime_ns
    except OSError:
        return _UNKNOWN
    return _opened.get((str(run.path), stamp), lambda: _read(file) if file.exists() else _old(run))


def _read(file: Path) -> Fitted:
    try:
        with np.load(file, allow_pickle=False) as stored:
            return Fitted(
                np.unique(stored["train"].astype(np.uint64)),
                np.unique(stored["valid"].astype(np.uint64)),
                tuple(stored["shape"].tolist()),
                int(stored["levels"]),
                str(stored["unknown"]),
            )
    except Exception as error:  # numpy raises many kinds for a damaged file
        return Fitted(None, unknown=f"{file.name} is damaged ({type(error).__name__})")


def _old(run: jobs.Job) -> Fitted:
    with suppress(UserError):
        record = runs.record(run)
        if "brought" in record:
            return Fitted(None, unknown="it was brought from outside")
        source: Mapping[str, Any] = record["dataset"]
        dataset = datasets.load(source["name"], source["config"])
        if dataset.fingerprint != source["fingerprint"]:
            why = f"it is an older run, and {source['name']} has changed since"
            return Fitted(None, unknown=why)
        before = [named(record["parent"]["run"])] if "parent" in record else []
        return _of_dataset(dataset, before)
    return Fitted(None, unknown="it is an older run, and what it was trained on is gone")


@dataclass(frozen=True)
class Clearance:
    """Whether samples of a run may join a dataset.

    Attributes:
        leaks: Items of the dataset that are held out and that the run has learned from.
        unknown: Why it cannot be told; empty where it can.
        sentence: What is wrong, what to do; empty where nothing is.
    """

    leaks: int = 0
    unknown: str = ""
    sentence: str = ""


def clearance(run: jobs.Job, dataset: Dataset) -> Clearance:
    """Says whether samples of a run may join a dataset: not if the run has learned from what is held out there."""
    fitted = of(run)
    why, leaks = fitted.unknown, 0
    if fitted.train is not None and not fitted.compares(dataset):
        why = why or "it has learned from items of another size, and these cannot be compared"
    elif fitted.train is not None:
        # a checkpoint that was chosen by the validation items of before may be chosen by these again
        for split, part in (("test", ""), ("valid", "train")):
            keys = digests(np.asarray(dataset.x[dataset.splits[split]]))
            leaks += int(fitted.seen(keys, part).sum())
    if leaks:
        return Clearance(
            leaks,
            why,
            f"The run {run.name} has learned from {leaks:,} images that are held out here, so its samples would leak. "
            "Choose a run that was trained on this dataset.",
        )
    if why:
        return Clearance(
            0,
            why,
            f"What the run {run.name} has learned from is not known ({why}), so it may have seen what is held out in "
            f"{dataset.name}. Choose a run that was trained on this dataset, or say why it has not: override 'seen'.",
        )
    return Clearance()
