"""Does random noise find less than the attacks?"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from core.robustness.checks import checks, through
from core.robustness.findings import Answer, Findings
from core.robustness.tally import Tally


def placebo(tally: Tally) -> Generator[None, None, int]:
    """Counts images that noise alone fools, at the strength with the most, of those where both were tried."""
    tried = [table for name, table in tally.fooled.items() if name != "noise"]
    worst = 0
    for k in range(len(tally.schedule.grid)):
        fooled = tally.fooled["noise"][k] == 1
        if tried and fooled.any():
            known = np.any([table[k] != -1 for table in tried], axis=0)
            hit = np.any([table[k] == 1 for table in tried], axis=0)
            worst = max(worst, int((fooled & known & ~hit).sum()))
        yield
    return worst


@checks.add("noise", "Noise is weaker", number=8, urgency=5, probe=placebo)
def noise(findings: Findings) -> Answer | None:
    """Random noise must fool next to nothing that the attacks left alone."""
    only, n = findings.measured.get("noise"), findings.n
    if only is None:
        return None
    text = f"random noise fools {only} of {n} images that the attacks left alone"
    if only > max(1, 0.01 * n):
        advice, button, action = through(findings)
        return Answer(
            "fail",
            text,
            f"An attack that is weaker than chance says nothing. {advice}",
            button,
            action,
        )
    return Answer("warn" if only > 1 else "pass", text[0].upper() + text[1:] + ".")
