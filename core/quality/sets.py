"""What is true of a set as a whole: balance, diversity, coverage, bias, realism."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from core.catalog import UserError
from core.datasets import Dataset
from core.datasets.dataset import together
from core.ground.writing import percent
from core.measure import distances
from core.quality.measures import BATCH, Measures, Patches
from core.tensors import to_float

_OVERLAP = ("precision", "recall", "density", "coverage")


def balance(dataset: Dataset) -> dict[str, Any]:
    """Counts classes and says how even they are: the effective number of classes, and the largest to the smallest."""
    assert dataset.y is not None
    counts = np.bincount(dataset.y, minlength=len(dataset.classes))
    shares = counts[counts > 0] / counts.sum()
    effective = float(np.exp(-(shares * np.log(shares)).sum()))
    smallest, largest = int(counts.argmin()), int(counts.argmax())
    ratio = counts[largest] / max(1, counts[smallest])
    empty = [name for name, n in zip(dataset.classes, counts, strict=True) if not n]
    listed = ", ".join(empty[:10]) + (f" and {len(empty) - 10} more" if len(empty) > 10 else "")
    even = "Even" if ratio < 1.5 else "Uneven" if ratio < 10 else "Very uneven"
    return {
        "counts": {name: int(n) for name, n in zip(dataset.classes, counts, strict=True)},
        "effective": effective,
        "ratio": float(ratio),
        "empty": empty,
        "sentence": (
            f"{even}: "
            + (
                f"{dataset.classes[largest]} has {counts[largest]:,} images, {dataset.classes[smallest]} "
                f"{counts[smallest]:,}"
                if counts[largest] > counts[smallest]
                else f"each class has {counts[largest]:,} images"
            )
            + f"; as varied as {effective:.1f} equal classes "
            f"of {len(dataset.classes)}."
            + (
                f" No label names {'this class' if len(empty) == 1 else 'these classes'}: {listed}."
                if empty
                else ""
            )
        ),
    }


def vendi(points: np.ndarray) -> float:
    """Counts how many clearly different images a set holds: the Vendi score with a cosine kernel, 1 to N.

    Args:
        points: Features, (N, d).

    References:
        Friedman and Dieng, 2022, The Vendi score, https://arxiv.org/abs/2210.02410
    """
    unit = points / np.linalg.norm(points, axis=1, keepdims=True).clip(1e-9)
    # the kernel's eigenvalues are those of the smaller of the two products
    product = unit @ unit.T if len(unit) < unit.shape[1] else unit.T @ unit
    values = np.linalg.eigvalsh(product / len(unit)).clip(1e-12)
    return float(np.exp(-(values * np.log(values)).sum()))


def diversity(dataset: Dataset, measures: Measures, seed: int = 0) -> dict[str, Any]:
    """Measures the variety of the images, and of each class for the same number of them."""
    points, rng = measures.points.double().numpy(), np.random.default_rng(seed)
    pick = rng.permutation(len(points))[:2000]
    record: dict[str, Any] = {"vendi": vendi(points[pick]), "n": len(pick)}
    sentence = (
        f"As varied as {record['vendi']:.1f} fully different images (Vendi score of {len(pick):,})."
    )
    if dataset.y is not None:
        members = [np.flatnonzero(dataset.y == label) for label in range(len(dataset.classes))]
        n = min(200, min((len(m) for m in members if len(m) >= 10), default=0))
        if n:
            record["classes"] = {
                name: vendi(points[rng.permutation(rows)[:n]])
                for name, rows in zip(dataset.classes, members, strict=True)
                if len(rows) >= 10
            }
            record["n_per_class"] = n
            ranked = sorted(record["classes"], key=record["classes"].__getitem__)
            low, high = ranked[0], ranked[-1]
            if low != high:
                sentence += (
                    f" Most alike are the images of {low} ({record['classes'][low]:.1f}), least those of "
                    f"{high} ({record['classes'][high]:.1f}), {n} images each."
                )
    return record | {"sentence": sentence}


def coverage(dataset: Dataset, measures: Measures, seed: int = 0) -> dict[str, Any] | None:
    """Measures the share of the held-out images that training images are near to; None without enough of both."""
    rng = np.random.default_rng(seed)
    train = rng.permutation(dataset.splits["train"])
    if (members := dataset.members) is not None:  # sorted, so that the halves share one at most
        train = train[np.argsort(together(measures.keys, members)[train])]
    held = rng.permutation(np.concatenate([dataset.splits["valid"], dataset.splits["test"]]))
    n = min(1000, len(held), len(train) // 2)
    if n < 20:
        return None
    points = measures.points.double().numpy()
    covered = distances.overlap(points[held[:n]], points[train[:n]]).coverage
    floor = distances.overlap(points[train[n : 2 * n]], points[train[:n]]).coverage
    verdict = "Representative" if covered > floor - 0.05 else "Not representative"
    return {
        "coverage": covered,
        "floor": floor,
        "n": n,
        "sentence": (
            f"{verdict}: training images cover {percent(covered)} of the held-out ones, and {percent(floor)} of each "
            f"other ({n:,} images each)."
        ),
    }


def biases(dataset: Dataset, measures: Measures) -> list[dict[str, Any]]:
    """Ranks properties by how far they give the class away: the share of their variance between classes (eta squared).

    A property that tells the class is a short cut for a model, and may not hold elsewhere.
    """
    if dataset.y is None or len(dataset.classes) < 2:
        return []
    columns = {
        name: measures.properties[name]
        for name in ("brightness", "contrast", "sharpness", "saturation")
    }
    columns |= {
        name: values
        for name, values in (dataset.attributes or {}).items()
        if values.dtype.kind in "biuf" and name != "expression"
    }
    y, ranking = dataset.y, []
    counts = np.bincount(y, minlength=len(dataset.classes)).astype(float)
    for name, values in columns.items():
        values = np.asarray(values, np.float64)
        total = np.square(values - values.mean()).sum()
        if total <= 1e-9:
            continue
        means = np.bincount(y, values, len(counts)) / counts.clip(1)
        share = float((counts * np.square(means - values.mean())).sum() / total)
        rows = np.flatnonzero(counts > 0)
        low, high = rows[means[rows].argmin()], rows[means[rows].argmax()]
        ranking.append(
            {
                "property": name,
                "share": share,
                "sentence": (
                    f"{name[:1].upper() + name[1:]}: {percent(share)} of its variation is between classes; lowest for "
                    f"{dataset.classes[low]} ({means[low]:.3g}), highest for {dataset.classes[high]} "
                    f"({means[high]:.3g})."
                ),
            }
        )
    return sorted(ranking, key=lambda fact: -fact["share"])


def by_class(dataset: Dataset, named: np.ndarray) -> dict[str, Any]:
    """Says how well each class is told from the others, by predictions for images that were not learned from."""
    assert dataset.y is not None
    right = np.bincount(dataset.y, named == dataset.y, len(dataset.classes))
    counts = np.bincount(dataset.y, minlength=len(dataset.classes))
    shares = {
        name: float(r / n)
        for name, r, n in zip(dataset.classes, right, counts, strict=True)
        if n > 0
    }
    worst = min(shares, key=shares.__getitem__)
    wrong = named[(dataset.y == dataset.classes.index(worst)) & (named != dataset.y)]
    taken = ""
    if len(wrong):
        other = int(np.bincount(wrong).argmax())
        taken = f", most often taken for {dataset.classes[other]}"
    whole = float(right.sum() / counts.sum())
    return {
        "accuracy": whole,
        "classes": shares,
        "sentence": (
            f"A quick predictor names {percent(whole)} of the labels (each image by others, n = {counts.sum():,}); "
            f"hardest is {worst} with {percent(shares[worst])}{taken}."
        ),
    }


def compare(real: Dataset, other: Dataset, n: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Compares a synthetic set with a real one: realism, variety, copies.

    Args:
        real: The reference; its training images are what may have been copied, held-out ones the measure of chance.
        other: The set in question.
        n: Images of each, at most.
        seed: Of the choice.

    Raises:
        UserError: If the images differ in size or channels, or there are too few.
    """
    if real.shape != other.shape:
        raise UserError(
            f"Both sets need images of one kind: {real.name} has {real.channels} × {real.size} px, {other.name} "
            f"{other.channels} × {other.size} px. Import one of them again at the other's size."
        )
    rng = np.random.default_rng(seed)
    held = np.concatenate([real.splits["valid"], real.splits["test"]])
    count = min(n, len(held), len(real.splits["train"]) // 2, len(other))
    if count < 20:
        raise UserError(
            f"A comparison needs at least 20 images of each, got {count}. Choose larger sets."
        )
    picks = {
        "train": real.x[np.sort(rng.permutation(real.splits["train"])[: 5 * count])],
        "held": real.x[np.sort(rng.permutation(held)[:count])],
        "other": other.x[np.sort(rng.permutation(len(other))[:count])],
    }
    x = {
        name: to_float(
            torch.as_tensor(np.asarray(part)), (other if name == "other" else real).levels
        )
        for name, part in picks.items()
    }
    patches = Patches(x["train"][:2000], 128)
    raw = {
        name: torch.cat([patches(part) for part in images.split(BATCH)])
        for name, images in x.items()
    }
    centre, scale = raw["train"].mean(0), raw["train"].std(0).clamp_min(1e-3)
    whole = torch.cat([(part - centre) / scale for part in raw.values()])
    _, vectors = torch.linalg.eigh(torch.cov(whole[: len(raw["train"])].T))
    points = {
        name: ((part - centre) / scale @ vectors[:, -48:]).double().numpy()
        for name, part in raw.items()
    }
    few = points["train"][rng.permutation(len(points["train"]))[:count]]
    overlap = distances.overlap(few, points["other"])
    floor = distances.overlap(few, points["held"])
    copies = distances.nearer_to_training(points["other"], points["train"], points["held"])
    copied = copies.low > 0.6
    return {
        "n": count,
        **{name: getattr(overlap, name) for name in _OVERLAP},
        "floor": {name: getattr(floor, name) for name in _OVERLAP},
        "copying": copies.value,
        "copying_low": copies.low,
        "copying_high": copies.high,
        "sentence": (
            f"{percent(overlap.precision)} look real (held-out real ones: {percent(floor.precision)}); they cover "
            f"{percent(overlap.coverage)} of the training images (held-out: {percent(floor.coverage)}). "
            + (
                f"{percent(copies.value)} are nearer to a training image than to a held-out one: they repeat it."
                if copied
                else f"No sign of copying: {percent(copies.value)} are nearer to a training image than to a held-out "
                "one (50 % is chance)."
            )
            + f" n = {count:,}."
        ),
    }
