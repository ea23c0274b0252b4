"""How large a change of an item is, and how large it may be: norms, and ``eps``, the strength of an attack.

Items are float32 (N, …) in [0, 1], images (N, C, H, W); ``eps`` is on that scale, whatever the classifier does to its
input.

References (used throughout the code):
    [1] Duchi et al., 2008, Efficient projections onto the l1-ball, https://doi.org/10.1145/1390156.1390191
    [2] Tramer and Boneh, 2019, Adversarial training and robustness for multiple perturbations, https://arxiv.org/abs/1904.13000
    [3] Croce and Hein, 2020, Reliable evaluation (AutoAttack), https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from core.catalog import UserError
from core.media import media
from core.tensors import Batch

NEAR = 1e-6  # slack of a budget, for float32
SUITED = 0.0  # the ``eps`` of a config that stands for the usual one


class Norm(ABC):
    """One way to measure a change; the changes that are no longer than ``eps`` are its ball.

    Attributes:
        name: In configs and reports.
        title: As libraries of attacks write it.
        words: What it bounds, in everyday words.
        order: Which of the p-norms it is.
        share: The usual strength, of :meth:`largest` times that of Linf: CIFAR-10's proportions [3].
        box: It bounds every value by itself, so that its ball is kept to the last bit.
        scale, unit: The factor and the unit with which ``eps`` is written for people.
        axis: The axis title of a curve against ``eps``.
    """

    name: str
    title: str
    words: str
    order: float
    share: float
    box: bool = False
    scale: int = 1
    unit: str
    axis: str

    @abstractmethod
    def length(self, change: Tensor) -> Tensor:
        """Measures changes (N, …), (N,)."""

    @abstractmethod
    def within(self, x: Batch, moved: Tensor, eps: float | Tensor) -> Batch:
        """Gives the images in [0, 1] and within ``eps`` (one, or one per image) of ``x`` that ``moved`` stands for.

        The change is projected onto the ball, then clipped to the range, which only shortens it.
        """

    @abstractmethod
    def steepest(self, slope: Tensor, x: Batch | None = None) -> Tensor:
        """Gives the change of length 1 that follows a gradient (N, C, H, W) best, from images where it matters."""

    @abstractmethod
    def largest(self, size: int) -> float:
        """Gives the budget within which an item of so many values can become any other."""

    @property
    def dual(self) -> Norm:
        """The norm that measures gradients where this one measures changes."""
        return next(norm for norm in NORMS if 1 / norm.order + 1 / self.order == 1)

    def text(self, eps: float) -> str:
        """Writes a strength: Linf as levels of 255, the others as a number.

        >>> LINF.text(8 / 255), L2.text(0.5)
        ('8/255', '0.5')
        """
        return f"{eps * self.scale:.3g}{self.unit if self.box else ''}"


class _Linf(Norm):
    name, title, order, share = "linf", "Linf", math.inf, 1.0
    words = "each value a little"
    box, scale, unit, axis = True, 255, "/255", "largest change of a value (/255)"

    def length(self, change: Tensor) -> Tensor:
        return change.flatten(1).abs().amax(1)

    def within(self, x: Batch, moved: Tensor, eps: float | Tensor) -> Batch:
        half = wide(eps, x) if isinstance(eps, Tensor) else eps
        return torch.clamp(moved, x - half, x + half).clamp_(0, 1)

    def steepest(self, slope: Tensor, x: Batch | None = None) -> Tensor:
        return slope.sign()

    def largest(self, size: int) -> float:
        return 1.0


class _L2(Norm):
    name, title, order, share = "l2", "L2", 2.0, 0.29
    words = "all values together"
    unit, axis = "L2", "L2 length of the change"

    def length(self, change: Tensor) -> Tensor:
        return change.flatten(1).square().sum(1).sqrt()

    def within(self, x: Batch, moved: Tensor, eps: float | Tensor) -> Batch:
        change = moved - x
        shrink = (eps / self.length(change).clamp_min(1e-12)).clamp(max=1)
        return (x + change * wide(shrink, x)).clamp(0, 1)

    def steepest(self, slope: Tensor, x: Batch | None = None) -> Tensor:
        return slope / wide(self.length(slope).clamp_min(1e-30), slope)

    def largest(self, size: int) -> float:
        return math.sqrt(size)


class _L1(Norm):
    name, title, order, share = "l1", "L1", 1.0, 0.125
    words = "sum of all changes"
    unit, axis = "L1", "L1 length of the change"

    def length(self, change: Tensor) -> Tensor:
        return change.flatten(1).abs().sum(1)

    def within(self, x: Batch, moved: Tensor, eps: float | Tensor) -> Batch:
        change = moved - x
        flat = change.flatten(1)
        eps = torch.as_tensor(eps, dtype=flat.dtype, device=flat.device)
        eps = eps.expand(len(flat))[:, None]
        size = flat.abs()
        ranked = size.sort(1, descending=True).values  # [1], figure 1
        excess = ranked.cumsum(1) - eps
        count = torch.arange(1, flat.shape[1] + 1, device=flat.device)
        held = (ranked - excess / count > 0).sum(1).clamp_min(1)
        cut = (excess.gather(1, held[:, None] - 1) / held[:, None]).clamp_min(0)
        short = (flat.sign() * (size - cut).clamp_min(0)).view_as(change)
        return (x + torch.where(wide(size.sum(1) <= eps[:, 0], x), change, short)).clamp(0, 1)

    def steepest(self, slope: Tensor, x: Batch | None = None) -> Tensor:
        # the steepest twentieth of the values that can still move share it ([2], section 5)
        flat = slope.flatten(1)
        if x is not None:
            stuck = ((x >= 1) & (slope > 0)) | ((x <= 0) & (slope < 0))
            flat = flat.masked_fill(stuck.flatten(1), 0.0)
        count = max(1, flat.shape[1] // 20)
        edge = flat.abs().topk(count, 1).values[:, -1:]
        chosen = flat.sign() * (flat.abs() >= edge)
        return (chosen / chosen.abs().sum(1, keepdim=True).clamp_min(1)).view_as(slope)

    def largest(self, size: int) -> float:
        return float(size)


LINF, L2, L1 = _Linf(), _L2(), _L1()
NORMS: tuple[Norm, ...] = (LINF, L2, L1)


def norm_of(name: str) -> Norm:
    """Finds the norm that a config or a report names.

    Raises:
        KeyError: If there is none.
    """
    return {norm.name: norm for norm in NORMS}[name]


def wide(v: Tensor, x: Tensor) -> Tensor:
    """Gives one number per item (N,) a shape that multiplies items like ``x`` (N, …)."""
    return v.view(-1, *(1,) * (x.ndim - 1))


@dataclass(frozen=True)
class Budget:
    """The strengths ``eps`` of attacks on items of one shape, in one norm: the usual ones, and those that people write.

    Attributes:
        norm: What measures a change.
        shape: Of the items, (C, H, W) for images.
        medium: Of the items, which says what is usual.

    Raises:
        UserError: If changes of such items are not measured in that norm.
    """

    norm: Norm
    shape: tuple[int, ...]
    medium: str = "image"

    def __post_init__(self) -> None:
        norms = media.get(self.medium).norms
        if self.norm.name not in norms:
            raise UserError(
                f"A change of this medium ({self.medium}) is not measured in {self.norm.title}. "
                f"Choose from: {', '.join(norms)}."
            )

    @property
    def largest(self) -> float:
        """The strength at which any item becomes any other."""
        return self.norm.largest(math.prod(self.shape))

    @property
    def usual(self) -> float:
        """The strength at which items of this kind are usually attacked."""
        linf = media.get(self.medium).usual(self.shape)
        if self.norm is LINF:
            return linf
        return float(f"{self.norm.share * self.largest * linf:.2g}")

    def chosen(self, eps: float) -> float:
        """Gives a strength, or the usual one where :data:`SUITED` stands for it."""
        return eps or self.usual

    def sweep(self) -> list[float]:
        """Gives rising strengths: from an eighth of the usual one, doubling up to the largest."""
        strengths = [self.usual / divisor for divisor in (8, 4, 2, 1)]
        while strengths[-1] * 2 < self.largest:
            strengths.append(strengths[-1] * 2)
        return [*strengths, self.largest]

    def read(self, text: str) -> list[float]:
        """Reads strengths as a person writes them, ``8/255, 0.1``; rising, without repeats.

        Raises:
            UserError: If one is no number, negative, or larger than any item needs ("8" where "8/255" was meant).
        """
        top, example = self.largest, LINF.text(8 / 255)
        strengths = []
        for word in filter(None, text.replace(";", ",").replace(" ", ",").split(",")):
            try:
                above, _, below = word.partition("/")
                eps = float(above) / (float(below) if below else 1.0)
            except (ValueError, ZeroDivisionError):
                raise UserError(
                    f"An attack strength must be a number, got {word!r}. For example {example}, or 0.1."
                ) from None
            if not 0 <= eps < math.inf:
                raise UserError(
                    f"An attack strength must be 0 or more, got {word}. For example {example}."
                )
            if eps > top:
                meant = self.norm.box and eps <= self.norm.scale
                raise UserError(
                    f"An attack strength must be at most {top:g} ({self.norm.name}, values from 0 to 1), got {word}. "
                    + (f"Did you mean {word}{self.norm.unit}?" if meant else "Lower it.")
                )
            strengths.append(eps)
        return sorted(set(strengths))
