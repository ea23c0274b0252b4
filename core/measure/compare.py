"""Several evaluations side by side: what may be compared, what is a tie, and how quality went on over the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from core import jobs
from core.catalog import UserError
from core.ground import tables
from core.measure.metrics import Measurement, Metric, metrics
from core.measure.store import Evaluation, listing, read

# what must be the same, and what a person calls it
_SHARED = {
    "fingerprint": "the dataset",
    "reference": "the real images that they are compared with",
    "n_reference": "the number of these",
}
_WORDS = _SHARED | {"sampling": "the sampling settings", "seed": "the seed"}


@dataclass(frozen=True)
class MetricRow:
    """One metric of several evaluations.

    Attributes:
        metric, title, direction: Of the metric.
        cells: One measurement per evaluation; None where it was not made.
        best: Places of the best ones: several are a tie, because their intervals do not tell them apart; none where
            an interval is missing.
        refused: Why they must not be ranked or drawn on one axis; empty if they may.
    """

    metric: str
    title: str
    direction: str
    cells: tuple[Measurement | None, ...]
    best: tuple[int, ...]
    refused: str

    @property
    def ranks(self) -> bool:
        """Whether every evaluation has it, and they may be ranked by it."""
        known = all(cell is not None and cell.known for cell in self.cells)
        return known and bool(self.direction) and not self.refused

    @property
    def order(self) -> list[int]:
        """Places from the best value to the worst."""
        sign = -1 if self.direction == "higher" else 1
        values = [cell.value or 0.0 if cell is not None else 0.0 for cell in self.cells]
        return sorted(range(len(values)), key=lambda k: sign * values[k])


@dataclass(frozen=True)
class Comparison:
    """Evaluations side by side.

    Attributes:
        evaluations: In the order given.
        rows: One per metric that any of them has.
        differences: What they do not have in common, in words.
    """

    evaluations: tuple[Evaluation, ...]
    rows: tuple[MetricRow, ...]
    differences: tuple[str, ...]

    @property
    def leading(self) -> MetricRow | None:
        """The first measure that all of them have and may be ranked by; None where there is none."""
        return next((row for row in self.rows if row.ranks), None)

    def csv(self) -> str:
        """Writes one line per value."""
        about = ("run", "name", "family", "dataset", "step")
        numbers = ("value", "low", "high", "floor", "n", "extractor", "hash")
        rows = []
        for row in self.rows:
            for i, (one, cell) in enumerate(zip(self.evaluations, row.cells, strict=True)):
                if cell is not None:
                    best = "" if not row.best else "yes" if i in row.best else "no"
                    named = [getattr(one, name) for name in about]
                    values = [getattr(cell, name) for name in numbers]
                    rows.append([*named, row.metric, *values, best, row.refused or cell.note])
        return tables.write([*about, "metric", *numbers, "best", "note"], rows)


def compare(evaluations: Sequence[Evaluation]) -> Comparison:
    """Puts evaluations side by side; a difference within the intervals is a tie."""
    evaluations = tuple(evaluations)
    measured = {m.metric for one in evaluations for m in one.measurements}
    rows = [_row(metric, evaluations) for metric in metrics if metric.name in measured]
    differences = [
        f"They differ in {label}: {_values(evaluations, key)}."
        for key, label in _WORDS.items()
        if _differ(evaluations, key)
    ]
    return Comparison(evaluations, tuple(rows), tuple(differences))


def boards(evaluations: Sequence[Evaluation]) -> list[Comparison]:
    """Groups evaluations of one dataset into those that may be ranked with one another, the largest group first.

    Args:
        evaluations: Newest first; of a checkpoint under the same conditions the first one counts.
    """
    same = (*_SHARED, "extractor", "hash", "n_samples")
    groups: dict[tuple[str, ...], dict[tuple[str, int], Evaluation]] = {}
    for one in evaluations:
        group = groups.setdefault(tuple(str(one.conditions.get(key)) for key in same), {})
        group.setdefault((one.run, one.step), one)
    return [compare(list(g.values())) for g in sorted(groups.values(), key=len, reverse=True)]


def _differ(evaluations: Sequence[Evaluation], key: str) -> bool:
    return len({str(one.conditions.get(key)) for one in evaluations}) > 1


def _values(evaluations: Sequence[Evaluation], key: str) -> str:
    texts = []
    for one in evaluations:
        value = one.conditions.get(key)
        if key == "fingerprint":
            value = f"{one.dataset} {str(value)[:8]}"
        elif key == "sampling":
            value = ", ".join(f"{name} {setting}" for name, setting in (value or {}).items())
        texts.append(str(value))
    return " and ".join(dict.fromkeys(texts))


def _row(metric: Metric, evaluations: Sequence[Evaluation]) -> MetricRow:
    name, direction = metric.name, metric.direction
    cells = tuple(
        next((m for m in one.measurements if m.metric == name), None) for one in evaluations
    )
    known = [i for i, cell in enumerate(cells) if cell is not None and cell.known]
    titles = dict.fromkeys(cell.title for cell in cells if cell is not None)
    refused = _refusal(name, [evaluations[k] for k in known], [cells[k] for k in known])
    best: tuple[int, ...] = ()
    sure = all(cells[k].low is not None for k in known)  # type: ignore[union-attr]
    if len(known) > 1 and direction and not refused and sure:
        best = _best({k: cells[k] for k in known}, direction)  # type: ignore[misc]
    return MetricRow(name, " / ".join(titles) or metric.title, direction, cells, best, refused)


def _refusal(
    name: str, evaluations: Sequence[Evaluation], cells: Sequence[Measurement | None]
) -> str:
    if len(evaluations) < 2:
        return ""
    reasons = [
        f"{label} ({_values(evaluations, key)})"
        for key, label in _SHARED.items()
        if _differ(evaluations, key)
    ]
    seen = dict.fromkeys(f"{cell.extractor} {cell.hash[:8]}" for cell in cells if cell is not None)
    if len(seen) > 1:
        reasons.append(f"what sees the images ({' and '.join(seen)})")
    counts = dict.fromkeys(cell.n for cell in cells if cell is not None)
    if len(counts) > 1:
        reasons.append(f"the number of samples ({' and '.join(map(str, counts))})")
    families = dict.fromkeys(one.family for one in evaluations)
    if metrics.get(name).own and len(families) > 1:
        reasons.append(f"the family ({' and '.join(families)}), whose own measure this is")
    if not reasons:
        return ""
    return (
        f"Not comparable: the runs differ in {'; '.join(reasons)}. Evaluate them in the same way."
    )


def _best(cells: dict[int, Measurement], direction: str) -> tuple[int, ...]:
    sign = -1 if direction == "higher" else 1
    first = min(cells, key=lambda k: sign * (cells[k].value or 0.0))
    top = cells[first]
    return tuple(
        k
        for k, cell in cells.items()
        # intervals of two values: their difference has the root of the sum of squares
        if abs((cell.value or 0.0) - (top.value or 0.0)) <= math.hypot(cell.half, top.half)
    )


def trajectory(run: jobs.Job) -> dict[str, list[tuple[int, Measurement]]]:
    """Gives each metric over the training steps, from all evaluations that are comparable with the newest.

    Returns:
        By metric, (step, measurement) in order of the step; of several evaluations of a step, the newest.
    """
    course: dict[str, dict[int, Measurement]] = {}
    newest: dict[str, tuple[Evaluation, Measurement]] = {}
    for job in listing(run):
        try:
            one = read(job)
        except UserError:
            continue
        for cell in one.measurements:
            if not cell.known:
                continue
            first, like = newest.setdefault(cell.metric, (one, cell))
            if not _refusal(cell.metric, [first, one], [like, cell]):
                course.setdefault(cell.metric, {}).setdefault(one.step, cell)
    return {name: sorted(steps.items()) for name, steps in course.items()}
