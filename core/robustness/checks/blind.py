"""Do attacks without the gradient find less than those that follow it?"""

from __future__ import annotations

from core.robustness.checks import GO_PAST, checks, many
from core.robustness.findings import Answer, Findings
from core.robustness.verdict import CONFIRMING


@checks.add("blind", "Blind attacks are weaker", number=7, urgency=6, gradients=True)
def blind(findings: Findings) -> Answer | None:
    """Attacks that do not rest on the gradient must fool next to nothing of what the others left."""
    past = findings.past
    if past is None:
        return None
    if not past.tried:
        return Answer("pass", "No image is left that an attack without gradient could still fool.")
    only = past.only
    ways = ", ".join(f"{way} {count}" for way, count in past.counts.items() if count or not only)
    text = (
        f"attacks that do not rest on its gradient fool {only} of {past.tried} images that the others left "
        f"({ways})"
    )
    if many(only, past.tried):
        return Answer(
            "fail",
            text,
            "The gradient is masked: attack in ways that do not rest on it, or take it through what blocks it.",
            *GO_PAST,
        )
    text = text[0].upper() + text[1:] + "."
    if only > 1:
        button = "Confirm with AutoAttack"
        return Answer("warn", text, f"{button}.", button, {"attacks": CONFIRMING})
    return Answer("pass", text)
