"""Evaluations in words: does the model copy, and what is it good at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.ground.stats import Estimate, proportion
from core.ground.writing import many, percent
from core.measure.metrics import CopyTest, Measurement, copy_tests, metrics

if TYPE_CHECKING:
    from core.measure.store import Evaluation

CLOSE, SHORT = 0.9, 0.7  # of what real images in their place reach
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


@dataclass(frozen=True)
class Claim:
    """One thing that the measures say of a model, and the number behind it.

    Attributes:
        topic: What it is about: "Good at", "Fails at" or "Copies".
        sentence: What is said.
        number: What is said as a number, with its interval, and with that of real images as its floor; None where
            nothing was measured.
    """

    topic: str
    sentence: str
    number: Measurement | None = None


def claims(evaluation: Evaluation) -> tuple[Claim, Claim, Claim]:
    """Says what the model is good at, where it fails, and whether it copies, each with its number."""
    return _good(evaluation), _fails(evaluation), _copies(evaluation)


def sentences(evaluation: Evaluation) -> tuple[str, str, str]:
    """Says what the model is good at, where it fails, and whether it copies."""
    good, fails, copies = claims(evaluation)
    return good.sentence, fails.sentence, copies.sentence


def overall(evaluation: Evaluation) -> str:
    """Says in one sentence how near its pictures come to real ones, and whether they are copies.

    Realism and variety are each set beside what real images in their place reach: from :data:`CLOSE` of it on they
    come close, from :data:`SHORT` on they fall short, below they are far.
    """
    ways = {"realism": evaluation.get("precision"), "variety": evaluation.get("coverage")}
    said: dict[str, list[str]] = {}
    for name, measured in ways.items():
        if measured is not None:
            beside = f" against {percent(measured.floor, 0)}" if measured.floor is not None else ""
            number = f"{name} ({percent(measured.value, 0)}{beside})"
            said.setdefault(_nearness(measured), []).append(number)
    parts = [f"{how} real ones in {' and '.join(names)}" for how, names in said.items()]
    first, *others = parts or ["How real they are was not measured"]
    how = f"Its pictures {first}" if parts else first
    how += "".join(f" but {other.replace('real ones', 'them')}" for other in others)
    judged = verdict(evaluation)
    copies = {
        True: "but it copies training images" if parts else "and it copies training images",
        False: "and nothing says that it copies" if parts else "but nothing says that it copies",
        None: "and whether it copies is open",
    }[judged.copies]
    return f"{how}, {copies}."


def near(m: Measurement) -> bool:
    """Tells whether a value comes close to what real images in their place reach."""
    return _reached(m) >= CLOSE


def _nearness(m: Measurement) -> str:
    if near(m):
        return "come close to"
    return "fall short of" if _reached(m) >= SHORT else "are far from"


def _good(evaluation: Evaluation) -> Claim:
    praised = [m for entry in metrics if entry.praise and (m := evaluation.get(entry.name))]
    if not praised:
        return Claim("Good at", "What it is good at was not measured.")
    best = max(praised, key=_reached)
    usual = f", of real ones {percent(best.floor, 0)}" if best.floor is not None else ""
    at_most = "It is good at nothing yet: at most " if _reached(best) < 0.5 else ""
    sentence = f"{at_most}{percent(best.value, 0)} {best.entry.praise}{usual}."
    return Claim("Good at", sentence, best)


def _reached(m: Measurement) -> float:
    """Gives a value as a share of what real images reach."""
    return (m.value or 0.0) / (m.floor or 1.0)


def _fails(evaluation: Evaluation) -> Claim:
    rows = [row for row in evaluation.classes if row["n_real"] and row["coverage"] is not None]
    coverage = evaluation.get("coverage")
    usual = None if coverage is None or coverage.floor is None else 1 - coverage.floor
    if len(rows) > 1:
        worst = min(rows, key=lambda row: (row["coverage"], row["made_share"]))
        if worst["made_share"] < worst["real_share"] / 3:
            return _too_rare(worst, evaluation.conditions.get("n_samples") or 0, len(rows))
        n, name = worst["n_real"], worst["class"]
        missed = proportion(round((1 - worst["coverage"]) * n), n, len(rows))
        title = f"Real “{name}” with nothing like them"
        return Claim(
            "Fails at",
            f"It does worst at “{name}”: {percent(missed.value, 0)} of the real ones have nothing like them among its "
            "pictures.",
            _share(title, missed, usual, f"{_worst(len(rows))}; real images: of all classes"),
        )
    if coverage is None or coverage.value is None:
        return Claim("Fails at", "Where it fails was not measured.")
    low, high = coverage.interval or (coverage.value, coverage.value)
    missed = Estimate(1 - coverage.value, 1 - high, 1 - low, coverage.n)
    return Claim(
        "Fails at",
        f"It has nothing near {percent(missed.value, 0)} of the real pictures.",
        _share("Real pictures with nothing like them", missed, usual),
    )


def _worst(classes: int) -> str:
    """Says what the interval of a class means that was chosen as the worst one."""
    return f"the worst of {classes} classes, with an interval that holds for all of them at once"


def _too_rare(worst: Mapping[str, Any], n: int, classes: int) -> Claim:
    """Says that it leaves a class out."""
    name, share, usual = worst["class"], worst["made_share"], worst["real_share"]
    return Claim(
        "Fails at",
        f"It hardly ever makes “{name}”: {percent(share, 0)} of its pictures, where {percent(usual, 0)} are usual.",
        _share(
            f"Share of “{name}”",
            proportion(round(share * n), n, classes),
            usual,
            _worst(classes),
        ),
    )


def _share(title: str, of: Estimate, usual: float | None, note: str = "") -> Measurement:
    """Writes a share that is read off the table of classes as a measurement of its own."""
    return Measurement("coverage", title, of.value, of.low, of.high, usual, of.n, "", "", 0.0, note)


def _copies(evaluation: Evaluation) -> Claim:
    """Gives the verdict, with the number of the first test that speaks for it."""
    judged = verdict(evaluation)
    tests = sorted(judged.tests, key=lambda one: (not one.flagged, not one.test.strong))
    number = evaluation.get(tests[0].test.name) if tests else None
    return Claim("Copies", judged.sentence, number)
