"""One model under study: its samples, the real images that they are compared with, and what the metrics share.

Sets of real images take part: ``train`` (what the model saw), ``reference`` (what quality is measured against),
``held_out`` (what copies are told from), and, in the place of the samples, for the floor, ``twin`` (training images, as
many as samples) and ``unseen`` (images of none of the others).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.catalog import Config, UserError
from core.datasets import Dataset, assemble, evenly
from core.ground.stats import Estimate
from core.ground.watch import UNWATCHED, Watch
from core.measure import disguises, distances, features
from core.measure.metrics import Measurement, Metric, Score, chosen
from core.measure.metrics import metrics as registered
from core.measure.store import EvaluateConfig
from core.media import Medium
from core.models import Renders, Scores, Trainable, Validates
from core.runs import Opened
from core.tensors import Batch, device, draw_labels

SCORED = 500  # held-out and training images whose likelihood is computed
_REPEATS = 8  # draws of noise for the loss of one image


class _Onward(Watch):
    """Reports a percentage that never falls, although each training within an evaluation counts from 0."""

    def __init__(self, whole: Watch) -> None:
        self.whole, self.reached = whole, 0.0

    def say(self, text: str, done: float | None = None, total: float = 1.0) -> None:
        self.reached = max(self.reached, (done or 0.0) / total)
        self.whole.say(text, round(100 * self.reached), 100)

    def stopped(self) -> str:
        return self.whole.stopped()


@dataclass(eq=False)
class ImageSet:
    """Items on trial: generated ones, or real ones in their place.

    Attributes:
        x: uint8 (N, C, H, W), 0 … ``levels - 1``.
        y: Classes (N,): those asked for, or the true ones; None without.
        index: Of real images, their places in the dataset; None for generated ones.
    """

    evaluator: Evaluator
    x: np.ndarray
    levels: int
    y: np.ndarray | None
    index: np.ndarray | None = None

    @property
    def medium(self) -> Medium:
        """What they are."""
        return self.evaluator.dataset.medium

    def items(self, size: int = 500) -> Iterator[Batch]:
        """Yields them as floats in [0, 1], some at a time, on the device."""
        for start in range(0, len(self.x), size):
            part = torch.as_tensor(np.asarray(self.x[start : start + size]))
            yield self.medium.read(part.to(self.evaluator.device), self.levels)

    def images(self) -> Iterator[Batch]:
        """Yields what a model sees of them, some at a time, on the device."""
        yield from map(self.medium.to_model, self.items())

    @cached_property
    def features(self) -> Tensor:
        """Of the extractor, float32 (N, D)."""
        if self.index is not None:
            values = features.of_split(self.evaluator.extractor, self.evaluator.dataset, self.index)
        else:
            values = np.concatenate(
                [
                    self.evaluator.extractor.features(x.cpu()).astype(np.float32)
                    for x in self.evaluator.watch.each(self.images())
                ]
            )
        return torch.as_tensor(values).to(self.evaluator.device)

    @cached_property
    def gaussian(self) -> distances.Gaussian:
        """Mean and covariance of the features."""
        return distances.Gaussian(self.features[: self.evaluator.n])

    @cached_property
    def pixels(self) -> Tensor:
        """At most 32 a side, float32 (N, P) in [0, 1]."""
        return torch.cat([self.medium.near(x) for x in self.items()])

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Of each class, by the judge, (N, K)."""
        judge = self.evaluator.judge
        assert judge is not None
        return np.concatenate([judge.probabilities(x) for x in self.images()])

    @cached_property
    def named(self) -> np.ndarray:
        """The class that the judge sees, (N,)."""
        return self.probabilities.argmax(1)

    @property
    def classes(self) -> np.ndarray:
        """The class of each: the true one or the one asked for, else the one that the judge sees, (N,)."""
        return self.named if self.y is None else self.y

    @cached_property
    def overlap(self) -> distances.Overlap:
        """With the reference, as many of one as of the other."""
        n, k = self.evaluator.n, self.evaluator.config.neighbours
        return distances.overlap(self.evaluator.reference.features[:n], self.features[:n], k)

    @cached_property
    def near(self) -> tuple[Tensor, Tensor]:
        """Distances to the nearest and second nearest training image in pixels, and which they are, (N, 2)."""
        return distances.nearest(self.pixels, self.evaluator.train.pixels, 2)

    @cached_property
    def near_features(self) -> tuple[Tensor, Tensor]:
        """Distance to the nearest training image in features, and which it is, (N, 1)."""
        return distances.nearest(self.features, self.evaluator.train.features, 1)

    @cached_property
    def patterns(self) -> Tensor:
        """Patterns that do not depend on light and colour, float32 (N, P)."""
        return torch.cat([disguises.patterns(x) for x in self.images()])

    @cached_property
    def disguised(self) -> disguises.Disguised:
        """The training images nearest to the first of them, whatever was done to these."""
        train, held_out = self.evaluator.train, self.evaluator.held_out
        few = disguises.count(len(train.x), len(held_out.x))
        first = torch.cat(list(ImageSet(self.evaluator, self.x[:few], self.levels, None).images()))
        return disguises.compare(first, train.patterns, held_out.patterns, self.evaluator.watch)


class Evaluator:
    """Draws the samples of a model and measures them.

    Args:
        opened: The model.
        dataset: What it was trained on.
        config: What to measure, and how.
        sampling: How to draw.
        watch: Is told percent, and can stop the work.

    Raises:
        UserError: If a metric or extractor does not exist, or there are not enough real images.
        Stopped: From any of its methods, when the watch says so.
    """

    def __init__(
        self,
        opened: Opened,
        dataset: Dataset,
        config: EvaluateConfig,
        sampling: Config,
        watch: Watch = UNWATCHED,
    ) -> None:
        self.opened, self.dataset, self.config, self.sampling = opened, dataset, config, sampling
        self.watch = _Onward(watch)
        self.doing = self.watch.part(0.0, 0.0)
        self.metrics = [registered.get(name) for name in chosen(config.metrics)]
        if config.metrics in ("standard", "all") and not isinstance(opened.model, Renders):
            self.metrics = [metric for metric in self.metrics if "renders" not in metric.needs]
        self.device = device()
        self.warnings: list[str] = []
        other = {"test": "valid", "valid": "test", "train": "valid"}[config.reference]
        held = "test" if config.reference == "train" else config.reference
        for part in (config.reference, held, other):
            if (count := len(dataset.splits[part])) < 50:
                raise UserError(
                    f"An evaluation needs at least 50 images of the {part} split, {dataset.name} has {count}. "
                    "Use a larger dataset, or other splits."
                )
        self.reference = self._real(config.reference, config.samples)
        self.held_out = self.reference if held == config.reference else self._real(held)
        self.unseen = self._real(other, config.samples)
        self.train = self._real("train")
        self.twin = (
            self.unseen if config.reference == "train" else self._real("train", config.samples)
        )
        self.n = min(config.samples, len(self.reference.x), len(self.twin.x))
        if self.n < config.samples:
            self.warnings.append(
                f"Quality is measured with {self.n} samples, as many as there are real images to compare them with; "
                f"{config.samples} are drawn for the rest."
            )

    def _real(self, split: str, most: int = 0) -> ImageSet:
        index = self.dataset.splits[split]
        index = evenly(index, most or len(index))
        # shuffled, because of a set sorted by class the first n would lack the last classes
        index = np.random.default_rng(0).permutation(index)
        y = None if self.dataset.y is None else self.dataset.y[index]
        return ImageSet(self, np.asarray(self.dataset.x[index]), self.dataset.levels, y, index)

    # --- preparing ------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Opens the extractor and the judge, draws the samples and looks them over."""
        self.watch.say("Preparing the features", 0.0)
        name, weights = self.config.extractor, self.config.weights
        watch = self.watch.part(0.0, 0.3)
        self.extractor, note = features.choose(name, self.dataset, self.device, weights, watch)
        self.judge: features.Judge | None = None
        self.late = False  # whether the judge is trained after everything else is measured
        if isinstance(self.extractor, features.Judge):
            self.judge = self.extractor
        elif not note and len(self.dataset.classes) > 1 and any(map(self._judged, self.metrics)):
            self.late = not features.judged(self.dataset)
            if not self.late:
                self._open_judge(watch)
        if note:
            self.warnings.append(note)
        self.samples = self._draw()
        self.watch.say("Looking at the samples", 0.5)
        self.width = self.samples.features.shape[1]

    def _judged(self, metric: Metric) -> bool:
        """Tells whether a metric that can be measured here needs the judge."""
        needs = metric.needs
        return "judge" in needs and ("conditional" not in needs or self.opened.model.classes > 0)

    def _open_judge(self, watch: Watch) -> None:
        judge = features.judge(self.dataset, self.device, watch)
        if judge.accuracy >= features.POOR:
            self.judge = judge

    def _draw(self) -> ImageSet:
        model, total = self.opened.model, self.config.samples
        shares, seed = model.spec.shares, self.config.seed
        parts, labels, bad = [], [], 0
        size = 100 if self.device.type == "cpu" else 500
        way = self.watch.part(max(0.02, self.watch.reached), 0.47)
        for start in range(0, total, size):
            way.count("Drawing samples", start, total)
            ids = torch.arange(start, min(start + size, total), device=self.device)
            y = draw_labels(seed, ids, shares, self.device) if model.classes else None
            with torch.no_grad():
                x = model.sample(ids, y, seed, self.sampling)
            bad += int((~torch.isfinite(x)).flatten(1).any(1).sum())
            parts.append(self.dataset.medium.kept(x))
            if y is not None:
                labels.append(y.cpu().numpy())
        samples = np.concatenate(parts)
        if bad == len(samples):
            raise UserError(
                f"The samples of step {self.opened.step} are not numbers (nan), all {bad} of them. "
                "Evaluate an earlier step, or train again with a lower train.lr."
            )
        if bad:
            self.warnings.append(
                f"{bad} of {len(samples)} samples hold values that are not numbers (nan), which count as black."
            )
        if (samples == samples[:1]).all():
            self.warnings.append(
                f"All {len(samples)} samples are the same picture: the model has collapsed."
            )
        return ImageSet(self, samples, 256, np.concatenate(labels) if labels else None)

    # --- measuring ------------------------------------------------------------------------------------------------

    def measure(self) -> Iterator[Measurement]:
        """Measures one metric after the other; what cannot be measured says why.

        A judge that has to be trained for some of them is trained when all others are measured.
        """
        waits = self.late
        ordered = sorted(self.metrics, key=self._judged) if waits else self.metrics
        for i, metric in enumerate(ordered):
            share = 0.55 + 0.35 * i / len(ordered)
            self.doing = self.watch.part(share, share + 0.35 / len(ordered))
            self.doing.say(f"Measuring: {metric.title}", 0.0)
            self.doing.check()
            if waits and self._judged(metric):
                waits = False
                self._open_judge(self.doing)
            began = time.perf_counter()
            score, floor, note = None, None, ""
            try:
                self._allow(metric)
                score = _score(metric.make(self, self.samples))
                if not math.isfinite(score.estimate.value):
                    score, note = None, "Its value is not a finite number for these samples."
                elif metric.floor:
                    floor = _score(metric.make(self, getattr(self, metric.floor))).estimate
            except UserError as error:
                note = str(error)
            uses = "features" in metric.needs
            embedding = self.extractor if uses else self.judge if "judge" in metric.needs else None
            details = dict(score.details) if score else {}
            if floor:
                low, high = _ends(floor)
                details |= {"floor_low": low, "floor_high": high, "floor_n": floor.n}
            estimate = score.estimate if score else None
            low, high = _ends(estimate) if estimate else (None, None)
            yield Measurement(
                metric=metric.name,
                title=self._title(metric, embedding),
                value=estimate.value if estimate else None,
                low=low,
                high=high,
                floor=floor.value if floor else None,
                n=estimate.n if estimate else 0,
                extractor="" if embedding is None else embedding.name,
                hash="" if embedding is None else embedding.hash,
                seconds=round(time.perf_counter() - began, 3),
                note=note or (score.note if score else ""),
                details=details,
            )

    def _title(self, metric: Metric, embedding: Any) -> str:
        if embedding is None:
            return metric.title
        seen = features.extractors.get(embedding.name)
        if seen.frechet and metric.name.startswith("frechet"):
            return metric.title.replace("Fréchet distance", seen.frechet)
        return f"{metric.title}, {seen.title.lower()}"

    def _allow(self, metric: Metric) -> None:
        needs = metric.needs
        metric.allow(self.dataset.medium.model, registered)
        if metric.takes == (
            "picture",
        ):  # what is mirrored or turned must be one, and not only be seen as one
            metric.allow(self.dataset.medium.item, registered)
        if len(self.samples.x) < metric.fewest:
            raise UserError(
                f"It needs at least {metric.fewest} samples, got {len(self.samples.x)}. Draw more samples."
            )
        if "judge" in needs and self.judge is None:
            raise UserError(
                f"It needs a judge of the classes, and {self.dataset.name} has none that can be relied on. "
                "Use a dataset with at least two labelled classes."
            )
        if "conditional" in needs and self.samples.y is None:
            raise UserError(
                "It needs a model that draws a class on request, and this one does not listen to classes. "
                "Train one with family.conditional on."
            )
        if "renders" in needs and not isinstance(self.opened.model, Renders):
            raise UserError(
                f"It needs a model that turns a second picture into an image, and a {self.opened.family} is told none. "
                "Train one of a family that does."
            )
        if "scores" in needs and not isinstance(self.opened.model, Scores):
            raise UserError(
                f"The family {self.opened.family} gives no probability of an image, so there is nothing to measure. "
                "Flows, VAEs and diffusion models do."
            )

    # --- what metrics ask for -------------------------------------------------------------------------------------

    def pair(self, sample: ImageSet) -> tuple[Tensor, Tensor]:
        """Gives the features of a sample and of the reference, equally many, (n, D) both."""
        return sample.features[: self.n], self.reference.features[: self.n]

    @cached_property
    def train_gaps(self) -> Tensor:
        """Distance of a training image to its nearest other one, (n,); only where a sample's neighbour needs it."""
        needed = torch.cat([s.near[1][:, 0] for s in (self.samples, self.unseen)]).unique()
        gaps = torch.full((len(self.train.x),), math.nan, device=self.device)
        distance, _ = distances.nearest(self.train.pixels[needed], self.train.pixels, 2)
        gaps[needed] = distance[:, -1]
        return gaps

    @cached_property
    def _cells(self) -> Any:
        from sklearn.cluster import KMeans

        count = max(1, min(10, len(self.held_out.x) // 30))
        few = self.train.features[:5000].cpu().numpy()
        return KMeans(count, n_init="auto", random_state=0).fit(few)

    def cell(self, sample: ImageSet) -> np.ndarray:
        """Gives the region of the data, (N,), that each image lies in."""
        return self._cells.predict(sample.features.cpu().numpy())

    def taught_by(self, sample: ImageSet) -> np.ndarray:
        """Trains a classifier on a sample, tests it on the reference; flags of what it names rightly, (M,)."""
        y = sample.y
        assert y is not None
        assert self.reference.y is not None
        count = min(len(sample.x), self.config.samples)
        order = np.arange(count)
        own = assemble(
            sample.x[:count],
            y[:count].astype(np.int64),
            self.dataset.classes,
            {"train": order, "valid": order[:0], "test": order[:0]},
            levels=sample.levels,
            medium=self.dataset.medium.name,
        )
        pupil = features.taught(own, self.dataset, self.device, self.config.seed, self.doing)
        with torch.no_grad():
            named = torch.cat([pupil(x).argmax(1) for x in self.reference.images()])
        return named.cpu().numpy() == self.reference.y

    @cached_property
    def rendered(self) -> ImageSet:
        """What the model makes of the conditions of the reference, in its order."""
        model, index = self.opened.model, self.reference.index
        assert index is not None
        parts = []
        for part in self.doing.each(np.array_split(index, max(1, len(index) // 100))):
            x = self._told(part)
            told = model.condition(x)
            made = model.render(told, part.tolist(), None, self.config.seed, self.sampling)
            parts.append(self.dataset.medium.kept(made))
        return ImageSet(self, np.concatenate(parts), 256, self.reference.y)

    def _told(self, index: np.ndarray) -> Batch:
        """Gives what a model that renders is given of real images, with the second images that it was trained on.

        Raises:
            UserError: If the dataset has none.
        """
        told = self.opened.model.told
        if not told:
            return self.dataset.images(index, self.device)
        if self.dataset.pair is None or self.dataset.pair.channels != told:
            raise UserError(
                f"The model was trained on second images, and {self.dataset.name} has none that it could be told. "
                "Evaluate it on the dataset that it was trained on."
            )
        return self.dataset.told(index, self.device)

    # --- the model's own view of real images ----------------------------------------------------------------------

    @cached_property
    def scored(self) -> int:
        """Number of held-out, and of training images, whose likelihood is computed."""
        return min(SCORED, len(self.held_out.x), len(self.train.x))

    def _few(self, part: str) -> tuple[Batch, Tensor | None]:
        of = self.train if part == "train" else self.held_out
        model = self.opened.model
        if isinstance(model, Renders) and model.told and of.index is not None:
            x = self._told(of.index[: self.scored])
        else:
            x = of.medium.seen(torch.as_tensor(of.x[: self.scored]).to(self.device), of.levels)
        if not self.opened.model.classes or of.y is None:
            return x, None
        return x, torch.as_tensor(of.y[: self.scored]).to(self.device)

    def _log_prob(self, part: str) -> Tensor:
        x, y = self._few(part)
        generator = torch.Generator(self.device).manual_seed(self.config.seed)
        index = torch.arange(len(x), device=self.device).split(100)
        with torch.no_grad():
            parts = [
                self.opened.model.log_prob(x[i], None if y is None else y[i], generator)
                for i in self.watch.each(index)
            ]
        return torch.cat(parts).double()

    @cached_property
    def _log_probs(self) -> dict[str, Tensor]:
        return {part: self._log_prob(part) for part in ("train", "held_out")}

    def log_probs(self, part: str) -> np.ndarray:
        """Gives the log-probability of the first :attr:`scored` images of ``train`` or ``held_out`` in nats, (n,)."""
        return self._log_probs[part].cpu().numpy()

    def bits(self, part: str) -> Tensor:
        """Gives bits per dimension of images of ``train`` or ``held_out``, (n,)."""
        dim = math.prod(self.opened.model.spec.shape)
        return -self._log_probs[part] / (dim * math.log(2))

    def losses(self, part: str) -> dict[str, float]:
        """Gives the family's own losses on images of ``train`` or ``held_out``, by name."""
        return {name: float(value) for name, value in self._own(*self._few(part)).items()}

    def _own(self, x: Batch, y: Tensor | None) -> dict[str, Tensor]:
        """Computes losses of a batch: the held-out measure where the family has one, else what it trains on."""
        generator = torch.Generator(self.device).manual_seed(self.config.seed)
        if isinstance(self.opened.model, Validates):
            with torch.no_grad():
                return self.opened.model.held_out(x, y, generator)
        if not isinstance(self.opened.model, Trainable):
            raise UserError(
                "The model was brought without what it was trained on, so it has no loss of its own."
            )
        losses: dict[str, Tensor] = {}
        for loss in self._copy.losses(x, y, generator, 1.0):
            losses |= {name: value.detach() for name, value in loss.parts.items()}
        return losses

    @cached_property
    def _copy(self) -> Any:
        """A copy of the model, which others use as well: computing a training loss may change it."""
        return copy.deepcopy(self.opened.model)

    @property
    def score_name(self) -> str:
        """What :meth:`scores` are."""
        return "log-probability" if isinstance(self.opened.model, Scores) else "its own loss"

    def scores(self, part: str) -> np.ndarray:
        """Gives how well the model knows images of ``train`` or ``held_out``, (n,); higher is better."""
        if isinstance(self.opened.model, Scores):
            return self.log_probs(part)
        x, y = self._few(part)
        scores = []
        for i in self.watch.each(range(len(x))):
            few = None if y is None else y[i].expand(_REPEATS)
            own = self._own(x[i].expand(_REPEATS, *x.shape[1:]), few)
            scores.append(-float(next(iter(own.values()))))
        return np.array(scores)

    def conditions(self) -> dict[str, Any]:
        """Gives everything that values must have in common to be compared."""
        spec = self.opened.model.spec.record()
        spec.pop("shares")
        return {
            "extractor": self.extractor.name,
            "hash": self.extractor.hash,
            "width": self.width,
            "dataset": self.dataset.name,
            "fingerprint": self.dataset.fingerprint,
            "reference": self.config.reference,
            "n": self.n,
            "n_samples": self.config.samples,
            "n_reference": len(self.reference.x),
            "n_train": len(self.train.x),
            **spec,
            "seed": self.config.seed,
            "neighbours": self.config.neighbours,
            "sampling": self.sampling.record(),
            "conditional": self.samples.y is not None,
            "judge_accuracy": self.judge.accuracy if self.judge else None,
            "device": str(self.device),
        }


def _score(score: Estimate | Score) -> Score:
    return score if isinstance(score, Score) else Score(score)


def _ends(of: Estimate) -> tuple[float | None, float | None]:
    """Gives the interval, None for one that is not known."""
    known = math.isfinite(of.low) and math.isfinite(of.high)
    return of.interval if known else (None, None)
