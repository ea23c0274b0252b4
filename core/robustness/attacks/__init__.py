"""Attacks on a classifier: an attack only proposes images, and the wrapper keeps them within the budget.

One file in this folder is one attack, of the file's name: a generator function with ``@attacks.add``. It yields
:class:`Proposal` after :class:`Proposal`; the wrapper (:class:`Trial`) clips each to budget and range, decides by
itself whether the classifier is fooled, takes fooled images out of the batch by sending back the mask of those that
stay, and counts passes. So every attack can be watched and stopped at every step, and keeps its results so far.

>>> run("pgd", target, x, y, 8 / 255).fooled  # doctest: +SKIP
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from core import tensors  # its `noise` would be hidden by the attack of this name
from core.ascent import Ascent
from core.catalog import Config, Registry, UserError
from core.ground.watch import Stopped
from core.media import FORMS, Form, Taker, form_of
from core.norms import LINF, NEAR, Norm, wide
from core.target import Target, decide
from core.tensors import Batch


@dataclass(frozen=True, kw_only=True)
class Attack(Taker):
    """An attack; ``make(config, target, problem)`` yields proposals and is sent the mask of images that stay.

    Attributes:
        takes: The forms of the items that it can change.
        norms: The norms that it can be bounded by.
        gradient: It takes gradients.
        passes: At most how many passes each image costs, of (config, number of classes).
        smallest: It looks for the smallest change instead of staying within a budget.
        free: No norm bounds it.
        last: It is tried only on what the others have left.
        needs: A package that must be installed.
    """

    takes: tuple[Form, ...] = FORMS
    norms: tuple[Norm, ...]
    gradient: bool
    passes: Callable[[Any, int], int]
    smallest: bool = False
    free: bool = False
    last: bool = False
    needs: str = ""

    @property
    def missing(self) -> str:
        """The package that it needs and does not find; empty where nothing is missing."""
        return self.needs if self.needs and importlib.util.find_spec(self.needs) is None else ""


attacks = Registry("attack", Attack, "core.robustness.attacks")

Steps = Generator["Proposal", Tensor, None]


@dataclass
class Problem:
    """The images that are still to be fooled.

    Attributes:
        x, y: Items (N, …) and labels (N,).
        eps: Budget; the range's own size for attacks that look for the smallest change.
        norm: Of the budget.
        seed, ids: What random draws depend on; ids (N,).
        towards: Class that each image should be taken for (N,), or None for any wrong one.
        first: Where to begin instead of a random place (N, C, H, W), for comparisons.
        left: Which of the images that it began with these are, (N,).
    """

    x: Batch
    y: Tensor
    eps: float
    norm: Norm
    seed: int
    ids: Tensor
    towards: Tensor | None = None
    first: Batch | None = None
    left: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.left = torch.arange(len(self.x), device=self.x.device)

    def keep(self, mask: Tensor) -> None:
        """Drops the images that are done."""
        self.left = self.left[mask]
        self.x, self.y, self.ids = self.x[mask], self.y[mask], self.ids[mask]
        self.towards = None if self.towards is None else self.towards[mask]
        self.first = None if self.first is None else self.first[mask]

    def uniform(self, stream: str) -> Tensor:
        """Draws numbers in (0, 1) for every value, the same for an image in any batch."""
        return tensors.noise(
            self.seed, self.ids, self.x.shape[1:], stream, uniform=True, device=self.x.device
        )

    def normal(self, stream: str) -> Tensor:
        """Draws standard normal numbers for every value, the same for an image in any batch."""
        return tensors.noise(self.seed, self.ids, self.x.shape[1:], stream, device=self.x.device)

    def start(self, stream: str) -> Batch:
        """Draws a place within the budget: uniform in the box, or a random direction at a random length."""
        if self.first is not None:
            return self.first
        if self.norm.box:
            moved = self.x + self.eps * (2 * self.uniform(stream) - 1)
            return moved.clamp(0, 1)
        change = self.normal(stream)
        reach = tensors.noise(
            self.seed, self.ids, (1,), f"{stream} length", uniform=True, device=self.x.device
        )
        change = change / wide(self.norm.length(change).clamp_min(1e-12), change)
        return self.norm.within(self.x, self.x + self.eps * wide(reach, change) * change, self.eps)


@dataclass
class Proposal:
    """Images that an attack proposes, one for each image that is left.

    Attributes:
        x: The images; the wrapper clips them.
        logits: What the classifier says of exactly these, if the attack knows; saves the wrapper a pass.
        score: What the attack climbs, (N,), for the trace.
    """

    x: Batch
    logits: Tensor | None = None
    score: Tensor | None = None


@dataclass
class Outcome:
    """The result of an attack on a set of images.

    Attributes:
        adversarial: Fooling images where it succeeded, else the last proposal, (N, C, H, W).
        fooled: Whether the classifier is fooled, as decided at the evaluation batch size, (N,).
        distance: Length of the change where it is fooled, else infinity, (N,); known before the end only to attacks
            of the smallest change.
        forward, backward: Images passed through the classifier.
        seconds: Time taken.
        steps: Proposals made.
        clipped: Images whose proposal had left budget or range, by more than float32's slack.
        doubtful: Images that fooled the classifier once, but not at the evaluation batch size.
        complete: False when it was stopped.
    """

    adversarial: Batch
    fooled: Tensor
    distance: Tensor
    forward: int = 0
    backward: int = 0
    seconds: float = 0.0
    steps: int = 0
    clipped: int = 0
    doubtful: int = 0
    complete: bool = False
    trace: list[float] = field(default_factory=list)


class Trial:
    """One attack against one set of images: an iterator over its steps, and at any moment its :attr:`outcome`.

    Args:
        name: Of the attack.
        target: The classifier.
        x, y: Items (N, …) in [0, 1] and labels (N,).
        eps: Budget; None lets an attack of the smallest change find any, and is refused by the others.
        norm: Of the budget.
        config: Parameters of the attack; None takes its defaults.
        seed, ids: What random draws depend on.
        towards: Class that each image should be taken for (N,).
        active: Takes fooled images out of the batch; otherwise all go on to the last step.
        start: Where to begin instead of a random place, for comparisons.

    Raises:
        UserError: If the attack does not exist, needs a package, cannot be bounded by this norm, or takes gradients
            that the classifier does not have.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        x: Batch,
        y: Tensor,
        eps: float | None,
        norm: Norm = LINF,
        config: Config | Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        ids: Tensor | Sequence[int] | None = None,
        towards: Tensor | None = None,
        active: bool = True,
        start: Batch | None = None,
    ) -> None:
        entry = ready(name)
        entry.allow(form_of(x.shape[1:]), attacks)
        if norm not in entry.norms:
            allowed = ", ".join(known.name for known in entry.norms)
            raise UserError(
                f"{entry.title} must be bounded by one of {allowed}, got {norm.name}. Choose one of these."
            )
        if entry.gradient and target.answers_only:
            raise UserError(
                f"{entry.title} takes gradients, and {target.name} gives answers only. "
                f"Choose from: {', '.join(blind_ones(target.medium.item))}."
            )
        self.entry, self.target, self.norm, self.eps = entry, target, norm, eps
        if eps is None and not (entry.smallest or entry.free):
            raise UserError(
                f"{entry.title} needs an attack strength eps, got none. For example 8/255."
            )
        values = config.record() if isinstance(config, Config) else config
        self.config = entry.config.of(values, name)
        device = target.device
        self.x, self.y = x.to(device), y.to(device)
        self.towards = None if towards is None else towards.to(device)
        self.active, self.sure = active, False
        self.start = None if start is None else start.to(device)
        self.seed = seed
        self.ids = torch.arange(len(x)) if ids is None else torch.as_tensor(ids)
        self.ids = self.ids.to(device)
        self.outcome = Outcome(
            self.x.clone(),
            torch.zeros(len(x), dtype=torch.bool, device=device),
            torch.full((len(x),), torch.inf, device=device),
        )

    def __iter__(self) -> Iterator[Outcome]:
        """Attacks, yielding the outcome so far after every step; verified once more at the end.

        Whoever stops drawing calls :meth:`finish`.
        """
        out, eps = self.outcome, self.eps
        left = torch.arange(len(self.x), device=self.x.device)
        bound = math.inf if eps is None or self.entry.smallest or self.entry.free else eps
        problem = Problem(
            self.x,
            self.y,
            math.inf if eps is None else eps,
            self.norm,
            self.seed,
            self.ids,
            self.towards,
            self.start,
        )
        steps: Steps = self.entry.make(self.config, self.target, problem)
        mark = self.target.forward, self.target.backward
        began = time.perf_counter()

        def count() -> None:
            out.forward = self.target.forward - mark[0]
            out.backward = self.target.backward - mark[1]
            out.seconds = time.perf_counter() - began

        if not len(left):
            out.complete = True
            return
        try:
            proposal = next(steps)
            while True:
                whole = len(left) == len(self.x)  # the usual case copies nothing
                x, y = (self.x, self.y) if whole else (self.x[left], self.y[left])
                images, strayed = self._cut(x, proposal.x.detach(), bound)
                out.clipped += strayed
                known = None if strayed else proposal.logits
                said = decide(self.target.logits(images) if known is None else known)
                hit = said != y if self.towards is None else said == self.towards[left]
                # a box is kept to the last bit, a length is not
                if self.entry.smallest or not self.norm.box:
                    size = self.norm.length(images - x)
                    hit = hit & (size <= bound + NEAR)
                stay = torch.ones_like(hit)
                if self.entry.smallest:
                    better = hit & (size < out.distance)
                    out.fooled |= better
                    changed = better | ~out.fooled
                    out.adversarial[changed] = images[changed]
                    out.distance[better] = size[better]
                elif self.active:
                    out.fooled[left], out.adversarial[left] = hit, images
                    stay = ~hit
                    left = left[stay]
                else:
                    out.fooled, out.adversarial = hit, images
                    self.sure = known is None
                out.steps += 1
                if proposal.score is not None and len(out.trace) < 10_000:
                    out.trace.append(float(proposal.score.mean()))
                count()
                yield out
                if not len(left):
                    break
                proposal = steps.send(stay)
        except StopIteration:
            out.complete = True
        except Stopped:
            pass
        else:
            out.complete = True
        finally:
            steps.close()
        self.finish()
        count()
        yield out

    def _cut(self, x: Batch, moved: Tensor, bound: float) -> tuple[Batch, int]:
        """Cuts proposed images back to range and budget; tells how many were outside by more than float32's slack."""
        free = bound == math.inf
        images = moved.clamp(0, 1) if free else self.norm.within(x, moved, bound)
        if float(torch.dist(images, moved, math.inf)) <= NEAR:  # never with a nan
            return images, 0
        sound = moved.nan_to_num(0.0)
        images = sound.clamp(0, 1) if free else self.norm.within(x, sound, bound)
        near = (images - moved).abs().flatten(1).amax(1) <= NEAR
        return images, int((~near).sum())

    def finish(self) -> Outcome:
        """Decides once more, at the evaluation batch size, which images are fooled, and measures their change.

        What the smallest change leaves on the very boundary is pushed a little further first.
        """
        out = self.outcome
        self.target.on_pass = None  # results are verified even after a stop
        if not bool(out.fooled.any()):
            return out
        if self.sure:  # this is how the last proposal was judged
            out.distance = self._measured()
            return out

        def holds() -> Tensor:
            said = self.target.predict(out.adversarial)
            hit = said != self.y if self.towards is None else said == self.towards
            return hit & out.fooled

        sure = holds()
        if self.entry.smallest:
            for push in (1e-3, 1e-2, 5e-2):
                doubt = out.fooled & ~sure
                if not bool(doubt.any()):
                    break
                change = (out.adversarial - self.x)[doubt] * (1 + push)
                out.adversarial[doubt] = (self.x[doubt] + change).clamp(0, 1)
                sure = holds()
        out.doubtful += int((out.fooled & ~sure).sum())
        out.fooled = sure
        out.distance = self._measured()
        return out

    def _measured(self) -> Tensor:
        size = self.norm.length(self.outcome.adversarial - self.x)
        return size.masked_fill(~self.outcome.fooled, torch.inf)


def climbed(
    problem: Problem,
    ascent: Ascent,
    slope_of: Callable[[Batch, int], tuple[Tensor | None, Tensor | None, Tensor]],
) -> Steps:
    """Climbs to the end, and proposes the images of every step.

    Args:
        problem: The images; those that are fooled leave it.
        ascent: Its start and its steps.
        slope_of: Gives logits and scores, where they are known, and the gradient, of images and the step's number.
    """
    for step in range(ascent.steps):
        logits, score, slope = slope_of(ascent.at, step)
        keep = yield Proposal(ascent.at, logits, score)
        if not bool(keep.all()):
            problem.keep(keep)
            ascent.keep(keep)
            slope = slope[keep]
        ascent.step(slope)
    problem.keep((yield Proposal(ascent.at)))


def run(name: str, target: Target, x: Batch, y: Tensor, eps: float | None, **more: Any) -> Outcome:
    """Attacks to the end and gives the outcome; arguments as :class:`Trial`.

    Raises:
        UserError: As :class:`Trial`.
    """
    trial = Trial(name, target, x, y, eps, **more)
    for _ in trial:
        pass
    return trial.outcome


def blind_ones(form: Form) -> list[str]:
    """Names the attacks without gradients that change items of a form."""
    return [
        entry.name
        for entry in attacks
        if not entry.gradient and not entry.missing and form in entry.takes
    ]


def ready(name: str) -> Attack:
    """Finds an attack that can run here.

    Raises:
        UserError: If it does not exist, or needs a package that is not installed.
    """
    entry = attacks.get(name)
    if entry.missing:
        raise UserError(
            f"{entry.title} needs the package {entry.missing}, which is not installed. "
            f"Install it with: pip install {entry.missing}"
        )
    return entry
