"""Is it too much? How far a chain takes images from where the data are, and what a referee trained with it is worth.

The share of augmented images that a fixed classifier still names is no measure: it misleads (a shift by a pixel, which
helps, looks harmful). Here a small referee is trained *with* each step, and judged on clean images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.augment.catalogue import Context
from core.augment.pipeline import Chain, Pipeline, at, magnitudes
from core.augment.recipes import training
from core.catalog import Config, UserError, knob
from core.datasets import Dataset
from core.ground.stats import Estimate, mean_of_few, proportion
from core.ground.writing import percent
from core.measure import distances, features
from core.tensors import device

OUTSIDE = (
    0.95  # quantile of the distances of held-out images; beyond it an image is off the manifold
)


@dataclass(frozen=True)
class Strain:
    """How far a step, or a whole chain, takes images.

    Attributes:
        title: Of the step; ``The whole chain`` for all of them.
        step: Position in the pipeline; None for the whole chain.
        drift: Median distance to the original in features, where 1 is the median distance of two images of a class.
        off: Share of the images that lie off the data's manifold, with its interval.
        floor: The same share for held-out images as they are.
    """

    title: str
    step: int | None
    drift: float
    off: Estimate
    floor: float

    def record(self) -> dict[str, Any]:
        """Gives the plain values."""
        return {
            "title": self.title,
            "step": self.step,
            "drift": self.drift,
            "off": self.off.value,
            "off_low": self.off.low,
            "off_high": self.off.high,
            "floor": self.floor,
            "n": self.off.n,
        }


class Manifold:
    """Where a dataset's images lie in features, and some held-out ones to try steps on.

    Args:
        dataset: Its training images are the manifold; the rest is what is augmented.
        n: Images that are augmented, at most.

    Raises:
        UserError: If there are too few images.
    """

    def __init__(self, dataset: Dataset, n: int = 300) -> None:
        rng = np.random.default_rng(0)
        train = rng.permutation(dataset.splits["train"])[:5000]
        held = rng.permutation(np.concatenate([dataset.splits["valid"], dataset.splits["test"]]))
        if len(held) < 10 or len(train) < 20:
            raise UserError(
                f"The measure needs at least 20 training and 10 held-out images, and {dataset.name} has "
                f"{len(train)} and {len(held)}. Choose a larger dataset."
            )
        self.extractor = features.quick(dataset, device())
        self.medium = dataset.medium
        self.x, self.y = _taken(dataset, held[:n])
        real, labels = _taken(dataset, train)
        self.context = Context(real, labels, len(dataset.classes))
        self.real = torch.as_tensor(self.features(real)).float()
        self.plain = torch.as_tensor(self.features(self.x)).float()
        away = self._away(self.plain)
        self.bar = float(away.quantile(OUTSIDE))
        self.floor = float((away > self.bar).float().mean())
        self.unit = self._unit(labels)

    def features(self, x: Tensor) -> np.ndarray:
        """Gives the features (N, D) of items (N, …)."""
        return self.extractor.features(self.medium.to_model(x))

    def _away(self, points: Tensor) -> Tensor:
        """Measures the distance of each point to its nearest training image."""
        return distances.nearest(points, self.real)[0][:, 0]

    def _unit(self, labels: Tensor | None) -> float:
        """Measures the median distance of two images of a class; without labels, of any two."""
        points = self.real[:1000]
        away = distances.squared(points, points).sqrt()
        pairs = ~torch.eye(len(points), dtype=torch.bool)
        if labels is not None:
            same = labels[:1000, None] == labels[None, :1000]
            pairs = pairs & same if bool((pairs & same).any()) else pairs
        return max(float(away[pairs].median()), 1e-6)

    def strain(self, pipeline: Pipeline, title: str, step: int | None) -> Strain:
        """Measures one pipeline."""
        changed = Chain(pipeline, self.context)(self.x, 0, range(len(self.x)), self.y)
        points = torch.as_tensor(self.features(self.medium.stored(changed))).float()
        drift = float((points - self.plain).norm(dim=1).median()) / self.unit
        off = proportion(int((self._away(points) > self.bar).sum()), len(points))
        return Strain(title, step, drift, off, self.floor)


def _taken(dataset: Dataset, index: np.ndarray) -> tuple[Tensor, Tensor | None]:
    y = None if dataset.y is None else torch.as_tensor(dataset.y[index])
    return dataset.items(index), y


def _parts(pipeline: Pipeline) -> Iterator[tuple[str, int | None, Pipeline]]:
    """Lists each step that is on by itself, then the whole chain."""
    steps = [(index, step) for index, step in enumerate(pipeline.steps) if step.on]
    for index, step in steps:
        yield step.title, index, Pipeline((step,))
    if len(steps) != 1:
        yield "The whole chain", None, pipeline


def strain(manifold: Manifold, pipeline: Pipeline) -> list[Strain]:
    """Measures every step by itself, and the whole chain."""
    return [manifold.strain(part, title, step) for title, step, part in _parts(pipeline)]


def sweep(
    manifold: Manifold, name: str, config: Mapping[str, Any], values: int = 7
) -> list[dict[str, Any]]:
    """Measures one step at rising magnitudes: ``value``, ``drift``, ``off`` with its interval, ``floor``.

    Raises:
        UserError: If the step has no magnitude.
    """
    return [
        {"value": value} | manifold.strain(Pipeline((at(name, config, value),)), name, 0).record()
        for value in magnitudes(name, values)
    ]


def hurts(rows: list[dict[str, Any]]) -> float | None:
    """Finds the first magnitude at which plainly more images leave the manifold: over twice the floor."""
    for row in rows:
        if row["off_low"] > row["floor"] and row["off"] > 2 * row["floor"]:
            return row["value"]
    return None


# --- The referee ------------------------------------------------------------------------------------------------------


class ScreeningConfig(Config):
    """How the referees are trained."""

    pipeline: str = knob("digits", "The saved pipeline in question.", title="Pipeline")
    seeds: int = knob(4, "Pairs of referees, with and without.", ge=2, le=16, unit="pairs")
    steps: int = knob(300, "Optimiser steps of each.", ge=20, le=10_000, unit="steps", log=True)
    images: int = knob(
        1000, "Training images of each, at most.", ge=20, le=20_000, unit="images", log=True
    )
    width: int = knob(16, "Channels of a referee's first layer.", ge=4, le=64, advanced=True)
    run: str = knob(
        "", "A run whose samples are searched for traces of the chain; empty for none.", title="Run"
    )


def referees(
    dataset: Dataset, pipeline: Pipeline, config: ScreeningConfig
) -> Iterator[dict[str, Any]]:
    """Trains a small classifier with each step, with the chain, and without; yields the rows so far.

    ``change`` is the difference of the accuracy on clean held-out images in points, with its interval over the pairs.

    Raises:
        UserError: If the dataset has no two classes, or is too small.
    """
    from core.classifier import Classifier, ClassifierConfig
    from core.datasets.dataset import assemble
    from core.training import TrainConfig, Trainer, spec_of

    if dataset.y is None or len(dataset.classes) < 2:
        raise UserError(
            f"A referee tells classes apart, and {dataset.name} has {len(dataset.classes) or 'none'}. "
            "Choose a dataset with labels of at least 2 classes."
        )
    manifold = Manifold(dataset)
    parts = [part for part in _parts(pipeline) if part[2].steps]
    strains = [manifold.strain(part, title, step) for title, step, part in parts]
    held = np.concatenate([dataset.splits["valid"], dataset.splits["test"]])[:2000]
    test_x, test_y = _taken(dataset, held)
    assert test_y is not None
    empty = np.zeros(0, np.int64)

    def accuracy(seed: int, part: Pipeline | None) -> float:
        rng = np.random.default_rng(seed)
        index = rng.permutation(dataset.splits["train"])[: config.images]
        assert dataset.y is not None
        data = assemble(
            np.asarray(dataset.x[index]),
            dataset.y[index],
            dataset.classes,
            {"train": np.arange(len(index)), "valid": empty, "test": empty},
            levels=dataset.levels,
            medium=dataset.medium.name,
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = Classifier(ClassifierConfig(width=config.width), spec_of(data))
        train = TrainConfig(
            images=64 * config.steps, batch=64, seed=seed, watch=False, precision="float32"
        )
        transform = None if part is None else training(part)
        trainer = Trainer(model, data, train, torch.device("cpu"), transform)
        for _ in trainer:
            pass
        judge = trainer.published()
        with torch.inference_mode():
            named = torch.cat(
                [judge(dataset.medium.to_model(x)).argmax(1) for x in test_x.split(500)]
            )
        return 100 * float((named == test_y).float().mean())

    plain: list[float] = []
    augmented: list[list[float]] = [[] for _ in parts]
    total = config.seeds * (1 + len(parts))
    for seed in range(config.seeds):
        plain.append(accuracy(seed, None))
        for number, (_, _, part) in enumerate(parts):
            refused = part.slow or part.mixing
            augmented[number].append(float("nan") if refused else accuracy(seed, part))
            rows = []
            for strain, scores in zip(strains, augmented, strict=True):
                row = strain.record() | {"n_test": len(held), "n_seeds": len(scores)}
                row |= dict.fromkeys(("accuracy", "plain", "change", "low", "high"))
                if scores and not np.isnan(scores).any():
                    row |= _paired(scores, plain[: len(scores)])
                rows.append(row)
            yield {"rows": rows, "fits": seed * (1 + len(parts)) + number + 2, "total": total}


def _paired(scores: list[float], plain: list[float]) -> dict[str, float | None]:
    change = mean_of_few(np.array(scores) - np.array(plain))
    sure = change.n > 1
    return {
        "accuracy": float(np.mean(scores)),
        "plain": float(np.mean(plain)),
        "change": change.value,
        "low": change.low if sure else None,
        "high": change.high if sure else None,
    }


def leak(dataset: Dataset, pipeline: Pipeline, run: str, n: int = 500) -> dict[str, Any]:
    """Looks for traces of a chain in a model's samples: a detector of augmented images is shown them.

    Args:
        dataset: Its training images are shown plain and augmented to a logistic regression on features.
        pipeline: The chain in question.
        run: Whose samples are judged.
        n: Samples, and images of each side; at most 500 samples.

    Returns:
        ``share`` of the samples that look augmented with its interval, the same share of held-out images as they are
        (``floor``), how often the detector is right (``told``, 0.5 by chance), and a ``sentence``.
    """
    from sklearn.linear_model import LogisticRegression

    from core.augment.generative import fitting, opened

    generator = opened(run)
    manifold = Manifold(dataset, n)
    fitting(generator, manifold.x)
    assert manifold.context.x is not None
    real = manifold.context.x[: 2 * n]
    y = None if manifold.context.y is None else manifold.context.y[: 2 * n]
    augmented = Chain(pipeline, manifold.context)(real, 0, range(len(real)), y)
    changed = manifold.features(manifold.medium.stored(augmented))
    plain = manifold.features(real)
    half = len(real) // 2
    detector = LogisticRegression(max_iter=500, C=0.1).fit(
        np.concatenate([plain[:half], changed[:half]]), np.arange(2 * half) >= half
    )
    right = np.concatenate([~detector.predict(plain[half:]), detector.predict(changed[half:])])
    model, count = generator.model, min(n, 500)
    labels = None
    if model.classes:
        labels = (torch.arange(count) % model.classes).to(next(model.parameters()).device)
    with torch.inference_mode():
        samples = [
            model.sample(
                ids.tolist(), None if labels is None else labels[ids], 0, generator.usual
            ).cpu()
            for ids in torch.arange(count).split(100)
        ]
    x = manifold.medium.items(torch.cat(samples))
    share = proportion(int(detector.predict(manifold.features(x)).sum()), count)
    floor = float(detector.predict(manifold.features(manifold.x)).mean())
    if right.mean() < 0.6:
        sentence = (
            f"Augmented and plain images can hardly be told apart ({percent(right.mean(), 0)} right), "
            "so no trace could be seen."
        )
    elif share.low > floor:
        sentence = (
            f"{percent(share.value, 0)} of the samples look augmented, of real held-out images {percent(floor, 0)}: "
            "the chain has leaked into what the model makes."
        )
    else:
        sentence = (
            f"No trace: {percent(share.value, 0)} of the samples look augmented, and {percent(floor, 0)} of real "
            "held-out images."
        )
    return {
        "run": generator.run,
        "share": share.value,
        "share_low": share.low,
        "share_high": share.high,
        "floor": floor,
        "told": float(right.mean()),
        "n": count,
        "sentence": sentence,
    }
