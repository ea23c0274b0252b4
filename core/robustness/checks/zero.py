"""Does an attack of strength 0 change nothing?"""

from __future__ import annotations

from core.robustness.checks import AVERAGE, checks
from core.robustness.findings import Answer, Findings


@checks.add("zero", "No attack, no change", number=1, urgency=1)
def zero(findings: Findings) -> Answer | None:
    """An attack of strength 0 must leave all answers as they are."""
    changed, n = findings.zero_changed, findings.probed
    if changed is None:
        return None
    if not changed:
        return Answer("pass", f"An attack of strength 0 leaves all {n} answers as they are.")
    return Answer(
        "fail",
        f"An attack of strength 0 changes {changed} of {n} answers.",
        "The model does not see what it is given: look for a random layer, training mode, or a second normalisation.",
        *AVERAGE,
    )
