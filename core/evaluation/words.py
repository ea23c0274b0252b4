"""Evaluations in words: does the model copy, and what is it good at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.writing import percent

if TYPE_CHECKING:
    from core.evaluation.records import Evaluation, Measurement

GUESSED = 0.55  # area under the curve from which the model is said to know its training images
Z_COPYING = -3.0  # of C_T
STRONG = {
    "nearer",
    "ratio",
    "membership",
}  # kinds of tests that smooth samples alone do not set off
LOOKED_FOR = "mirrored, turned, shifted, lighter or darker, with noise or in grey"
MISSED = "cropped, zoomed, folded, in inverted colours or turned by a few degrees"
_HIDDEN = {"disguised": "nearer", "disguised_ratio": "ratio"}


@dataclass(frozen=True)
class Test:
    """What one test of copying says.

    Attributes:
        metric: Its name.
        flagged: Whether it speaks for copying; None if it was not made.
        sentence: Why.
    """

    metric: str
    flagged: bool | None
    sentence: str

    @property
    def kind(self) -> str:
        """The test that it is, be it in disguise or not."""
        return _HIDDEN.get(self.metric, self.metric)


@dataclass(frozen=True)
class Verdict:
    """What all tests of copying say together.

    Attributes:
        copies: None if too little was measured, or the tests leave it open.
        sentence: The verdict.
        tests: One by one.
        believe: What it would take to be sure.
    """

    copies: bool | None
    sentence: str
    tests: tuple[Test, ...]
    believe: str


def verdict(evaluation: Evaluation) -> Verdict:
    """Weighs the tests of copying.

    Two tests must agree, and one of them must be a test that smooth samples alone do not set off (nearer, ratio or
    membership): authenticity and C_T also speak up when a model merely leaves out odd details. A test and the same test
    in disguise are one.
    """
    tests = tuple(
        test(found) for name, test in _TESTS.items() if (found := evaluation.get(name)) is not None
    )
    flagged = [test for test in tests if test.flagged]
    kinds = {test.kind for test in flagged}
    strong = kinds & STRONG
    believe = (
        "Look at the pairs: no test replaces that. For a firmer answer, train on one half of the images, so "
        "that as many unseen ones are there to compare with, and with another seed."
    )
    if not tests:
        return Verdict(None, "Whether it copies was not measured.", (), believe)
    blind = f"Copies that are {MISSED} are not looked for."
    if not any(test.metric in _HIDDEN for test in tests):
        blind = (
            f"These tests did not look for copies that are {LOOKED_FOR}: measure again for that."
        )
    made = f"{len(tests)} test" + ("s" if len(tests) > 1 else "")
    if len(kinds) > 1 and strong:
        says = f"It copies training images{_how(evaluation, flagged)}: {len(flagged)} of {made} say so."
        return Verdict(True, says, tests, believe)
    if strong:
        says = (
            f"{_word(len(flagged))} of {made} speak{'s' * (len(flagged) == 1)} for copying"
            f"{_how(evaluation, flagged)}, the others do not confirm it: undecided."
        )
        return Verdict(None, says, tests, believe)
    if flagged:
        says = (
            f"No sign of copies. {_word(len(flagged))} of {made} found samples close to training images, "
            f"as smooth samples also are. {blind}"
        )
        return Verdict(False, says, tests, believe)
    return Verdict(False, f"No sign of copies in {made}. {blind}", tests, believe)


def _how(evaluation: Evaluation, flagged: list[Test]) -> str:
    """Says what was done to the copies, where only that gives them away."""
    names = {test.metric for test in flagged}
    if not names & set(_HIDDEN) or names & {"nearer", "ratio"}:
        return ""
    found = evaluation.get("disguised_ratio")
    way = found.details.get("way", "") if found else ""
    return f" in disguise ({way})" if way else " in disguise"


def _word(n: int) -> str:
    return {1: "One", 2: "Two"}.get(n, str(n))


def _nearer(m: Measurement) -> Test:
    limit, ceiling = m.details["limit"], m.details["ceiling"]
    low = _low(m)
    return Test(
        "nearer",
        low > limit,
        f"{percent(m.value, 0)} of the samples are nearer to a training image than to an unseen one "
        f"({_interval(m)}); chance is 50 %, copies reach {percent(ceiling, 0)}, and from "
        f"{percent(limit, 0)} on it counts.",
    )


def _ratio(m: Measurement) -> Test:
    usual = m.details.get("floor_high") or 0.0
    low = _low(m)
    return Test(
        "ratio",
        low > max(0.01, usual),
        f"{percent(m.value)} of the samples single out one training image as nearly the same picture; "
        f"of unseen real images {_percent(m.floor)} do.",
    )


def _disguised(m: Measurement) -> Test:
    limit, ceiling = m.details["limit"], m.details["ceiling"]
    return Test(
        "disguised",
        _low(m) > limit,
        f"Whatever was done to them ({LOOKED_FOR}), {percent(m.value, 0)} of {m.n:,} samples are nearer to a training "
        f"image than to an unseen one ({_interval(m)}); chance is 50 %, copies reach {percent(ceiling, 0)}, and from "
        f"{percent(limit, 0)} on it counts.",
    )


def _disguised_ratio(m: Measurement) -> Test:
    usual = m.details.get("floor_high") or 0.0
    way, shift = m.details.get("way", ""), m.details.get("shift", 0)
    low = _low(m)
    return Test(
        "disguised_ratio",
        low > max(0.01, usual),
        f"{percent(m.value)} of {m.n:,} samples single out one training image as nearly the same picture in disguise"
        + (f", most often {way}" if way else "")
        + f" (shifts up to {shift} px); of unseen real images {_percent(m.floor)} do.",
    )


def _authenticity(m: Measurement) -> Test:
    usual = m.details.get("floor_low")
    high = m.value if m.high is None else m.high
    return Test(
        "authenticity",
        None if usual is None else high < usual - 0.1,
        f"{percent(m.value, 0)} of the samples keep their distance from the training images, "
        f"of unseen real images {_percent(m.floor)}.",
    )


def _ct(m: Measurement) -> Test:
    assert m.value is not None
    side = "nearer to" if m.value < 0 else "farther from"
    return Test(
        "ct",
        m.value < Z_COPYING,
        f"Place by place, the samples are {side} training images than unseen ones are: "
        f"{m.value:.1f} standard errors; below {Z_COPYING:.0f} counts.",
    )


def _membership(m: Measurement) -> Test:
    low = _low(m)
    return Test(
        "membership",
        low > GUESSED,
        f"By {m.details.get('by', 'its own score')}, the model tells training images from unseen ones in "
        f"{percent(m.value, 0)} of pairs ({_interval(m)}); 50 % is a guess, above {percent(GUESSED, 0)} counts.",
    )


_TESTS: Mapping[str, Any] = {
    "nearer": _nearer,
    "ratio": _ratio,
    "disguised": _disguised,
    "disguised_ratio": _disguised_ratio,
    "membership": _membership,
    "authenticity": _authenticity,
    "ct": _ct,
}


def _low(m: Measurement) -> float:
    return (m.value or 0.0) if m.low is None else m.low


def _interval(m: Measurement) -> str:
    return (
        "no interval"
        if m.low is None or m.high is None
        else f"{percent(m.low, 0)} to {percent(m.high, 0)}"
    )


def _percent(value: float | None) -> str:
    return "unknown" if value is None else percent(value, 0)


def sentences(evaluation: Evaluation) -> tuple[str, str, str]:
    """Says what the model is good at, where it fails, and whether it copies."""
    return _good(evaluation), _fails(evaluation), verdict(evaluation).sentence


def _good(evaluation: Evaluation) -> str:
    shares = {
        "precision": "of its pictures could be real ones",
        "coverage": "of the real pictures have one of its own nearby",
        "accuracy": "of its pictures show what was asked for",
    }
    best = None
    for name, words in shares.items():
        m = evaluation.get(name)
        if m is not None and m.value is not None:
            part = m.value / m.floor if m.floor else m.value
            if best is None or part > best[0]:
                best = (part, m, words)
    if best is None:
        return "What it is good at was not measured."
    part, m, words = best
    usual = f", of real ones {percent(m.floor, 0)}" if m.floor is not None else ""
    if part < 0.5:
        return f"It is good at nothing yet: at most {percent(m.value, 0)} {words}{usual}."
    return f"{percent(m.value, 0)} {words}{usual}."


def _fails(evaluation: Evaluation) -> str:
    rows = [row for row in evaluation.classes if row["n_real"] and row["coverage"] is not None]
    if len(rows) > 1:
        worst = min(rows, key=lambda row: (row["coverage"], row["made_share"]))
        if worst["made_share"] < worst["real_share"] / 3:
            return (
                f"It hardly ever makes “{worst['class']}”: {percent(worst['made_share'], 0)} of its pictures, "
                f"where {percent(worst['real_share'], 0)} are usual."
            )
        return (
            f"It does worst at “{worst['class']}”: {percent(worst['coverage'], 0)} of the real ones have "
            "a picture of its own nearby."
        )
    coverage = evaluation.get("coverage")
    if coverage is not None:
        return f"It has nothing near {percent(1 - (coverage.value or 0), 0)} of the real pictures."
    return "Where it fails was not measured."
