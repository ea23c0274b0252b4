"""Do the logits grow so large that cross entropy has no gradient left?"""

from __future__ import annotations

from core.ground.writing import percent
from core.robustness.checks import DOUBT, checks
from core.robustness.findings import Answer, Findings


@checks.add("saturated", "Logits do not saturate", number=5, urgency=9, gradients=True)
def saturated(findings: Findings) -> Answer | None:
    """Cross entropy must find about as much as the lead of a wrong class, which has no scale."""
    climbs, flat, zero = findings.climbs, findings.ce_zero, findings.margin_zero
    if climbs is None or flat is None or zero is None:
        return None
    ce, margin = climbs.ce, climbs.short
    blinder = ce - margin > max(0.02, 2.5 / findings.probed) and climbs.blinder < DOUBT
    none_left = flat > zero + 0.05
    if not blinder and not none_left:
        return Answer(
            "pass",
            f"Cross entropy leaves {percent(ce)}, the lead of a wrong class {percent(margin)}.",
        )
    text = f"cross entropy leaves {percent(ce)}, the lead of a wrong class {percent(margin)}"
    if none_left:
        text = f"logits saturate: {percent(flat)} of the cross-entropy gradients are zero; {text}"
    if findings.sees_margin:
        return Answer(
            "warn",
            text[0].upper() + text[1:] + ".",
            "The number comes from attacks that climb the lead, so it holds; those on cross entropy are blind here.",
        )
    return Answer(
        "fail",
        text,
        "Climb the lead of a wrong class instead.",
        "Use the margin loss",
        {"attacks": "noise,fgsm,quick", "options": "pgd.loss=margin fgsm.loss=margin"},
    )
