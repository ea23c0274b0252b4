"""How robust a classifier is, and whether that can be believed: two statements, made of what a study has measured.

Pure functions, so that every rule can be read and tested alone; the questions behind them are in ``checks``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.ground.writing import percent
from core.robustness.findings import Answer, Findings, Standing

CONFIRMING = "noise,quick,adaptive,surrogate,autoattack"
FEWEST = 50  # images below which no share is believed: its interval spans more than a quarter
MOST = 0.5  # share of the images that must surely withstand to be called robust
LITTLE = 1 / 3  # share of the images below which it surely lies where it is called hardly robust
Colour = Literal["green", "amber", "red"]


@dataclass(frozen=True)
class Soundness:
    """Whether the measurement is sound: the colour, a sentence, and whether the number can be believed.

    ``answers_only`` tells that no attack with gradients was possible, so that it holds against other attackers only.
    """

    colour: Colour
    sentence: str
    believable: bool
    answers_only: bool = False


@dataclass(frozen=True)
class Robustness:
    """How robust the classifier is: the colour, a sentence, and the share with its 95 % interval and n."""

    colour: Colour
    sentence: str
    robust: float
    n: int
    interval: tuple[float, float]


def verdict(
    findings: Findings, answers: Sequence[Answer], row: Standing, clean: float
) -> Soundness:
    """Says whether the measurement is sound.

    Args:
        findings: What the study has measured.
        answers: Of its checks.
        row: Of the headline.
        clean: Share of the images that are named rightly without an attack.
    """
    ranked = sorted(answers, key=lambda answer: -answer.urgency)
    failed = [answer for answer in ranked if answer.outcome == "fail"]
    warned = [answer for answer in ranked if answer.outcome == "warn"]
    missing = [answer for answer in answers if answer.outcome == "open"]
    if failed:
        reason = failed[0].finding.rstrip(".")
        if row.robust == 0:
            return Soundness("red", f"The measurement cannot be believed: {reason}.", False)
        return Soundness("red", f"{percent(row.robust)} is not robustness: {reason}.", False)
    if row.n < FEWEST:
        few = f"{row.n} images are too few to believe a share of them: take at least {FEWEST}."
        return Soundness("amber", few, False)
    if clean - row.robust <= 0.005 and clean > findings.chance:
        return Soundness(
            "amber",
            f"{percent(row.robust)} does not show that the model is strong: nothing falls at {row.text}, so the attack "
            "is too small to tell.",
            False,
        )
    if missing:
        count = f"{len(missing)} of {len(answers)} checks"
        if findings.why_open:
            return Soundness("amber", f"{count} were not made. {findings.why_open}", False)
        return Soundness("amber", f"{count} are still to be made.", False)
    if findings.answers_only:
        apart = sum(answer.outcome == "inapplicable" for answer in answers)
        return Soundness(
            "amber",
            "It gives answers only, so it was attacked without gradients and by images made against others: who has "
            "the "
            f"network itself may find more. {apart} of {len(answers)} checks, about gradients, do not apply.",
            False,
            True,
        )
    if warned:
        return Soundness("amber", f"With care: {warned[0].finding}", True)
    sentence = f"All {len(answers)} checks say that the measurement can be believed"
    if findings.identity and not findings.identity.compared:
        sentence += "; there is no reference yet to compare its clean accuracy with"
    return Soundness("green", sentence + ".", True)


def robustness(row: Standing, chance: float, sound: Soundness, complete: bool = True) -> Robustness:
    """Says how robust it is.

    Args:
        row: Of the headline.
        chance: Share that guessing names rightly.
        sound: The :func:`verdict`: what is not believed is never called robust.
        complete: Whether all attacks have ended; what still stands before that is no result.
    """
    low, high = row.interval
    number = (
        f"{percent(row.robust)} of {row.n} images withstand every attack of {row.text} that was tried "
        f"(interval {percent(low)} to {percent(high)})"
    )
    colour: Colour = "amber"
    if not row.eps:
        sentence = "Not known: no attack was tried."
    elif not complete:
        sentence = f"So far: {number}."
    elif low <= chance:
        colour, sentence = "red", f"Not robust: {number}."
    elif sound.colour == "red":
        sentence = f"Not known: {number}, but the measurement cannot be believed."
    elif row.n < FEWEST:
        sentence = f"Not known: {number}."
    elif sound.answers_only:
        sentence = f"Against attackers who see its answers only: {number}."
    elif low >= MOST:
        colour, sentence = "green", f"Robust: {number}."
    else:
        how = "Hardly" if high < LITTLE else "Partly"
        sentence = f"{how} robust: {number}."
    if row.n < FEWEST and row.eps:
        sentence = f"{sentence.removesuffix('.')}; {row.n} images are too few to say more."
    return Robustness(colour, sentence, row.robust, row.n, row.interval)
