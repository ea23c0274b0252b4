"""An evaluation as one HTML file that needs nothing else: pictures, numbers, sentences, settings, versions, seeds."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from core import jobs, measure, runs
from core.catalog import UserError
from core.ground import paper, sheets
from core.ground.writing import percent
from core.measure import Arrays, Evaluation


def html(found: Evaluation, title: str = "") -> bytes:
    """Writes the report of an evaluation.

    Args:
        found: What to report, also while it is still measured.
        title: Heading; the run's name when empty.

    Returns:
        One HTML file, UTF-8, with every picture inside; light or dark as its reader's system is.

    Raises:
        UserError: If a file of the evaluation is damaged.
    """
    arrays = found.arrays()
    groups = [
        (name, ours)
        for group, name in measure.GROUPS.items()
        if (ours := [m for m in found.measurements if m.entry.group == group])
    ]
    shares = measure.by_class(found.classes)
    keys = ("class", "real_share", "made_share", *(metric.name for metric in shares))
    page = paper.render(
        "measure/report.html",
        title or found.name,
        subtitle=_subtitle(found),
        sentences=measure.sentences(found),
        warnings=found.warnings,
        groups=groups,
        verdict=measure.verdict(found),
        columns=("Class", "Share, real", "Share, samples", *(metric.short for metric in shares)),
        rows=[[_cell(row.get(key)) for key in keys] for row in found.classes],
        settings=json.dumps(_short(_settings(found)), indent=2, ensure_ascii=False),
        **(_pictures(found, arrays) if arrays else dict.fromkeys(_PICTURES)),
    )
    return page.encode()


_PICTURES = ("first", "pairs", "pairs_refused", "unreal", "worst", "worst_refused", "map")


def _subtitle(found: Evaluation) -> str:
    size, channels = found.conditions.get("size", "?"), found.conditions.get("channels", 1)
    kind = f"{size}×{size} px, {'colour' if channels == 3 else 'grey'}"
    if "shape" in found.conditions:
        kind = found.medium.title.lower()
    day = time.strftime("%d %B %Y", time.localtime(found.created))
    return (
        f"{found.family} trained on {found.dataset} ({kind}), {found.images:,} images seen, "
        f"step {found.step}; measured on {day} with {found.conditions.get('n_samples', '?')} samples."
    )


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else percent(value, 0)


def _png(x: np.ndarray, columns: int, side: int = 64) -> bytes:
    """Makes one PNG of images, uint8 (N, C, H, W)."""
    return sheets.png(x, columns, gap=2, scale=max(1, round(side / x.shape[-1])))


def _pictures(found: Evaluation, arrays: Arrays) -> dict[str, Any]:
    """Gives the pictures, and why one is missing."""
    first = found.samples(slice(36))
    facts = dict.fromkeys(_PICTURES) | {
        "first": {"png": _png(first, 12), "alt": f"The first {len(first)} samples, unselected."},
        "unreal": _png(found.samples(arrays.unreal[:24]), 12),
        "map": _map(found, arrays),
    }
    try:
        facts["pairs"] = _pairs(found, arrays)
    except UserError as error:
        facts["pairs_refused"] = str(error)
    try:
        facts["worst"] = _png(measure.reference_images(found)[arrays.uncovered[:24]], 12)
    except UserError as error:
        facts["worst_refused"] = str(error)
    return facts


def _pairs(found: Evaluation, arrays: Arrays) -> list[dict[str, Any]]:
    """Sets the most suspicious samples beside the training image that each is nearest to, as it is or in disguise."""
    first = arrays.suspects[:12]
    plain = [(int(arrays.near_pixels[i]), "as it is", float(arrays.near_rank[i])) for i in first]
    hidden = measure.in_disguise(arrays, first) or plain
    nearest = [min(both, key=lambda one: one[2]) for both in zip(plain, hidden, strict=True)]
    near = measure.training_images(found, np.array([place for place, _, _ in nearest]))
    return [
        {
            "png": _png(np.stack([found.samples([i])[0], image]), 2, 48),
            "alt": f"Sample {i} and its nearest training image, {way}",
            "note": f"{way}; as near: {percent(rank, 0)} of unseen",
        }
        for i, image, (_, way, rank) in zip(first, near, nearest, strict=True)
    ]


def _map(found: Evaluation, arrays: Arrays, most: int = 1200) -> dict[str, Any] | None:
    way = "t-SNE"
    points = measure.projection(found, "tsne")
    if points is None:
        way, points = "principal components", measure.projection(found, "pca")
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


def _settings(found: Evaluation) -> dict[str, Any]:
    try:
        trained: Any = runs.record(jobs.get(found.run))
    except UserError as error:
        trained = str(error)
    return {
        "run": found.run,
        "evaluation": found.job,
        "evaluated under": dict(found.conditions),
        "evaluated with": dict(found.versions),
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
