"""Whether what is held out is really held out: no copy of it, no near copy and no one of its group is trained on."""

from __future__ import annotations

import numpy as np

from core.building.door.leaving import Found, Leaving, checks
from core.datasets.dataset import divided
from core.ground.cache import Cache
from core.ground.writing import many


@checks.add("test", "Held-out item in training", order=7, fine="No held-out item is trained on")
def test(leaving: Leaving) -> Found:
    """A held-out item among the training items, or a child of one, makes every report too good."""
    train = ~leaving.held
    same = train & np.isin(leaving.keys, leaving.keys[leaving.held])
    parent = leaving.columns["parent"]
    child = train & (parent >= 0) & leaving.held[np.clip(parent, 0, len(train) - 1)]
    rows = np.flatnonzero(same | child)
    if len(rows):
        how = [
            f"{n:,} {words}"
            for n, words in (
                (int(same.sum()), "with the very pixels of a held-out one"),
                (int((child & ~same).sum()), "made from a held-out one"),
            )
            if n
        ]
        yield leaving.refuse(
            f"{many(len(rows), 'training item')} {'give' if len(rows) > 1 else 'gives'} held-out items away: "
            f"{' and '.join(how)}. Leave them out: page Data, Inspect, Leaks between splits.",
            rows,
        )


@checks.add(
    "near",
    "Near copy of a held-out item",
    order=8,
    fine="No training item is nearly a held-out one",
)
def near(leaving: Leaving) -> Found:
    """A training item that is a held-out one but for a shift or a little noise tells a model its answer."""
    dataset = leaving.dataset
    if "inspection" not in dataset.medium.parts:
        leaving.unlooked["near"] = (
            f"not looked for among {dataset.medium.title.lower()}, only among images."
        )
        return
    if not leaving.config.near:
        leaving.unlooked["near"] = "not looked for here."
        return
    if not leaving.held.any() or leaving.held.all():
        return
    pairs = _near.get(dataset.fingerprint, lambda: _searched(leaving))
    rows = sorted(
        {int(b if leaving.held[a] else a) for a, b in pairs if leaving.held[a] != leaving.held[b]}
    )
    if rows:
        yield leaving.refuse(
            f"{many(len(rows), 'training item')} {'are' if len(rows) > 1 else 'is'} nearly a held-out one, but for a "
            "shift of a few pixels or small changes. Look at them on the page Data, Inspect, Near leaks, and leave "
            "them out.",
            rows,
        )


_near = Cache[np.ndarray](8)  # pairs by content


def _searched(leaving: Leaving) -> np.ndarray:
    """Finds pairs that are nearly the same, int64 (n, 2)."""
    from core.quality import measures, search

    measured = measures.measure(leaving.dataset, leaving.watch)
    first = np.zeros(len(leaving.dataset), bool)
    first[np.unique(leaving.keys, return_index=True)[1]] = True  # equal ones are another check's
    found = search.near(leaving.dataset, measured, ~first, leaving.watch)
    return np.array([(pair.a, pair.b) for pair in found], np.int64).reshape(-1, 2)


@checks.add("group", "One group in two splits", order=9, fine="No group is in two splits")
def group(leaving: Leaving) -> Found:
    """Items of one patient, speaker or camera in two splits make reports too good for the next patient."""
    dataset = leaving.dataset
    if (members := dataset.members) is None:
        return
    if torn := divided(members, dataset.splits):
        rows = np.flatnonzero(np.isin(members, torn))
        yield leaving.refuse(
            f"{many(len(torn), 'group')} by {dataset.group} {'have' if len(torn) > 1 else 'has'} items in more than "
            f"one split (such as {torn[0]!r:.60}). Import it again without splits of its own, so that they are drawn "
            "by group.",
            rows,
        )
