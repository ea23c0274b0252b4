"""How good a training set is as a whole: varied, like the world, and its own; before and after something was added."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.building.coverage import Coverage, GapsConfig
from core.building.version import provenance
from core.datasets import Dataset, digests
from core.ground.stats import Estimate, Z, proportion, share
from core.ground.watch import UNWATCHED, Watch

MOST = 2_000  # items of a measure
_PARTS = 20  # of a jackknife


@dataclass(frozen=True)
class SetMeasure:
    """One measure of a training set.

    Attributes:
        name, title: For programs, and for people.
        means: What it says, and when to doubt it.
        before: Of the real items; None where it has no meaning for them.
        after: Of all items; None where nothing was added.
        floor: The same of real images, to compare with; None where there are none.
        share: Whether it is a share.
        why: Why it could not be measured; empty where it was.
    """

    name: str
    title: str
    means: str
    before: Estimate | None
    after: Estimate | None
    floor: Estimate | None = None
    share: bool = True
    why: str = ""

    def record(self) -> dict[str, Any]:
        """Gives plain values, ready for JSON."""
        ends = {name: getattr(self, name) for name in ("before", "after", "floor")}
        return {"measure": self.name, "title": self.title, "why": self.why} | {
            name: {"value": e.value, "low": e.low, "high": e.high, "n": e.n} if e else None
            for name, e in ends.items()
        }


def set_measures(
    dataset: Dataset, found: Coverage, config: GapsConfig, watch: Watch = UNWATCHED
) -> list[SetMeasure]:
    """Measures the training set, in the space of a coverage: its real items, and with what was added to them.

    References:
        Friedman and Dieng, 2022, The Vendi score, https://arxiv.org/abs/2210.02410
        Naeem et al., 2020, Reliable fidelity and diversity metrics, https://arxiv.org/abs/2002.09797
        Alaa et al., 2022, How faithful is your synthetic data?, https://arxiv.org/abs/2102.08921
    """
    columns, units = provenance(dataset), together_with_parents(dataset)
    real = columns["origin"] == "real"
    train = np.random.default_rng(config.seed).permutation(dataset.splits["train"])
    held = dataset.splits[config.reference]
    own, added = train[real[train]], train[~real[train]]
    held = held[real[held]][:MOST]
    watch.say("Variety")
    measures = [_diversity(found.points, own, train, units)]
    watch.check()
    watch.say("How far it is like the held-out images")
    measures.append(_representativeness(found.points, own, train, held, units))
    watch.check()
    watch.say("Copies")
    measures.append(_authenticity(found.points, own, added, held, units))
    measures.append(
        SetMeasure(
            "distinct",
            "Occurs once",
            "The share of training items that no other one equals pixel by pixel. A changed pixel hides a repetition.",
            _once(dataset, own) if len(own) else None,
            _once(dataset, train) if len(added) else None,
        )
    )
    return measures


def _once(dataset: Dataset, rows: np.ndarray) -> Estimate:
    """Estimates the share of items that no other of them equals."""
    keys = digests(np.asarray(dataset.x[np.sort(rows)]))
    _, which, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return share(counts[which] == 1)


def together_with_parents(dataset: Dataset) -> np.ndarray:
    """Numbers what belongs together: members of a group, and copies with what they were made from; int64 (N,)."""
    columns, members = provenance(dataset), dataset.members
    unit = np.arange(len(dataset))
    if members is not None:
        which = np.unique(members, return_inverse=True)[1]
        unit = np.where(members == "", unit, len(dataset) + which)
    parent = columns["parent"].astype(np.int64)
    made = parent >= 0
    unit[made] = unit[parent[made]]
    return unit


def grouped_share(flags: np.ndarray, units: np.ndarray) -> Estimate:
    """Estimates a share of yes, (N,), where flags of one unit belong together: Wilson's interval at the effective n.

    The n is divided by how much wider the spread over units makes the variance (the design effect), never multiplied.

    References:
        Kish, 1965, Survey sampling (section 5.4); Korn and Graubard, 1998, Confidence intervals for proportions
    """
    n = len(flags)
    _, which = np.unique(units, return_inverse=True)
    count = int(which.max()) + 1 if n else 0
    whole = share(flags)
    if count in (n, 0, 1) or whole.value in (0.0, 1.0):
        few = proportion(round(whole.value * count), count) if 0 < count < n else whole
        return Estimate(whole.value, few.low, few.high, n)
    off = np.bincount(which, flags - whole.value, minlength=count)
    variance = np.square(off).sum() * count / (count - 1) / n**2
    effective = max(2.0, min(float(n), whole.value * (1 - whole.value) / variance))
    z2 = Z**2
    middle = (whole.value + z2 / (2 * effective)) / (1 + z2 / effective)
    p = whole.value
    half = math.sqrt(p * (1 - p) / effective + z2 / (4 * effective**2)) * Z / (1 + z2 / effective)
    return Estimate(p, middle - half, middle + half, n)


def vendi_estimate(points: np.ndarray, units: np.ndarray) -> Estimate:
    """Counts how many clearly different items there are (Vendi score), with an interval: units are left out in turn.

    Args:
        points: (N, d).
        units: What belongs together, (N,).
    """
    from core.quality.sets import vendi

    value = vendi(points)
    _, which = np.unique(units, return_inverse=True)
    order = np.random.default_rng(0).permutation(int(which.max()) + 1)
    part = order[which] % _PARTS
    parts = np.unique(part)
    if len(parts) < 2:
        return Estimate(value, 1.0, float(len(points)), len(points))
    # a score grows with n, so that one without a part is brought to the size of the whole by the parts' own mean
    left = np.array([vendi(points[part != k]) for k in parts])
    half = Z * math.sqrt((len(parts) - 1) * float(np.var(left)))
    return Estimate.around(value, half, len(points), 1.0, float(len(points)))


def _diversity(
    points: np.ndarray, own: np.ndarray, train: np.ndarray, units: np.ndarray
) -> SetMeasure:
    means = (
        "As how many fully different images the set counts (Vendi score): repetitions add nothing. Taken of equally "
        "many items before and after."
    )
    n = min(MOST, len(own))
    title = "Variety (effective number)"
    if n < 2:
        why = "there are fewer than 2 real training images"
        return SetMeasure("diversity", title, means, None, None, None, False, why)
    after = None
    if len(train) > len(own):
        after = vendi_estimate(points[train[:n]], units[train[:n]])
    before = vendi_estimate(points[own[:n]], units[own[:n]])
    return SetMeasure("diversity", title, means, before, after, None, False)


def _representativeness(
    points: np.ndarray, own: np.ndarray, train: np.ndarray, held: np.ndarray, units: np.ndarray
) -> SetMeasure:
    from core.measure import distances

    title = "Like the world (representativeness)"
    means = (
        "The share of held-out images that have a training item as near as their own neighbours are to each other. "
        "Beside it the same of training images that were left out. More items always raise it a little."
    )
    n = min(len(held), len(own) // 2)
    if n < 20:
        why = (
            f"it needs 20 held-out and 40 training images, and there are {len(held)} and {len(own)}"
        )
        return SetMeasure("representativeness", title, means, None, None, None, True, why)

    def covered(of: np.ndarray, by: np.ndarray) -> Estimate:
        flags = distances.overlap(points[of], points[by]).covered.cpu().numpy()
        return grouped_share(flags, units[of])

    before = covered(held[:n], own[n:])
    after = covered(held[:n], np.setdiff1d(train, own[:n])) if len(train) > len(own) else None
    return SetMeasure(
        "representativeness", title, means, before, after, covered(own[:n], own[n:])
    )  # fmt: skip


def _authenticity(
    points: np.ndarray, own: np.ndarray, added: np.ndarray, held: np.ndarray, units: np.ndarray
) -> SetMeasure:
    import torch

    from core.measure import copying, distances

    title = "Its own (authenticity)"
    means = (
        "The share of added items that are farther from their nearest real training image than that one is from its "
        "own neighbour: no copies. Beside it the same of held-out images; augmented copies score low by nature."
    )
    if not len(added) or len(own) < 2:
        why = "nothing was added" if not len(added) else "there are fewer than 2 real images"
        return SetMeasure("authenticity", title, means, None, None, None, True, why)
    y = torch.as_tensor(points[own]).float()
    nearest = distances.nearest(y, y, same=True)[0][:, 0]

    def away(rows: np.ndarray) -> Estimate:
        distance, index = distances.nearest(torch.as_tensor(points[rows]).float(), y)
        plain = copying.authenticity(distance[:, 0], index[:, 0], nearest)
        flags = (distance[:, 0].double() > nearest.double()[index[:, 0]]).numpy()
        return Estimate(plain.value, *grouped_share(flags, units[rows]).interval, plain.n)

    floor = away(held) if len(held) else None
    return SetMeasure("authenticity", title, means, None, away(added[:MOST]), floor)
