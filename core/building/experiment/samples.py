"""Generated images for the arms that train with any: made, sifted, and accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.building.experiment.arms import Lesson, Setup
from core.datasets import Dataset
from core.ground.writing import percent

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


def with_samples(trial: Setup, pair: int, size: int) -> Lesson:
    """Adds samples of a model that has seen nothing but the real images of a pair."""
    import torch

    from core.building.gate import gate
    from core.models import build, families
    from core.training import TrainConfig, Trainer, batch_of, spec_of
    from core.training.trained import finished

    data = trial.subset(pair, size)
    assert data.y is not None
    config, classes = trial.config, len(data.classes)
    seed = trial.seed(pair)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = build(config.family, {}, spec_of(data))
    batch = min(batch_of(model, TrainConfig()), max(8, len(data)))
    train = TrainConfig(
        images=config.model_images, batch=batch, seed=seed, watch=False, precision="float32"
    )
    trainer = Trainer(model, data, train, torch.device("cpu"))
    published = finished(trainer, "Training a generative model")
    sampling = families.get(config.family).sampling()
    judge = trial.fit(data, pair)
    count = config.synthetic_per_class * classes
    y = torch.arange(count) % classes
    with torch.inference_mode():
        samples = torch.cat(
            [
                published.sample(
                    ids.tolist(), y[ids] if published.classes else None, seed, sampling
                )
                for ids in torch.arange(count).split(200)
            ]
        )
        raw = data.medium.kept(samples, data.levels)
        x = data.medium.seen(torch.as_tensor(raw), data.levels)
        shares = torch.cat([judge(part).softmax(1) for part in x.split(500)])
        labels = y if published.classes else shares.argmax(1)
        real = judge.features(data.images(slice(None)))
        points = torch.cat([judge.features(part) for part in x.split(500)])
    passed = gate(
        points.numpy(),
        real.numpy(),
        chances=shares.gather(1, labels[:, None])[:, 0].numpy(),
        confidence=config.confidence,
        authentic=config.authentic,
        distinct=config.distinct,
    )
    record = {
        "size": size,
        "pair": pair,
        "made": count,
        "kept": int(passed.keep.sum()),
        "refused": passed.refused,
    }
    whole = trial.dataset_of(
        np.concatenate([data.x, raw[passed.keep]]),
        np.concatenate([data.y, labels.numpy()[passed.keep].astype(np.int64)]),
    )
    return Lesson(whole, record)
