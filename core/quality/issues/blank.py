"""Images with nothing on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.quality.check import Issue, checks
from core.quality.inspection import Survey


@checks.add("blank", "Blank", order=0, remedy="exclude")
def blank(look: Survey) -> Iterator[Issue]:
    """Images of one colour, or nearly so: nothing is on them."""
    contrast = look.measures.properties["contrast"]
    reach = look.measures.properties["highest"]
    for image in np.flatnonzero((contrast < 0.02) & (reach < 0.15)):
        yield Issue(
            int(image),
            1 - float(contrast[image]),
            f"Its contrast is {contrast[image]:.3f} of at most 0.5: nothing is to be seen.",
        )
