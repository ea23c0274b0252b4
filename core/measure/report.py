"""An evaluation as one HTML file that needs nothing else: pictures, numbers, sentences, settings, versions, seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from core import jobs, measure, runs
from core.catalog import UserError
from core.ground import paper, sheets, xmp
from core.ground.writing import day, percent
from core.measure import Arrays, Evaluation, card


def html(evaluation: Evaluation, title: str = "") -> bytes:
    """Writes the report of an evaluation.

    Args:
        evaluation: What to report, also while it is still measured.
        title: Heading; the run's name when empty.

    Returns:
        One HTML file, UTF-8, with every picture inside; light or dark as its reader's system is.

    Raises:
        UserError: If a file of the evaluation is damaged.
    """
    arrays = evaluation.arrays()
    try:
        about = card.of(jobs.get(evaluation.run), evaluation)
    except UserError:  # the run is gone; its measures are not
        about = None
    groups = [
        (name, ours)
        for group, name in measure.GROUPS.items()
        if (ours := [m for m in evaluation.measurements if m.entry.group == group])
    ]
    shares = measure.by_class(evaluation.classes)
    keys = ("class", "real_share", "made_share", *(metric.name for metric in shares))
    page = paper.render(
        "measure/report.html",
        title or evaluation.name,
        subtitle=_subtitle(evaluation),
        card=about,
        sentences=measure.sentences(evaluation),
        warnings=evaluation.warnings,
        groups=groups,
        verdict=measure.verdict(evaluation),
        columns=("Class", "Share, real", "Share, samples", *(metric.short for metric in shares)),
        rows=[[_cell(row.get(key)) for key in keys] for row in evaluation.classes],
        settings=json.dumps(_short(_settings(evaluation)), indent=2, ensure_ascii=False),
        **(_pictures(evaluation, arrays) if arrays else dict.fromkeys(_PICTURES)),
    )
    return page.encode()


_PICTURES = ("first", "pairs", "pairs_refused", "unreal", "worst", "worst_refused", "map")


def _subtitle(evaluation: Evaluation) -> str:
    conditions = evaluation.conditions
    size, channels = conditions.get("size", "?"), conditions.get("channels", 1)
    kind = f"{size}×{size} px, {'colour' if channels == 3 else 'grey'}"
    if "shape" in conditions:
        kind = evaluation.medium.title.lower()
    learned = f"trained on {evaluation.dataset} ({kind}), {evaluation.images:,} images seen, step {evaluation.step}"
    if not evaluation.images:  # nobody here knows what it has seen
        learned = f"brought for {evaluation.dataset} ({kind})"
    return (
        f"{evaluation.family} {learned}; measured on {day(evaluation.created)} with "
        f"{conditions.get('n_samples', '?')} samples."
    )


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else percent(value, 0)


def _png(x: np.ndarray, columns: int, side: int = 64, mark: xmp.Mark | None = None) -> bytes:
    """Makes one PNG of images, uint8 (N, C, H, W)."""
    return sheets.png(x, columns, mark=mark, gap=2, scale=max(1, round(side / x.shape[-1])))


def _pictures(evaluation: Evaluation, arrays: Arrays) -> dict[str, Any]:
    """Gives the pictures, and why one is missing."""
    first, made = evaluation.samples(slice(36)), xmp.made_by(evaluation.run)
    pictures = dict.fromkeys(_PICTURES) | {
        "first": {
            "png": _png(first, 12, mark=made),
            "alt": f"The first {len(first)} samples, unselected.",
        },
        "unreal": _png(evaluation.samples(arrays.unreal[:24]), 12, mark=made),
        "map": _map(evaluation, arrays),
    }
    try:
        pictures["pairs"] = _pairs(evaluation, arrays)
    except UserError as error:
        pictures["pairs_refused"] = str(error)
    try:
        pictures["worst"] = _png(measure.reference_images(evaluation)[arrays.uncovered[:24]], 12)
    except UserError as error:
        pictures["worst_refused"] = str(error)
    return pictures


def _pairs(evaluation: Evaluation, arrays: Arrays) -> list[dict[str, Any]]:
    """Sets the most suspicious samples beside the training image that each is nearest to, as it is or in disguise."""
    first = arrays.suspects[:12]
    plain = arrays.nearest(first)
    hidden = measure.in_disguise(arrays, first) or plain
    nearest = [min(both, key=lambda one: one[2]) for both in zip(plain, hidden, strict=True)]
    near = measure.training_images(evaluation, np.array([index for index, _, _ in nearest]))
    return [
        {
            "png": _png(
                np.stack([evaluation.samples([i])[0], image]), 2, 48, xmp.partly_by(evaluation.run)
            ),
            "alt": f"Sample {i} and its nearest training image, {way}",
            "note": f"{way}; as near: {percent(rank, 0)} of unseen",
        }
        for i, image, (_, way, rank) in zip(first, near, nearest, strict=True)
    ]


def _map(evaluation: Evaluation, arrays: Arrays, most: int = 1200) -> dict[str, Any] | None:
    way = "t-SNE"
    points = measure.projection(evaluation, "tsne")
    if points is None:
        way, points = "principal components", measure.projection(evaluation, "pca")
    assert points is not None
    split = len(arrays.made)
    parts = [part[np.isfinite(part).all(1)][:most] for part in (points[split:], points[:split])]
    both = np.concatenate(parts)
    if not len(both):
        return None
    low, high = both.min(0), both.max(0)
    span = np.where(high > low, high - low, 1)
    dots = [
        (f"{6 + 588 * x:.1f}", f"{394 - 388 * y:.1f}", kind)
        for part, kind in zip(parts, ("real", "made"), strict=True)
        for x, y in (part - low) / span
    ]
    return {"way": way, "dots": dots}


def _settings(evaluation: Evaluation) -> dict[str, Any]:
    try:
        trained: Any = runs.record(jobs.get(evaluation.run))
    except UserError as error:
        trained = str(error)
    return {
        "run": evaluation.run,
        "evaluation": evaluation.job,
        "evaluated under": dict(evaluation.conditions),
        "evaluated with": dict(evaluation.versions),
        "trained with": trained,
    }


def _short(value: Any) -> Any:
    """Rounds numbers for a reader, and says what is not one."""
    if isinstance(value, Mapping):
        return {str(key): _short(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_short(one) for one in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    return value
