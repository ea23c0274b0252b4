"""One look at every image of a dataset: what the checks share, and their order."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from core.catalog import UserError
from core.datasets import SPLITS, Dataset
from core.datasets.dataset import together
from core.ground.watch import UNWATCHED, Watch
from core.quality.check import InspectConfig, Issue, checks
from core.quality.findings import CAP, Inspection

if TYPE_CHECKING:
    from core.quality import labels
    from core.quality.measures import Measures


@dataclass
class Survey:
    """What the checks share: the dataset, what was measured, and what earlier checks have found."""

    dataset: Dataset
    config: InspectConfig
    measures: Measures
    split: np.ndarray  # position in SPLITS of each image
    watch: Watch = UNWATCHED
    flagged: dict[str, set[int]] = field(default_factory=dict)
    overview: dict[str, Any] = field(default_factory=dict)

    def bar(self, usual: float) -> float:
        """Turns a bar (robust standard deviations, powers of ten) by the strictness that was asked for."""
        return usual / self.config.strictness

    def seen(self, *kinds: str) -> np.ndarray:
        """Marks images that have an issue of these kinds, bool (N,)."""
        marked = np.zeros(len(self.dataset), bool)
        for kind in kinds:
            marked[list(self.flagged.get(kind, ()))] = True
        return marked

    @functools.cached_property
    def groups(self) -> list[np.ndarray]:
        """Groups of images with equal pixels; blank ones are not among them."""
        from core.quality import search

        blank = self.seen("blank")
        return [group for group in search.same(self.measures.keys) if not blank[group[0]]]

    @functools.cached_property
    def agreeing(self) -> list[np.ndarray]:
        """Groups of images with equal pixels and equal labels."""
        y = self.dataset.y
        if y is None:
            return self.groups
        parts = [group[y[group] == label] for group in self.groups for label in np.unique(y[group])]
        return [part for part in parts if len(part) > 1]

    @functools.cached_property
    def contradicting(self) -> list[np.ndarray]:
        """Groups of images with equal pixels and more than one label."""
        y = self.dataset.y
        return [group for group in self.groups if y is not None and len(np.unique(y[group])) > 1]

    def agree(self, a: int, b: int) -> bool:
        """Tells whether two images have the same label, or there are none."""
        return self.dataset.y is None or bool(self.dataset.y[a] == self.dataset.y[b])

    @functools.cached_property
    def pairs(self) -> list[Any]:
        """Pairs of images that are nearly the same, one of each group of equal ones."""
        from core.quality import search

        if not self.config.near:
            return []
        skip = self.seen("blank")
        for group in self.groups:
            skip[np.setdiff1d(group, [self.keeper(group)])] = True
        return search.near(self.dataset, self.measures, skip, self.watch)

    @functools.cached_property
    def judgement(self) -> labels.Judgement | None:
        """What the images say of each other's labels; None where nothing can be predicted."""
        from core.quality import labels, sets

        dataset = self.dataset
        off = "" if self.config.labels else "the search for label errors was switched off"
        if dataset.y is None or len(dataset.classes) < 2:
            off = "the images have no labels" if dataset.y is None else "there is only one class"
        if off or dataset.y is None:
            self.overview["labels"] = labels.refused(off)
            return None
        self.watch.say("Label errors: predicting each image from the others")
        skip = self.seen("blank", "outlier")
        for group in self.contradicting:  # a person decides about these
            skip[group] = True
        keys = together(self.measures.keys, dataset.members)
        result = labels.judge(self.measures.features, dataset.y, dataset.classes, keys, skip)
        self.overview["labels"] = result.summary
        self.overview["accuracy"] = sets.by_class(dataset, result.guess)
        return result

    @functools.cached_property
    def strange(self) -> tuple[np.ndarray, np.ndarray]:
        """How far each image is from its neighbours, and which is the nearest."""
        from core.quality import search

        return search.strangeness(self.measures, self.watch)

    def keeper(self, group: np.ndarray) -> int:
        """Chooses the one of equal images that stays: of the latest split, then the first."""
        return int(group[np.lexsort((group, -self.split[group]))[0]])

    def name(self, image: int) -> str:
        """Names an image and its split."""
        return f"image {image} ({SPLITS[self.split[image]]})"


def inspect(
    dataset: Dataset, config: InspectConfig, watch: Watch = UNWATCHED
) -> Iterator[tuple[str, float] | Inspection]:
    """Inspects a dataset: yields (what was done, share that is done), and last the findings.

    Args:
        dataset: What is looked at; nothing of it is changed.
        config: What is looked for.
        watch: Is told what is being done; the caller reports how far it is.

    Raises:
        UserError: If the dataset has no image.
    """
    from core.quality import measures, sets

    began = time.monotonic()
    watch = watch.aside()
    if not len(dataset):
        raise UserError("An inspection needs at least 1 image, got 0. Choose a larger dataset.")
    measured = measures.measure(dataset, watch)
    yield "measured", 0.4
    look = Survey(dataset, config, measured, dataset.split_of(), watch)
    issues: list[Issue] = []
    counts: dict[str, int] = {}
    for number, entry in enumerate(checks):
        worst: dict[int, Issue] = {}  # of each image
        for issue in entry.make(look):
            if issue.image not in worst or issue.score > worst[issue.image].score:
                worst[issue.image] = issue
        ranked = sorted(worst.values(), key=lambda issue: (-issue.score, issue.image))
        look.flagged[entry.name] = set(worst)
        if ranked:
            counts[entry.name] = len(ranked)
        issues += [
            replace(issue, kind=entry.name, split=SPLITS[look.split[issue.image]])
            for issue in ranked[:CAP]
        ]
        yield entry.title, 0.4 + 0.4 * (number + 1) / len(checks.names())
    overview = look.overview
    if dataset.y is not None:
        overview["balance"] = sets.balance(dataset)
    watch.say("Variety and coverage")
    overview["diversity"] = sets.diversity(dataset, measured)
    if (covered := sets.coverage(dataset, measured)) is not None:
        overview["coverage"] = covered
    overview["bias"] = sets.biases(dataset, measured)
    yield "facts", 0.85
    watch.say("Drawing the map")
    layout = _map(measured, [issue.image for issue in issues], config.map)
    seconds = time.monotonic() - began
    yield Inspection(
        dataset.fingerprint,
        len(dataset),
        seconds,
        counts,
        issues,
        overview,
        layout,
        _scores(look),
    )


def _scores(look: Survey) -> dict[str, np.ndarray]:
    """Gives every image the values by which a person may sort; see :attr:`Inspection.scores`."""
    scores = {"distance": look.strange[0].astype(np.float32)}
    if look.judgement is not None and len(look.judgement.rows):
        scores["doubt"] = np.full(len(look.dataset), np.nan, np.float32)
        scores["doubt"][look.judgement.rows] = 1 - look.judgement.chance[0]
    return scores


def _map(measures: Measures, flagged: list[int], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Places images on a plane so that neighbours stay neighbours; flagged ones first, the rest at random."""
    import warnings

    from sklearn.manifold import TSNE

    points = measures.points.numpy()
    some = list(dict.fromkeys(flagged))[: most // 2]
    rest = np.setdiff1d(np.random.default_rng(0).permutation(len(points))[:most], some)
    index = np.sort([*some, *rest[: most - len(some)]]).astype(np.int64)
    if len(np.unique(points[index], axis=0)) < 20:  # nothing to tell apart, and t-SNE would crash
        return index, np.pad(points[index], ((0, 0), (0, 2)))[:, :2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its search for neighbours, and harmless
        layout = TSNE(
            init="pca", perplexity=min(30, len(index) // 4), max_iter=500, random_state=0
        ).fit_transform(points[index])
    return index, layout
