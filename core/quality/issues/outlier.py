"""Images unlike all others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.quality.check import Issue, checks
from core.quality.inspection import Survey


@checks.add(
    "outlier",
    "Outliers",
    order=60,
    remedy="look",
    compared=(
        "Compares coarse pixels (at most 14 × 14 in grey, 8 × 8 in colour): how far each image is from the 20 nearest "
        "ones."
    ),
    blind=(
        "A foreign picture is missed if its light and dark parts lie where those of other images do: nearly every "
        "photograph among photographs, and letters of another alphabet among letters. More than 20 of one kind are "
        "missed, too."
    ),
)
def outlier(look: Survey) -> Iterator[Issue]:
    """Images unlike all others: perhaps they do not belong here."""
    from core.quality import search

    far, nearest = look.strange
    some = np.flatnonzero(~look.seen("blank"))
    if not len(some):
        return
    rarity = search.rarity(far[some])
    for i in np.flatnonzero(search.surprising(rarity, look.bar(1.0))):
        image, rare = int(some[i]), float(rarity[i])
        yield Issue(
            image,
            rare,
            f"Few images are near it: by the tail of this set, about one image in {10 ** min(rare, 6):,.0f} "
            f"{'or fewer ' if rare > 6 else ''}would be as far from the others.",
            (int(nearest[image]),),
        )
