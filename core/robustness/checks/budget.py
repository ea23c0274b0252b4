"""Are the adversarial images within the budget, and do they fool the classifier when it is asked again?"""

from __future__ import annotations

from core.robustness.checks import AVERAGE, checks
from core.robustness.findings import Answer, Findings


@checks.add("budget", "Within the budget", number=2, urgency=2)
def budget(findings: Findings) -> Answer | None:
    """Every adversarial image must be in range, within the budget, and fool twice."""
    doubtful, n = findings.doubtful, findings.n
    if doubtful is None:
        return None
    if findings.outside:
        return Answer(
            "fail",
            f"{findings.outside} adversarial images leave the budget or the range.",
            "This is a mistake of the attack: please report it, and do not use the number.",
        )
    if doubtful > max(2, n / 50):
        return Answer(
            "warn",
            f"{doubtful} of {n} images fooled the classifier once, but not when asked again; they count as correct.",
            "They lie on the very boundary, or the model is random: average over draws.",
            *AVERAGE,
        )
    return Answer(
        "pass", "Every adversarial image is in range and within the budget, and fooled twice."
    )
