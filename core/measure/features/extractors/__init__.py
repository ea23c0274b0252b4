"""What turns images into features; each file beside this one adds one.

This module names torch only inside its files, so that listing the extractors costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.catalog import Config, Registry
from core.media import FORMS, Form, Taker


@dataclass(frozen=True, kw_only=True)
class Extractor(Taker):
    """An extractor; ``make(dataset, device, weights, watch) -> Embedding``.

    It takes what a model sees. ``weights`` is a file, or empty; ``watch`` follows a training.

    Attributes:
        labels: It learns from labels and has an accuracy; where that is poor, another one takes its place.
        frechet: Name of its own that the Fréchet distance has with these features; empty for none.
    """

    labels: bool = False
    frechet: str = ""
    takes: tuple[Form, ...] = FORMS


extractors = Registry("extractor", Extractor, "core.measure.features.extractors")
