"""Does an attack that goes on longer find more?"""

from __future__ import annotations

from core.ground.writing import percent
from core.robustness.checks import DOUBT, PASS_THROUGH, checks, misled
from core.robustness.findings import Answer, Findings


@checks.add("steps", "More steps, more harm", number=4, urgency=3, gradients=True)
def steps(findings: Findings) -> Answer | None:
    """More steps must not do less than fewer, and twice as many should find little more."""
    climbs = findings.climbs
    if climbs is None:
        return None
    one, short, long, n = climbs.one, climbs.short, climbs.long, findings.probed
    text = f"1 step leaves {percent(one)}, 20 steps {percent(short)}, 40 steps {percent(long)}."
    if short > one + max(0.02, 2.5 / n):
        return Answer(
            "fail",
            f"Many steps do less than one: {text}",
            "The gradient misleads the attack. Take it through what blocks it.",
            *PASS_THROUGH,
        )
    if long - short > max(0.02, 2.5 / n) and climbs.undone < DOUBT:
        return misled(
            findings,
            f"More steps do less: {text}",
            "An attack that goes on loses what it had: the gradient points nowhere.",
        )
    if short - long > max(0.02, 2.5 / n):
        more = {"options": "pgd.steps=100 quick.steps=60"}
        return Answer(
            "warn", f"More steps still find more: {text}", "Attack longer.", "Attack longer", more
        )
    return Answer("pass", text)
