"""The registry of augmentations, and what each of them is given: numbers that depend on seed and id alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from core.catalog import Config, Registry, UserError
from core.media import Form, Taker
from core.tensors import Batch, Images, noise

Params = dict[str, Tensor]
C = TypeVar("C", bound=Config)
F = TypeVar("F", bound=Callable[..., Any])

GROUPS = (
    "Geometry",
    "Colour",
    "Noise and blur",
    "Cut and mix",
    "Policies",
    "Sound",
    "Text",
    "Generative",
)

Code = Callable[[Any], str]  # of the step's config


@dataclass(frozen=True, kw_only=True)
class Augmentation(Taker):
    """A step; ``make(config, context) -> Operation``. It takes items.

    Attributes:
        medium: Name of the only medium that it is for; empty for every one whose items it takes. Pictures alone are
            taken of images: a picture that a model sees of something else is none.
        group: Of :data:`GROUPS`.
        strength: The knob that is its magnitude, empty without one.
        neutral: The value of that knob that leaves an image as it is.
        chance: The probability of a new step.
        slow: Whether it works image by image.
        smooth: Whether a gradient passes it, finite for every image, so that it may stand before a critic.
        needs: What it needs beside the image: ``images`` of the dataset, or a ``run``.
        labels: Whether it mixes the labels as well.
        units: Of the numbers that it draws, by name.
        code: Writes the step as one expression of ``x`` for other programs (:mod:`core.augment.exports`).
        torchvision, albumentations: Write a transform of these libraries where it does the same at every size.
        absent: Why it cannot be written for other programs, as the rest of a sentence about it.
    """

    group: str
    medium: str = ""
    strength: str = ""
    neutral: float = 0.0
    chance: float = 1.0
    slow: bool = False
    smooth: bool = False
    needs: tuple[str, ...] = ()
    labels: bool = False
    units: Mapping[str, str] = field(default_factory=dict)
    code: Code | None = None
    torchvision: Code | None = None
    albumentations: Code | None = None
    absent: str = "needs a model of Simulacra"

    def suits(self, form: Form, medium: str = "") -> bool:
        """Tells whether it is for items of a form and a medium; empty stands for images where they are pictures."""
        only = self.medium or ("image" if self.takes == ("picture",) else "")
        return form in self.takes and only in ("", medium or ("image" if form == "picture" else ""))


augmentations = Registry("augmentation", Augmentation)


@dataclass(frozen=True)
class Context:
    """What some steps need beside the image: other images of the dataset, and their labels.

    Attributes:
        x: Images in [0, 1], (M, C, H, W).
        y: Their labels (M,), if there are any.
        classes: Number of classes, 0 without labels.
    """

    x: Tensor | None = None
    y: Tensor | None = None
    classes: int = 0


@dataclass(frozen=True)
class Draws:
    """Random numbers of one step for a batch of images; each row depends on seed, id and stream alone.

    Attributes:
        seed: Of the whole chain.
        ids: One number per image, (N,), on the device of the images.
        stream: Name of the step within its chain.
        y: Labels (N,), if there are any.
    """

    seed: int
    ids: Tensor
    stream: str
    y: Tensor | None = None

    def uniform(self, name: str, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draws uniform numbers between two bounds, (N, *shape)."""
        stream = f"{self.stream}.{name}"
        u = noise(self.seed, self.ids, shape, stream, uniform=True, device=self.ids.device)
        return low + (high - low) * u

    def keys(self) -> Tensor:
        """Draws an id per image, int64 (N,), from which `apply` draws what is too large to keep."""
        high, low = (self.uniform("key", 2) * 2**23).to(torch.int64).unbind(1)
        return high * 2**23 + low


@runtime_checkable
class Operation(Protocol):
    """One step: draws its parameters per image, and applies them to a batch.

    Names of drawn parameters that begin with ``_`` are for the machine and not shown.
    """

    def draw(self, draws: Draws) -> Params:
        """Draws one row of parameters per image."""
        ...

    def apply(self, x: Images, params: Params) -> Images:
        """Changes images in [0, 1], (N, C, H, W), each by its own row; the same rows give the same images."""
        ...


class Configured(Generic[C]):
    """A step that is made from its parameters and nothing else."""

    def __init__(self, config: C, context: Context) -> None:
        self.config = config


@dataclass(frozen=True)
class NumberStep:
    """A step that draws one number per image, evenly between two bounds, and changes the image by it."""

    number: str
    bounds: tuple[float, float]
    change: Callable[[Batch, Tensor], Batch]

    def draw(self, draws: Draws) -> Params:
        low, high = self.bounds
        return {self.number: draws.uniform(self.number, low=low, high=high)}

    def apply(self, x: Batch, params: Params) -> Batch:
        return self.change(x, params[self.number])


def by_number(
    name: str,
    title: str,
    config: type[C],
    number: str,
    bounds: Callable[[C], tuple[float, float]],
    *,
    unit: str = "",
    **entry: Any,
) -> Callable[[F], F]:
    """Registers a function of images and one number each, (N,), as a step that draws the number.

    In other programs the step is a call of the function of the same name there, if ``code`` says nothing else.

    Args:
        name, title, config: Of the step.
        number: What the number is called.
        bounds: Gives the range of the number by the step's config.
        unit: Of the number.
        entry: Further fields of :class:`Augmentation`.
    """

    def register(change: F) -> F:
        def make(config: C, context: Context) -> NumberStep:
            return NumberStep(number, bounds(config), change)

        def code(config: C) -> str:
            low, high = bounds(config)
            return f"{change.__name__}(x, random.uniform({low:g}, {high:g}))"

        make.__doc__ = change.__doc__
        entry.setdefault("code", code)
        augmentations.add(name, title, config, units={number: unit}, **entry)(make)
        return change

    return register


def spread(value: Tensor) -> Tensor:
    """Shapes one number per image (N,) so that it multiplies images."""
    return value[:, None, None, None]


def needed(context: Context, title: str) -> Tensor:
    """Gives the other images that a step mixes in.

    Raises:
        UserError: If there are none.
    """
    if context.x is None or not len(context.x):
        raise UserError(
            f"{title} mixes in other images of a dataset, and there are none here. "
            "Choose a dataset with at least 2 images, or leave this step out."
        )
    return context.x


def rows(params: Mapping[str, Tensor], chosen: Tensor) -> Params:
    """Takes the rows of some of the images."""
    return {name: value[chosen] for name, value in params.items()}
