"""Feature extractors: what an image looks like to a network, as numbers that distances can be taken of.

Features are standardised by the training images of the dataset, because a distance between raw features depends on
their arbitrary scale. Values from different extractors, or of different datasets, must never be compared: name and
hash travel with them. An extractor is a file in :mod:`core.measure.features.extractors`. What needs torch is imported
when it is first asked for, so that listing the extractors costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from core.measure.features.extractors import Extractor, extractors

if TYPE_CHECKING:
    from core.measure.features.choice import POOR, choose, quick
    from core.measure.features.embedding import LENGTHS, Embedding, of_split
    from core.measure.features.extractors.judge import Judge, judge, judged, taught
    from core.measure.features.extractors.pca import Components, components
    from core.measure.features.extractors.self import self_supervised
    from core.measure.features.reading import Reader, readable, reader, reader_ready

_ROOMS = {
    "choice": "POOR choose quick",
    "embedding": "LENGTHS Embedding of_split",
    "extractors.judge": "Judge judge judged taught",
    "extractors.pca": "Components components",
    "extractors.self": "self_supervised",
    "reading": "Reader readable reader reader_ready",
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
