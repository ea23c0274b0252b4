"""The arms of an experiment: what a classifier is trained with beside the real images.

One file in this folder is one arm, of the file's name. Its switch among the parameters, its place in the record, its
words and its share of the expected time follow from what it says of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from core.catalog import Entry, Registry
from core.datasets import Dataset


@runtime_checkable
class Setup(Protocol):
    """What an arm sees of an experiment.

    Attributes:
        config: What was asked.
    """

    config: Any

    def subset(self, pair: int, size: int) -> Dataset:
        """Gives the real training images of a pair, ``size`` of each class."""
        ...

    def dataset_of(self, x: np.ndarray, y: np.ndarray) -> Dataset:
        """Makes a dataset of training images, levels (N, C, H, W), and their labels (N,)."""
        ...

    def with_items(self, pair: int, size: int, origins: tuple[str, ...]) -> Dataset:
        """Gives the real training images of a pair, and the items of these origins that may join them."""
        ...

    def fit(self, data: Dataset, pair: int) -> Any:
        """Trains the small net on it, as it does for all arms."""
        ...

    def seed(self, pair: int, order: int = 0) -> int:
        """Gives the seed of a pair."""
        ...


@dataclass(frozen=True)
class Lesson:
    """What the classifier of an arm is trained with.

    Attributes:
        data: The images.
        samples: What became of generated ones: ``size``, ``pair``, ``made``, ``kept``, ``refused``.
        order: The images come in another order for another number.
    """

    data: Dataset
    samples: Mapping[str, Any] | None = None
    order: int = 0


@dataclass(frozen=True, kw_only=True)
class Arm(Entry):
    """An arm; ``make(trial, pair, size) -> Lesson``.

    Attributes:
        order: Its place among the arms.
        leads: The verdict of an experiment is about the arm that leads most.
        help: What its switch says; empty for the one that is always there.
        label: The switch's title; the arm's name if empty.
        on: Whether the switch is on at first.
        pipeline: Gives the id of the chain that changes its images in training.
        samples: Whether it trains a generative model and adds its samples.
        nets: Small nets that it trains beside the referee's, to make what it adds.
        origins: Kinds of the items of a version (:func:`core.building.version.kinds`) that it adds to the real ones;
            empty for an arm that makes its own.
        whole: Whether it means something only where all real training images are taken.
    """

    order: int
    leads: int = 0
    help: str = ""
    label: str = ""
    on: bool = False
    pipeline: Callable[[Any], str] | None = None
    samples: bool = False
    nets: int = 0
    origins: tuple[str, ...] = ()
    whole: bool = False


arms = Registry("arm", Arm, "core.building.experiment.arms")


def ordered() -> list[Arm]:
    """Lists the arms, the plain one first."""
    return sorted(arms, key=lambda arm: arm.order)
