"""An evaluation taken apart: what is known of each image and of each class, for pages to show."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.measure import disguises, distances
from core.measure.copying import ratios
from core.measure.metrics import metrics
from core.measure.study import Evaluator

KEPT = 20_000  # samples that are kept to look at
MAPPED = 5_000  # samples, and real images, of the slow map


def per_image(evaluator: Evaluator) -> dict[str, np.ndarray]:
    """Gives what pages show of the single images; see :class:`core.measure.Arrays`."""
    samples, real, judge = evaluator.samples, evaluator.reference, evaluator.judge
    n, m = min(len(samples.x), KEPT), evaluator.n
    overlap = whole = samples.overlap
    if len(samples.x) > m:
        k = evaluator.config.neighbours
        whole = distances.overlap(real.features[:m], samples.features[:n], k)
    realism, gap = _plain(whole.realism[:n]), _plain(overlap.gap)
    distance, nearest = (part[:n] for part in samples.near)
    far, nearest_features = (part[:n, 0] for part in samples.near_features)
    held = np.sort(_plain(evaluator.held_out.near[0][:, 0]))
    near = _plain(distance[:, 0])
    rank = np.searchsorted(held, near, "right") / len(held)
    none = np.full(n, -1, np.int16)
    sample_points, real_points = _few_dimensions(samples.features[:n], real.features[:m])
    train = evaluator.train.index
    assert train is not None
    assert real.index is not None
    hidden = _hidden(evaluator, n, train)
    order = np.fmin(rank, hidden["disguise_rank"]) if hidden else rank
    sure = samples.probabilities[:n].max(1) if judge else np.zeros(n)
    return {
        "made": samples.x[:n],
        "made_y": none if samples.y is None else samples.y[:n].astype(np.int16),
        "made_named": samples.named[:n].astype(np.int16) if judge else none,
        "made_confidence": sure.astype(np.float32),
        "real": real.index[:m],
        "real_y": (np.full(m, -1) if real.y is None else real.y[:m]).astype(np.int16),
        "made_features": sample_points,
        "real_features": real_points,
        "near_pixels": train[_plain(nearest[:, 0])],
        "near_pixels_distance": near / math.sqrt(samples.pixels.shape[1]),
        "near_features": train[_plain(nearest_features)],
        "near_features_distance": _plain(far),
        "near_ratio": ratios(*distance.T).astype(np.float32),
        "near_rank": rank.astype(np.float32),
        "suspects": np.lexsort((near, order)),
        "realistic": _plain(whole.inside[:n] > 0),
        "realism": realism.astype(np.float32),
        "unreal": np.argsort(realism, kind="stable"),
        "covered": _plain(overlap.covered),
        "recalled": _plain(overlap.recalled),
        "gap": gap.astype(np.float32),
        "uncovered": np.argsort(-gap, kind="stable"),
        **hidden,
    }


def _plain(x: Tensor) -> np.ndarray:
    return x.cpu().numpy()


def _hidden(evaluator: Evaluator, n: int, train: np.ndarray) -> dict[str, np.ndarray]:
    """Gives what each of ``n`` samples may be in disguise; nothing where that is not asked for."""
    looks = {"disguised", "disguised_ratio"} & {metric.name for metric in evaluator.metrics}
    if not looks or evaluator.dataset.medium.model != "picture":
        return {}
    nearest = evaluator.samples.disguised
    distance = _plain(nearest.distance[:n, 0])
    unseen = np.sort(_plain(evaluator.unseen.disguised.distance[:, 0]))
    some, size = len(distance), evaluator.samples.x.shape[-1]
    scale = size / disguises.looked_at(size)
    ways = [way.text(scale) for way in disguises.ways(size)]
    hidden = {
        "disguise": np.full(n, -1, np.int64),
        "disguise_way": np.full(n, "", f"<U{max(map(len, ways))}"),
        "disguise_rank": np.full(n, np.nan, np.float32),
    }
    hidden["disguise"][:some] = train[_plain(nearest.index[:some, 0])]
    hidden["disguise_way"][:some] = [ways[way] for way in nearest.way[:some].tolist()]
    hidden["disguise_rank"][:some] = np.searchsorted(unseen, distance, "right") / len(unseen)
    return hidden


def per_class(evaluator: Evaluator) -> list[dict[str, Any]]:
    """Gives realism, variety and share of each class; empty without a judge."""
    samples, real, n = evaluator.samples, evaluator.reference, evaluator.n
    if evaluator.judge is None or real.y is None:
        return []
    values = {
        metric.name: [torch.as_tensor(x).cpu().numpy() for x in metric.each(evaluator)]
        for metric in metrics
        if metric.each
    }
    return [
        {
            "class": name,
            "real_share": float((real.named == k).mean()),
            "made_share": float((samples.named == k).mean()),
            "n_real": int((real.classes[:n] == k).sum()),
            "n_made": int((samples.classes[:n] == k).sum()),
            **{
                metric: float(value[of == k].mean()) if (of == k).any() else None
                for metric, (value, of) in values.items()
            },
        }
        for k, name in enumerate(evaluator.dataset.classes)
    ]


def _few_dimensions(samples: Tensor, real: Tensor) -> list[np.ndarray]:
    """Reduces features to at most 32 dimensions, along the main directions of the real ones, float16."""
    both, most = [samples, real], 32
    if real.shape[1] > most:
        centre = real.mean(0)
        around = (real - centre).double()
        directions = torch.linalg.eigh(around.T @ around)[1][:, -most:].flip(1)  # (D, most)
        both = [(x - centre).double() @ directions for x in both]
    return [_plain(x.half()) for x in both]


def slow_map(samples: np.ndarray, real: np.ndarray, seed: int) -> np.ndarray:
    """Lays out both sets of features by t-SNE, float32 (N + M, 2); points beyond the first thousands are nan.

    References:
        van der Maaten and Hinton, 2008, Visualizing data using t-SNE
    """
    from sklearn.manifold import TSNE

    layout = np.full((len(samples) + len(real), 2), np.nan, np.float32)
    rows = np.r_[: min(len(samples), MAPPED), len(samples) : len(samples) + min(len(real), MAPPED)]
    points = np.concatenate([samples, real])[rows].astype(np.float32)
    perplexity = min(30, (len(points) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    layout[rows] = tsne.fit_transform(points)
    return layout
