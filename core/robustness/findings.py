"""What a study measures and what its checks answer: plain values, so that every rule can be tested alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from core.robustness.sanity import Identity

BLIND = "a search that sees no gradient"  # one of the ways past the gradient


@dataclass(frozen=True)
class Climbs:
    """Shares of the probed images that withstand gradient attacks of several lengths, losses and starts.

    Attributes:
        one: After one step.
        short, long: After 20 and 40 steps that raise the lead of a wrong class.
        ce: After 20 steps that raise cross entropy.
        starts: After 20 steps, by start.
        union: After all starts together.
        undone: Probability by chance that the long climb loses so many images that the short one fooled.
        blinder: Probability by chance that cross entropy misses so many images that the lead finds.
    """

    one: float
    short: float
    long: float
    ce: float
    starts: tuple[float, ...]
    union: float
    undone: float
    blinder: float


@dataclass(frozen=True)
class Past:
    """What falls to attacks that do not rest on the classifier's own gradient.

    Attributes:
        tried: Images that the others had left.
        counts: How many of these fell, by the kind of attack.
        gain: All images whose smallest change is due to such an attack, in the whole study.
    """

    tried: int
    counts: Mapping[str, int]
    gain: int

    @property
    def only(self) -> int:
        """Images that fell to nothing else."""
        return sum(self.counts.values())


@dataclass(kw_only=True)
class Findings:
    """The settings and measurements of a study so far; None was not measured yet, and leaves its checks open.

    Attributes:
        n, probed: Images of the study, and of the checks that attack by themselves.
        chance: Share that guessing names rightly.
        eot, bpda: Of the :class:`core.target.Target`.
        strong: Whether an attack that tries several classes takes part.
        unmasking: Whether an attack takes part that a misleading gradient does not mislead.
        sees_margin: Whether one raises the lead of a wrong class instead of cross entropy.
        purifier: Whether the classifier purifies the image first.
        answers_only: Whether it has no gradients by its nature, so that checks of these do not apply.
        inner_gradient: Whether it takes a gradient while it answers.
        probabilities: Whether its outputs are probabilities instead of logits.
        not_numbers: Images whose output is not a number.
        differs: Share of images for which two passes give different outputs.
        ce_zero, margin_zero: Share of images whose gradient of cross entropy, of the lead of a wrong class, is zero.
        decisions: Whether it only decides, without any score.
        identity: Whether it is the model that is meant.
        zero_changed: Answers that an attack of strength 0 changes.
        climbs: Gradient attacks of several kinds.
        promise: What a step along the gradient gains, as a multiple of what it promises.
        widest: Share that withstands when every value may change completely.
        past: Attacks that do not rest on the gradient.
        outside: Adversarial images that leave the budget or the range.
        doubtful: Images that fooled once, but not when asked again.
        measured: By name of a check, what its own probe gave.
        why_open: Why the open checks will stay open.
    """

    n: int
    probed: int
    chance: float
    eot: int = 1
    bpda: bool = False
    strong: bool = False
    unmasking: bool = False
    sees_margin: bool = False
    purifier: bool = False
    answers_only: bool = False
    inner_gradient: bool | None = None
    probabilities: bool | None = None
    not_numbers: int | None = None
    differs: float | None = None
    ce_zero: float | None = None
    margin_zero: float | None = None
    decisions: bool = False
    identity: Identity | None = None
    zero_changed: int | None = None
    climbs: Climbs | None = None
    promise: float | None = None
    widest: float | None = None
    past: Past | None = None
    outside: int = 0
    doubtful: int | None = None
    measured: dict[str, Any] = field(default_factory=dict)
    why_open: str = ""


@dataclass(frozen=True)
class Answer:
    """What a check says.

    Attributes:
        outcome: ``pass``, ``warn``, ``fail``, ``open`` where it was not made, or ``inapplicable`` to this classifier;
            the finding says why.
        finding: What was measured, in a sentence.
        advice: What to do; empty where there is nothing to do.
        button: Text of a button that does it; empty where a person has to.
        action: Parameters of the study to run again with.
        number, name: Of the check.
        urgency: The trouble with the highest one is named first: it explains most of the others.
    """

    outcome: Literal["pass", "warn", "fail", "open", "inapplicable"]
    finding: str
    advice: str = ""
    button: str = ""
    action: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0
    name: str = ""
    urgency: int = 0

    def record(self) -> dict[str, Any]:
        """Gives plain values, ready for JSON."""
        return {
            "number": self.number, "name": self.name, "outcome": self.outcome, "finding": self.finding,
            "advice": self.advice, "button": self.button, "action": dict(self.action),
        }  # fmt: skip


@dataclass(frozen=True)
class ClassStanding:
    """How one class stands at one strength: share that withstands, its 95 % interval, images."""

    name: str
    robust: float
    interval: tuple[float, float]
    n: int


@dataclass(frozen=True)
class Standing:
    """How the classifier stands at one strength.

    Attributes:
        eps, text: The strength, as a number from 0 to 1 and as people read it.
        robust, interval, n: Share that withstands every attack, its 95 % interval, and of how many images.
        attacks: Share that withstands this attack alone, by name.
        classes: The same by class.
    """

    eps: float
    text: str
    robust: float
    interval: tuple[float, float]
    n: int
    attacks: Mapping[str, float] = field(default_factory=dict)
    classes: tuple[ClassStanding, ...] = ()
