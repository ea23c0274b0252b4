"""Is there a gradient, and does a step along it gain what it promises?"""

from __future__ import annotations

from core.ground.writing import percent
from core.robustness.checks import HONEST, PASS_THROUGH, checks, many, misled
from core.robustness.findings import Answer, Findings


@checks.add("gradient", "The gradient is there", number=6, urgency=10, gradients=True)
def gradient(findings: Findings) -> Answer | None:
    """The gradient must not be zero, and a step along it must gain about what it promises."""
    zero, broken, bpda = findings.margin_zero, findings.not_numbers, findings.bpda
    if zero is None:
        return None
    if findings.decisions:
        return Answer(
            "fail",
            "the classifier gives decisions only, without any gradient or score",
            "No attack of this page can climb a decision. Give it a model that ends in logits.",
        )
    if zero > 0.1 and bpda:
        return Answer(
            "fail",
            f"{percent(zero)} of the gradients are zero even with gradients let through",
            "What blocks the gradient is not a rounding: attack the model without that part.",
        )
    if zero > 0.1:
        return Answer(
            "fail",
            f"{percent(zero)} of the gradients are zero",
            "Something inside has no slope (rounding, a sign, a cut graph). Let the gradient pass it.",
            *PASS_THROUGH,
        )
    if broken:
        return Answer(
            "warn",
            f"{broken} of {findings.n} images give an output that is not a number; they count as errors.",
            "Look for a division by zero or a logarithm of zero inside the model.",
        )
    text = f"{percent(zero)} of the gradients are zero"
    if bpda:
        return Answer("pass", f"{text}, as steps without slope were let through (BPDA).")
    gained = findings.promise
    if gained is None or HONEST[0] <= gained <= HONEST[1]:
        return Answer("pass", f"{text}.")
    finding = f"a step along the gradient gains {percent(gained)} of what it promises"
    if gained > HONEST[1]:
        finding = f"a step along the gradient gains more than {HONEST[1]:g} times what it promises"
    past = findings.past
    if past and past.tried and not past.only and not many(past.gain, past.gain + past.tried):
        # k-WTA and the like: jumps, but nothing that gets past them finds more
        return Answer(
            "pass",
            f"{text}. {finding[0].upper() + finding[1:]}, but attacks that do not rest on it fool none of {past.tried} "
            "images that the others left.",
        )
    return misled(findings, finding, "It is of no use to an attack.")
