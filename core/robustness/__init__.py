"""How much a classifier loses under attack, and whether that number can be believed.

>>> from core.robustness import check
>>> check(model, x, y, classes=names)["verdict"]  # doctest: +SKIP
"""

from __future__ import annotations

from core.robustness.closeup import Look, look
from core.robustness.comparison import Paired, compare, references
from core.robustness.cost import Estimate, estimate
from core.robustness.questions import StudyConfig, images_of
from core.robustness.study import Study, begin, check

__all__ = [
    "Estimate",
    "Look",
    "Paired",
    "Study",
    "StudyConfig",
    "begin",
    "check",
    "compare",
    "estimate",
    "images_of",
    "look",
    "references",
]
