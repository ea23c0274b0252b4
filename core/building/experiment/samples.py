"""Generated images for the arms that train with any: made, sifted, and accounted for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.building.experiment.arms import Lesson, Setup
from core.building.gate import GateConfig, Gated, gate
from core.datasets import Dataset
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import percent

Draw = Callable[[Any, Any], tuple[Any, Any]]
_AT_ONCE = 200  # samples that a model draws at a time

_REFUSED = {
    "confidence": "not taken for their class surely enough (experiment.confidence)",
    "authenticity": "too near to a training image (experiment.authentic)",
    "duplicates": "repetitions of another sample (experiment.distinct)",
}


def samples_used(records: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Says what became of the samples of a synthetic arm.

    Args:
        records: One for each pair: ``made``, ``kept`` and ``refused``.

    Returns:
        Why none was used, empty where some were; and how many were used, empty where none was.
    """
    drawn, kept = (sum(row[key] for row in records) for key in ("made", "kept"))
    if not drawn:
        return "", ""
    why = {key: sum(row["refused"].get(key, 0) for row in records) for key in _REFUSED}
    reasons = "; ".join(f"{count:,} were {_REFUSED[key]}" for key, count in why.items() if count)
    if not kept:
        return (
            f"no synthetic image was used, because none of {drawn:,} samples passed: {reasons}. Train the generative "
            "model for longer (experiment.model_images), give it more real images, or ask less of the samples.",
            "",
        )
    sentence = f"{kept:,} of {drawn:,} samples were used ({percent(kept / drawn)})"
    without = sum(not row["kept"] for row in records)
    if without:
        sentence += f", in {without} of {len(records)} pairs none"
    return "", f"{sentence}; {reasons}." if reasons else f"{sentence}."


def with_attacked(trial: Setup, data: Dataset, pair: int) -> Dataset:
    """Adds attacked copies of images, of the right label: changed by as much as is usual, so that a net misses them.

    The net has learned from these images alone.
    """
    import torch

    from core.building.experiment import hardness

    assert data.y is not None
    net = trial.fit(data, pair)
    eps = hardness.usual(data.shape, data.medium)
    changed = [
        data.medium.write(
            hardness.attacked(
                net,
                data.items(rows),
                torch.as_tensor(data.y[rows]),
                data.medium,
                eps,
                trial.seed(pair),
            ),
            data.levels,
        )
        for rows in np.array_split(np.arange(len(data)), -(-len(data) // 500))
    ]
    return trial.dataset_of(np.concatenate([data.x, *changed]), np.concatenate([data.y, data.y]))


@dataclass(frozen=True, eq=False)
class Sifted:
    """Samples after the gate.

    Attributes:
        x: As a dataset stores them, (N, …).
        labels: The class of each, int64 (N,).
        points: Features of each, (N, F).
        gated: Which are kept, and why the others are not.
    """

    x: np.ndarray
    labels: np.ndarray
    points: np.ndarray
    gated: Gated


def drawn_by(trial: Setup, data: Dataset, seed: int, watch: Watch = UNWATCHED) -> Draw:
    """Trains a generative model on real images alone, and gives what draws samples of it.

    It takes ids (N,) and the labels that are wanted (N,), and gives the samples (N, …) as a model sees them, with their
    labels; None for these of a model that listens to none.
    """
    import torch

    from core.models import build, families
    from core.training import TrainConfig, Trainer, batch_of, spec_of
    from core.training.trained import finished

    config = trial.config
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = build(config.family, {}, spec_of(data))
    batch = min(batch_of(model, TrainConfig()), max(8, len(data)))
    train = TrainConfig(
        images=config.model_images, batch=batch, seed=seed, watch=False, precision="float32"
    )
    trainer = Trainer(model, data, train, torch.device("cpu"))
    published = finished(trainer, "Training a generative model", watch.aside())
    sampling = families.get(config.family).sampling()

    def draw(ids: Any, labels: Any) -> tuple[Any, Any]:
        y = labels if published.classes else None
        parts = [
            published.sample(part.tolist(), None if y is None else y[at], seed, sampling).clone()
            for at, part in zip(
                torch.arange(len(ids)).split(_AT_ONCE), ids.split(_AT_ONCE), strict=True
            )
        ]
        return torch.cat(parts), y

    return draw


def sift(
    data: Dataset,
    judge: Any,
    known: np.ndarray,
    samples: Any,
    y: Any,
    gates: GateConfig,
    earlier: np.ndarray | None = None,
) -> Sifted:
    """Judges samples as they would be stored, and lets those pass that are of their class, authentic and distinct.

    Args:
        data: The real images.
        judge: Names their classes, and has ``features``.
        known: Features of the real images, (M, F).
        samples: As a model gives them, (N, …).
        y: Their labels (N,); None where the judge names them.
        gates: What they have to pass.
        earlier: Features of samples that were kept before, (K, F).
    """
    import torch

    with torch.inference_mode():
        raw = data.medium.kept(samples, data.levels)
        x = data.medium.seen(torch.as_tensor(raw), data.levels)
        shares = torch.cat([judge(part).softmax(1) for part in x.split(500)])
        labels = shares.argmax(1) if y is None else y
        points = torch.cat([judge.features(part) for part in x.split(500)]).numpy()
    chances = shares.gather(1, labels[:, None])[:, 0].numpy()
    passed = gate(
        points,
        known,
        chances=chances,
        confidence=gates.confidence,
        manifold=gates.manifold,
        labels=labels.numpy(),
        real_labels=data.y,
        authentic=gates.authentic,
        copies=gates.copies,
        distinct=gates.distinct,
        earlier=earlier,
    )
    return Sifted(raw, labels.numpy().astype(np.int64), points, passed)


def with_samples(trial: Setup, pair: int, size: int) -> Lesson:
    """Adds samples of a model that has seen nothing but the real images of a pair."""
    import torch

    data = trial.subset(pair, size)
    assert data.y is not None
    config, classes = trial.config, len(data.classes)
    draw = drawn_by(trial, data, trial.seed(pair))
    judge = trial.fit(data, pair)
    count = config.synthetic_per_class * classes
    with torch.inference_mode():
        samples, y = draw(torch.arange(count), torch.arange(count) % classes)
        known = judge.features(data.images(slice(None))).numpy()
    sifted = sift(data, judge, known, samples, y, config.gate)
    keep = sifted.gated.keep
    record = {
        "size": size,
        "pair": pair,
        "made": count,
        "kept": int(keep.sum()),
        "refused": sifted.gated.refused,
    }
    whole = trial.dataset_of(
        np.concatenate([data.x, sifted.x[keep]]), np.concatenate([data.y, sifted.labels[keep]])
    )
    return Lesson(whole, record)
