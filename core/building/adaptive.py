"""Adaptive building: rounds that ask for what a small referee gets wrong, beside equal shares at the same budget.

A pair has its own seed: of the referee's weights and order, of the samples and copies. Its two ways draw the same items
in the same order, only how many of each part differs. ``test`` is looked at once, when all rounds are over.

References:
    Settles, 2009, Active learning literature survey
    Hemmat et al., 2023, Feedback-guided data synthesis for imbalanced classification, https://arxiv.org/abs/2310.00158
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.building.axes import real_part
from core.building.coverage import GapsConfig, coverage
from core.building.experiment import Experiment, ExperimentConfig, TrialConfig
from core.building.experiment.samples import drawn_by
from core.building.pool import Augmented, Synthetic
from core.building.shares import apportioned, bounded
from core.catalog import Config, UserError, knob
from core.datasets import Dataset
from core.ground.stats import mean
from core.ground.watch import UNWATCHED, Watch

_SMOOTH = 4.0  # held-out images' worth of trust in a class's own rate, for a part of it


class _Rounds(Config):
    """What joins, in how many rounds."""

    source: Literal["augmented", "synthetic", "both"] = knob(
        "both",
        "What joins: augmented images, samples of a model that is trained on the real images, or of each one half; "
        "where samples are refused, augmented images take their place.",
        title="What joins",
    )
    budget: int = knob(
        400, "Items that join, at most.", ge=1, le=1_000_000, unit="images", log=True
    )
    rounds: int = knob(4, "Rounds that the budget is spent in.", ge=1, le=20)
    pairs: int = knob(10, "Paired repetitions; 6 are the fewest for a verdict.", ge=1, le=30)
    by: Literal["class", "class,cluster"] = knob(
        "class",
        "What is asked for: classes, or kinds of pictures within them (of which copies are made).",
        title="Asked by",
        advanced=True,
    )
    pipeline: str = knob(
        "digits", "The saved pipeline that makes copies.", title="Pipeline", advanced=True
    )


class AdaptConfig(TrialConfig, _Rounds):  # in a form, the fields of the last one come first
    """What joins, in how many rounds, and how it is measured."""

    def experiment(self) -> ExperimentConfig:
        """Gives what an experiment with the same referee is asked."""
        plain = {"per_class": "1", "chain": False, "trivial": False}
        return ExperimentConfig.of({**plain, **self.trial()})


@dataclass(frozen=True, eq=False)
class AskedPart:
    """What can be asked for.

    Attributes:
        name: In words.
        label: Its class.
        parents: Its real training images, rows.
        held: Its held-out images, places in the valid split.
        weight: Its share among the held-out images of its class.
    """

    name: str
    label: int
    parents: np.ndarray
    held: np.ndarray
    weight: float


class Adaptive:
    """Adaptive building on the training images of a dataset; each pair depends on its number alone.

    Args:
        dataset: With labels; what was added to it before is left out.
        config: How.
        watch: Told how far it is.

    Raises:
        UserError: If it lacks labels, classes or held-out images, or the chain cannot be used.
    """

    def __init__(self, dataset: Dataset, config: AdaptConfig, watch: Watch = UNWATCHED) -> None:
        self.dataset, self.config = real_part(dataset), config
        self.trial = Experiment(self.dataset, config.experiment())
        if len(self.dataset.splits["valid"]) < 20:
            raise UserError(
                f"Rounds look at held-out images of the split valid, at least 20, and {dataset.name} has "
                f"{len(self.dataset.splits['valid'])}. Choose a dataset with more."
            )
        assert self.dataset.y is not None
        self.y: np.ndarray = self.dataset.y
        if config.source != "synthetic":
            from core import augment

            augment.training(augment.load(config.pipeline))
        self.valid = self.dataset.splits["valid"]
        self.parts = self._parts(watch)
        train = self.y[self.dataset.splits["train"]]
        self.counts = np.bincount(train, minlength=len(dataset.classes))
        self.usual = int(np.median(self.counts[self.counts > 0]))
        few = np.flatnonzero((self.counts > 0) & (self.counts < 0.5 * self.usual))
        self.few: list[int] = few.tolist()

    def _parts(self, watch: Watch) -> list[AskedPart]:
        dataset, y = self.dataset, self.y
        train = dataset.splits["train"]
        if self.config.by == "class":
            of, names = y, list(dataset.classes)
        else:
            found = coverage(
                dataset, GapsConfig(by="class,cluster", seed=self.config.seed), watch=watch
            )
            of, names = found.of, [each.name for each in found.slices]
        parts = []
        for k, name in enumerate(names):
            rows, held = train[of[train] == k], np.flatnonzero(of[self.valid] == k)
            if len(rows):
                label = int(y[rows[0]])
                weight = len(held) / max(1, int((y[self.valid] == label).sum()))
                parts.append(AskedPart(name, label, rows, held, max(weight, 1e-3)))
        return parts

    def pair(self, number: int, watch: Watch = UNWATCHED) -> dict[str, Any]:
        """Does all rounds of a pair, the other way at the same spending, and at the end the proof on test."""
        config, dataset = self.config, self.dataset
        seed = (config.seed * 1000 + number) % 2**31
        train = dataset.splits["train"]
        real = self.trial.dataset_of(np.asarray(dataset.x[train]), self.y[train])
        watch.say("Training the first referee", 0.0)
        first = self.trial.fit(real, number)
        watch.check()
        supplies: list[Augmented | Synthetic] = []
        if config.source != "augmented":
            watch.say("Training a generative model", 0.1)
            draw = drawn_by(self.trial, real, seed, watch)
            supplies.append(Synthetic(real, draw, first, config.gate, watch))
        if config.source != "synthetic":
            parents = {k: part.parents for k, part in enumerate(self.parts)}
            supplies.append(Augmented(dataset, config.pipeline, parents, seed))
        asked = np.zeros(len(self.parts), np.int64)
        sure = self._sure(first, self.valid)
        rounds, quiet, stop = [], 0, ""
        for turn in range(config.rounds):
            watch.say(f"Round {turn + 1} of {config.rounds}", 0.2 + 0.6 * turn / config.rounds)
            budget = (
                config.budget * (turn + 1) // config.rounds - config.budget * turn // config.rounds
            )
            more = self._ask(self._need(sure), asked, budget)
            asked = asked + more
            data, _ = self._with(real, supplies, asked)
            model = self.trial.fit(data, number)
            now = self._sure(model, self.valid)
            gain = mean(now - sure)
            rounds.append(
                {
                    "round": turn + 1,
                    "asked": self._by_class(more),
                    "valid": 100 * float((now > 0.5).mean()),
                    "gain": 100 * gain.value,
                    "low": 100 * gain.low,
                    "high": 100 * gain.high,
                    "n": gain.n,
                    "lacking": self._worst(sure),
                }
            )
            sure = now
            watch.check()
            quiet = 0 if gain.low > 0 else quiet + 1
            if quiet == 2 and turn + 1 < config.rounds:
                stop = "two rounds brought no gain beyond chance on held-out images"
                break
        equal = apportioned(self._equal(), int(asked.sum()))
        watch.say("Equal shares, for comparison", 0.85)
        models, added = {"real": first}, {}
        for arm, wanted in (("uniform", equal), ("adaptive", asked)):
            data, missing = self._with(real, supplies, wanted)
            models[arm] = self.trial.fit(data, number)
            added[arm] = {
                "asked": self._by_class(wanted),
                "added": len(data) - len(real),
                "missing": missing,
            }
            watch.check()
        right_of = {arm: self._tested(model) for arm, model in models.items()}
        sifted = next((s for s in supplies if isinstance(s, Synthetic)), None)
        return {
            "pair": number,
            "rounds": rounds,
            "stopped": stop,
            "added": added,
            "refused": sifted.refused if sifted else {},
            "unvouched": [
                name
                for label, name in enumerate(dataset.classes)
                if sifted and label not in sifted.vouched and self.counts[label]
            ],
            "accuracy": {arm: self._accuracies(flags) for arm, flags in right_of.items()},
        }

    def _sure(self, model: Any, rows: np.ndarray) -> np.ndarray:
        """Gives the probability of the right class, (n,): of few images it tells gains that counts do not."""
        import torch

        with torch.inference_mode():
            chances = torch.cat([model(x).double().softmax(1) for x in self.dataset.batches(rows)])
        return chances.cpu().numpy()[np.arange(len(rows)), self.y[rows]]

    def _tested(self, model: Any) -> np.ndarray:
        import torch

        rows = self.trial.test
        with torch.inference_mode():
            named = torch.cat([model(x).argmax(1) for x in self.dataset.batches(rows)])
        return named.cpu().numpy() == self.y[rows]

    def _need(self, sure: np.ndarray) -> np.ndarray:
        """Weighs each part by how far its held-out images are from being named surely, drawn to its class's mean."""
        labels, wrong = self.y[self.valid], 1 - sure
        size = np.bincount(labels, minlength=len(self.dataset.classes))
        rate = (np.bincount(labels, wrong, len(size)) + 0.05) / (size + 0.1)
        return np.array(
            [
                part.weight
                * (wrong[part.held].sum() + _SMOOTH * rate[part.label])
                / (len(part.held) + _SMOOTH)
                for part in self.parts
            ]
        )

    def _ask(self, need: np.ndarray, asked: np.ndarray, budget: int) -> np.ndarray:
        """Shares a round's budget out by need, no class beyond the usual number of images while another lacks them.

        A class whose few images say little of it stays hard however many copies it gets, and would starve the others.
        """
        labels = np.array([part.label for part in self.parts])
        classes, of = np.unique(labels, return_inverse=True)
        room = self.usual - self.counts[classes] - np.bincount(of, asked, len(classes))
        given = bounded(np.bincount(of, need, len(classes)), room.astype(np.int64), budget)
        more = np.zeros(len(need), np.int64)
        for place, count in enumerate(given):
            more[of == place] = apportioned(need[of == place], int(count))
        return more

    def _equal(self) -> np.ndarray:
        """Weighs all classes the same, and their parts by their real images."""
        size = np.bincount([p.label for p in self.parts], [len(p.parents) for p in self.parts])
        return np.array([len(part.parents) / size[part.label] for part in self.parts])

    def _with(
        self, real: Dataset, supplies: Sequence[Augmented | Synthetic], wanted: np.ndarray
    ) -> tuple[Dataset, int]:
        """Adds as many items to each part as are wanted; gives the training set, and how many could not be made."""
        xs, ys, missing = [np.asarray(real.x)], [real.y], 0
        taken: dict[int, int] = {}  # samples of a class are shared by its parts
        for k, part in enumerate(self.parts):
            left = int(wanted[k])
            for number, supply in enumerate(supplies):
                count = left if number == len(supplies) - 1 else -(-left // 2)
                key, start = part.label, 0
                if isinstance(supply, Synthetic):
                    start = taken.get(key, 0)
                x, _ = supply.take(k, part.label, start, count)
                if isinstance(supply, Synthetic):
                    taken[key] = start + len(x)
                xs.append(x)
                ys.append(np.full(len(x), part.label, np.int64))
                left -= len(x)
            missing += left
        assert all(y is not None for y in ys)
        return self.trial.dataset_of(
            np.concatenate(xs), np.concatenate([y for y in ys if y is not None])
        ), missing

    def _by_class(self, counts: np.ndarray) -> dict[str, int]:
        return {
            name: int(sum(counts[k] for k, part in enumerate(self.parts) if part.label == label))
            for label, name in enumerate(self.dataset.classes)
        }

    def _worst(self, sure: np.ndarray) -> list[dict[str, Any]]:
        rates = [
            {"part": part.name, "wrong": float(1 - sure[part.held].mean()), "n": len(part.held)}
            for part in self.parts
            if len(part.held)
        ]
        return sorted(rates, key=lambda row: -row["wrong"])[:5]

    def _accuracies(self, right: np.ndarray) -> dict[str, Any]:
        y = self.trial.test_y
        classes = {
            name: 100 * float(right[y == label].mean()) if (y == label).any() else None
            for label, name in enumerate(self.dataset.classes)
        }
        return {"all": 100 * float(right.mean()), "classes": classes}
