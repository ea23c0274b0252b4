"""Does the classifier end in logits?"""

from __future__ import annotations

from core.robustness.checks import checks
from core.robustness.findings import Answer, Findings


@checks.add("logits", "Logits, not probabilities", number=10, urgency=8)
def logits(findings: Findings) -> Answer | None:
    """A probability that rounds to 1 hides its gradient; a logit does not."""
    if findings.probabilities is None:
        return None
    if not findings.probabilities:
        return Answer("pass", "The outputs are logits.")
    return Answer(
        "warn",
        "The outputs are probabilities, not logits; they were attacked through their logarithm.",
        "Leave the last softmax out: a probability that rounds to 1 hides its gradient.",
    )
