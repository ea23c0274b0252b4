"""Does the number depend on where the attack starts?"""

from __future__ import annotations

from core.ground.writing import percent
from core.robustness.checks import checks
from core.robustness.findings import Answer, Findings


@checks.add("starts", "The start does not matter", number=12, urgency=0, gradients=True)
def starts(findings: Findings) -> Answer | None:
    """Attacks from several random starts must find about as much together as one of them alone."""
    climbs = findings.climbs
    if climbs is None:
        return None
    seeds, union = climbs.starts, climbs.union
    text = (
        f"One run of PGD leaves {percent(min(seeds))} to {percent(max(seeds))} by its start, all {len(seeds)} together "
        f"{percent(union)}."
    )
    if findings.strong or max(seeds) - union <= max(0.01, 1.5 / findings.probed):
        return Answer("pass", text)
    return Answer(
        "warn",
        text,
        "One start is not enough: attack towards several classes.",
        "Use the screening attack",
        {"attacks": "noise,fgsm,quick"},
    )
