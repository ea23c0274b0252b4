"""The fits of an experiment: each pair draws its own images, and every arm of it starts from the same."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from core.building.experiment import hardness
from core.building.experiment.arms import Arm, arms, ordered
from core.building.experiment.config import ExperimentConfig
from core.building.experiment.referees import Pupil, referees
from core.building.experiment.samples import with_samples
from core.building.version import kinds, roots
from core.catalog import UserError
from core.datasets import Dataset, evenly
from core.datasets.dataset import assemble
from core.ground.watch import UNWATCHED, Watch

FEWEST_TEST = 20  # images that can judge


def acts(pipeline: Any) -> bool:
    """Tells whether a chain has a step that is switched on and ever happens."""
    return any(step.on and step.probability > 0 for step in pipeline.steps)


def _test(
    dataset: Dataset, config: ExperimentConfig, split: str = "test"
) -> tuple[np.ndarray, int]:
    """Chooses the test images: none with the pixels of a training image, nor twice; and how many were left out."""
    from core.datasets import digests

    index = dataset.splits[split]
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


def real(dataset: Dataset) -> np.ndarray:
    """Gives the rows of the training images that were made from no other and by no model, int64 (n,).

    Those that joined from another dataset are none of them: whether these help is what is asked.
    """
    train = dataset.splits["train"]
    return train[kinds(dataset)[train] == "real"]


def _real(dataset: Dataset) -> str:
    more = len(real(dataset)) < len(dataset.splits["train"])
    return "real training images" if more else "training images"


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
    counts = np.bincount(dataset.y[real(dataset)], minlength=len(dataset.classes))
    present = counts[counts > 0]
    if config.sizes[-1] > counts.max():
        raise UserError(
            f"experiment.per_class must be at most {int(counts.max())}, the {_real(dataset)} of the largest class of "
            f"{dataset.name}, got {config.sizes[-1]}. Write smaller numbers."
        )
    if len(present) < 2:
        raise UserError(
            f"{dataset.name} has training images of {len(present)} class, and at least 2 are needed. "
            "Choose another dataset."
        )
    if len(dataset.splits["test"]) < FEWEST_TEST:
        raise UserError(
            f"An experiment needs at least {FEWEST_TEST} test images, and {dataset.name} has "
            f"{len(dataset.splits['test'])}. Import it again with a larger test share (Advanced, Test share), split "
            'it anew by a plan with "splits": {"rule": "content", "test_share": 0.4}, or choose one with more images.'
        )
    if len(config.arms) < 2:
        raise UserError(
            "An experiment needs at least one arm beside the plain one, got none. Switch one on."
        )
    here = set(kinds(dataset)[dataset.splits["train"]])
    for arm in config.arms:
        if arm.origins and not here & set(arm.origins):
            raise UserError(
                f"experiment.{arm.name} adds the {' and '.join(arm.origins)} training images of {dataset.name}, and it "
                "has none. Switch it off, or build a version with some."
            )
    referees.get(config.referee).check(dataset, config)
    for id in dict.fromkeys(arm.pipeline(config) for arm in config.arms if arm.pipeline):
        pipeline = augment.load(id)
        augment.training(pipeline)
        pipeline.allow(dataset.medium.item, dataset.medium.name)
        if not acts(pipeline):
            theirs = [arm for arm in ordered() if arm.pipeline and arm.pipeline(config) == id]
            switches = " and ".join(f"experiment.{arm.name}" for arm in theirs)
            raise UserError(
                f"The chain {id} has no step that is switched on with a probability above 0, so that its "
                f"arm would be the same training as real images only. Add a step, or switch {switches} off."
            )


class Experiment:
    """All fits of an experiment; each depends on its pair, size and arm alone, so that an experiment can be resumed.

    Attributes:
        robust: Of the fits that were done, the accuracy that an attack leaves, in percent; filled by :meth:`run`.

    Args:
        dataset, config: What is asked of which images.
        split: The held-out images that judge; whoever only chooses takes ``valid``, and leaves ``test`` unseen.
        watch: May end a training; what a training tells it is no progress of the whole.

    Raises:
        UserError: As :func:`check`.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: ExperimentConfig,
        split: str = "test",
        watch: Watch = UNWATCHED,
    ) -> None:
        from core import augment

        check(dataset, config)
        self.watch = watch
        self.dataset, self.config = dataset, config
        self.real, self.kinds, self.roots = real(dataset), kinds(dataset), roots(dataset)
        assert dataset.y is not None
        self.largest = int(np.bincount(dataset.y[self.real]).max())
        self.robust: dict[tuple[int, int, str], float] = {}
        self.test, self.removed = _test(dataset, config, split)
        self.test_x = dataset.images(self.test)
        assert dataset.y is not None
        self.test_y = dataset.y[self.test]
        self.chains = {
            id: augment.training(augment.load(id))
            for id in dict.fromkeys(arm.pipeline(config) for arm in config.arms if arm.pipeline)
        }
        self.still = {id for id, chain in self.chains.items() if self._leaves(chain)}

    def transform(self, arm: Arm) -> Any:
        """Gives the chain of an arm; None for one without."""
        return None if arm.pipeline is None else self.chains[arm.pipeline(self.config)]

    def _leaves(self, transform: Any) -> bool:
        """Tells whether a chain gives all images back as they are, such as one that turns by 0 degrees."""
        import torch

        index = self.dataset.splits["train"][:64]
        x = self.dataset.items(index)
        generator = torch.Generator().manual_seed(0)
        return all(torch.equal(transform(x, generator), x) for _ in range(8))

    @property
    def places(self) -> list[tuple[int, int, str]]:
        """Every fit as (pair, size, arm), pair by pair, so that a part of them is a smaller experiment.

        Where an arm takes all real images, the smaller sizes are there for the curve of the real images alone.
        """
        pairs, sizes, arms = range(self.config.count), self.config.sizes, self.config.arms
        whole = any(arm.whole for arm in arms)
        return [
            (pair, size, arm.name)
            for pair, size, arm in itertools.product(pairs, sizes, arms)
            if not whole or not arm.help or size >= self.largest
        ]

    def rows(self, pair: int, size: int) -> np.ndarray:
        """Draws the real training images of a pair, rows (n,); a smaller size is a part of a larger one."""
        assert self.dataset.y is not None
        rng = np.random.default_rng([self.config.seed, pair])
        order = rng.permutation(self.real)
        y = self.dataset.y[order]
        return np.concatenate(
            [order[y == label][:size] for label in range(len(self.dataset.classes))]
        )

    def subset(self, pair: int, size: int) -> Dataset:
        """Gives the real training images of a pair, :meth:`rows`."""
        return self._taken(self.rows(pair, size))

    def with_items(self, pair: int, size: int, origins: tuple[str, ...]) -> Dataset:
        """Gives the real training images of a pair, and the items of these origins that may join them.

        What goes back to a real image joins only where that image is among them; a copy of a sample always may.
        """
        chosen, train = self.rows(pair, size), self.dataset.splits["train"]
        root = self.roots[train]
        joins = np.isin(self.kinds[train], origins)
        joins &= (self.kinds[root] != "real") | np.isin(root, chosen)
        return self._taken(np.concatenate([chosen, train[joins]]))

    def _taken(self, rows: np.ndarray) -> Dataset:
        assert self.dataset.y is not None
        return self.dataset_of(np.asarray(self.dataset.x[rows]), self.dataset.y[rows])

    def seed(self, pair: int, order: int = 0) -> int:
        """Gives the seed of a pair; the images come in another order for another ``order``."""
        return ((self.config.seed * 1000 + pair) % 2**31 + 1_000_003 * order) % 2**31

    def dataset_of(self, x: np.ndarray, y: np.ndarray) -> Dataset:
        """Makes a dataset of training images, levels (N, C, H, W), and their labels (N,)."""
        none = np.zeros(0, np.int64)
        return assemble(
            x,
            y,
            self.dataset.classes,
            {"train": np.arange(len(x)), "valid": none, "test": none},
            levels=self.dataset.levels,
            name=self.dataset.name,
            medium=self.dataset.medium.name,
        )

    def fit(self, data: Dataset, pair: int, transform: Any = None, order: int = 0) -> Any:
        """Trains the small net for the steps that all arms have; gives it as it is published."""
        import torch

        from core.classifier import Classifier, ClassifierConfig
        from core.training import TrainConfig, Trainer, spec_of
        from core.training.trained import finished

        config, seed = self.config, self.seed(pair)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # first weights: those of the pair
            # every class has an output, also one that this subset lacks
            model = Classifier(ClassifierConfig(width=config.width), spec_of(data))
        train = TrainConfig(
            images=config.steps * config.batch,
            batch=config.batch,
            seed=self.seed(pair, order),
            watch=False,
            precision="float32",
        )
        trainer = Trainer(model, data, train, torch.device("cpu"), transform)
        return finished(trainer, "Training a classifier", self.watch.quiet())

    def pupil(self, data: Dataset, pair: int, transform: Any = None, order: int = 0) -> Pupil:
        """Lets the referee learn from images, for the steps that all arms have."""
        return referees.get(self.config.referee).make(self, data, pair, transform, order)

    def accuracy(self, model: Any) -> float:
        """Measures the share of the test images that are named rightly, in percent.

        Args:
            model: Gives logits (N, classes) of what a model sees, or is a :class:`Pupil`.
        """
        import torch

        pupil = model if isinstance(model, Pupil) else Pupil(lambda x: model(x).argmax(1), model)
        # a training from outside is a process for each call
        parts = self.test_x.split(500 if pupil.logits else len(self.test_x))
        with torch.inference_mode():
            named = torch.cat([pupil.predict(part) for part in parts])
        return 100 * float((named.numpy() == self.test_y).mean())

    @property
    def eps(self) -> float:
        """The strength of the attack under which robust accuracy is measured."""
        return hardness.usual(self.dataset.shape, self.dataset.medium)

    def under_attack(self, pupil: Pupil, pair: int) -> float | None:
        """Measures the accuracy that an attack leaves, in percent; None where nothing gives a gradient."""
        medium = self.dataset.medium
        if not self.config.robust or pupil.logits is None or "linf" not in medium.norms:
            return None
        few = evenly(np.arange(len(self.test)), hardness.MOST)
        return hardness.left(
            pupil.logits,
            self.dataset.items(self.test[few]),
            self.test_y[few],
            medium,
            self.eps,
            self.seed(pair),
        )

    def run(self, pair: int, size: int, arm: str) -> tuple[float, dict[str, Any] | None]:
        """Does one fit; gives its accuracy in percent, and what became of the samples of a synthetic arm."""
        entry = arms.get(arm)
        lesson = entry.make(self, pair, size)
        pupil = self.pupil(lesson.data, pair, self.transform(entry), lesson.order)
        hard = self.under_attack(pupil, pair)
        if hard is not None:
            self.robust[pair, size, arm] = hard
        return self.accuracy(pupil), lesson.samples


def perform(
    experiment: Experiment,
    done: dict[tuple[int, int, str], float],
    synthetic: list[dict[str, Any]],
) -> Iterator[tuple[int, int, str, float]]:
    """Does the fits that are not in ``done`` yet, adding to it; yields each as (pair, size, arm, accuracy)."""
    for fit in experiment.places:
        if fit in done:
            continue
        accuracy, samples = experiment.run(*fit)
        done[fit] = accuracy
        if samples:
            synthetic.append({"arm": fit[2], **samples})
        yield (*fit, accuracy)


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

    def clock(act: Callable[[], Any], times: int = 1) -> float:
        took = []
        for _ in range(
            times
        ):  # of a computer that does something else as well, the quicker one counts
            began = time.perf_counter()
            act()
            took.append(time.perf_counter() - began)
        return min(took)

    trial.pupil(plain, 0)  # the first one pays for imports
    chains = {None: None} | trial.chains
    per_step = {
        id: clock(lambda chain=chain: trial.pupil(plain, 0, chain), 2) / 20
        for id, chain in chains.items()
    }
    total, places = 0.0, Experiment(dataset, config).places
    for arm in config.arms:
        seconds = config.steps * per_step[arm.pipeline(config) if arm.pipeline else None]
        seconds += arm.nets * config.steps * per_step[None]
        if arm.samples:
            small = {"model_images": 640, "synthetic_per_class": 2}
            short = Experiment(dataset, few.model_copy(update=small))
            whole = clock(lambda short=short: with_samples(short, 0, config.sizes[0]))
            seconds += (whole - 20 * per_step[None]) * config.model_images / 640
            seconds += config.steps * per_step[None]
        total += seconds * sum(place[2] == arm.name for place in places)
    return total
