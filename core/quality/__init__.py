"""What is wrong with a dataset: issues, ranked within each kind, each with its evidence; and facts of the whole.

:func:`inspect` looks once at every image and yields its progress; the job ``inspect`` keeps what it finds, and
:mod:`core.quality.decisions` what a person makes of it.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from core import files, jobs
from core.catalog import Config, Entry, Registry, UserError, knob
from core.datasets import SPLITS, Dataset
from core.writing import percent

if TYPE_CHECKING:
    from core.quality import labels
    from core.quality.measures import Measures

CAP = 2000  # issues of one kind that are listed
FOUND = "findings.json"
RULES = 2  # of the checks; what was found by other ones is not shown any more


@dataclass(frozen=True, kw_only=True)
class IssueKind(Entry):
    """A kind of issue; ``make(look) -> Iterator[Issue]``.

    Attributes:
        remedy: What usually helps.
        single: A person decides one issue at a time, and nothing is offered for all of them.
        compared: What is compared, a sentence; empty where there is nothing to say.
        blind: What therefore cannot be seen.
    """

    remedy: Literal["exclude", "relabel", "look"]
    single: bool = False
    compared: str = ""
    blind: str = ""


checks = Registry("check", IssueKind)
"""The kinds of issue, in the order in which they are looked for."""


class InspectConfig(Config):
    """What is looked for, and how strictly."""

    strictness: float = knob(
        1.0,
        "Below 1 fewer images are flagged as unusual, above 1 more.",
        ge=0.5,
        le=2.0,
        title="Strictness",
    )
    labels: bool = knob(True, "Looks for labels that are probably wrong.", title="Label errors")
    near: bool = knob(
        True, "Looks for copies that are shifted or slightly changed.", title="Near duplicates"
    )
    map: int = knob(
        1500, "Images on the map, the flagged ones among them.", ge=100, le=4000, advanced=True
    )


@dataclass(frozen=True)
class Issue:
    """Something about one image.

    Attributes:
        kind: A name of :data:`checks`.
        image: Index of the image.
        score: Rank within the kind, higher is worse.
        sentence: The evidence in words.
        others: Images to show beside it.
        label: Label that fits better, if any.
        split: Split of the image.
        sure: Whether it may be decided together with others; of the rest a person looks at each.
    """

    kind: str
    image: int
    score: float
    sentence: str
    others: tuple[int, ...] = ()
    label: int | None = None
    split: str = ""
    sure: bool = True


@dataclass
class Look:
    """What the checks share: the dataset, what was measured, and what earlier checks have found."""

    dataset: Dataset
    config: InspectConfig
    measures: Measures
    place: np.ndarray  # position in SPLITS of each image
    told: Callable[[str], None]
    flagged: dict[str, set[int]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

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
        return search.near(
            self.dataset, self.measures, skip, _counted(self.told, "Near duplicates")
        )

    @functools.cached_property
    def judgement(self) -> labels.Judgement | None:
        """What the images say of each other's labels; None where nothing can be predicted. Its facts are kept."""
        from core.quality import labels, sets

        dataset = self.dataset
        off = "" if self.config.labels else "the search for label errors was switched off"
        if dataset.y is None or len(dataset.classes) < 2:
            off = "the images have no labels" if dataset.y is None else "there is only one class"
        if off:
            self.facts["labels"] = labels.refused(off)
            return None
        assert dataset.y is not None
        self.told("Label errors: predicting each image from the others")
        skip = self.seen("blank", "outlier")
        for group in self.contradicting:  # a person decides about these
            skip[group] = True
        found = labels.judge(
            self.measures.features, dataset.y, dataset.classes, self.measures.keys, skip
        )
        self.facts["labels"] = found.facts
        self.facts["accuracy"] = sets.by_class(dataset, found.guess)
        return found

    @functools.cached_property
    def strange(self) -> tuple[np.ndarray, np.ndarray]:
        """How far each image is from its neighbours, and which is the nearest."""
        from core.quality import search

        return search.strangeness(self.measures, _counted(self.told, "Outliers"))

    def keeper(self, group: np.ndarray) -> int:
        """Chooses the one of equal images that stays: of the latest split, then the first."""
        return int(group[np.lexsort((group, -self.place[group]))[0]])


def _counted(told: Callable[[str], None], what: str) -> Callable[[int, int], None]:
    return lambda done, total: told(f"{what}: {done:,} of {total:,} images")


def _words(look: Look, image: int) -> str:
    return f"image {image} ({SPLITS[look.place[image]]})"


def _first(sentence: str) -> str:
    """Begins a sentence with a capital letter, and leaves all others as they are: they may be of a name."""
    return sentence[:1].upper() + sentence[1:]


@checks.add("blank", "Blank", Config, remedy="exclude")
def blank(look: Look) -> Iterator[Issue]:
    """Images of one colour, or nearly so: nothing is on them."""
    contrast = look.measures.properties["contrast"]
    reach = look.measures.properties["highest"]
    for image in np.flatnonzero((contrast < 0.02) & (reach < 0.15)):
        yield Issue(
            "blank",
            int(image),
            1 - float(contrast[image]),
            f"Its contrast is {contrast[image]:.3f} of at most 0.5: nothing is to be seen.",
        )


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
    Config,
    remedy="relabel",
    single=True,
    compared="Looks at the copies that the checks for exact and near duplicates find.",
    blind="What these cannot see is not seen here either.",
)
def contradiction(look: Look) -> Iterator[Issue]:
    """Copies whose labels contradict each other: only a person can say which of the labels is right."""
    y = look.dataset.y
    if y is None:
        return
    for group in look.contradicting:
        labels = [group[y[group] == label] for label in np.unique(y[group])]
        said = ", ".join(
            f"{look.dataset.classes[y[mine[0]]]} ({', '.join(_words(look, int(i)) for i in mine[:3])}"
            + (f" and {len(mine) - 3:,} more)" if len(mine) > 3 else ")")
            for mine in labels
        )
        yield Issue(
            "contradiction",
            int(group[0]),
            2.0,
            f"The same pixels are labelled {said}. At most one label is right.",
            tuple(int(i) for i in group[1:]),
        )
    for pair in look.pairs:
        if y[pair.a] != y[pair.b]:
            yield _near(look, "contradiction", pair, pair.b, pair.a, 0.0)


@checks.add(
    "exact",
    "Exact duplicates",
    Config,
    remedy="exclude",
    compared=_PIXELS,
    blind=_CHANGED,
)
def exact(look: Look) -> Iterator[Issue]:
    """Images with the same pixels and label as another one of the same split; they count twice."""
    for group in look.agreeing:
        for code in np.unique(look.place[group]):
            mine = group[look.place[group] == code]
            for image in mine[1:]:
                yield _twin(look, "exact", int(image), int(mine[0]), "has the same pixels")


@checks.add(
    "leak", "Leaks between splits", Config, remedy="exclude", compared=_PIXELS, blind=_CHANGED
)
def leak(look: Look) -> Iterator[Issue]:
    """Images with the same pixels and label as one that is held out: they make every report too good."""
    for group in look.agreeing:
        keeper = look.keeper(group)
        for image in group:
            if look.place[image] < look.place[keeper]:
                yield _twin(look, "leak", int(image), keeper, "has the same pixels")


@checks.add("near", "Near duplicates", Config, remedy="exclude", compared=_OVER, blind=_MOVED)
def near(look: Look) -> Iterator[Issue]:
    """Images that are another one of the same label, shifted by a few pixels or with small changes."""
    for pair in look.pairs:
        if look.place[pair.a] == look.place[pair.b] and look.agree(pair.a, pair.b):
            yield _near(look, "near", pair, pair.b, pair.a)


@checks.add("near_leak", "Near leaks", Config, remedy="exclude", compared=_OVER, blind=_MOVED)
def near_leak(look: Look) -> Iterator[Issue]:
    """Images that are nearly one that is held out, of the same label: reports are too good, though less plainly."""
    for pair in look.pairs:
        if look.place[pair.a] != look.place[pair.b] and look.agree(pair.a, pair.b):
            first, last = sorted((pair.a, pair.b), key=lambda image: int(look.place[image]))
            yield _near(look, "near_leak", pair, first, last)


def _twin(look: Look, kind: str, image: int, other: int, how: str) -> Issue:
    y, label = look.dataset.y, ""
    if y is not None and y[image] != y[other]:
        label = " Their labels differ: {} and {}.".format(
            *(look.dataset.classes[y[i]] for i in (image, other))
        )
    return Issue(kind, image, 1.0, f"{_first(_words(look, other))} {how}.{label}", (other,))


def _near(look: Look, kind: str, pair: Any, image: int, other: int, base: float = 1.0) -> Issue:
    shift = " and ".join(
        f"{abs(by)} px {ways[by > 0]}"
        for by, ways in ((pair.right, ("across",) * 2), (pair.down, ("up or down",) * 2))
        if by
    )
    moved = f"shifted by {shift}" if shift else "in place"
    made = _twin(
        look,
        kind,
        image,
        other,
        f"is the same, {moved}, but for {percent(pair.difference)} of the contrast",
    )
    return Issue(kind, image, base + 1 - pair.difference, made.sentence, (other,))


@checks.add(
    "outlier",
    "Outliers",
    Config,
    remedy="look",
    compared=(
        "Compares coarse pixels (at most 14 × 14 in grey, 8 × 8 in colour): how far each image is from the 20 nearest "
        "ones."
    ),
    blind=(
        "A foreign picture with light and dark where others have it is missed: among photographs nearly every one is, "
        "and letters of another alphabet among letters; and so are more than 20 of one kind."
    ),
)
def outlier(look: Look) -> Iterator[Issue]:
    """Images unlike all others: perhaps they do not belong here."""
    from core.quality import search

    far, nearest = look.strange
    some = np.flatnonzero(~look.seen("blank"))
    if not len(some):
        return
    rarity = search.rarity(far[some])
    for place in np.flatnonzero(search.surprising(rarity, look.bar(1.0))):
        image, rare = int(some[place]), float(rarity[place])
        yield Issue(
            "outlier",
            image,
            rare,
            f"Few images are near it: by the tail of this set, about one image in {10 ** min(rare, 6):,.0f} "
            f"{'or fewer ' if rare > 6 else ''}would be as far from the others.",
            (int(nearest[image]),),
        )


@checks.add("label", "Label errors", Config, remedy="relabel")
def label(look: Look) -> Iterator[Issue]:
    """Labels that may well be wrong: images like this one have another."""
    found = look.judgement
    if found is not None and found.facts["judged"]:
        yield from _doubted(look, "label", np.flatnonzero(found.suspect))


@checks.add("doubt", "Labels for a look", Config, remedy="relabel", single=True)
def doubt(look: Look) -> Iterator[Issue]:
    """The labels that the other images contradict most, on a set where none can be judged: many will be right."""
    found = look.judgement
    if found is not None and not found.facts["judged"]:
        yield from _doubted(look, "doubt", found.look)


def _doubted(look: Look, kind: str, places: np.ndarray) -> Iterator[Issue]:
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


def _unusual(
    look: Look, kind: str, name: str, sign: int, bar: float, words: str, floor: float
) -> Iterator[Issue]:
    """Flags images whose property is far from the set's own median, and not by a hair's breadth."""
    from core.quality import search

    values = look.measures.properties[name]
    score = sign * search.robust(values)
    far = sign * (values - np.median(values)) > floor
    for image in np.flatnonzero((score > look.bar(bar)) & far & ~look.seen("blank")):
        yield Issue(
            kind,
            int(image),
            float(score[image]),
            f"{words} {values[image]:.2f}, of the set {np.median(values):.2f} (median).",
        )


@checks.add("blurred", "Blurred", Config, remedy="look")
def blurred(look: Look) -> Iterator[Issue]:
    """Images with far weaker edges than the others have."""
    middle = float(np.median(look.measures.properties["sharpness"]))
    yield from _unusual(look, "blurred", "sharpness", -1, 4.0, "Its sharpness is", 0.4 * middle)


@checks.add("dark", "Dark", Config, remedy="look")
def dark(look: Look) -> Iterator[Issue]:
    """Images whose light parts are darker than those of the others."""
    yield from _unusual(look, "dark", "dark", -1, 5.0, "Its light parts have brightness", 0.25)


@checks.add("bright", "Bright", Config, remedy="look")
def bright(look: Look) -> Iterator[Issue]:
    """Images far brighter than the others."""
    yield from _unusual(look, "bright", "brightness", 1, 6.0, "Its mean brightness is", 0.3)


@checks.add("clipped", "Clipped", Config, remedy="look")
def clipped(look: Look) -> Iterator[Issue]:
    """Images with many more pixels at pure black or white than the others: detail is lost there."""
    yield from _unusual(
        look, "clipped", "clipped", 1, 6.0, "The share of its pixels at an end is", 0.35
    )


@checks.add("size", "Odd sizes", Config, remedy="look")
def size(look: Look) -> Iterator[Issue]:
    """Pictures that were much smaller, or of another shape, before they were scaled; known for imported ones."""
    columns = look.dataset.attributes or {}
    if not {"width", "height"} <= columns.keys():
        return
    wide, high = (np.asarray(columns[name], np.float64) for name in ("width", "height"))
    aspect = np.log(wide / high)
    usual = float(np.median(aspect))
    for image in range(len(wide)):
        was = f"It was {wide[image]:.0f} × {high[image]:.0f} px"
        if min(wide[image], high[image]) < look.dataset.size:
            share = min(wide[image], high[image]) / look.dataset.size
            yield Issue(
                "size", image, 2 - share, f"{was}, less than the {look.dataset.size} px here."
            )
        elif abs(aspect[image] - usual) > math.log(1.5):
            score = abs(aspect[image] - usual)
            yield Issue(
                "size",
                image,
                float(score),
                f"{was}; the usual shape is {math.exp(usual):.2f} times as wide as high.",
            )


# --- The whole --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inspection:
    """What an inspection has found.

    Attributes:
        fingerprint: Of the content that was looked at.
        n: Number of images.
        seconds: How long it took.
        counts: Issues of each kind, also those beyond the list.
        issues: Ranked within each kind, at most :data:`CAP` of each.
        facts: ``labels`` (whether they can be judged), ``balance``, ``diversity``, ``coverage``, ``bias`` (a list),
            ``accuracy``: what could be said of the whole, each with a ``sentence``.
        map: Indices (M,) and places (M, 2) of images on the map.
    """

    fingerprint: str
    n: int
    seconds: float
    counts: dict[str, int]
    issues: list[Issue]
    facts: dict[str, Any]
    map: tuple[np.ndarray, np.ndarray]

    def by_kind(self) -> dict[str, list[Issue]]:
        """Groups the issues, in the order of :data:`checks`."""
        found: dict[str, list[Issue]] = {}
        for issue in self.issues:
            found.setdefault(issue.kind, []).append(issue)
        return {name: found[name] for name in checks.names() if name in found}

    def looked(self) -> list[dict[str, Any]]:
        """Says of every check for copies and strangers what it compared, what it cannot see, and how much it found."""
        return [
            {
                "name": entry.name,
                "title": entry.title,
                "found": self.counts.get(entry.name, 0),
                "compared": entry.compared,
                "cannot_see": entry.blind,
            }
            for entry in checks
            if entry.compared
        ]

    def record(self) -> dict[str, Any]:
        """Gives the plain values, ready for JSON."""
        return {
            "fingerprint": self.fingerprint,
            "n": self.n,
            "seconds": self.seconds,
            "counts": self.counts,
            "issues": [asdict(issue) for issue in self.issues],
            "facts": self.facts,
            "map": [self.map[0].tolist(), self.map[1].round(4).tolist()],
        }


def inspect(
    dataset: Dataset, config: InspectConfig, told: Callable[[str], None] = lambda words: None
) -> Iterator[tuple[str, float] | Inspection]:
    """Inspects a dataset: yields (what was done, share that is done), and last the findings.

    Args:
        dataset: What is looked at; nothing of it is changed.
        config: What is looked for.
        told: Called with a sentence as it goes.
    """
    from core.quality import measures, sets

    began = time.monotonic()
    if not len(dataset):
        raise UserError("An inspection needs at least 1 image, got 0. Choose a larger dataset.")
    found = measures.measure(dataset, _counted(told, "Looking at"))
    yield "measured", 0.4
    place = np.zeros(len(dataset), np.int64)
    for code, split in enumerate(SPLITS):
        place[dataset.splits[split]] = code
    look = Look(dataset, config, found, place, told)
    issues: list[Issue] = []
    counts: dict[str, int] = {}
    for number, entry in enumerate(checks):
        best: dict[int, Issue] = {}
        for issue in entry.make(look):
            if issue.image not in best or issue.score > best[issue.image].score:
                best[issue.image] = issue
        mine = sorted(best.values(), key=lambda issue: (-issue.score, issue.image))
        look.flagged[entry.name] = set(best)
        if mine:
            counts[entry.name] = len(mine)
        issues += [
            Issue(**(asdict(issue) | {"split": SPLITS[place[issue.image]], "others": issue.others}))
            for issue in mine[:CAP]
        ]
        yield entry.title, 0.4 + 0.4 * (number + 1) / len(checks.names())
    facts = look.facts
    if dataset.y is not None:
        facts["balance"] = sets.balance(dataset)
    told("Variety and coverage")
    facts["diversity"] = sets.diversity(dataset, found)
    if (covered := sets.coverage(dataset, found)) is not None:
        facts["coverage"] = covered
    facts["bias"] = sets.biases(dataset, found)
    yield "facts", 0.85
    told("Drawing the map")
    drawn = _map(found, [issue.image for issue in issues], config.map)
    yield Inspection(
        dataset.fingerprint,
        len(dataset),
        time.monotonic() - began,
        counts,
        issues,
        facts,
        drawn,
    )


def _map(measures: Measures, flagged: list[int], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Places images on a plane so that neighbours stay neighbours; flagged ones first, the rest at random."""
    import warnings

    from sklearn.manifold import TSNE

    points = measures.points.numpy()
    some = list(dict.fromkeys(flagged))[: most // 2]
    rest = np.setdiff1d(np.random.default_rng(0).permutation(len(points))[:most], some)
    index = np.sort(
        np.concatenate([np.array(some, np.int64), rest[: most - len(some)]]).astype(np.int64)
    )
    if len(np.unique(points[index], axis=0)) < 20:  # nothing to tell apart, and t-SNE would crash
        return index, np.pad(points[index], ((0, 0), (0, 2)))[:, :2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of whatever its neighbours' search meets
        made = TSNE(
            init="pca", perplexity=min(30, len(index) // 4), max_iter=500, random_state=0
        ).fit_transform(points[index])
    return index, made


# --- Findings of a job ------------------------------------------------------------------------------------------------


def findings(job: jobs.Job) -> Inspection | None:
    """Reads what a job has found; None before its end.

    Raises:
        UserError: If the file is damaged.
    """
    file = job.path / FOUND
    if not file.exists():
        return None
    return _findings(file, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _findings(file: Path, written: int) -> Inspection:
    record = files.read_json(file)
    try:
        index, places = record["map"]
        return Inspection(
            record["fingerprint"],
            record["n"],
            record["seconds"],
            record["counts"],
            [Issue(**(issue | {"others": tuple(issue["others"])})) for issue in record["issues"]],
            record["facts"],
            (np.array(index, np.int64), np.array(places, np.float64).reshape(-1, 2)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} is damaged ({error!r}). Delete this inspection, and start another one."
        ) from None


def newest(dataset: Dataset) -> jobs.Job | None:
    """Finds the newest inspection of this very content, at work or finished; None without one."""
    for job in jobs.listing("inspect"):
        if job.active and job.config["dataset"]["name"] == dataset.name:
            return job
        try:
            found = json.loads((job.path / "content.json").read_bytes())
        except (OSError, ValueError):
            continue
        mine = found.get("fingerprint") == dataset.fingerprint and found.get("rules") == RULES
        if mine and (job.path / FOUND).exists():
            return job
    return None


def compare(real: Dataset, other: Dataset) -> dict[str, Any]:
    """Compares a synthetic set with a real one; see :func:`core.quality.sets.compare`."""
    from core.quality import sets

    return sets.compare(real, other)


def apply(dataset: Dataset, name: str, who: str = "") -> Dataset:
    """Makes a version of what was decided; see :func:`core.quality.decisions.apply`."""
    from core.quality import decisions

    return decisions.apply(dataset, name, who)
