"""What the training part of a dataset has too little of: by class, attribute and kind of picture, against a target.

A *slice* is a value of each axis: a class, a value of each attribute that was chosen, a cluster of pictures that look
alike. What models and classifiers get wrong is counted in the same slices.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from core.building.axes import axes, axis, embedded, is_real, unnamed
from core.building.glance import NAME, choices
from core.building.version import provenance
from core.catalog import Config, UserError, knob, seed_knob, unknown
from core.datasets import Dataset
from core.ground.stats import Estimate, difference_of_shares, proportion
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import many

FEWEST = 30  # items from which something can be told of a slice
MOST_SLICES = 5_000


class GapsConfig(Config):
    """How a dataset is counted, and what it should hold."""

    by: str = knob(
        "class",
        "What is counted: class, cluster (pictures that look alike), and names of attributes, with commas.",
        title="Counted by",
    )
    target: Literal["uniform", "reference", "failures"] = knob(
        "uniform",
        "What the slices should hold: equally many, shares as among the held-out images, or more of what models "
        "and classifiers get wrong.",
    )
    reference: Literal["valid", "test"] = knob(
        "valid",
        "The held-out images that stand for the world; a choice that looks at test makes a proof on test worth less.",
        title="Held-out images",
        advanced=True,
    )
    clusters: int = knob(
        6, "How many kinds of pictures that look alike are told apart.", ge=2, le=64, advanced=True
    )
    extractor: str = knob(
        NAME,
        "What sees whether pictures look alike: a glance at few pixels, or an extractor of Evaluate, some of which "
        "train a network first.",
        title="Seen through",
        choices=choices,
        advanced=True,
    )
    seed: int = seed_knob("Of the clusters.", advanced=True)


@dataclass(frozen=True, eq=False)
class Failure:
    """What a model or a classifier got wrong.

    Attributes:
        job: Whose finding it is.
        title: What failed, in words.
        index: Images that were tried, rows of the dataset, (n,).
        failed: Which of them failed, bool (n,).
    """

    job: str
    title: str
    index: np.ndarray
    failed: np.ndarray


@dataclass(frozen=True)
class Slice:
    """A part of the training images.

    Attributes:
        values: Its value on each axis.
        label: Its class; -1 where classes are not counted.
        origins: Training items by origin.
        reference: Held-out images in it.
        share: Its share of the training items, with an interval.
        target: The share that it should have.
        gap: Share less target, with an interval; nan where it cannot be told.
        missing: Items that it lacks for its target among as many training items as there are.
        verdict: ``short``, ``enough``, ``more than enough`` or ``cannot tell``.
        failures: Share of its images that failed, for each of :attr:`Coverage.failures`.
    """

    values: tuple[str, ...]
    label: int
    origins: Mapping[str, int]
    reference: int
    share: Estimate
    target: float
    gap: Estimate
    missing: int
    verdict: Literal["short", "enough", "more than enough", "cannot tell"]
    failures: tuple[Estimate, ...] = ()

    @property
    def n(self) -> int:
        """Training items of all origins."""
        return sum(self.origins.values())

    @property
    def name(self) -> str:
        """Its values in a line."""
        return ", ".join(self.values)

    def record(self) -> dict[str, Any]:
        """Gives plain values, ready for JSON."""
        told = self.verdict != "cannot tell"
        return {
            "values": list(self.values), "n": self.n, "origins": dict(self.origins), "reference": self.reference,
            "share": self.share.value, "share_low": self.share.low, "share_high": self.share.high,
            "target": self.target, "missing": self.missing, "verdict": self.verdict,
            "gap": self.gap.value if told else None,
            "gap_low": self.gap.low if told else None, "gap_high": self.gap.high if told else None,
            "failures": [
                {"share": e.value, "low": e.low, "high": e.high, "n": e.n, "told": e.n >= FEWEST} if e.n else None
                for e in self.failures
            ],
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Coverage:
    """How a dataset covers its slices.

    Attributes:
        axes: What the slices are made of.
        slices: In the order of their values.
        of: The slice of each item of the dataset, (N,); -1 of one whose attributes are not known.
        points: Where each item lies to the extractor, float32 (N, d).
        failures: What was joined.
        notes: What is to be said of all.
    """

    axes: tuple[str, ...]
    slices: tuple[Slice, ...]
    of: np.ndarray = field(repr=False)
    points: np.ndarray = field(repr=False)
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The answer: what is short, most of all first."""
        short = sorted(
            (s for s in self.slices if s.verdict == "short"), key=lambda s: (-s.missing, s.name)
        )
        unsure = sum(s.verdict == "cannot tell" for s in self.slices)
        tail = f" Of {many(unsure, 'slice')} it cannot be told (n < {FEWEST})." if unsure else ""
        if not short:
            return f"Nothing is short beyond chance among {many(len(self.slices), 'slice')}.{tail}"
        named = [f"{s.name} ({s.n:,} there, {s.missing:,} missing)" for s in short[:4]]
        more = f" and {len(short) - 4} more" if len(short) > 4 else ""
        return f"Short of images: {'; '.join(named)}{more}.{tail}"

    def record(self) -> dict[str, Any]:
        """Gives plain values, ready for JSON."""
        return {
            "axes": list(self.axes),
            "sentence": self.sentence,
            "slices": [each.record() for each in self.slices],
            "failures": [{"job": f.job, "title": f.title, "n": len(f.index)} for f in self.failures],
            "notes": list(self.notes),
        }  # fmt: skip


def coverage(
    dataset: Dataset,
    config: GapsConfig,
    *,
    wanted: Mapping[str, float] | None = None,
    failures: Sequence[Failure] = (),
    watch: Watch = UNWATCHED,
) -> Coverage:
    """Counts the training items in slices, and says which have less than they should.

    Of a slice whose target is estimated from fewer than 30 held-out images, it cannot be told. Clusters are never asked
    to be equal, because a class need not look in every way: within a class their target is that of the held-out images.

    Args:
        dataset: With or without labels.
        config: What is counted.
        wanted: Shares of the classes that a person wants, by name, in place of the target; they need not sum to 1.
        failures: What models and classifiers got wrong, of :func:`core.building.failures.failures`.
        watch: Told how far it is.

    Raises:
        UserError: If an axis or a class does not exist, or there is nothing to count.
    """
    names = _axes(dataset, config)
    train, held = dataset.splits["train"], dataset.splits[config.reference]
    held = held[is_real(dataset)[held]]
    if not len(train):
        raise UserError(
            f"{dataset.name} has no training image, and only those are counted. Choose another dataset."
        )
    watch.say("Looking at the images")
    points, note = embedded(dataset, config.extractor, watch)
    notes = [note] if note else []
    codes, values = [], []
    for name in names:
        code, texts = axis(dataset, name, points, config.clusters, config.seed)
        codes.append(code)
        values.append(texts)
    nameless = unnamed(dataset, names) | (np.min(codes, axis=0) < 0)
    if (few := int(nameless[train].sum())) > 0:
        notes.append(f"{many(few, 'item')} not counted: nobody has said their attributes.")
    train, held = train[~nameless[train]], held[~nameless[held]]
    if not len(train):
        raise UserError(
            f"{dataset.name} has no training image of which {' and '.join(names)} are known, and only those are "
            "counted. Choose another dataset, or other axes."
        )
    count = int(np.prod([len(texts) for texts in values]))
    if count > MOST_SLICES:
        raise UserError(
            f"gaps.by makes {count:,} slices of {dataset.name}, and at most {MOST_SLICES:,} are counted. "
            "Name fewer axes."
        )
    of = np.zeros(len(dataset), np.int64)
    for code, texts in zip(codes, values, strict=True):
        of = of * len(texts) + code.clip(0)
    cells = list(itertools.product(*values))
    n, seen = (np.bincount(of[rows], minlength=count) for rows in (train, held))
    errors = [_rates(each, of, count, ~nameless) for each in failures]
    target, estimated = _targets(dataset, config, names, values, n, seen, errors, wanted)
    kept = np.flatnonzero((n > 0) | (seen > 0) | (target > 0.5 / len(train)))
    origin = provenance(dataset)["origin"]
    origins = {
        name: np.bincount(of[train[origin[train] == name]], minlength=count)
        for name in np.unique(origin[train]).tolist()
    }
    slices = [
        _slice(
            cells[k],
            dataset.classes.index(cells[k][names.index("class")]) if "class" in names else -1,
            {name: int(counts[k]) for name, counts in origins.items()},
            int(seen[k]),
            (int(n[k]), len(train)),
            float(target[k]),
            len(held) if estimated else 0,
            tuple(rates[k] for rates in errors),
        )
        for k in kept
    ]
    if config.target == "failures" and not failures and not wanted:
        notes.append(
            "No evaluation and no attack on these images is known, so all slices are taken to fail equally often. "
            "Evaluate a run, or attack a classifier."
        )
    place = np.full(count, -1)
    place[kept] = np.arange(len(kept))
    return Coverage(
        tuple(names),
        tuple(slices),
        np.where(nameless, -1, place[of]),
        points,
        tuple(failures),
        tuple(notes),
    )


def _axes(dataset: Dataset, config: GapsConfig) -> list[str]:
    known = axes(dataset)
    names = list(dict.fromkeys(name.strip() for name in config.by.split(",") if name.strip()))
    if "class" in names and not dataset.labelled:
        names.remove("class")
    for name in names:
        if name not in known:
            raise UserError(unknown(f"axis of {dataset.name} for gaps.by", name, known))
    return names or ["cluster"]


def _rates(failure: Failure, of: np.ndarray, count: int, known: np.ndarray) -> list[Estimate]:
    index, failed = failure.index, failure.failed
    tried = np.bincount(of[index[known[index]]], minlength=count)
    bad = np.bincount(of[index[failed & known[index]]], minlength=count)
    return [proportion(int(b), int(n)) for b, n in zip(bad, tried, strict=True)]


def _targets(
    dataset: Dataset,
    config: GapsConfig,
    names: Sequence[str],
    values: Sequence[Sequence[str]],
    n: np.ndarray,
    seen: np.ndarray,
    errors: Sequence[Sequence[Estimate]],
    wanted: Mapping[str, float] | None,
) -> tuple[np.ndarray, bool]:
    """Gives the share that each slice should have, (S,), and whether it is estimated from held-out images."""
    shape = [len(texts) for texts in values]
    world = (seen if seen.sum() else n).astype(float).reshape(shape)
    whole = world / world.sum()
    if wanted:
        return _wanted(dataset, names, whole, wanted).ravel(), len(names) > 1
    if config.target == "reference":
        return whole.ravel(), True
    if config.target == "failures":
        bad = np.array([[e.value * e.n if e.n else 0.0 for e in row] for row in errors])
        tried = np.array([[float(e.n) for e in row] for row in errors])
        rate = (bad.sum(0) + 0.5) / (tried.sum(0) + 1) if len(errors) else np.ones(len(n))
        weight = rate * (world.ravel() > 0)
        return weight / weight.sum(), False
    if "cluster" not in names:
        return np.full(len(n), 1 / len(n)), False
    axis = list(names).index("cluster")
    sums = world.sum(axis, keepdims=True)
    size = world.shape[axis]
    within = np.divide(world, sums, out=np.full(world.shape, 1 / size), where=sums > 0)
    if len(names) == 1:
        return within.ravel(), True
    return (within / (np.prod(shape) / size)).ravel(), True


def _wanted(
    dataset: Dataset, names: Sequence[str], whole: np.ndarray, wanted: Mapping[str, float]
) -> np.ndarray:
    if "class" not in names:
        raise UserError(
            "Wanted shares are of classes, and gaps.by does not name class. Add class to gaps.by."
        )
    for name, share in wanted.items():
        if name not in dataset.classes:
            raise UserError(unknown("class", name, dataset.classes))
        if not 0 <= share < np.inf:
            raise UserError(
                f"The wanted share of {name!r} must be a number from 0, got {share}. Write another."
            )
    shares = np.array([wanted.get(name, 0.0) for name in dataset.classes], float)
    if not shares.sum():
        raise UserError("The wanted shares are all 0. Give at least one class a share above 0.")
    moved = np.moveaxis(whole, list(names).index("class"), 0).reshape(len(shares), -1)
    sums = moved.sum(1, keepdims=True)
    within = np.divide(moved, sums, out=np.full(moved.shape, 1 / moved.shape[1]), where=sums > 0)
    within = within * (shares / shares.sum())[:, None]
    axis = list(names).index("class")
    rest = [size for place, size in enumerate(whole.shape) if place != axis]
    return np.moveaxis(within.reshape(len(shares), *rest), 0, axis)


def _slice(
    values: tuple[str, ...],
    label: int,
    origins: Mapping[str, int],
    reference: int,
    counted: tuple[int, int],
    target: float,
    held: int,
    failures: tuple[Estimate, ...],
) -> Slice:
    """Compares a slice with its target; ``held`` images gave that one, 0 where it is exact."""
    n, total = counted
    share = proportion(n, total)
    aim = Estimate(target, target, target, total)
    if held:
        ends = proportion(round(target * held), held)
        aim = Estimate(target, min(ends.low, target), max(ends.high, target), held)
    gap = difference_of_shares(share, aim)
    verdict: Literal["short", "enough", "more than enough", "cannot tell"] = "enough"
    if held and reference < FEWEST:
        verdict = "cannot tell"
    elif gap.high < 0:
        verdict = "short"
    elif gap.low > 0:
        verdict = "more than enough"
    missing = max(0, round(target * total) - n)
    return Slice(
        values, label, origins, reference, share, target, gap, missing, verdict, failures
    )  # fmt: skip
