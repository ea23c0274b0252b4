"""What the items of a dataset can be counted by: class, attributes, and kinds of pictures that look alike."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from core.building.glance import Glance, chosen
from core.building.version import COLUMNS, provenance
from core.datasets import Dataset
from core.datasets.attributes import unknown
from core.datasets.dataset import assemble
from core.ground.watch import UNWATCHED, Watch

MOST_VALUES = 12  # of an attribute that is counted by its values


def axes(dataset: Dataset) -> list[str]:
    """Lists what items can be counted by: class, cluster, and attributes that have few values or are numbers."""
    names = ["class"] if dataset.labelled else []
    return [*names, "cluster", *_attributes(dataset)]


def _attributes(dataset: Dataset) -> list[str]:
    found = []
    real = is_real(dataset)
    for name, values in (dataset.attributes or {}).items():
        if name in (*COLUMNS, "group", "picture", "id") or not real.any():
            continue
        kinds = len(np.unique(values[real & ~unknown(dataset.attributes or {}, name)]))
        # nor the class itself, told a second time
        again = dataset.y is not None and np.array_equal(values[real], dataset.y[real])
        if kinds > 1 and not again and (kinds <= MOST_VALUES or values.dtype.kind in "iuf"):
            found.append(name)
    return found


def is_real(dataset: Dataset) -> np.ndarray:
    """Tells which items were not made by us or by a model, bool (N,)."""
    return provenance(dataset)["origin"] == "real"


def unnamed(dataset: Dataset, names: Sequence[str]) -> np.ndarray:
    """Tells which items are samples of which an attribute is not known, bool (N,): they were not chosen by it."""
    columns = provenance(dataset)
    sample, said = columns["origin"] == "synthetic", columns["parameters"].astype(str)
    unknown = np.zeros(len(dataset), bool)
    for name in set(names) & set(dataset.attributes or {}):
        unknown |= sample & (np.char.find(said, f'"has": "{json.dumps(name)[1:-1]}') < 0)
    return unknown


def real_part(dataset: Dataset) -> Dataset:
    """Gives a version without what was added to it: the dataset itself where nothing was."""
    real = is_real(dataset)
    if real.all():
        return dataset
    rows = np.flatnonzero(real)
    place = np.cumsum(real) - 1
    return assemble(
        np.asarray(dataset.x[rows]),
        None if dataset.y is None else dataset.y[rows],
        dataset.classes,
        {name: place[index[real[index]]] for name, index in dataset.splits.items()},
        medium=dataset.medium.name,
        levels=dataset.levels,
        attributes={n: v[rows] for n, v in (dataset.attributes or {}).items()},
        name=dataset.name,
        source=dataset.source,
        terms=dataset.terms,
        group=dataset.group,
        pair=dataset.pair and dataset.pair.at(rows),
    )


def embedded(dataset: Dataset, extractor: str, watch: Watch = UNWATCHED) -> tuple[np.ndarray, str]:
    """Places every item where an extractor sees it, that has learned from the real training images alone.

    Returns:
        float32 (N, d), and what is to be said where another extractor took its place; else empty.
    """
    from core.measure.features import Components, of_split

    embedding, note = chosen(extractor, real_part(dataset), watch.aside())
    points = of_split(embedding, dataset, np.arange(len(dataset)))
    if isinstance(embedding, Glance):  # as far apart as the pixels are
        points = points * (embedding.scale / embedding.scale[0])
    elif isinstance(embedding, Components):
        points = points / embedding.vectors.norm(dim=0).cpu().numpy()
        points = points / max(1e-9, float(points.std()))
    return points[:, :32].astype(np.float32), note


def axis(
    dataset: Dataset, name: str, points: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, list[str]]:
    """Gives the place of each item on an axis, (N,), -1 where it is not known, and the names of the places."""
    if name == "class":
        assert dataset.y is not None
        return dataset.y, list(dataset.classes)
    real = np.intersect1d(dataset.splits["train"], np.flatnonzero(is_real(dataset)))
    if name == "cluster":
        code = clusters(points, real, count, seed)
        return code, [f"kind {k + 1}" for k in range(int(code.max()) + 1)]
    assert dataset.attributes is not None
    values = dataset.attributes[name]
    known = ~unknown(dataset.attributes, name)
    kinds = np.unique(values[known])
    if len(kinds) <= MOST_VALUES:
        texts = [f"{name}={kind}" for kind in kinds.tolist()]
        return np.where(known, np.searchsorted(kinds, values), -1), texts
    numbers = np.where(known, values.astype(float), np.nan)
    low, high = np.nanquantile(numbers[real] if known[real].any() else numbers, [1 / 3, 2 / 3])
    code = np.where(known, (numbers > low).astype(int) + (numbers > high), -1)
    texts = [f"{name} to {low:.3g}", f"{name} {low:.3g} to {high:.3g}", f"{name} from {high:.3g}"]
    return code.astype(np.int64), texts


def clusters(points: np.ndarray, real: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Sorts items into kinds that look alike: k-means on the real training images, largest first; int64 (N,).

    Args:
        points: Of all items, (N, d).
        real: Rows of the real training images.
        count: Kinds, at most.
        seed: Of the starts.
    """
    from sklearn.cluster import KMeans

    own = points[real]
    count = min(count, len(np.unique(own, axis=0)))
    if count < 2:
        return np.zeros(len(points), np.int64)
    means = KMeans(count, n_init=4, random_state=seed)  # pyright: ignore[reportArgumentType]
    order = np.argsort(-np.bincount(means.fit_predict(own), minlength=count), kind="stable")
    centres = means.cluster_centers_[order]
    apart = np.square(centres).sum(1) - 2 * points @ centres.T
    return apart.argmin(1).astype(np.int64)
