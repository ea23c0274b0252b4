"""Generative models attacked, attacking, and used as a defence; each trick says what happened in numbers and pictures.

One file in this folder is one trick, of the file's name: ``make(config, opened, dataset, target)`` with ``@tricks.add``
yields :class:`Shown` as it goes on. ``encoder``, ``critic`` and ``likelihood`` attack a model, ``latent`` attacks a
classifier with one, ``purify`` defends a classifier, ``harden`` a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.ascent import climb
from core.catalog import Config, Registry, UserError, knob, seed_knob
from core.datasets import Dataset, evenly
from core.ground.stats import proportion
from core.ground.writing import percent
from core.media import Taker
from core.norms import LINF, SUITED, Budget
from core.runs import Opened
from core.tensors import Images, noise, to_bytes


@dataclass(frozen=True, kw_only=True)
class Trick(Taker):
    """A trick; ``make(config, opened, dataset, target) -> Iterator[Shown]``. It takes items, and changes them.

    Attributes:
        fits: Tells whether it can be tried on a model.
        classifier: It needs a classifier; ``target`` is None otherwise.
        times: Its usual attack strength, as a multiple of the one that suits the items.
    """

    fits: Callable[[Opened], bool]
    classifier: bool = False
    times: float = 1.0

    def strength(self, dataset: Dataset, eps: float = SUITED) -> float:
        """Gives the attack strength that was chosen, or where none was, the one that suits the trick and the items."""
        return eps or self.times * Budget(LINF, dataset.shape, dataset.medium.name).usual


tricks = Registry("trick", Trick, "core.robustness.tricks")
LEVELS = (0.25, 0.5, 1.0, 2.0)  # strengths of a curve, as multiples of the chosen one


@dataclass
class Shown:
    """The results of a trick so far.

    Attributes:
        sentence: The result in words.
        numbers: Rows of ``name``, ``value`` and ``what`` (texts); with ``low``, ``high``, ``n`` for a share.
        pictures: Rows of ``title``, ``x`` (uint8, (N, C, H, W)) and ``columns``.
        curve: ``x``, ``x_title``, ``y_title``, ``lines`` (name to values), or None.
        done: Share of the work, 0 to 1.
    """

    sentence: str
    numbers: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    curve: dict[str, Any] | None = None
    done: float = 0.0


class ImagesConfig(Config):
    """How many items a trick is tried on."""

    n: int = knob(
        32,
        "How many items of the dataset are attacked.",
        title="Images",
        ge=1,
        le=1000,
        unit="images",
        visitor=100,
    )


class TrickConfig(ImagesConfig):
    """Parameters that most tricks share."""

    eps: float = knob(
        SUITED,
        "Largest change of a value, of a range of 1: 0.1 is 26/255. 0 takes what suits the dataset.",
        title="Attack strength (eps)",
        ge=0,
        le=1,
    )
    steps: int = knob(
        20, "Steps of the attack.", ge=1, le=1000, unit="steps", advanced=True, visitor=100
    )
    seed: int = seed_knob("Of everything random.", advanced=True)


# --- Images in, images out ------------------------------------------------------------------------------------------


def images_of(opened: Opened, dataset: Dataset, n: int) -> tuple[Images, Tensor]:
    """Takes test items, spread evenly, where the model lives; labels are 0 without classes.

    Raises:
        UserError: If there is none, or the model makes images of another size.
    """
    index = dataset.splits["test"]
    if not len(index):
        raise UserError(f"{dataset.name} has no test images. Choose a larger dataset.")
    pick = evenly(index, n)
    where = next(opened.model.parameters()).device
    x = dataset.items(pick, where)
    if tuple(dataset.medium.to_model(x).shape[1:]) != opened.spec.shape:
        raise UserError(
            f"{opened.run} makes images of {opened.spec.size} px, {dataset.name} has {dataset.size} px. "
            "Choose the dataset that it was trained on, at the same size."
        )
    y = np.zeros(len(pick), np.int64) if dataset.y is None else dataset.y[pick]
    return x, torch.as_tensor(y).to(where)


def pushed(
    score: Callable[[Tensor], Tensor], x: Images, eps: float, steps: int, seed: int
) -> Images:
    """Changes images so that a score (N,) rises, from a random place within the budget."""
    u = noise(seed, torch.arange(len(x)), x.shape[1:], "trick", uniform=True, device=x.device)
    return climb(score, x, x + eps * (2 * u - 1), eps, steps)


def noisy(x: Images, eps: float, seed: int) -> Images:
    """Changes every value by the whole budget, up or down by chance: what an attack is compared with."""
    u = noise(seed, torch.arange(len(x)), x.shape[1:], "trick noise", uniform=True, device=x.device)
    return (x + eps * (u - 0.5).sign()).clamp(0, 1)


# --- An attack at rising strength -------------------------------------------------------------------------------------


@dataclass
class Level:
    """An attack at one strength.

    Attributes:
        eps: The strength.
        moved: Images after the attack.
        chosen: Those after the attack at the chosen strength; before it was reached, the untouched ones.
        lines: What was measured up to here, after the attack and after random noise of the same size.
        curve: The same, to be drawn.
        done: Share of the work.
    """

    eps: float
    moved: Images
    chosen: Images
    lines: dict[str, list[float]]
    curve: dict[str, Any]
    done: float


def rising(
    score: Callable[[Tensor], Tensor],
    measure: Callable[[Tensor], float],
    x: Images,
    eps: float,
    config: TrickConfig,
    title: str,
) -> Iterator[Level]:
    """Climbs a score at each of :data:`LEVELS`, and measures it beside random noise; the first value is of ``x``."""
    with torch.no_grad():
        before = measure(x)
    chosen, spent, lines = x, [0.0], {"attack": [before], "random noise": [before]}
    for level in LEVELS:
        budget = min(1.0, level * eps)
        moved = pushed(score, x, budget, config.steps, config.seed)
        chosen = moved if level == 1.0 else chosen
        with torch.no_grad():
            lines["attack"].append(measure(moved))
            lines["random noise"].append(measure(noisy(x, budget, config.seed)))
        spent.append(255 * budget)
        curve = {
            "x": list(spent),
            "x_title": "Largest change of a value (of 255)",
            "y_title": title,
            "lines": {name: list(values) for name, values in lines.items()},
        }
        yield Level(budget, moved, chosen, lines, curve, (len(spent) - 1) / len(LEVELS))


# --- What is shown ----------------------------------------------------------------------------------------------------


def row(name: str, value: str, what: str, n: int) -> dict[str, Any]:
    """Describes one number of n images: its name, its value and what it means, as texts."""
    return {"name": name, "value": value, "what": what, "n": n}


def share(name: str, count: int, n: int, what: str) -> dict[str, Any]:
    """Describes the share ``count`` of n images, with its 95 % interval."""
    low, high = proportion(count, n).interval
    return row(name, percent(count / n), what, n) | {"low": percent(low), "high": percent(high)}


def strip(title: str, x: Images) -> dict[str, Any]:
    """Describes a row of pictures: the first twelve images."""
    shown = to_bytes(x[:12])
    return {"title": title, "x": shown, "columns": len(shown)}
