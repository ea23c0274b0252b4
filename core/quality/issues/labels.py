"""Labels that the other images contradict."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.catalog import Config
from core.ground.writing import percent
from core.quality.check import Issue, checks
from core.quality.inspection import Survey


@checks.add("label", "Label errors", Config, order=70, remedy="relabel")
def label(look: Survey) -> Iterator[Issue]:
    """Labels that may well be wrong: images like this one have another."""
    found = look.judgement
    if found is not None and found.facts["judged"]:
        yield from _doubted(look, "label", np.flatnonzero(found.suspect))


@checks.add("doubt", "Labels for a look", Config, order=80, remedy="relabel", single=True)
def doubt(look: Survey) -> Iterator[Issue]:
    """The labels that the other images contradict most, on a set where none can be judged: many will be right."""
    found = look.judgement
    if found is not None and not found.facts["judged"]:
        yield from _doubted(look, "doubt", found.look)


def _doubted(look: Survey, kind: str, places: np.ndarray) -> Iterator[Issue]:
    from core.quality import labels

    found, dataset = look.judgement, look.dataset
    assert found is not None
    assert dataset.y is not None
    _, nearest = look.strange
    for place in places:
        image, named = int(found.rows[place]), int(found.named[place])
        own, other = (float(chance[place]) for chance in found.chance)
        yield Issue(
            kind,
            image,
            1 - own,
            f"Labelled {dataset.classes[dataset.y[image]]}; the other images say {dataset.classes[named]} "
            f"({percent(other)} against {percent(own)}).",
            (int(nearest[image]),),
            named,
            sure=kind == "label" and bool(found.wrong[place] > labels.SURE),
        )
