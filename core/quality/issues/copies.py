"""Images that are there twice, in one split, across splits, or with two labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from core.ground.writing import percent
from core.quality.check import Issue, checks
from core.quality.inspection import Survey

if TYPE_CHECKING:
    from core.quality.search import Pair

_PIXELS = "Compares the pixels as they are kept here, byte by byte."
_CHANGED = "Copies that are saved anew as JPEG, moved, mirrored, turned, cropped, brighter or darker have other pixels."
_OVER = (
    "Lays each image over the three that are nearest by their frequencies, moved by up to about a tenth of its side, "
    "and compares what overlaps."
)
_MOVED = (
    "Copies that are mirrored, turned, cropped, enlarged, brighter or darker, moved further, or of other contrast are "
    "not looked for; and in some sets of photographs about half of those that are moved, noisy or saved anew as JPEG "
    "are missed."
)


@checks.add(
    "contradiction",
    "Which label is right?",
    order=10,
    remedy="relabel",
    single=True,
    compared="Looks at the copies that the checks for exact and near duplicates find.",
    blind="What these cannot see is not seen here either.",
)
def contradiction(look: Survey) -> Iterator[Issue]:
    """Copies whose labels contradict each other: only a person can say which of the labels is right."""
    y = look.dataset.y
    if y is None:
        return
    for group in look.contradicting:
        labels = [group[y[group] == label] for label in np.unique(y[group])]
        said = ", ".join(
            f"{look.dataset.classes[y[mine[0]]]} ({', '.join(look.name(int(i)) for i in mine[:3])}"
            + (f" and {len(mine) - 3:,} more)" if len(mine) > 3 else ")")
            for mine in labels
        )
        yield Issue(
            int(group[0]),
            2.0,
            f"The same pixels are labelled {said}. At most one label is right.",
            tuple(int(i) for i in group[1:]),
        )
    for pair in look.pairs:
        if y[pair.a] != y[pair.b]:
            yield _near(look, pair, pair.b, pair.a, 0.0)


@checks.add(
    "exact",
    "Exact duplicates",
    order=20,
    remedy="exclude",
    compared=_PIXELS,
    blind=_CHANGED,
)
def exact(look: Survey) -> Iterator[Issue]:
    """Images with the same pixels and label as another one of the same split; they count twice."""
    for group in look.agreeing:
        for code in np.unique(look.split[group]):
            mine = group[look.split[group] == code]
            for image in mine[1:]:
                yield _twin(look, int(image), int(mine[0]), "has the same pixels")


@checks.add(
    "leak",
    "Leaks between splits",
    order=30,
    remedy="exclude",
    compared=_PIXELS,
    blind=_CHANGED,
)
def leak(look: Survey) -> Iterator[Issue]:
    """Images with the same pixels and label as one that is held out: they make every report too good."""
    for group in look.agreeing:
        keeper = look.keeper(group)
        for image in group:
            if look.split[image] < look.split[keeper]:
                yield _twin(look, int(image), keeper, "has the same pixels")


@checks.add("near", "Near duplicates", order=40, remedy="exclude", compared=_OVER, blind=_MOVED)
def near(look: Survey) -> Iterator[Issue]:
    """Images that are another one of the same label, shifted by a few pixels or with small changes."""
    for pair in look.pairs:
        if look.split[pair.a] == look.split[pair.b] and look.agree(pair.a, pair.b):
            yield _near(look, pair, pair.b, pair.a)


@checks.add("near_leak", "Near leaks", order=50, remedy="exclude", compared=_OVER, blind=_MOVED)
def near_leak(look: Survey) -> Iterator[Issue]:
    """Images that are nearly one that is held out, of the same label: reports are too good, though less plainly."""
    for pair in look.pairs:
        if look.split[pair.a] != look.split[pair.b] and look.agree(pair.a, pair.b):
            first, last = sorted((pair.a, pair.b), key=lambda image: int(look.split[image]))
            yield _near(look, pair, first, last)


def _twin(look: Survey, image: int, other: int, how: str) -> Issue:
    y, label = look.dataset.y, ""
    if y is not None and y[image] != y[other]:
        label = " Their labels differ: {} and {}.".format(
            *(look.dataset.classes[y[i]] for i in (image, other))
        )
    return Issue(image, 1.0, f"{_capital(look.name(other))} {how}.{label}", (other,))


def _near(look: Survey, pair: Pair, image: int, other: int, base: float = 1.0) -> Issue:
    shift = " and ".join(
        f"{abs(pixels)} px {way}"
        for pixels, way in ((pair.right, "across"), (pair.down, "up or down"))
        if pixels
    )
    moved = f"shifted by {shift}" if shift else "in place"
    how = f"is the same, {moved}, but for {percent(pair.difference)} of the contrast"
    return replace(_twin(look, image, other, how), score=base + 1 - pair.difference)


def _capital(sentence: str) -> str:
    """Begins a sentence with a capital letter, and leaves all others as they are: they may be of a name."""
    return sentence[:1].upper() + sentence[1:]
