"""The classifier under attack, and the scores of its logits that an attack raises.

It takes items, float32 (N, …) in [0, 1], (N, C, H, W) for images; the medium makes of them what its module sees.

References (used throughout the code):
    [1] Croce and Hein, 2020, Reliable evaluation (AutoAttack, DLR loss), https://arxiv.org/abs/2003.01690
    [2] Athalye et al., 2018, Obfuscated gradients (BPDA, EOT), https://arxiv.org/abs/1802.00420
    [3] Carlini and Wagner, 2017, Towards evaluating the robustness of neural networks, https://arxiv.org/abs/1608.04644
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.catalog import UserError
from core.gradients import StraightThrough, bypassed
from core.media import media
from core.runs import Opened
from core.tensors import Batch, device

Score = Callable[[Tensor], Tensor]  # logits (N, K) -> what an attack raises, (N,)


class Target:
    """A classifier under test: its preprocessing inside, its passes counted, evaluation mode, float32.

    Attributes:
        name: For people.
        shape: Of one item, (C, H, W) for images.
        medium: Of the items.
        classes: Their names; as many as it has logits.
        card: What a report says about it: run, hash, architecture, preprocessing.
        eot: Draws over which every answer and gradient is averaged, for a random model [2].
        bpda: Whether steps without a gradient (rounding, signs, casts) pass it through unchanged [2].
        bypass: Whether the gradient skips what is done to the image before a part of the module gets it [2].
        logs: Whether its outputs are probabilities, whose logarithms serve as logits.
        forward, backward: Images passed forward and backward so far.
        notes: Sentences for the report: what had to be changed so that it works.
        batch: Images at a time; halved when they do not fit into memory.
        detached: Whether it has cut the graph, so that it has no gradient at all.
        on_pass: Called before every pass; it may raise :class:`core.ground.watch.Stopped` to end an attack.
    """

    def __init__(
        self,
        module: nn.Module | Callable[[Tensor], Tensor],
        classes: Sequence[str],
        shape: Sequence[int],
        *,
        medium: str = "image",
        name: str = "classifier",
        card: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.module, self.name = module, name
        self.classes, self.shape, self.medium = tuple(classes), tuple(shape), media.get(medium)
        self.card = dict(card or {})
        self.device = torch.device(device)
        self.eot, self.bpda, self.bypass, self.logs = 1, False, False, False
        self.forward = self.backward = 0
        self.notes: list[str] = []
        self.batch = max(16, min(1000, 2**20 // math.prod(self.shape)))
        self.detached = False
        self.on_pass: Callable[[], None] | None = None
        if isinstance(module, nn.Module):
            if any(part.training for part in module.modules()):
                module.eval()
                self.notes.append("It was in training mode, and was put into evaluation mode.")
            module.to(self.device)

    @property
    def answers_only(self) -> bool:
        """Whether it has no gradients by its nature, so that none is missing."""
        return bool(self.card.get("answers_only"))

    @classmethod
    def of(cls, opened: Opened) -> Target:
        """Puts a classifier under test: one that was trained here, or brought."""
        return cls(
            opened.model, opened.classes, opened.blank.shape,
            medium=opened.spec.medium, name=opened.name, card=opened.card, device=device(),
        )  # fmt: skip

    def with_(self, **changes: Any) -> Target:
        """Copies it with other settings, ``with_(eot=20, bpda=True)``; the copy counts its own passes."""
        other = copy.copy(self)
        other.forward = other.backward = 0
        other.notes = list(self.notes)
        for name, value in changes.items():
            if name not in ("eot", "bpda", "bypass", "logs", "batch", "name"):
                raise TypeError(f"a target has no {name!r} to change")
            setattr(other, name, value)
        return other

    def raw(self, x: Batch) -> Tensor:
        """Applies the module once to what it sees of items, and checks its output, (N, K).

        Raises:
            UserError: If it gives no row of logits per image, or not one per class.
        """
        out = self.module(x)
        if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != len(x):
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise UserError(
                f"{self.name} must give one row of logits per image, ({len(x)}, classes), got {shape}. "
                "Wrap it in a module that does."
            )
        if out.shape[1] != len(self.classes):
            raise UserError(
                f"{self.name} gives {out.shape[1]} logits, but the data has {len(self.classes)} classes. "
                "Choose the dataset that it was trained for."
            )
        return out.float()

    def logits(self, x: Batch) -> Tensor:
        """Gives logits, (N, K), without gradient, in batches."""
        with torch.no_grad():
            return self._in_parts(lambda part, _: (self._averaged(part),), x.to(self.device))[0]

    def predict(self, x: Batch) -> Tensor:
        """Names the class of each image, (N,); -1 where the output is not a number."""
        return decide(self.logits(x))

    def probabilities(self, x: Batch) -> Tensor:
        """Gives the probability of each class, (N, K)."""
        return self.logits(x).softmax(1)

    def climb(self, x: Batch, score: Score) -> tuple[Tensor, Tensor, Tensor]:
        """Gives logits (N, K), the score (N,) and its gradient at the images (N, C, H, W); nan becomes 0.

        A classifier that cuts its graph has gradient 0, and :attr:`detached` says so.

        Raises:
            UserError: If it has none by its nature.
        """
        self.allow_gradients()

        def part(x: Tensor, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
            sums: list[Tensor] = []
            for _ in range(self.eot):
                image = x.detach().requires_grad_()
                with torch.enable_grad():
                    out = self.once(image)
                    value = _rows(score, out, rows)
                slope = None
                if out.requires_grad:
                    (slope,) = torch.autograd.grad(value.sum(), image, allow_unused=True)
                if slope is None:
                    self.detached, slope = True, torch.zeros_like(x)
                self.backward += len(x)
                drawn = [out.detach(), value.detach(), slope]
                sums = [a + b for a, b in zip(sums, drawn, strict=True)] if sums else drawn
            logits, value, slope = sums if self.eot == 1 else [total / self.eot for total in sums]
            return logits, value, slope.nan_to_num(0.0, 0.0, 0.0)

        logits, value, slopes = self._in_parts(part, x)
        return logits, value, slopes

    def jacobian(self, x: Batch, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Gives logits (N, K) and the gradients of those of chosen classes (N, k), (N, k, C, H, W); nan becomes 0.

        Raises:
            UserError: If it has none by its nature.
        """
        self.allow_gradients()

        def part(x: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            classes = chosen[rows]
            image = x.detach().requires_grad_()
            with torch.enable_grad():
                out = self.once(image)
                picked = out.gather(1, classes)  # (n, k)
            count = classes.shape[1]
            if not out.requires_grad:
                self.detached = True
                return out.detach(), x.new_zeros(len(x), count, *x.shape[1:])
            slopes = [
                torch.autograd.grad(picked[:, k].sum(), image, retain_graph=k + 1 < count)[0]
                for k in range(count)
            ]
            self.backward += len(x) * count
            return out.detach(), torch.stack(slopes, 1).nan_to_num(0.0, 0.0, 0.0)

        logits, slopes = self._in_parts(part, x)
        return logits, slopes

    def allow_gradients(self) -> None:
        """Refuses what needs gradients where there are none.

        Raises:
            UserError: If it gives answers only.
        """
        if self.answers_only:
            raise UserError(
                f"{self.name} gives answers only, without gradients, and this needs them. "
                "Attack it with noise, square or surrogate, or choose a classifier that was brought by its weights."
            )

    def once(self, x: Tensor) -> Tensor:
        """Gives the logits of one batch (N, K) by one pass, which is counted."""
        if self.on_pass is not None:
            self.on_pass()
        with ExitStack() as modes:
            if self.bpda:
                modes.enter_context(StraightThrough())
            seen = self.medium.to_model(x)
            if self.bypass and isinstance(self.module, nn.Module):
                modes.enter_context(bypassed(self.module, seen))
            try:
                out = self.raw(seen)
            except RuntimeError as error:
                if not self.bypass or isinstance(error, torch.OutOfMemoryError):
                    raise
                out = None
        if (
            out is None
        ):  # the module takes a gradient inside, of something that the bypass has cut off
            self.bypass = False
            return self.once(x)
        self.forward += len(x)
        return out.clamp_min(1e-30).log() if self.logs else out

    def _averaged(self, x: Tensor) -> Tensor:
        if self.eot == 1:
            return self.once(x)
        # a random model decides by the mean of its probabilities
        return torch.stack([self.once(x).softmax(1) for _ in range(self.eot)]).mean(0).log()

    def _in_parts(
        self, make: Callable[[Tensor, slice], tuple[Tensor, ...]], x: Tensor
    ) -> list[Tensor]:
        """Applies a function to batches and their rows; one that does not fit into memory is halved, as a note says."""
        while True:
            try:
                parts = [
                    make(part, slice(k * self.batch, k * self.batch + len(part)))
                    for k, part in enumerate(x.split(self.batch))
                ]
                return [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
            except (torch.OutOfMemoryError, MemoryError) as error:
                if self.batch == 1:
                    raise UserError(
                        f"Not even one image fits into the memory with {self.name} ({error}). "
                        "Use smaller images, or a machine with more memory."
                    ) from None
                self.batch = max(1, min(self.batch, len(x)) // 2)
                self.notes.append(f"Memory was short: it is given {self.batch} images at a time.")
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()


def laid_out(opened: Opened) -> Opened:
    """Stores convolutions channels last, where a processor is faster with that: by a quarter at 28 px, slower at 8."""
    if device().type == "cpu" and opened.spec.size >= 16:
        opened.model.to(memory_format=torch.channels_last)
    return opened


def _rows(score: Score, logits: Tensor, rows: slice) -> Tensor:
    """Applies a score to a batch; one that knows the labels of all images says which rows it needs."""
    at = getattr(score, "at", None)
    return score(logits) if at is None else at(logits, rows)


class Climb:
    """A score of logits, with one label and perhaps one class to aim at per image; :meth:`at` scores a part of them.

    Attributes:
        kind: ``ce``, ``margin`` or ``dlr``.
        y: Labels (N,).
        towards: Classes to aim at (N,), or None to leave the label.
    """

    def __init__(self, kind: str, y: Tensor, towards: Tensor | None = None) -> None:
        self.kind, self.y, self.towards = kind, y, towards

    def __call__(self, logits: Tensor) -> Tensor:
        return self.at(logits, slice(None))

    def at(self, logits: Tensor, rows: slice) -> Tensor:
        """Scores the logits of some rows."""
        towards = None if self.towards is None else self.towards[rows]
        return SCORES[self.kind](logits, self.y[rows], towards)


def ce(logits: Tensor, y: Tensor, towards: Tensor | None = None) -> Tensor:
    """Gives the cross entropy of the label in nats, (N,), or minus that of the class aimed at; higher is worse."""
    if towards is not None:
        return -F.cross_entropy(logits, towards, reduction="none")
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor, towards: Tensor | None = None) -> Tensor:
    """Gives the lead of the best other class, or of the one aimed at, over the label, (N,); above 0 is fooled [3]."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    if towards is not None:
        return logits.gather(1, towards[:, None]).squeeze(1) - own
    return others(logits, y).amax(1) - own


def dlr(logits: Tensor, y: Tensor, towards: Tensor | None = None) -> Tensor:
    """Gives the difference of logits over their spread, (N,): like the margin, but of no scale ([1], eq. 6 and 7).

    Three classes are needed, four where one is aimed at; with fewer it is the margin.
    """
    ranked = logits.sort(1, descending=True).values
    if towards is not None:
        if logits.shape[1] < 4:
            return margin(logits, y, towards)
        spread = ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2
        return margin(logits, y, towards) / (spread + 1e-12)
    if logits.shape[1] < 3:
        return margin(logits, y)
    return margin(logits, y) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


SCORES: Mapping[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "ce": ce,
    "margin": margin,
    "dlr": dlr,
}


def others(logits: Tensor, y: Tensor) -> Tensor:
    """Gives the logits with the label's at minus infinity, (N, K)."""
    return logits.scatter(1, y[:, None], -math.inf)


def decide(logits: Tensor) -> Tensor:
    """Names the largest logit, (N,); -1 where one is not a number."""
    return logits.argmax(1).masked_fill(logits.isnan().any(1), -1)
