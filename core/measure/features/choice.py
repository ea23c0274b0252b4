"""Which extractor to take: the judge where it can judge, else one that needs no labels."""

from __future__ import annotations

import torch

from core.datasets import Dataset
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import percent
from core.measure.features.embedding import Embedding
from core.measure.features.extractors import extractors
from core.measure.features.extractors.judge import Judge, judge, judged
from core.measure.features.extractors.pca import Components, components
from core.measure.features.extractors.self import self_supervised

POOR = 0.9  # a judge of lower accuracy is not used


def choose(
    name: str, dataset: Dataset, device: torch.device, weights: str = "", watch: Watch = UNWATCHED
) -> tuple[Embedding, str]:
    """Opens an extractor, or the one to take instead of a judge that cannot judge; says so in a sentence, else empty.

    Raises:
        UserError: If there is no such extractor, or what it needs is not there.
    """
    entry = extractors.get(name)
    form = dataset.medium.model
    entry.allow(form, extractors)
    if not entry.labels:
        return entry.make(dataset, device, weights, watch), ""
    if len(dataset.classes) < 2:
        few = "no labels" if not dataset.labelled else "one class only"
        why = f"{dataset.name} has {few}, so there is no judge"
    else:
        opened = entry.make(dataset, device, weights, watch)
        if opened.accuracy >= POOR:
            return opened, ""
        why = (
            f"The judge of {dataset.name} names only {percent(opened.accuracy, 0)} of the test images rightly, "
            f"below {percent(POOR, 0)}, so it is not asked"
        )
    if form not in extractors.get("self").takes:
        return components(dataset, device), f"{why}; features are principal components."
    other = self_supervised(dataset, device, watch)
    return other, f"{why}; features come from a network that learned from the images alone."


def quick(dataset: Dataset, device: torch.device, watch: Watch = UNWATCHED) -> Judge | Components:
    """Gives the extractor for use during a training: the judge where it exists or trains quickly, else components."""
    if dataset.labelled and len(dataset.classes) > 1:
        soon = (dataset.size <= 8 or device.type == "cuda") and not settings().view_only
        if soon or judged(dataset):
            return judge(dataset, device, watch)
    return components(dataset, device)
