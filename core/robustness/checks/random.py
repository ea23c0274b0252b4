"""Does the same image get the same answer twice, whatever stands beside it?"""

from __future__ import annotations

from core.ground.writing import percent
from core.robustness.checks import AVERAGE, checks
from core.robustness.findings import Answer, Findings


@checks.add("random", "The same answer twice", number=9, urgency=12)
def random(findings: Findings) -> Answer | None:
    """Two passes must give the same output, alone and beside other images."""
    share, eot, about = findings.differs, findings.eot, findings.identity
    if share is None:
        return None
    if about and about.company:
        return Answer(
            "fail",
            f"{percent(about.company)} of the answers depend on the images beside them",
            "A part of it is in training mode (batch norm): call eval() on the whole model before it answers.",
        )
    if not share:
        return Answer("pass", "Two passes give the same output.")
    text = f"two passes of the same image differ for {percent(share)} of the images"
    if eot > 1:
        return Answer(
            "warn",
            f"The model is random: {text}. Gradients and decisions are means of {eot} draws.",
        )
    return Answer(
        "fail",
        text,
        "The model is random (dropout left on, noise inside): one lucky draw is no success. Average over draws.",
        *AVERAGE,
    )
