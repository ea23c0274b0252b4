"""Generated images for the arms that train with any: made, sifted, and accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.build.experiment.arms import Lesson, Setup
from core.ground.writing import percent

_REFUSED = {
    "confidence": "not taken for their class surely enough (experiment.confidence)",
    "authenticity": "too near to a training image (experiment.authentic)",
    "duplicates": "repetitions of another sample (experiment.distinct)",
}


def samples_used(made: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Says what became of the samples of a synthetic arm.

    Args:
        made: One record for each pair: ``made``, ``kept`` and ``refused``.

    Returns:
        Why none was used, empty where some were; and how many were used, empty where none was.
    """
    drawn, kept = (sum(row[key] for row in made) for key in ("made", "kept"))
    if not drawn:
        return "", ""
    why = {key: sum(row["refused"].get(key, 0) for row in made) for key in _REFUSED}
    reasons = "; ".join(f"{count:,} were {_REFUSED[key]}" for key, count in why.items() if count)
    if not kept:
        return (
            f"no synthetic image was used, because none of {drawn:,} samples passed: {reasons}. Train the generative "
            "model for longer (experiment.model_images), give it more real images, or ask less of the samples.",
            "",
        )
    words = f"{kept:,} of {drawn:,} samples were used ({percent(kept / drawn)})"
    without = sum(not row["kept"] for row in made)
    if without:
        words += f", in {without} of {len(made)} pairs none"
    return "", f"{words}; {reasons}." if reasons else f"{words}."


def with_samples(trial: Setup, pair: int, size: int) -> Lesson:
    """Adds samples of a model that has seen nothing but the real images of a pair."""
    import torch

    from core.build import gate
    from core.models import build, families
    from core.training import TrainConfig, Trainer, batch_of, spec_of

    data = trial.subset(pair, size)
    assert data.y is not None
    config, classes = trial.config, len(data.classes)
    seed = (config.seed * 1000 + pair) % 2**31
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = build(config.family, {}, spec_of(data))
    batch = min(batch_of(model, TrainConfig()), max(8, len(data)))
    train = TrainConfig(
        images=config.model_images, batch=batch, seed=seed, watch=False, precision="float32"
    )
    trainer = Trainer(model, data, train, torch.device("cpu"))
    for _ in trainer:
        pass
    published: Any = trainer.published()
    sampling = families.get(config.family).sampling()
    judge = trial.fit(data, pair)
    count = config.synthetic_per_class * classes
    y = torch.arange(count) % classes
    with torch.inference_mode():
        made = torch.cat(
            [
                published.sample(
                    ids.tolist(), y[ids] if published.classes else None, seed, sampling
                )
                for ids in torch.arange(count).split(200)
            ]
        )
        raw = data.medium.kept(made, data.levels)
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
    facts = {
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
    return Lesson(whole, facts)
