"""Feature extractors: what an image looks like to a network, as numbers that distances can be taken of.

Features are standardised by the training images of the dataset, because a distance between raw features depends on
their arbitrary scale. Values from different extractors, or of different datasets, must never be compared: name and
hash travel with them. An extractor is a file in :mod:`core.features.extractors`.
"""

from core.features.choice import POOR, choose, quick
from core.features.extractor import LENGTHS, Extractor, extractors, of_split
from core.features.extractors.judge import Judge, judge, judged, taught
from core.features.extractors.pca import Components, components
from core.features.extractors.self import self_supervised
from core.features.reading import Reader, readable, reader, reader_ready

__all__ = [
    "LENGTHS",
    "POOR",
    "Components",
    "Extractor",
    "Judge",
    "Reader",
    "choose",
    "components",
    "extractors",
    "judge",
    "judged",
    "of_split",
    "quick",
    "readable",
    "reader",
    "reader_ready",
    "self_supervised",
    "taught",
]
