"""Labels that the other images contradict."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.ground.writing import percent
from core.quality.check import Issue, checks
from core.quality.inspection import Survey


@checks.add("label", "Label errors", order=70, remedy="relabel")
def label(look: Survey) -> Iterator[Issue]:
    """Labels that may well be wrong: images like this one have another."""
    from core.quality import labels

    judgement = look.judgement
    if judgement is not None and judgement.summary["judged"]:
        yield from _doubted(look, np.flatnonzero(judgement.suspect), labels.SURE)


@checks.add("doubt", "Labels for a look", order=80, remedy="relabel", single=True)
def doubt(look: Survey) -> Iterator[Issue]:
    """The labels that the other images contradict most, on a set where none can be judged: many will be right."""
    judgement = look.judgement
    if judgement is not None and not judgement.summary["judged"]:
        yield from _doubted(look, judgement.look, 1.0)


def _doubted(look: Survey, places: np.ndarray, sure: float) -> Iterator[Issue]:
    """Names labels that the other images contradict; those that are wrong with a probability above ``sure`` are."""
    judgement, dataset = look.judgement, look.dataset
    assert judgement is not None
    assert dataset.y is not None
    _, nearest = look.strange
    for i in places:
        image, named = int(judgement.rows[i]), int(judgement.named[i])
        own, other = (float(chance[i]) for chance in judgement.chance)
        yield Issue(
            image,
            1 - own,
            f"Labelled {dataset.classes[dataset.y[image]]}; the other images say {dataset.classes[named]} "
            f"({percent(other)} against {percent(own)}).",
            (int(nearest[image]),),
            named,
            sure=bool(judgement.wrong[i] > sure),
        )
