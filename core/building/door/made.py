"""Whether what was made says so, and whether its makers may be used."""

from __future__ import annotations

import numpy as np

from core.building.door.leaving import Found, Leaving, checks
from core.building.version import ORIGINS
from core.ground.writing import many


@checks.add("mark", "Made without a mark", order=10, fine="What is not real says so")
def mark(leaving: Leaving) -> Found:
    """An item that a model or an algorithm has made must say so in its origin, from which its mark is written."""
    origin, columns = leaving.origin, leaving.columns
    unknown = ~np.isin(origin, ORIGINS)
    traces = (columns["run"].astype(str) != "") | (columns["parent"] >= 0) | (columns["seed"] >= 0)
    nameless = (origin == "synthetic") & (columns["run"].astype(str) == "")
    rows = np.flatnonzero(unknown | ((origin == "real") & traces) | nameless)
    if len(rows):
        first = int(rows[0])
        why = (
            f"names the origin {str(origin[first])!r:.40}, which is none of {', '.join(ORIGINS)}"
            if unknown[first]
            else "is synthetic and names no run"
            if nameless[first]
            else "calls itself real and names a run, parent or seed that it was made by"
        )
        yield leaving.refuse(
            f"{many(len(rows), 'item')} cannot be marked as made: item {first} {why}. Build the version again, or "
            "correct its column origin before import.",
            rows,
        )


@checks.add(
    "seen",
    "Generator that saw held-out items",
    order=11,
    fine="No generator has seen what is held out",
)
def seen(leaving: Leaving) -> Found:
    """Samples of a generator that has learned from held-out items carry them into training."""
    problems, rows = [], []
    for id, made in leaving.runs.items():
        job = leaving.job(id)
        count, why = (
            (0, "it is not here any more")
            if job is None
            else leaving.memory.seen(job, leaving.dataset)
        )
        if count:
            problems.append(f"the run {id} has learned from {many(count, 'item')} held out here")
        elif why:
            problems.append(
                f"what the run {id} has learned from is not known ({why}): it may have seen all of them"
            )
        else:
            continue
        rows += made.tolist()
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        yield leaving.refuse(
            f"{many(len(rows), 'item')} may give held-out items away: {'; '.join(problems[:3])}{more}. Leave these "
            "items out, or make them with a run that was trained on the training part of this dataset.",
            np.array(sorted(rows)),
        )


@checks.add(
    "opted-out",
    "Made of what was opted out of",
    order=12,
    fine="No run that made its items has learned from what somebody opted out of",
)
def opted_out(leaving: Leaving) -> Found:
    """Samples of a run that has learned from what somebody has opted out of carry it on."""
    said: list[str] = []  # the items themselves stay out of whatever leaves
    samples: list[int] = []
    for id, made in leaving.runs.items():
        job = leaving.job(id)
        if job is not None and leaving.memory.tainted(job):
            samples += made.tolist()
            said.append(
                f"{many(len(made), 'item')} of the run {id}, which has learned from an item that somebody has opted "
                "out of"
            )
    if said:
        yield leaving.refuse(
            f"It holds {' and '.join(said[:3])}. Leave them out, and train such a run again without.",
            np.array(sorted(samples), np.int64),
        )
