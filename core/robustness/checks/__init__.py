"""The checks of a robustness number: one file in this folder is one check, of the file's name.

A check is a function with ``@checks.add`` from the findings of a study to an answer, or to None while that is not known
yet. One that needs a measurement of its own has a probe, which runs after all attacks and whose result is
``findings.measured[name of the check]``. Report, page and command list every check by its number.

References:
    Carlini et al., 2019, On evaluating adversarial robustness, https://arxiv.org/abs/1902.06705
    Athalye et al., 2018, Obfuscated gradients give a false sense of security, https://arxiv.org/abs/1802.00420
    Pintor et al., 2022, Indicators of attack failure, https://arxiv.org/abs/2106.09947
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from core.catalog import Config, Entry, Registry
from core.robustness.findings import Answer, Findings
from core.robustness.tally import Probe

HONEST = (0.5, 2.0)  # what a step along the gradient may gain, as a multiple of what it promises
DOUBT = 0.01  # probability of a difference by chance, below which it counts
# buttons of several checks: the text, and the parameters that it changes
AVERAGE: tuple[str, dict[str, Any]] = "Average over draws (EOT)", {"eot": 20}
PASS_THROUGH: tuple[str, dict[str, Any]] = "Let gradients pass (BPDA)", {"bpda": True}
SEARCH: tuple[str, dict[str, Any]] = "Search longer", {"options": "square.queries=5000"}
GO_PAST: tuple[str, dict[str, Any]] = (
    "Attack past the gradient",
    {"attacks": "noise,fgsm,quick,adaptive,surrogate,square"},
)


@dataclass(frozen=True, kw_only=True)
class Check(Entry):
    """A question about the number; ``make(findings)`` gives the answer, or None while it is open.

    Attributes:
        number: Its position in a report, which never changes.
        urgency: The trouble with the highest one is named first: it explains most of the others.
        probe: What it measures by itself, if anything.
        gradients: Whether it asks about gradients, which some classifiers do not have.
    """

    number: int
    urgency: int
    probe: Probe | None = None
    gradients: bool = False


checks = Registry("check", Check, "core.robustness.checks")


def ordered() -> list[Check]:
    """Lists the checks by number."""
    return sorted(checks, key=lambda check: check.number)


def answers(findings: Findings) -> list[Answer]:
    """Answers all checks from the findings so far; one without findings stays open, and says why."""
    waiting = Answer("open", findings.why_open or "Not looked at yet.")
    apart = Answer(
        "inapplicable", "Not applicable: the classifier gives answers only, without gradients."
    )
    return [
        replace(
            apart if check.gradients and findings.answers_only else check.make(findings) or waiting,
            number=check.number,
            name=check.title,
            urgency=check.urgency,
        )
        for check in ordered()
    ]


def many(only: int, tried: int) -> bool:
    """Tells whether so many images fall to one attack alone that it is no chance."""
    return only > max(2, 0.04 * tried)


def through(findings: Findings) -> tuple[str, str, dict[str, Any]]:
    """Advises, with a button, what finds more: a gradient through what blocks it, or a longer search without any."""
    if findings.answers_only:
        return ("Give the search without gradients more queries.", *SEARCH)
    return ("Take the gradient through what blocks it.", *PASS_THROUGH)


def misled(findings: Findings, finding: str, advice: str) -> Answer:
    """Answers that the gradient misleads: of no harm only where attacks that do not rest on it took part."""
    if findings.unmasking:
        advice += (
            " Attacks that do not rest on it took part, so the number holds as far as they reach."
        )
        return Answer("warn", finding, advice)
    return Answer("fail", finding, f"{advice} Attack in ways that do not rest on it.", *GO_PAST)
