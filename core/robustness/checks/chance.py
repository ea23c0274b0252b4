"""Does accuracy fall to chance when every value may change completely?"""

from __future__ import annotations

from core.ground.writing import percent
from core.robustness.checks import checks, through
from core.robustness.findings import Answer, Findings


@checks.add("chance", "Falls to chance", number=3, urgency=4)
def chance(findings: Findings) -> Answer | None:
    """At the largest budget every image can become any other, so that nothing can withstand."""
    left = findings.widest
    if left is None:
        return None
    if left <= findings.chance + 2 / findings.probed:
        return Answer(
            "pass",
            f"At the largest budget {percent(left)} are left: every image can become any other.",
        )
    advice, button, action = through(findings)
    return Answer(
        "fail",
        f"Even when every value may change completely, {percent(left)} seem to withstand.",
        f"No classifier can: the attack does not see the way. {advice}",
        button,
        action,
    )
