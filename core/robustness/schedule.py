"""Plans a study: its attacks, their order and their strengths; the study and the estimate of its cost follow it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.norms import Budget
from core.robustness.attacks import attacks
from core.robustness.config import StudyConfig, names_of, settings_of, suited
from core.target import Target

COSTLY = 700  # passes of an image above which an attack is tried only on what the others have left
PROBE = 128  # images of the checks that need attacks of their own
# name, attack, its parameters, added to the seed
CLIMBS: tuple[tuple[str, str, dict[str, Any], int], ...] = (
    ("one", "fgsm", {"loss": "margin"}, 0),
    ("short", "pgd", {"steps": 20, "loss": "margin"}, 0),
    ("long", "pgd", {"steps": 40, "loss": "margin"}, 0),
    ("ce", "pgd", {"steps": 20, "loss": "ce"}, 0),
    ("second", "pgd", {"steps": 20, "loss": "margin"}, 1),
    ("third", "pgd", {"steps": 20, "loss": "margin"}, 2),
)
STILL = 2  # steps of the attack of strength 0


@dataclass(frozen=True)
class Turn:
    """One attack in its turn.

    Attributes:
        name: Of the attack.
        passes: At most so many passes of an image through the classifier, at each strength.
        starts: How often it starts anew; an image that falls skips the remaining starts.
        at: Its first strengths, as positions in the grid; none for an attack that chooses its own changes.
        free: Whether no norm bounds it.
        smallest: Whether it looks for the smallest change.
        left: Whether it comes last; within a budget it then tries only what all others have left.
        sweeps: Whether it goes on to the rest of the grid, after the checks.
    """

    name: str
    passes: int
    starts: int = 1
    at: tuple[int, ...] = ()
    free: bool = False
    smallest: bool = False
    left: bool = False
    sweeps: bool = False


@dataclass(frozen=True)
class Schedule:
    """The attacks of a study in their order.

    Attributes:
        names: The attacks, in the order of the config; the placebo is always among them.
        settings: Parameters by attack.
        budget: Its norm, and what is usual there.
        given: The strengths of the config, rising; none stands for a sweep.
        grid: The strengths above 0 that are tried, rising.
        head: Position of the headline in the grid; -1 where strength 0 is the only one.
        turns: First the attacks that no norm bounds; last those that try only what is left.
    """

    names: tuple[str, ...]
    settings: Mapping[str, Mapping[str, Any]]
    budget: Budget
    given: tuple[float, ...]
    grid: tuple[float, ...]
    head: int
    turns: tuple[Turn, ...]

    @classmethod
    def of(cls, config: StudyConfig, target: Target) -> Schedule:
        """Plans a study.

        Raises:
            UserError: If an attack, a parameter or a strength is not allowed.
        """
        config = suited(config, target)
        names = names_of(config, target.medium)
        settings = settings_of(config, names)
        budget = config.budget(target)
        given = tuple(budget.read(config.eps))
        grid = tuple(e for e in given or budget.sweep() if e > 0)
        usual = budget.usual
        near = [k for k, e in enumerate(grid) if math.isclose(e, usual, rel_tol=1e-3)]
        head = near[0] if near else len(grid) - 1
        # the headline first, so that there is a number soon; then the rest of the curve
        at = tuple(range(len(grid))) if given else (head,)

        def turn(name: str) -> Turn:
            entry = attacks.get(name)
            chosen, classes = entry.config.of(settings[name], name), len(target.classes)
            passes, starts = entry.passes(chosen, classes), 1
            if name == "quick":
                starts += min(chosen.record()["targets"], classes - 1)
            left = not entry.free and (entry.last or passes > COSTLY)
            if entry.free or entry.smallest:
                return Turn(name, passes, starts, (), entry.free, entry.smallest, left)
            return Turn(name, passes, starts, at, left=left, sweeps=not given and not left)

        turns = sorted(map(turn, names), key=lambda turn: (not turn.free, turn.left))
        return cls(tuple(names), settings, budget, given, grid, head, tuple(turns))
