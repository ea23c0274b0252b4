"""Whether a model translates better than what costs nothing: measured on held-out images, and kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.catalog import UserError
from core.datasets import Dataset, columns, evenly
from core.ground import files
from core.ground.settings import settings
from core.ground.stats import Estimate, paired_change, share
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import percent
from core.latent.space import Space
from core.latent.translation import CLASS, Aspect, aspect_of, aspects, changeable, translate
from core.latent.transport import Transport
from core.measure.distances import frechet
from core.measure.features import Reader
from core.tensors import Images

CONTENT = "content"  # the attribute of joined sets that a translation between them must keep
METHODS = {"model": "the model", "colours": "colours alone", "nothing": "doing nothing"}
FITTED = 1000  # training images of each kind that colours are compared on


@dataclass(frozen=True)
class MeasuredWay:
    """How well one way translates held-out images.

    Attributes:
        method: A name of :data:`METHODS`.
        reached: Share that a reader takes for the target.
        kept: Share in which it sees the content that the image had; None where none is known.
        both: Share for which both holds.
        distance: Fréchet distance to held-out real images of the target, in a reader's features, over that of as many
            training images of the target; 1 is as good as real.
    """

    method: str
    reached: Estimate
    kept: Estimate | None
    both: Estimate
    distance: float


@dataclass(frozen=True)
class Standings:
    """The ways that were compared, and which to take.

    Attributes:
        source, target: From what to what.
        n: Held-out images.
        ways: The model, colours alone, and doing nothing.
        better: How much more often the model is right than colours alone, of the same images.
        accuracy: Of the reader, on held-out real images.
    """

    source: str
    target: str
    n: int
    ways: tuple[MeasuredWay, ...]
    better: Estimate
    accuracy: float

    @property
    def best(self) -> str:
        """``model`` if it is surely better than colours alone, else ``colours``: what costs nothing."""
        return "model" if self.better.low > 0 else "colours"

    @property
    def sentence(self) -> str:
        """Says which way is better, with the numbers."""
        model, colours, _ = self.ways
        said = "; ".join(
            f"{METHODS[way.method]} {percent(way.both.value, 0)}" for way in (model, colours)
        )
        both = f"{self.target} and still the same content" if model.kept else self.target
        if self.best == "model":
            return f"The model is better: of {self.n} held-out images are {both}: {said}."
        return (
            f"The model does not beat what costs nothing: of {self.n} held-out images are {both}: {said}. "
            "Take colours alone, or train longer."
        )

    def record(self) -> dict[str, Any]:
        """Gives plain values, ready for JSON."""
        return dataclasses.asdict(self) | {"best": self.best}


def colours(dataset: Dataset, aspect: Aspect, source: str, target: str, x: Images) -> Images:
    """Brings the colours of pictures of one class to those of another, (N, C, H, W); nothing is learned.

    Raises:
        UserError: If it is not about classes, or one of them has no training image.
    """
    sides = []
    for term in (source, target):
        train = dataset.splits["train"]
        if aspect.name != CLASS or dataset.y is None:
            raise UserError(
                "Colours are compared between two classes. Choose two classes of the dataset."
            )
        rows = train[dataset.y[train] == aspect.index(term)]
        if not len(rows):
            raise UserError(f"There is no training image of {term!r}. Choose another class.")
        sides.append(dataset.images(evenly(rows, FITTED)))
    return Transport.between(*sides)(x)


def examples(dataset: Dataset, aspect: Aspect, source: str, count: int) -> np.ndarray:
    """Takes held-out items that meet a term of an aspect, rows (n,), evenly spread.

    Raises:
        UserError: If there is none.
    """
    test = dataset.splits["test"]
    met = aspect.met(columns(dataset).values[test])
    rows = test[met == aspect.index(source)]
    if not len(rows):
        raise UserError(f"No held-out image is {source!r}. Choose another value to start from.")
    return evenly(rows, count)


def standings(
    space: Space,
    dataset: Dataset,
    source: str,
    target: str,
    reading: Reader,
    *,
    count: int = 100,
    strength: float = 1.0,
    masked: bool = True,
    seed: int = 0,
    watch: Watch = UNWATCHED,
) -> Standings:
    """Compares the model with colours alone and with doing nothing, on held-out images of a class; once, then kept.

    Args:
        space, dataset, source, target, strength, masked, seed: As in :func:`core.latent.translate`.
        reading: Reads classes and content off images.
        count: Held-out images.
        watch: Told how far it is.

    Raises:
        UserError: As :func:`core.latent.translate`, or if no held-out image is of the class.
    """
    aspect = aspect_of(changeable(space, dataset), source, target)
    if aspect.name != CLASS:
        raise UserError(
            "Colours are compared between two classes. Choose two classes of the dataset."
        )
    known = measured(
        space, dataset, source, target, count=count, strength=strength, masked=masked, seed=seed
    )
    if known is not None:
        return known
    file = _file(space, dataset, source, target, count, strength, masked, seed)
    rows = examples(dataset, aspect, source, count)
    x = dataset.images(rows)
    made = translate(
        space, dataset, x, source, target,
        strength=strength, masked=masked, reading=reading, ids=rows.tolist(), seed=seed, watch=watch,
    ).images  # fmt: skip
    results = {
        "model": made.cpu(),
        "colours": colours(dataset, aspect, source, target, x),
        "nothing": x,
    }
    right: dict[str, np.ndarray] = {}
    ways = []
    for method, images in results.items():
        standing, right[method] = _stand(method, images, dataset, reading, aspect, target, rows)
        ways.append(standing)
    gained = int((right["model"] & ~right["colours"]).sum())
    lost = int((right["colours"] & ~right["model"]).sum())
    found = Standings(
        source,
        target,
        len(rows),
        tuple(ways),
        paired_change(gained, lost, len(rows)),
        float(np.mean(reading.accuracy[list(aspect.columns)])),
    )
    files.keep(file, json.dumps(found.record()).encode())
    return found


def measured(
    space: Space,
    dataset: Dataset,
    source: str,
    target: str,
    *,
    count: int = 100,
    strength: float = 1.0,
    masked: bool = True,
    seed: int = 0,
) -> Standings | None:
    """Gives what :func:`standings` has measured before; None where it has not."""
    file = _file(space, dataset, source, target, count, strength, masked, seed)
    try:
        return _read(json.loads(file.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: measured again
        return None


def _file(space: Space, dataset: Dataset, *known: Any) -> Path:
    """Says where standings are kept."""
    mark = json.dumps(
        (space.key, space.sampling.record(), dataset.fingerprint, *known),
        sort_keys=True,
        default=str,
    )
    name = hashlib.sha256(mark.encode()).hexdigest()[:32]
    return settings().cache / "translations" / f"{name}.json"


def _stand(
    method: str,
    images: Images,
    dataset: Dataset,
    reading: Reader,
    aspect: Aspect,
    target: str,
    rows: np.ndarray,
) -> tuple[MeasuredWay, np.ndarray]:
    read = reading.read(images).cpu().numpy()
    reached = aspect.met(read) == aspect.index(target)
    kept = None
    content = aspects(dataset).get(CONTENT)
    if content is not None:
        before = content.met(columns(dataset).values[rows])
        kept = (content.met(read) == before) & (before >= 0)
    right = reached if kept is None else reached & kept
    assert dataset.y is not None
    of_target = dataset.y == aspect.index(target)
    test, train = (
        rows_[of_target[rows_]] for rows_ in (dataset.splits["test"], dataset.splits["train"])
    )
    real = reading.features(dataset.images(evenly(test, FITTED)))
    floor = frechet(reading.features(dataset.images(evenly(train, len(rows)))), real)
    distance = frechet(reading.features(images), real) / max(floor, 1e-9)
    standing = MeasuredWay(
        method, share(reached), None if kept is None else share(kept), share(right), distance
    )
    return standing, right


def _read(record: Any) -> Standings:
    """Makes standings of what :meth:`Standings.record` gave."""

    def estimate(value: Any) -> Any:
        return None if value is None else Estimate(**value)

    names = ("reached", "kept", "both")
    ways = tuple(
        MeasuredWay(**way | {name: estimate(way[name]) for name in names}) for way in record["ways"]
    )
    values = {k: v for k, v in record.items() if k != "best"}
    return Standings(**values | {"ways": ways, "better": estimate(record["better"])})
