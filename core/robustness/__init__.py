"""How much a classifier loses under attack, and whether that number can be believed.

>>> from core.robustness import check
>>> check(model, x, y, classes=names)["verdict"]  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.robustness import (
    classifiers as foreign,  # the program in a report of an older version needs it
)
from core.robustness.comparison import Paired, boards, compare, references
from core.robustness.config import StudyConfig, images_of
from core.robustness.cost import Cost, Lap, estimate, estimate_job
from core.robustness.measure import AttackStudy, begin, check
from core.robustness.one_image import Closeup, look
from core.robustness.store import Report


def Study(*args: Any, **kwargs: Any) -> Iterator[dict[str, Any]]:
    """Yields the records of an :class:`AttackStudy`: the program in a report of an older version needs it."""
    return (report.record() for report in AttackStudy(*args, **kwargs))
