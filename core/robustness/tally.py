"""The record of a study, which its attacks and probes write: which image falls to which attack, at which strength."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.ground.stats import proportion
from core.ground.watch import Stopped
from core.norms import NEAR
from core.robustness.attacks import Outcome, Trial
from core.robustness.config import StudyConfig
from core.robustness.findings import ClassStanding, Findings, Standing
from core.robustness.schedule import PROBE, Schedule
from core.target import Target
from core.tensors import Batch

# attacks that see through saturated logits, and that a misleading gradient does not mislead
STRONG = ("quick", "autoattack")
UNMASKING = ("adaptive", "surrogate", "autoattack")


class Tally:
    """Counts per image what fooled the classifier, and at which strength.

    Attributes:
        target, x, y: The classifier, the images (N, C, H, W) and the labels (N,).
        schedule: What is tried.
        norm: What measures a change.
        findings: What the checks are answered from.
        said: The classifier's answers without an attack, (N,); -1 where the output is not a number.
        answered: Whether the classifier has answered.
        right: Which images it names rightly, (N,).
        fooled: By attack, 1 where it fools at a strength, 0 where it does not, -1 where it was not tried, (E, N).
        beyond: The same of attacks that no norm bounds, (N,).
        smallest: The smallest change known to fool each image, or infinity, (N,).
        by: The attack that made it, (N,).
        adversarial: The image that it makes, (N, C, H, W).
        distances: By attack of the smallest change, the changes that fool.
        spent: By attack, seconds and passes.
        doubtful: Images that fooled once, but not when classified again.
        stopped: Why it was stopped; empty otherwise.
    """

    def __init__(self, target: Target, x: Batch, y: Tensor, config: StudyConfig) -> None:
        self.target, self.x, self.y, self.config = target, x, y, config
        self.schedule = plan = Schedule.of(config, target)
        self.norm = plan.budget.norm
        n, names = len(x), plan.names
        self.said, self.answered = np.full(n, -1), False
        self.right = np.zeros(n, bool)
        self.fooled = {name: np.full((len(plan.grid), n), -1, np.int8) for name in names}
        self.beyond: dict[str, np.ndarray] = {}
        self.smallest = np.full(n, np.inf)
        self.by = np.full(n, "", object)
        self.adversarial = x.clone()
        self.distances: dict[str, list[float]] = {}
        self.spent: dict[str, dict[str, float]] = {}
        self.doubtful, self.stopped = 0, ""
        strong = any(name in STRONG for name in names)
        losses = {plan.settings[name].get("loss") for name in names}
        self.findings = Findings(
            n=n,
            probed=min(PROBE, n),
            chance=1 / len(target.classes),
            eot=config.eot,
            bpda=config.bpda,
            strong=strong,
            unmasking=any(name in UNMASKING for name in names),
            sees_margin=strong or bool(losses & {"margin", "dlr"}),
            purifier=bool(target.card.get("purifier")),
            answers_only=target.answers_only,
        )

    # --- attacks --------------------------------------------------------------------------------------------------

    def trial(
        self,
        name: str,
        rows: np.ndarray,
        eps: float | None,
        values: Mapping[str, Any],
        *,
        seed: int = 0,
        target: Target | None = None,
        active: bool = True,
    ) -> Trial:
        """Prepares an attack on some of the images; ``seed`` is added to the study's."""
        where = torch.as_tensor(rows, device=self.x.device)
        return Trial(
            name, target or self.target, self.x[where], self.y[where], eps, self.norm, values,
            seed=self.config.seed + seed, ids=where, active=active,
        )  # fmt: skip

    def attack(
        self, name: str, rows: np.ndarray, eps: float | None, more: Mapping[str, Any] | None = None
    ) -> Iterator[Outcome]:
        """Makes one of the study's own attacks, yielding the outcome so far; what it costs is counted."""
        trial = self.trial(name, rows, eps, {**self.schedule.settings[name], **(more or {})})
        spent = self.spent.setdefault(name, {"seconds": 0.0, "forward": 0, "backward": 0})
        before = dict(spent)
        for outcome in trial:
            for key in spent:
                spent[key] = before[key] + getattr(outcome, key)
            yield outcome
        self.doubtful += trial.outcome.doubtful
        self.findings.outside += self._outside(trial, eps)
        self.halt()

    def _outside(self, trial: Trial, eps: float | None) -> int:
        """Counts the images that leave range or budget: a test of the wrapper, which should make that impossible."""
        moved = trial.outcome.adversarial[trial.outcome.fooled]
        outside = (~moved.isfinite()).flatten(1).any(1) | (moved < 0).flatten(1).any(1)
        outside |= (moved > 1).flatten(1).any(1)
        if eps is not None:
            size = self.norm.length(moved - trial.x[trial.outcome.fooled])
            outside |= size > eps * (1 + 1e-5) + NEAR
        return int(outside.sum())

    def halt(self) -> None:
        """Ends the work where it was stopped."""
        if self.stopped:
            raise Stopped(self.stopped)

    def note(self, name: str, rows: np.ndarray, eps: float | np.ndarray, images: Batch) -> None:
        """Keeps, per image, the smallest change that fooled."""
        eps = np.broadcast_to(eps, rows.shape)
        better = eps < self.smallest[rows]
        chosen = rows[better]
        self.smallest[chosen], self.by[chosen] = eps[better], name
        mask = torch.as_tensor(better, device=images.device)
        self.adversarial[torch.as_tensor(chosen, device=images.device)] = images[mask]

    def note_fooled(self, name: str, rows: np.ndarray, eps: float, outcome: Outcome) -> np.ndarray:
        """Keeps what one attack on these images has fooled within a budget; gives which of them, as a mask."""
        hit = outcome.fooled.cpu().numpy()
        self.note(name, rows[hit], eps, outcome.adversarial[outcome.fooled])
        return hit

    # --- what stands ----------------------------------------------------------------------------------------------

    def robust(self, k: int) -> np.ndarray:
        """Tells which images withstand every attack at a strength of the grid, (N,)."""
        return self.right & (self.smallest > self.schedule.grid[k] + NEAR)

    def row(self, eps: float, robust: np.ndarray, attacks: Mapping[str, float]) -> Standing:
        """Sums up which images withstand a strength, (N,)."""
        y = self.y.cpu().numpy()
        classes = [(name, robust[y == k]) for k, name in enumerate(self.target.classes)]
        text, strength = self.norm.text(eps), self.target.medium.strength
        if strength and (words := strength(self.x, eps, self.norm.name)):
            text += f" ({words})"
        return Standing(
            eps,
            text,
            *share(robust),
            dict(attacks),
            tuple(ClassStanding(name, *share(own)) for name, own in classes if len(own)),
        )


def share(held: np.ndarray) -> tuple[float, tuple[float, float], int]:
    """Gives the share of a mask (N,), its 95 % interval, and N."""
    return float(held.mean()), proportion(int(held.sum()), len(held)).interval, len(held)


def to_the_end(trial: Trial) -> Generator[None, None, Outcome]:
    """Attacks to the end, with a pause after every step; gives the outcome."""
    for _ in trial:
        yield
    return trial.outcome


Probe = Callable[[Tally], Generator[None, None, Any]]
