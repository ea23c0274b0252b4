"""Does it help? An experiment with arms, equal steps, paired seeds, intervals and a verdict.

Each pair draws its own training images, first weights and order, and every arm of it starts from those; only what is
asked about differs. The test images are real, frozen, and none of them is near a training image.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.catalog import Config, UserError, knob
from core.datasets import Dataset
from core.datasets.dataset import assemble
from core.stats import bca, holm, sign_flip
from core.writing import percent

QUICK = 3  # pairs of a quick look, which allows no verdict
FEWEST = 6  # pairs from which a sign-flip test can be significant

ARMS = {
    "none": "Real images only",
    "placebo": "Placebo: real images twice",
    "chain": "The chain",
    "trivial": "TrivialAugment",
    "synthetic": "Synthetic images",
    "both": "The chain and synthetic images",
}


class ExperimentConfig(Config):
    """What is compared, and how carefully."""

    pipeline: str = knob("digits", "The saved pipeline in question.", title="Pipeline")
    per_class: str = knob(
        "10",
        "Real training images of each class, few to many, for example 5,10,20.",
        title="Images per class",
    )
    pairs: int = knob(10, "Paired repetitions; 6 are the fewest for a verdict.", ge=6, le=30)
    quick: bool = knob(False, "A first look: 3 pairs, and no verdict.", title="Quick look")
    placebo: bool = knob(True, "Also trains on the real images twice: it must not help.")
    chain: bool = knob(True, "Trains with the chain.", title="The chain")
    trivial: bool = knob(
        True, "Also trains with TrivialAugment, which needs no tuning.", title="TrivialAugment"
    )
    synthetic: bool = knob(
        False,
        "Also trains a generative model on each arm's real images, and adds its samples.",
        title="Synthetic images",
    )
    both: bool = knob(False, "Also combines the chain with the synthetic images.")
    steps: int = knob(
        300, "Optimiser steps of every classifier.", ge=20, le=20_000, unit="steps", log=True
    )
    batch: int = knob(64, "Images per step.", ge=8, le=1024, unit="images", advanced=True)
    width: int = knob(16, "Channels of the classifier's first layer.", ge=4, le=128, advanced=True)
    family: Literal["vae", "gan", "flow", "diffusion", "vqvae"] = knob(
        "vae", "The generative model of the synthetic arms.", advanced=True
    )
    model_images: int = knob(
        20_000,
        "Images that the generative model sees in its training, repeats included.",
        ge=200,
        le=10_000_000,
        unit="images",
        log=True,
        advanced=True,
    )
    synthetic_per_class: int = knob(
        100, "Synthetic images of each class.", ge=1, le=10_000, unit="images", advanced=True
    )
    confidence: float = knob(
        0.5,
        "Least probability of the wanted class, by a classifier trained on the arm's real images; 0 keeps all.",
        ge=0,
        le=1,
        advanced=True,
    )
    authentic: bool = knob(True, "Leaves out samples that copy a training image.", advanced=True)
    distinct: bool = knob(True, "Leaves out samples that repeat another one.", advanced=True)
    test_images: int = knob(
        2000,
        "Real test images, at most.",
        ge=50,
        le=100_000,
        unit="images",
        log=True,
        advanced=True,
    )
    seed: int = knob(0, "Of the whole experiment.", ge=0, le=2**31 - 1, log=True, advanced=True)

    @property
    def sizes(self) -> list[int]:
        """The real images per class, ascending.

        Raises:
            UserError: If the text is no list of such numbers.
        """
        words = self.per_class.replace(";", ",").split(",")
        try:
            sizes = sorted({int(word) for word in words if word.strip()})
        except ValueError:
            sizes = []
        if not sizes or sizes[0] < 1 or len(sizes) > 8:
            raise UserError(
                "experiment.per_class must be 1 to 8 whole numbers from 1, separated by commas, got "
                f"{self.per_class!r}. For example 5,10,20."
            )
        return sizes

    @property
    def count(self) -> int:
        """Pairs that are done."""
        return QUICK if self.quick else self.pairs

    @property
    def arms(self) -> list[str]:
        """The arms, the plain one first."""
        return ["none", *(name for name in ARMS if name != "none" and getattr(self, name))]


@dataclass(frozen=True)
class Cell:
    """One arm at one size.

    Attributes:
        arm: A name of :data:`ARMS`.
        size: Real images per class.
        accuracies, plain: Of the arm and of real images only, by pair, in percent.
        idle: Why the arm was the same training as real images only; empty where it was not.
        used: What else is to be said of what it trained with.
    """

    arm: str
    size: int
    accuracies: tuple[float, ...]
    plain: tuple[float, ...]
    idle: str = ""
    used: str = ""

    def record(self, verdicts: bool) -> dict[str, Any]:
        """Gives effect, interval, test and verdict; without verdicts only the values."""
        n = len(self.accuracies)
        change = [a - b for a, b in zip(self.accuracies, self.plain, strict=True)]
        facts: dict[str, Any] = {
            "arm": self.arm,
            "size": self.size,
            "accuracies": [round(value, 4) for value in self.accuracies],
            "mean": float(np.mean(self.accuracies)),
            "plain_mean": float(np.mean(self.plain)),
            "effect": float(np.mean(change)),
            "low": None,
            "high": None,
            "p": None,
            "n": n,
            "verdict": "",
            "sentence": "",
            "idle": self.idle,
            "used": self.used,
        }
        if self.idle:  # a difference of 0 that was never tested must not read as one that was
            said = (
                f"{ARMS[self.arm]}: not tested with {self.size} real images per class, {self.idle}"
            )
            return facts | {"verdict": "not tested", "sentence": said, "effect": None}
        if not verdicts or self.arm == "none" or n < FEWEST:
            return facts
        low, high = bca(change)
        p = sign_flip(change)
        verdict = "cannot tell"
        if p <= 0.05 and (low > 0 or high < 0):
            verdict = "helps" if low > 0 else "hurts"
        what = {
            "helps": f"{ARMS[self.arm]} helps",
            "hurts": f"{ARMS[self.arm]} hurts",
            "cannot tell": f"It cannot be told whether {_lower(ARMS[self.arm])} helps",
        }[verdict]
        sentence = (
            f"{what}: {facts['effect']:+.1f} points [{low:+.1f}, {high:+.1f}] with {self.size} real images per class "
            f"({n} pairs, p = {p:.3f})." + (f" {self.used}" if self.used else "")
        )
        return facts | {"low": low, "high": high, "p": p, "verdict": verdict, "sentence": sentence}


def _lower(title: str) -> str:
    return title if title.startswith("Trivial") else title[0].lower() + title[1:]


# --- What an arm really trained with ----------------------------------------------------------------------------------

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


def acts(pipeline: Any) -> bool:
    """Tells whether a chain has a step that is switched on and ever happens."""
    return any(step.on and step.probability > 0 for step in pipeline.steps)


# --- The experiment ---------------------------------------------------------------------------------------------------


def _test(dataset: Dataset, config: ExperimentConfig) -> tuple[np.ndarray, int]:
    """Chooses the test images: none with the pixels of a training image, nor twice; and how many were left out."""
    from core.datasets import digests

    index = dataset.splits["test"]
    keys = digests(np.asarray(dataset.x[index]))
    train = digests(np.asarray(dataset.x[dataset.splits["train"]]))
    once = np.zeros(len(keys), bool)
    once[np.unique(keys, return_index=True)[1]] = True
    good = once & ~np.isin(keys, train)
    kept, removed = index[good], int((~good).sum())
    if len(kept) > config.test_images:
        rng = np.random.default_rng(config.seed)
        kept = np.sort(rng.permutation(kept)[: config.test_images])
    return kept, removed


def check(dataset: Dataset, config: ExperimentConfig) -> None:
    """Refuses an experiment that cannot be done.

    Raises:
        UserError: If labels, classes, images or arms are missing, or the chain cannot be trained with.
    """
    from core import augment

    if dataset.y is None or len(dataset.classes) < 2:
        raise UserError(
            f"An experiment measures a classifier, so it needs labels of at least 2 classes, and {dataset.name} has "
            f"{len(dataset.classes) or 'none'}. Choose a dataset with labels."
        )
    counts = np.bincount(dataset.y[dataset.splits["train"]], minlength=len(dataset.classes))
    present = counts[counts > 0]
    if config.sizes[-1] > counts.max():
        raise UserError(
            f"experiment.per_class must be at most {int(counts.max())}, the training images of the largest class of "
            f"{dataset.name}, got {config.sizes[-1]}. Write smaller numbers."
        )
    if len(present) < 2:
        raise UserError(
            f"{dataset.name} has training images of {len(present)} class, and at least 2 are needed. "
            "Choose another dataset."
        )
    if len(dataset.splits["test"]) < 20:
        raise UserError(
            f"An experiment needs at least 20 test images, and {dataset.name} has {len(dataset.splits['test'])}. "
            "Choose a larger dataset."
        )
    if len(config.arms) < 2:
        raise UserError(
            "An experiment needs at least one arm beside the plain one, got none. Switch one on."
        )
    if config.chain or config.both:
        pipeline = augment.load(config.pipeline)
        augment.training(pipeline)
        if not acts(pipeline):
            raise UserError(
                f"The chain {config.pipeline} has no step that is switched on with a probability above 0, so that its "
                "arm would be the same training as real images only. Add a step, or switch experiment.chain and "
                "experiment.both off."
            )


class Experiment:
    """All fits of an experiment, one after the other; each depends on its place alone, so that it can be resumed.

    Raises:
        UserError: As :func:`check`.
    """

    def __init__(self, dataset: Dataset, config: ExperimentConfig) -> None:
        import torch

        from core import augment
        from core.tensors import to_float

        check(dataset, config)
        self.dataset, self.config = dataset, config
        self.test, self.removed = _test(dataset, config)
        self.test_x = to_float(torch.as_tensor(np.asarray(dataset.x[self.test])), dataset.levels)
        assert dataset.y is not None
        self.test_y = dataset.y[self.test]
        self.transforms = {
            "trivial": augment.training(augment.load("trivial")) if config.trivial else None
        }
        if config.chain or config.both:
            chain = augment.training(augment.load(config.pipeline))
            self.transforms |= {"chain": chain, "both": chain}
        self.still = {name for name, act in self.transforms.items() if act and self._leaves(act)}

    def _leaves(self, transform: Any) -> bool:
        """Tells whether a chain gives all images back as they are, such as one that turns by 0 degrees."""
        import torch

        from core.tensors import to_float

        index = self.dataset.splits["train"][:64]
        x = to_float(torch.as_tensor(np.asarray(self.dataset.x[index])), self.dataset.levels)
        generator = torch.Generator().manual_seed(0)
        return all(torch.equal(transform(x, generator), x) for _ in range(8))

    def _cell(
        self, arm: str, size: int, pairs: Sequence[int], done: Mapping[Any, float], made: Any
    ) -> Cell:
        """Gathers what is known of an arm at a size."""
        rows = [r for r in made if (r["arm"], r["size"]) == (arm, size) and r["pair"] in pairs]
        idle, used = samples_used(rows)
        still = "the chain leaves all images as they are. Raise the magnitude of a step."
        if arm in ("chain", "trivial") and arm in self.still:
            idle = still
        elif arm == "both":  # the same training only where neither half does anything
            if idle and arm not in self.still:
                idle, used = "", f"Without synthetic images: {idle}"
            elif idle:
                idle = f"{idle} And {still}"
            elif arm in self.still:
                used = f"{used} But {still}"
        return Cell(
            arm,
            size,
            tuple(done[pair, size, arm] for pair in pairs),
            tuple(done[pair, size, "none"] for pair in pairs),
            idle,
            used,
        )

    @property
    def places(self) -> list[tuple[int, int, str]]:
        """Every fit as (pair, size, arm), pair by pair, so that a part of them is a smaller experiment."""
        config = self.config
        return [
            (pair, size, arm)
            for pair in range(config.count)
            for size in config.sizes
            for arm in config.arms
        ]

    def subset(self, pair: int, size: int) -> Dataset:
        """Draws the real training images of a pair; a smaller size is a part of a larger one."""
        assert self.dataset.y is not None
        train = self.dataset.splits["train"]
        rng = np.random.default_rng([self.config.seed, pair])
        order = rng.permutation(train)
        y = self.dataset.y[order]
        chosen = np.concatenate(
            [order[y == label][:size] for label in range(len(self.dataset.classes))]
        )
        return self._dataset(np.asarray(self.dataset.x[chosen]), self.dataset.y[chosen])

    def _dataset(self, x: np.ndarray, y: np.ndarray) -> Dataset:
        none = np.zeros(0, np.int64)
        return assemble(
            x,
            y,
            self.dataset.classes,
            {"train": np.arange(len(x)), "valid": none, "test": none},
            levels=self.dataset.levels,
            name=self.dataset.name,
        )

    def fit(self, data: Dataset, pair: int, transform: Any = None, order: int = 0) -> Any:
        """Trains a classifier for the steps that all arms have; gives it as it is published."""
        import torch

        from core.classifier import Classifier, ClassifierConfig
        from core.training import TrainConfig, Trainer, spec_of

        config = self.config
        seed = (config.seed * 1000 + pair) % 2**31
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # first weights: those of the pair
            # every class has an output, also one that this subset lacks
            spec = spec_of(data)
            model = Classifier(ClassifierConfig(width=config.width), spec)
        train = TrainConfig(
            images=config.steps * config.batch,
            batch=config.batch,
            seed=(seed + 1_000_003 * order) % 2**31,
            watch=False,
            precision="float32",
        )
        trainer = Trainer(model, data, train, torch.device("cpu"), transform)
        for _ in trainer:
            pass
        return trainer.published()

    def accuracy(self, model: Any) -> float:
        """Measures the share of the test images that are named rightly, in percent."""
        import torch

        with torch.inference_mode():
            named = torch.cat([model(part).argmax(1) for part in self.test_x.split(500)])
        return 100 * float((named.numpy() == self.test_y).mean())

    def run(self, pair: int, size: int, arm: str) -> tuple[float, dict[str, Any] | None]:
        """Does one fit: its accuracy in percent, and what became of the samples of a synthetic arm."""
        data = self.subset(pair, size)
        made = None
        if arm == "placebo":  # the same images twice, in an order of their own
            assert data.y is not None
            data = self._dataset(np.concatenate([data.x, data.x]), np.concatenate([data.y, data.y]))
        if arm in ("synthetic", "both"):
            data, made = self._with_samples(data, pair, size)
        model = self.fit(data, pair, self.transforms.get(arm), order=int(arm == "placebo"))
        return self.accuracy(model), made

    def _with_samples(self, data: Dataset, pair: int, size: int) -> tuple[Dataset, dict[str, Any]]:
        """Adds samples of a model that has seen nothing but these images."""
        import torch

        from core.build import gate
        from core.models import build as build_model
        from core.models import families
        from core.tensors import to_float
        from core.training import TrainConfig, Trainer, batch_of, spec_of

        assert data.y is not None
        config, classes = self.config, len(self.dataset.classes)
        seed = (config.seed * 1000 + pair) % 2**31
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = build_model(config.family, {}, spec_of(data))
        batch = min(batch_of(model, TrainConfig()), max(8, len(data)))
        train = TrainConfig(
            images=config.model_images, batch=batch, seed=seed, watch=False, precision="float32"
        )
        trainer = Trainer(model, data, train, torch.device("cpu"))
        for _ in trainer:
            pass
        published: Any = trainer.published()
        sampling = families.get(config.family).sampling()
        judge = self.fit(data, pair)
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
            raw = made.clamp(0, 1).mul(data.levels - 1).round().to(torch.uint8).numpy()
            x = to_float(torch.as_tensor(raw), data.levels)
            shares = torch.cat([judge(part).softmax(1) for part in x.split(500)])
            labels = y if published.classes else shares.argmax(1)
            real = judge.features(to_float(torch.as_tensor(np.asarray(data.x)), data.levels))
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
        whole = self._dataset(
            np.concatenate([data.x, raw[passed.keep]]),
            np.concatenate([data.y, labels.numpy()[passed.keep].astype(np.int64)]),
        )
        return whole, facts

    def summary(
        self, done: dict[tuple[int, int, str], float], made: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Gives what is known so far, in plain values; a verdict only when everything is done."""
        config = self.config
        whole = len(done) == len(self.places)
        cells = []
        for arm, size in itertools.product(config.arms, config.sizes):
            pairs = [
                pair
                for pair in range(config.count)
                if (pair, size, arm) in done and (pair, size, "none") in done
            ]
            if pairs:
                cell = self._cell(arm, size, pairs, done, made)
                cells.append(cell.record(whole and not config.quick))
        tested = [cell for cell in cells if cell["p"] is not None]
        for cell, p in zip(tested, holm([cell["p"] for cell in tested]), strict=True):
            cell["p_holm"] = p
        asked = next(
            (
                arm
                for arm in ("chain", "both", "synthetic", "trivial", "placebo")
                if arm in config.arms
            ),
            "",
        )
        verdict = " ".join(
            cell["sentence"]
            for cell in cells
            if whole and cell["arm"] == asked and cell["sentence"]
        )
        n = len(self.test)
        error = 196 * math.sqrt(0.25 / n)
        notes = [
            f"{n:,} real test images, the same for all; an accuracy near 50 % of so few is known to "
            f"±{error:.1f} points, the paired differences more closely.",
            f"Every classifier is trained for {config.steps:,} steps of {config.batch} images.",
        ]
        if self.removed:
            notes.append(
                f"{self.removed:,} test images were left out: they repeat another one or a training image."
            )
        if config.quick:
            notes.append(f"A quick look of {QUICK} pairs: too few for a verdict.")
        notes += [cell["sentence"] for cell in cells if cell["idle"] and cell["arm"] != asked]
        if len(tested) > 1:
            notes.append("p is of one comparison; p_holm allows for how many there are.")
        return {
            "dataset": self.dataset.name,
            "fingerprint": self.dataset.fingerprint,
            "config": config.record(),
            "arms": {name: ARMS[name] for name in config.arms},
            "sizes": config.sizes,
            "pairs": config.count,
            "quick": config.quick,
            "n_test": n,
            "removed_test": self.removed,
            "done": whole,
            "fits": len(done),
            "total": len(self.places),
            "cells": cells,
            "verdict": verdict,
            "synthetic": made,
            "notes": notes,
        }


def perform(
    experiment: Experiment,
    done: dict[tuple[int, int, str], float],
    made: list[dict[str, Any]],
) -> Iterator[tuple[int, int, str, float]]:
    """Does the fits that are not in ``done`` yet, adding to it; yields each as (pair, size, arm, accuracy)."""
    for place in experiment.places:
        if place in done:
            continue
        accuracy, samples = experiment.run(*place)
        done[place] = accuracy
        if samples:
            made.append({"arm": place[2], **samples})
        yield (*place, accuracy)


def expected_seconds(dataset: Dataset, config: ExperimentConfig) -> float:
    """Estimates how long an experiment takes, by doing a few steps of it; takes about a second.

    Raises:
        UserError: As :func:`check`.
    """
    few = config.model_copy(
        update={"steps": 20, "per_class": str(config.sizes[0]), "test_images": 50}
    )
    trial = Experiment(dataset, few)
    plain = trial.subset(0, config.sizes[0])

    def clock(act: Callable[[], Any]) -> float:
        began = time.perf_counter()
        act()
        return time.perf_counter() - began

    trial.fit(plain, 0)  # the first one pays for imports
    per_step = {
        arm: clock(lambda arm=arm: trial.fit(plain, 0, trial.transforms.get(arm))) / 20
        for arm in ("none", *(arm for arm in ("chain", "trivial") if trial.transforms.get(arm)))
    }
    seconds = 0.0
    for arm in config.arms:
        step = per_step.get("chain" if arm == "both" else arm, per_step["none"])
        seconds += config.steps * step
        if arm in ("synthetic", "both"):
            short = Experiment(
                dataset,
                few.model_copy(
                    update={"model_images": 640, "synthetic_per_class": 2, "synthetic": True}
                ),
            )
            whole = clock(lambda short=short: short._with_samples(plain, 0, config.sizes[0]))
            seconds += (whole - 20 * per_step["none"]) * config.model_images / 640
            seconds += config.steps * per_step["none"]
    return seconds * config.count * len(config.sizes)
