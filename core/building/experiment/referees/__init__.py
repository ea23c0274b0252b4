"""The referees of an experiment: what learns from the images of an arm, and is judged by the real test images.

One file in this folder is one referee, of the file's name. All arms of a pair have the same one, with the same seed and
as many steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from core.catalog import Entry, Registry
from core.datasets import Dataset
from core.ground.watch import Watch

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Bench(Protocol):
    """What a referee sees of an experiment.

    Attributes:
        config: What was asked.
        dataset: Whose classes are told apart.
        watch: May end a training that is not ours.
    """

    config: Any
    dataset: Dataset
    watch: Watch

    def fit(self, data: Dataset, pair: int, transform: Any = None, order: int = 0) -> Any:
        """Trains the small net."""
        ...

    def seed(self, pair: int, order: int = 0) -> int:
        """Gives the seed of a pair."""
        ...


@dataclass(frozen=True)
class Pupil:
    """What has learned.

    Attributes:
        predict: Gives the class of each item, (N,), of what a model sees, (N, …) in [0, 1].
        logits: Gives (N, classes), with a gradient; None where there is none, and so no attack by it.
    """

    predict: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Referee(Entry):
    """A referee; ``make(bench, data, pair, transform, order) -> Pupil``.

    Attributes:
        order: Its place among the referees.
        short: What a sentence calls it.
        check: Refuses what it cannot do for a dataset and a config.
    """

    order: int
    short: str
    check: Callable[[Dataset, Any], None] = lambda dataset, config: None


referees = Registry("referee", Referee, "core.building.experiment.referees")
