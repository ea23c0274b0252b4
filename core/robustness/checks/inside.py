"""Does the classifier take a gradient, or purify the image, before it answers?"""

from __future__ import annotations

from core.robustness.checks import checks
from core.robustness.findings import Answer, Findings


@checks.add("inside", "No gradient taken inside", number=11, urgency=7)
def inside(findings: Findings) -> Answer | None:
    """What a model computes by a gradient of its own, these attacks do not follow."""
    inner = findings.inner_gradient
    if inner is None:
        return None
    if inner or findings.purifier:
        what = "takes a gradient" if inner else "purifies the image"
        return Answer(
            "fail",
            f"the model {what} before it answers, which these attacks do not follow",
            "Attack it as purification: its three numbers are on the tab of the generative models.",
        )
    return Answer("pass", "No gradient is taken while it answers.")
