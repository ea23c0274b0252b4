"""Images whose light or sharpness is unusual in their set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.quality.check import Issue, checks
from core.quality.inspection import Survey


def _unusual(
    look: Survey, name: str, sign: int, bar: float, beginning: str, floor: float
) -> Iterator[Issue]:
    """Flags images whose property is far from the set's median: in robust deviations, and by more than ``floor``."""
    from core.quality import search

    values = look.measures.properties[name]
    score = sign * search.robust(values)
    far = sign * (values - np.median(values)) > floor
    for image in np.flatnonzero((score > look.bar(bar)) & far & ~look.seen("blank")):
        yield Issue(
            int(image),
            float(score[image]),
            f"{beginning} {values[image]:.2f}; the median of the set is {np.median(values):.2f}.",
        )


@checks.add("blurred", "Blurred", order=90, remedy="look")
def blurred(look: Survey) -> Iterator[Issue]:
    """Images with far weaker edges than the others have."""
    middle = float(np.median(look.measures.properties["sharpness"]))
    yield from _unusual(look, "sharpness", -1, 4.0, "Its sharpness is", 0.4 * middle)


@checks.add("dark", "Dark", order=100, remedy="look")
def dark(look: Survey) -> Iterator[Issue]:
    """Images whose light parts are darker than those of the others."""
    yield from _unusual(look, "dark", -1, 5.0, "Its light parts have brightness", 0.25)


@checks.add("bright", "Bright", order=110, remedy="look")
def bright(look: Survey) -> Iterator[Issue]:
    """Images far brighter than the others."""
    yield from _unusual(look, "brightness", 1, 6.0, "Its mean brightness is", 0.3)


@checks.add("clipped", "Clipped", order=120, remedy="look")
def clipped(look: Survey) -> Iterator[Issue]:
    """Images with many more pixels at pure black or white than the others: detail is lost there."""
    yield from _unusual(look, "clipped", 1, 6.0, "The share of its pixels at an end is", 0.35)
