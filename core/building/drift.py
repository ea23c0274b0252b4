"""How far a dataset lies from another one: a second version, another site, or itself under a corruption."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core.building.axes import real_part
from core.building.coverage import FEWEST
from core.building.glance import NAME, choices, chosen
from core.building.version import roots
from core.catalog import Config, UserError, knob, seed_knob
from core.datasets import Dataset, digests
from core.datasets.dataset import together
from core.ground.stats import Estimate, auc, proportion
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import many, percent

if TYPE_CHECKING:
    from torch import Tensor

    from core.measure.features import Embedding


def _corruptions() -> list[str]:
    from core.robustness import corruptions

    return ["", *corruptions.names()]


class DriftConfig(Config):
    """What a dataset is compared with, and how."""

    against: str = knob(
        "",
        "The dataset that stands for another time or place; empty takes other images of the same one.",
        title="Compared with",
    )
    corruption: str = knob(
        "", "What is done to the images that it is compared with.", choices=_corruptions
    )
    severity: int = knob(
        3, "How strong the corruption is: 1 is slight, 5 is strong.", title="How much", ge=1, le=5
    )
    images: int = knob(
        2000, "Images of each side, at most.", ge=40, le=20_000, unit="images", log=True
    )
    run: str = knob(
        "",
        "A generative model of the first dataset, to see what it is worth on both; empty for none.",
        title="Model",
    )
    model_images: int = knob(
        20_000,
        "Images that its continued and its retrained form see in training.",
        title="Training",
        ge=200,
        le=100_000_000,
        unit="images",
        log=True,
        advanced=True,
    )
    extractor: str = knob(
        NAME,
        "What sees the images for the distance (KID): a glance at few pixels, or an extractor of Evaluate, some of "
        "which train a network first.",
        title="Seen through",
        choices=choices,
        advanced=True,
    )
    seed: int = seed_knob("Of the choice of images.", advanced=True)


@dataclass(frozen=True)
class Shift:
    """How far one side lies from the other, for all images or for one class.

    Attributes:
        name: The class; ``all`` for all images.
        auc: How surely a classifier of origin tells the sides apart on images that it has not seen; 0.5 is chance.
        kid: Kernel distance (KID), 0 for equal distributions.
        n: Images of each side; in KID, copies of one picture count once.
        why: Why nothing is measured; empty where it is.
    """

    name: str
    auc: Estimate | None
    kid: Estimate | None
    n: tuple[int, int]
    why: str = ""

    @property
    def moved(self) -> bool | None:
        """Whether the sides differ beyond chance; None where it cannot be told."""
        if self.auc is None or self.kid is None:
            return None
        return self.auc.low > 0.5 or self.kid.low > 0

    def record(self) -> dict[str, Any]:
        """Gives plain values, ready for JSON."""
        ends = {
            name: {"value": e.value, "low": e.low, "high": e.high} if e else None
            for name, e in (("auc", self.auc), ("kid", self.kid))
        }
        return {"class": self.name, **ends, "n": list(self.n), "moved": self.moved, "why": self.why}


@dataclass(frozen=True)
class Drift:
    """What was found of two sides.

    Attributes:
        a, b: What the sides are, in words.
        whole: Of all images.
        classes: Of each class that both have.
        shares: Share of the images of ``b`` that would have to change their class to occur as in ``a``.
        same: Images that both sides hold, pixel by pixel.
        notes: What else is to be said.
    """

    a: str
    b: str
    whole: Shift
    classes: tuple[Shift, ...]
    shares: Estimate | None
    same: int
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The answer."""
        auc, kid = self.whole.auc, self.whole.kid
        assert auc is not None
        assert kid is not None
        n = " and ".join(f"{n:,}" for n in self.whole.n)
        how = (
            f"a classifier tells them apart with an AUC of {sure(auc)} (0.5 is chance), "
            f"KID {three(kid.value)} [{three(kid.low)}, {three(kid.high)}], n = {n}"
        )
        if not self.whole.moved:
            return f"No drift can be seen from {self.a} to {self.b}: {how}."
        size = "a little" if auc.value < 0.7 else "clearly" if auc.value < 0.95 else "completely"
        most = [s for s in self.classes if s.moved and s.auc]
        worst = max(most, key=lambda s: s.auc.value if s.auc else 0, default=None)
        tail = f" Most of all {worst.name} (AUC {sure(worst.auc)})." if worst and worst.auc else ""
        other = self.b[0].upper() + self.b[1:] if " " in self.b else f"The dataset {self.b}"
        return f"{other} differs {size} from {self.a}: {how}.{tail}"

    def record(self) -> dict[str, Any]:
        """Gives plain values, ready for JSON."""
        shares = self.shares
        return {
            "a": self.a,
            "b": self.b,
            "sentence": self.sentence,
            "whole": self.whole.record(),
            "classes": [each.record() for each in self.classes],
            "shares": {"value": shares.value, "low": shares.low, "high": shares.high}
            if shares
            else None,
            "same": self.same,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class Side:
    """The images of one side of a comparison.

    Attributes:
        title: What it is.
        x: As a model sees them, float32 (N, …).
        names: The class of each, str (N,); None without labels.
        units: What belongs together, uint64 (N,): equal pixels, members of a group, copies of one picture.
        once: One image of each picture and its copies, bool (N,).
    """

    title: str
    x: Tensor
    names: np.ndarray | None
    units: np.ndarray
    once: np.ndarray

    def __len__(self) -> int:
        return len(self.units)


def other_of(dataset: Dataset, config: DriftConfig, watch: Watch = UNWATCHED) -> Dataset:
    """Opens what a dataset is compared with, at its size; itself where nothing is named.

    Raises:
        UserError: If it does not exist, or holds items of another shape.
    """
    from core import datasets

    if not config.against:
        return dataset
    values: dict[str, Any] = {}
    if config.against in datasets.datasets:
        entry = datasets.datasets.get(config.against)
        values = {"size": dataset.size} if "size" in entry.config.knobs() else {}
    other = datasets.load(config.against, values, watch.aside())
    if (other.medium.name, other.shape) != (dataset.medium.name, dataset.shape):
        said = [" × ".join(map(str, each.shape)) for each in (dataset, other)]
        raise UserError(
            f"Only items of one shape can be compared: {dataset.name} has {said[0]}, {other.name} {said[1]}. "
            "Import one of them again at the other's size."
        )
    return other


def sides(dataset: Dataset, other: Dataset, config: DriftConfig) -> tuple[Side, Side]:
    """Chooses the images of both sides; of one dataset, none that belong together are on both.

    Raises:
        UserError: If there are too few, or nothing would differ.
    """
    rng = np.random.default_rng(config.seed)
    units = [_units(each) for each in (dataset, other)]
    rows = [rng.permutation(len(each))[: config.images] for each in (dataset, other)]
    if other is dataset or other.fingerprint == dataset.fingerprint:
        kinds = rng.permutation(np.unique(units[0]))
        first = np.isin(units[0], kinds[: len(kinds) // 2])
        rows = [
            rng.permutation(np.flatnonzero(flags))[: config.images] for flags in (first, ~first)
        ]
    if min(len(each) for each in rows) < 40:
        raise UserError(
            f"A comparison needs at least 40 images of each side, got {len(rows[0])} and {len(rows[1])}. "
            "Choose larger datasets."
        )
    title = other.name if other is not dataset else f"other images of {dataset.name}"
    x = other.images(np.sort(rows[1]))
    if config.corruption:
        from core.robustness.corruptions import corrupt

        other.medium.require("corruptions")
        x = corrupt(x, config.corruption, config.severity, config.seed)
        named = config.corruption.replace("_", " ").replace("jpeg", "JPEG")
        title += f" with {named} {config.severity}"
    made = []
    for each, picked, marks, seen, called in (
        (dataset, rows[0], units[0], None, dataset.name),
        (other, rows[1], units[1], x, title),
    ):
        index = np.sort(picked)
        names = None if each.y is None else np.array(each.classes, dtype=str)[each.y[index]]
        order = rng.permutation(len(index))  # by chance, or most would be originals
        once = np.zeros(len(index), bool)
        once[order[np.unique(roots(each)[index][order], return_index=True)[1]]] = True
        items = each.images(index) if seen is None else seen
        made.append(Side(called, items, names, marks[index], once))
    return made[0], made[1]


def _units(dataset: Dataset) -> np.ndarray:
    """Gives what belongs together one hash; copies of a picture have that of the picture."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    units = together(digests(np.asarray(dataset.x)), dataset.members)
    top = roots(dataset)
    if (top == np.arange(len(top))).all():
        return units
    every, place = np.unique(units, return_inverse=True)
    links = coo_array((np.ones(len(place)), (place, place[top])), shape=(len(every),) * 2)
    family = connected_components(links, directed=False)[1][place]
    named = np.full(family.max() + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(named, family[top], units[top])
    return named[family]


def drift(dataset: Dataset, other: Dataset, config: DriftConfig, watch: Watch = UNWATCHED) -> Drift:
    """Measures how far a dataset lies from another: a classifier of origin, KID, each also by class.

    The classifier (logistic regression on patches, components and plain properties) is learned on one half and asked
    about the other, in turn; images that belong together are in one half.

    Raises:
        UserError: As :func:`sides`.

    References:
        Lopez-Paz and Oquab, 2017, Revisiting classifier two-sample tests, https://arxiv.org/abs/1610.06545
        Binkowski et al., 2018, Demystifying MMD GANs, https://arxiv.org/abs/1801.01401
    """
    from core.measure import distances

    a, b = sides(dataset, other, config)
    watch.say("Telling the sides apart", 0.1)
    scores = _scores(a, b, dataset.medium.model == "picture", config.seed)
    watch.check()
    embedding, note = chosen(config.extractor, real_part(dataset), watch.part(0.3, 0.7))
    watch.say("Measuring the distance", 0.8)
    points = [points_of(embedding, side.x) for side in (a, b)]
    watch.check()

    def shift(name: str, pick: list[np.ndarray]) -> Shift:
        n = (int(pick[0].sum()), int(pick[1].sum()))
        if min(n) < FEWEST:
            return Shift(name, None, None, n, f"cannot tell: fewer than {FEWEST} images of a side")
        single = [flags & side.once for flags, side in zip(pick, (a, b), strict=True)]
        if min(int(flags.sum()) for flags in single) < FEWEST:
            why = f"cannot tell: fewer than {FEWEST} pictures of a side, not counting copies"
            return Shift(name, None, None, n, why)
        # other's scores stand first: above 0.5 means that they look like the other side
        groups = (b.units[pick[1]], a.units[pick[0]])
        return Shift(
            name,
            _crossed(auc(scores[1][pick[1]], scores[0][pick[0]], groups)),
            distances.kernel_distance(points[0][single[0]], points[1][single[1]]),
            n,
        )

    whole = shift("all", [np.ones(len(side), bool) for side in (a, b)])
    classes: list[Shift] = []
    notes, shares = [note] if note else [], None
    if a.names is not None and b.names is not None:
        shared = [name for name in dataset.classes if name in other.classes]
        only = [n for n in (*dataset.classes, *other.classes) if (n in shared) is False]
        if only:
            notes.append(f"Classes of one side only: {', '.join(only[:10])}.")
        classes = [shift(name, [side.names == name for side in (a, b)]) for name in shared]
        every = list(dict.fromkeys([*dataset.classes, *other.classes]))
        place = {name: k for k, name in enumerate(every)}
        codes = [
            np.array([place[name] for name in side.names])
            for side in (a, b)
            if side.names is not None
        ]
        shares = distances.class_difference(codes[0], codes[1], len(every), config.seed)
    if not (a.once.all() and b.once.all()):
        counted = " and ".join(f"{side.once.sum():,}" for side in (a, b))
        notes.append(
            f"Copies of one picture are kept together, and KID takes one of each: {counted} pictures."
        )
    same = int(np.isin(np.unique(b.units), a.units).sum()) if not config.corruption else 0
    if same:
        notes.append(
            f"{many(same, 'image')} (or groups) are on both sides, which makes them more alike."
        )
    if dataset.levels != other.levels:
        notes.append(
            f"{dataset.name} has {dataset.levels} levels of brightness and {other.name} {other.levels}: that alone "
            "tells them apart."
        )
    return Drift(a.title, b.title, whole, tuple(classes), shares, same, tuple(notes))


def _crossed(found: Estimate) -> Estimate:
    """Widens the interval of scores that two halves gave each other: as if both halves had said the same.

    Each half tests what the other one taught, so that they are no two independent looks.
    """
    if not 0 < found.value < 1:
        few = found.n // 2
        ends = proportion(round(found.value * few), few)
        return Estimate(found.value, ends.low, ends.high, found.n)

    def logit(share: float) -> float:
        return math.log(share / (1 - share)) if 0 < share < 1 else math.copysign(37.0, share - 0.5)

    middle = logit(found.value)
    ends = (middle + math.sqrt(2) * (logit(end) - middle) for end in found.interval)
    low, high = (1 / (1 + math.exp(-max(-700.0, end))) for end in ends)
    return Estimate(found.value, low, high, found.n)


def points_of(embedding: Embedding, x: Tensor) -> np.ndarray:
    return np.concatenate([embedding.features(part) for part in x.split(500)])


def _scores(a: Side, b: Side, pictures: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores each image by how much it looks like side ``b``, learned from the half that it is not in.

    The scores of a half are its ranks, 0 to 1, so that those of both halves can be put together.
    """
    import torch
    from scipy.stats import rankdata
    from sklearn.linear_model import LogisticRegression

    x = torch.cat([a.x, b.x])
    label = np.r_[np.zeros(len(a), int), np.ones(len(b), int)]
    units = np.concatenate([a.units, b.units])
    rng = np.random.default_rng([seed, 1])
    half = np.isin(units, rng.permutation(np.unique(units))[::2])
    features = _looks(x, pictures)
    scores = np.full(len(x), 0.5)
    for learned in (half, ~half):
        if len(np.unique(label[learned])) < 2 or not (~learned).any():
            continue
        centre, scale = features[learned].mean(0), features[learned].std(0).clip(1e-3)
        z = ((features - centre) / scale).clip(-10, 10)
        model = LogisticRegression(C=0.01, max_iter=500, class_weight="balanced")
        model.fit(z[learned], label[learned])
        score = model.decision_function(z[~learned])
        scores[~learned] = (rankdata(score) - 0.5) / len(score)
    return scores[: len(a)], scores[len(a) :]


def _looks(x: Tensor, pictures: bool) -> np.ndarray:
    """Describes images: of pictures few pixels, patches and plain properties, else the numbers; float64 (N, D)."""
    import torch
    from torch.nn import functional as F

    from core.quality import measures
    from core.tensors import coarse

    if not pictures:
        return coarse(x).double().numpy()
    side = min(x.shape[-1], 14 if x.shape[1] == 1 else 8)
    patches = measures.Patches(x[:: max(1, len(x) // 1000)], 32)
    plain = [measures.properties(part) for part in x.split(500)]
    parts = [
        F.adaptive_avg_pool2d(x, side).flatten(1),
        torch.cat([patches(part) for part in x.split(500)]),
        torch.stack([torch.cat([p[k] for p in plain]) for k in plain[0]], 1),
    ]
    return torch.cat(parts, 1).double().numpy()


def sure(found: Estimate) -> str:
    """Writes an AUC with its interval; what is not quite 1 does not become 1.00.

    >>> sure(Estimate(0.9996, 0.9989, 0.9999, 90)), sure(Estimate(0.5, 0.41, 0.59, 90))
    ('> 0.99 [0.99, 1]', '0.50 [0.41, 0.59]')
    """
    high = "1" if found.high >= 0.995 else f"{found.high:.2f}"
    low = math.floor(found.low * 100) / 100 if found.low >= 0.995 else found.low
    value = "> 0.99" if found.value >= 0.995 else f"{found.value:.2f}"
    return f"{value} [{min(low, 0.99):.2f}, {high}]"


def three(distance: float) -> str:
    """Writes a distance with three digits behind the point, 0.000 for what is nothing."""
    return f"{round(distance, 3) + 0.0:.3f}"


def told(record: Mapping[str, Any]) -> list[str]:
    """Writes the record of a comparison in lines."""
    lines = [record["sentence"]]
    for each in record["classes"]:
        auc, kid, (a, b) = each["auc"], each["kid"], each["n"]
        if auc is None or kid is None:
            lines.append(f"  {each['class']}: {each['why']} (n = {a} and {b})")
            continue
        lines.append(
            f"  {each['class']}: AUC {sure(Estimate(auc['value'], auc['low'], auc['high'], b))}, KID "
            f"{three(kid['value'])} [{three(kid['low'])}, {three(kid['high'])}], n = {a} and {b}"
        )
    shares = record["shares"]
    if shares is not None and shares["value"] is not None and math.isfinite(shares["value"]):
        ends = f"[{percent(shares['low'])}, {percent(shares['high'])}]"
        lines.append(f"Classes: {percent(shares['value'])} {ends} would have to change theirs.")
    return [*lines, *record["notes"]]
