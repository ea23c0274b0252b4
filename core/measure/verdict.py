"""Evaluations in words: does the model copy, and what is it good at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.ground.writing import many, percent
from core.measure.metrics import CopyTest, Measurement, copy_tests, metrics

if TYPE_CHECKING:
    from core.measure.store import Evaluation

MISSED = "cropped, zoomed, folded, in inverted colours or turned by a few degrees"


@dataclass(frozen=True)
class Evidence:
    """What one test of copying says.

    Attributes:
        test: Its entry.
        flagged: Whether it speaks for copying; None if it was not made.
        sentence: Why.
    """

    test: CopyTest
    flagged: bool | None
    sentence: str

    @property
    def kind(self) -> str:
        """The test that it is, be it in disguise or not."""
        return self.test.disguise_of or self.test.name


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
    tests: tuple[Evidence, ...]
    believe: str


def verdict(evaluation: Evaluation) -> Verdict:
    """Weighs the tests of copying.

    Two tests must agree, and one of them must be a strong one, which smooth samples alone do not set off: authenticity
    and C_T also speak up when a model merely leaves out odd details. A test and the same test in disguise are one.
    """
    tests = tuple(
        Evidence(test, *test.make(measured))
        for test in copy_tests
        if (measured := evaluation.get(test.name)) is not None
    )
    flagged = [one for one in tests if one.flagged]
    strong = any(one.test.strong for one in flagged)
    believe = (
        "Look at the pairs: no test replaces that. For a firmer answer, train on one half of the images, so "
        "that as many unseen ones are there to compare with, and with another seed."
    )
    if not tests:
        return Verdict(None, "Whether it copies was not measured.", (), believe)
    blind = f"Copies that are {MISSED} are not looked for."
    if not any(one.test.looks_for for one in tests):
        hidden = next((test.looks_for for test in copy_tests if test.looks_for), "in disguise")
        blind = f"These tests did not look for copies that are {hidden}: measure again for that."
    number = {1: "One", 2: "Two"}.get(len(flagged), str(len(flagged)))
    copies, how, count = False, _how(evaluation, flagged), many(tests, "test")
    if strong and len({one.kind for one in flagged}) > 1:
        copies = True
        sentence = f"It copies training images{how}: {len(flagged)} of {count} say so."
    elif strong:
        copies = None
        sentence = (
            f"{number} of {count} speak{'s' * (len(flagged) == 1)} for copying{how}, "
            "the others do not confirm it: undecided."
        )
    elif flagged:
        sentence = (
            f"No sign of copies. {number} of {count} found samples close to training images, "
            f"as smooth samples also are. {blind}"
        )
    else:
        sentence = f"No sign of copies in {count}. {blind}"
    return Verdict(copies, sentence, tests, believe)


def _how(evaluation: Evaluation, flagged: list[Evidence]) -> str:
    """Says what was done to the copies, where only that gives them away."""
    hidden = [test for test in copy_tests if test.disguise_of]
    plain = {test.disguise_of for test in hidden}
    names = {one.test.name for one in flagged}
    if names & plain or not any(test.name in names for test in hidden):
        return ""
    measured = [evaluation.get(test.name) for test in hidden]
    way = next((way for m in measured if m and (way := m.details.get("way"))), "")
    return f" in disguise ({way})" if way else " in disguise"


def sentences(evaluation: Evaluation) -> tuple[str, str, str]:
    """Says what the model is good at, where it fails, and whether it copies."""
    return _good(evaluation), _fails(evaluation), verdict(evaluation).sentence


def _good(evaluation: Evaluation) -> str:
    praised = [m for entry in metrics if entry.praise and (m := evaluation.get(entry.name))]
    if not praised:
        return "What it is good at was not measured."
    best = max(praised, key=_reached)
    usual = f", of real ones {percent(best.floor, 0)}" if best.floor is not None else ""
    at_most = "It is good at nothing yet: at most " if _reached(best) < 0.5 else ""
    return f"{at_most}{percent(best.value, 0)} {best.entry.praise}{usual}."


def _reached(m: Measurement) -> float:
    """Gives a value as a share of what real images rone."""
    return (m.value or 0.0) / (m.floor or 1.0)


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
