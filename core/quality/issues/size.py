"""Pictures of another size or shape."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from core.quality.check import Issue, checks
from core.quality.inspection import Survey


@checks.add("size", "Odd sizes", order=130, remedy="look")
def size(look: Survey) -> Iterator[Issue]:
    """Pictures that were much smaller, or of another shape, before they were scaled; known for imported ones."""
    columns = look.dataset.attributes or {}
    if not {"width", "height"} <= columns.keys():
        return
    wide, high = (np.asarray(columns[name], np.float64) for name in ("width", "height"))
    aspect = np.log(wide / high)
    usual = float(np.median(aspect))
    for image, (shape, side) in enumerate(zip(aspect, np.minimum(wide, high), strict=True)):
        was = f"It was {wide[image]:.0f} × {high[image]:.0f} px"
        if side < look.dataset.size:
            sentence = f"{was}, less than the {look.dataset.size} px here."
            yield Issue(image, 2 - side / look.dataset.size, sentence)
        elif abs(shape - usual) > math.log(1.5):
            sentence = f"{was}; the usual shape is {math.exp(usual):.2f} times as wide as high."
            yield Issue(image, float(abs(shape - usual)), sentence)
