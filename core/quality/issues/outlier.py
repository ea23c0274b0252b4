"""Images unlike all others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.catalog import Config
from core.quality.check import Issue, checks
from core.quality.inspection import Survey


@checks.add(
    "outlier",
    "Outliers",
    Config,
    order=60,
    remedy="look",
    compared=(
        "Compares coarse pixels (at most 14 × 14 in grey, 8 × 8 in colour): how far each image is from the 20 nearest "
        "ones."
    ),
    blind=(
        "A foreign picture with light and dark where others have it is missed: among photographs nearly every one is, "
        "and letters of another alphabet among letters; and so are more than 20 of one kind."
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
    for place in np.flatnonzero(search.surprising(rarity, look.bar(1.0))):
        image, rare = int(some[place]), float(rarity[place])
        yield Issue(
            "outlier",
            image,
            rare,
            f"Few images are near it: by the tail of this set, about one image in {10 ** min(rare, 6):,.0f} "
            f"{'or fewer ' if rare > 6 else ''}would be as far from the others.",
            (int(nearest[image]),),
        )
