"""What a dataset is: pixels, labels, splits by content, and a fingerprint that changes when any of them does."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from core.catalog import Entry, Registry
from core.ground.writing import many, percent
from core.media import Medium, media

if TYPE_CHECKING:
    from torch import Tensor


SPLITS = ("train", "valid", "test")
FEWEST = 8  # images that make a dataset
ONE_CLASS = (
    ", and a picture has one"  # how the reason ends for which one with several classes is left out
)
Consent = Literal["unknown", "given", "not needed", "withdrawn"]  # of the people on the images
TERMS = ("licence", "consent", "creator", "maintainer")  # what is said of a set as a whole
LONGEST_TERM = 200  # characters of what is said of a set


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What an import would make of a file or folder, in words and numbers.

    Attributes:
        pictures: How many items there are.
        refused: Files that are none, with the reason; some of them.
        readings: The ways to read the folders, each with its ``kind``, ``sentence``, ``notes`` and ``folders``, the
            pictures of each of its ``classes``, and of each of its ``splits`` where the folders say them.
        taken: The kind that is taken unless somebody chooses.
        problem: Why a file of labels cannot be read; empty where there is none, or it can.
        columns: What a table says beside labels, whose values may keep items together.
        deep: Pictures that hold more than 8 bits.
        ones: Whether pictures of 8 bits hold nothing but 0 and 1.
        largest: The largest value of those; None where there are none, or too many to look at before the import.
        samples: Some of them as they look, cut to squares: the name of the file, and uint8 (1 or 3, H, W).
        source: Name of the importer.
        format: What they come in, for people: ``Parquet``; empty for pictures in folders or a ZIP.
        knobs: Names of the choices that only this format has.
        group: The column whose values keep items in one split unless another is chosen; empty for none.
        oblong: Pictures that are not square.
        reach: Pictures with an annotated box that reaches into what a cut to a square takes away.
    """

    pictures: int
    refused: tuple[tuple[str, str], ...]
    readings: tuple[dict[str, Any], ...]
    taken: str
    problem: str = ""
    columns: tuple[str, ...] = ()
    deep: int = 0
    ones: bool = False
    largest: float | None = None
    samples: tuple[tuple[str, np.ndarray], ...] = field(default=(), repr=False)
    source: str = ""
    format: str = ""
    knobs: tuple[str, ...] = ()
    group: str = ""
    oblong: int = 0
    reach: int = 0

    @property
    def beside(self) -> str:
        """Says how much is left out, of what kind; empty where nothing is."""
        several = sum(why.endswith(ONE_CLASS) for _, why in self.refused)
        others = len(self.refused) - several
        parts = [f"{many(several, 'picture')} with several classes"] * (several > 0)
        parts += [many(others, "other file")] * (others > 0)
        return f"left out: {' and '.join(parts)}" if parts else ""


@dataclass(frozen=True, kw_only=True)
class Source(Entry):
    """A source; ``make(config, folder, watch) -> Dataset`` may stream its items into ``folder / "x.npy"``.

    Attributes:
        prepare: Makes sure that the source is there, and gives (config, signature): the signature says what it holds,
            so that a changed source is decoded again.
        weighs: Bytes of the pixels, where they are known before.
        check: Refuses at once what :func:`core.datasets.load` would refuse; gives the config with paths that hold in
            any working directory.
        teaches: Tells whether there are training images, as far as that is known before it is read.
        preview: For an importer, what it would make of a file or folder; None for other sources.
        upload: For an importer, what can be uploaded, in words.
        chain: The usual augmentations: ``photos``, ``faces`` or ``digits``.
        medium: What it gives, a name of :data:`core.media.media`.
        own: Makes an item of somebody's own file or drawing, of the kind that a dataset holds, with what was done to it
            in sentences; :func:`core.datasets.prepare` asks it. Files end in one of its ``suffixes``.
        terms: Says under which terms its items stand, as :class:`Dataset` does, before it is read.
    """

    prepare: Callable[[Any], tuple[Any, str]] = lambda config: (config, "")
    weighs: Callable[[Any], int] | None = None
    check: Callable[[Any], Any] = lambda config: config
    teaches: Callable[[Any], bool] = lambda config: True
    preview: Callable[[Any], Preview] | None = None
    upload: str = ""
    chain: str = "photos"
    medium: str = "image"
    own: Callable[[bytes | np.ndarray, Dataset], Own] | None = None
    suffixes: tuple[str, ...] = ()
    terms: Callable[[Any], Mapping[str, str]] = lambda config: {}


datasets = Registry("dataset", Source)


@dataclass(frozen=True, eq=False)
class SecondImages:
    """A second image of each item of a dataset, such as the sketch of a face; as large as the item.

    Attributes:
        x: uint8 (N, 1 or 3, H, W), 0 … ``levels - 1``, in memory or memory-mapped.
        levels: Values that a pixel can take.
        name: What it is, for people: ``sketch``.
    """

    x: np.ndarray = field(repr=False)
    levels: int = 256
    name: str = "second image"

    def __post_init__(self) -> None:
        if self.x.dtype != np.uint8 or self.x.ndim != 4 or self.x.shape[1] not in (1, 3):
            raise ValueError(
                f"a pair must be uint8 (N, 1 or 3, H, W), got {self.x.dtype} {self.x.shape}"
            )
        if not 2 <= self.levels <= 256:
            raise ValueError(f"levels of a pair must be 2 to 256, got {self.levels}")

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.x.shape[1]

    def at(self, rows: Any) -> SecondImages:
        """Keeps those of some items; ``rows`` is a slice or rows (n,)."""
        return SecondImages(np.asarray(self.x[rows]), self.levels, self.name)

    def images(self, index: Any, device: Any = "cpu") -> Tensor:
        """Gives them as float32 (n, 1 or 3, H, W) in [0, 1]; ``index`` is a slice or rows (n,)."""
        import torch

        from core.tensors import to_float

        x = np.require(self.x[index], requirements=["W", "E"])
        return to_float(torch.as_tensor(x).to(device), self.levels)

    def pictures(self, index: Any) -> np.ndarray:
        """Shows them, uint8 (n, 1 or 3, H, W) 0 … 255; ``index`` is a slice or rows (n,)."""
        return media.get("image").pictures(np.asarray(self.x[index]), self.levels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Items of one medium with what is known about them; never changed, only replaced by a version with a parent.

    Shapes: ``x`` is of the shape and type of the medium, in memory or memory-mapped; images are uint8 (N, C, H, W) with
    values 0 … ``levels - 1``, and are read as ``x / (levels - 1)``. ``y`` is int64 (N,) or None. Each split is a sorted
    int64 array of indices; the three are disjoint and cover every item. ``terms`` are the ``licence`` of the items and
    the ``consent`` of the people on them, with the ``creator`` and the ``maintainer`` of the set where somebody has
    said them; they travel with every version. ``group`` is the name of what keeps items in one split (``patient``,
    ``speaker``), or empty; the attribute of the name ``group`` then holds the group of each item, empty for an item
    without one. ``pair`` is a second image of each item, for models that turn one into the other; None where there is
    none.

    Raises:
        ValueError: If the parts do not fit together.
    """

    name: str
    medium: Medium
    x: np.ndarray = field(repr=False)
    y: np.ndarray | None = field(repr=False)
    classes: tuple[str, ...]
    attributes: Mapping[str, np.ndarray] | None = field(repr=False)
    splits: Mapping[str, np.ndarray] = field(repr=False)
    levels: int
    fingerprint: str
    parent: str | None = None
    refused: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    terms: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    pair: SecondImages | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        n = len(self.x)
        medium = self.medium
        if self.x.dtype != medium.dtype or not medium.fits(self.x.shape[1:]):
            raise ValueError(
                f"x must be {medium.dtype} {medium.shape}, got {self.x.dtype} {self.x.shape}"
            )
        if not 2 <= self.levels <= 256:
            raise ValueError(f"levels must be 2 to 256, got {self.levels}")
        if (self.y is None) != (not self.classes):
            raise ValueError("labels and classes come together or not at all")
        if self.y is not None:
            if self.y.shape != (n,) or self.y.dtype != np.int64:
                raise ValueError(f"y must be int64 ({n},), got {self.y.dtype} {self.y.shape}")
            if n and (self.y.min() < 0 or self.y.max() >= len(self.classes)):
                raise ValueError(f"y must lie in 0 … {len(self.classes) - 1}")
        if set(self.splits) != set(SPLITS):
            raise ValueError(f"splits must be {', '.join(SPLITS)}, got {', '.join(self.splits)}")
        index = np.concatenate([self.splits[name] for name in SPLITS])
        if index.dtype != np.int64 or not np.array_equal(np.sort(index), np.arange(n)):
            raise ValueError("the splits must name every image exactly once, as int64")
        if self.group and "group" not in (self.attributes or {}):
            raise ValueError("the attribute 'group' must say which items belong together")
        for column, values in (self.attributes or {}).items():
            if values.shape != (n,):
                raise ValueError(f"attribute {column!r} must have shape ({n},), got {values.shape}")
        if (pair := self.pair) is not None:
            if medium.item != "picture":
                raise ValueError(
                    f"only pictures have pairs, and these are of the medium {medium.name}"
                )
            if pair.x.shape[::2] != self.x.shape[::2] or pair.x.shape[3] != self.x.shape[3]:
                raise ValueError(f"the pair of {self.x.shape} has another size: {pair.x.shape}")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one item, (C, H, W) for images."""
        return self.x.shape[1:]

    @property
    def seen(self) -> tuple[int, ...]:
        """Shape of what a model sees of one item."""
        return tuple(self.images(slice(1)).shape[1:])

    @property
    def size(self) -> int:
        """Height and width of images in pixels."""
        return self.x.shape[-1]

    @property
    def channels(self) -> int:
        """Of images: 1 for grey, 3 for colour."""
        return self.x.shape[1]

    @property
    def labelled(self) -> bool:
        """Whether every image has a class."""
        return self.y is not None

    def imported(self, key: str) -> Any:
        """Gives a record of the import, ``range`` or ``folders``; None for a set that was not imported.

        A derived set keeps it in the source of the set that it was derived from.
        """
        return imported(self.source, key)

    def counts(self) -> dict[str, dict[str, int]]:
        """Counts the images of each class in each split; without labels the only class is ``all``."""
        names = self.classes or ("all",)
        y = np.zeros(len(self), np.int64) if self.y is None else self.y
        table = {s: np.bincount(y[self.splits[s]], minlength=len(names)) for s in SPLITS}
        return {name: {s: int(table[s][i]) for s in SPLITS} for i, name in enumerate(names)}

    def split_of(self) -> np.ndarray:
        """Gives the position in :data:`SPLITS` of each image's split, int64 (N,)."""
        codes = np.zeros(len(self), np.int64)
        for code, split in enumerate(SPLITS):
            codes[self.splits[split]] = code
        return codes

    @property
    def members(self) -> np.ndarray | None:
        """Names the group of each item, str (N,), empty for none; None for a set without groups."""
        return self.attributes["group"] if self.group and self.attributes else None

    @property
    def origin(self) -> str:
        """Names the registered source that it comes from, directly or through saved and derived sets."""
        source = self.source
        while isinstance(source.get("origin"), dict):
            source = source["origin"]
        return str(source.get("name", self.name))

    @property
    def chain(self) -> str:
        """Names the usual augmentations of such items: those of the import, else of the source; a preset."""
        own = self.imported("chain")
        return str(
            own or (datasets.get(self.origin).chain if self.origin in datasets else "photos")
        )

    def images(self, index: Any, device: Any = "cpu") -> Tensor:
        """Gives what models see of items, float32 (n, …) in [0, 1]; ``index`` is a slice or rows (n,)."""
        return self.medium.to_model(self.items(index, device))

    def items(self, index: Any, device: Any = "cpu") -> Tensor:
        """Gives the items themselves, float32 (n, …) in [0, 1]; ``index`` is a slice or rows (n,)."""
        import torch

        # a slice of a memory map cannot be written to, which torch does not take
        x = np.require(self.x[index], requirements=["W", "E"])
        return self.medium.read(torch.as_tensor(x).to(device), self.levels)

    def pictures(self, index: Any) -> np.ndarray:
        """Shows items, uint8 (n, 1 or 3, H, W) 0 … 255; ``index`` is a slice or rows (n,)."""
        return self.medium.pictures(self.x[index], self.levels)

    def batches(self, index: np.ndarray, size: int = 500, device: Any = "cpu") -> Iterator[Tensor]:
        """Yields the images of rows (n,) in equal parts of about ``size``, each as :meth:`images` gives them."""
        for part in np.array_split(index, max(1, len(index) // size)):
            yield self.images(part, device)

    def told(self, index: Any, device: Any = "cpu") -> Tensor:
        """Gives what a model sees that is told the pair: the channels of the pair behind those of the image.

        Shape float32 (n, C + K, H, W) in [0, 1]; without a pair as :meth:`images`.
        """
        import torch

        x = self.images(index, device)
        return x if self.pair is None else torch.cat([x, self.pair.images(index, device)], 1)

    def part(self, split: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Copies the images (n, C, H, W) and labels (n,) of one split into memory."""
        index = self.splits[split]
        return np.asarray(self.x[index]), None if self.y is None else self.y[index]


def imported(source: Any, key: str) -> Any:
    """Gives a record of the import out of the source of a set, or of the one that it was derived from; None without."""
    while isinstance(source, Mapping):
        if key in source:
            return source[key]
        source = source.get("origin")
    return None


Own = tuple[np.ndarray, Sequence[str]]  # an item as it is stored, (…), and what was done to it


def assemble(
    x: np.ndarray,
    y: np.ndarray | None,
    classes: tuple[str, ...],
    splits: Mapping[str, np.ndarray],
    *,
    medium: str = "image",
    levels: int = 256,
    attributes: Mapping[str, np.ndarray] | None = None,
    name: str = "",
    parent: str | None = None,
    refused: tuple[tuple[str, str], ...] = (),
    notes: tuple[str, ...] = (),
    source: Mapping[str, Any] | None = None,
    terms: Mapping[str, str] | None = None,
    group: str = "",
    pair: SecondImages | None = None,
) -> Dataset:
    """Puts a dataset together and takes its fingerprint.

    Args:
        x: Levels, uint8 (N, C, H, W), 0 … ``levels - 1``.
        y: Labels, whole numbers (N,), or None.
        classes: Their names.
        splits: Rows of each split, (n,).
        pair: A second image of each item, or None.

    Raises:
        ValueError: If the parts do not fit together.
    """
    return Dataset(
        name,
        media.get(medium),
        x,
        y,
        tuple(classes),
        attributes,
        dict(splits),
        levels,
        fingerprint(x, y, classes, splits, levels, pair),
        parent,
        tuple(refused),
        tuple(notes),
        dict(source or {}),
        dict(terms or {}),
        group,
        pair,
    )


def fingerprint(
    x: np.ndarray,
    y: np.ndarray | None,
    classes: tuple[str, ...],
    splits: Mapping[str, np.ndarray],
    levels: int,
    pair: SecondImages | None = None,
) -> str:
    """Takes the sha-256 of the content: pixels, labels, classes, splits, levels, and the pair where there is one."""
    mark = hashlib.sha256(json.dumps([x.shape, list(classes), levels, y is not None]).encode())
    for chunk in chunks(x):
        mark.update(chunk.data)
    for values in ([] if y is None else [y]) + [splits[name] for name in SPLITS]:
        mark.update(f"{len(values)};".encode())
        mark.update(np.ascontiguousarray(values, dtype="<i8").data)
    if pair is not None:
        mark.update(json.dumps(["pair", pair.x.shape, pair.levels]).encode())
        for chunk in chunks(pair.x):
            mark.update(chunk.data)
    return mark.hexdigest()


def evenly(index: np.ndarray, count: int) -> np.ndarray:
    """Takes at most so many of the rows of an array, evenly spaced from the first to the last.

    >>> evenly(np.arange(10), 4)
    array([0, 3, 6, 9])
    """
    return index[np.linspace(0, len(index) - 1, min(len(index), count)).astype(int)]


def chunks(x: np.ndarray, megabytes: int = 16) -> Iterator[np.ndarray]:
    """Yields contiguous pieces of ``x`` (N, …), so that a memory map never has to be in memory whole."""
    step = max(1, (megabytes << 20) // max(1, x[:1].nbytes))
    for start in range(0, len(x), step):
        yield np.ascontiguousarray(x[start : start + step])


def is_grey(image: np.ndarray) -> bool:
    """Tells whether the channels of an item (C, …) are equal."""
    # in the middle of most colour images they differ
    middle = image[(slice(None), *(side // 2 for side in image.shape[1:]))]
    return bool((middle == middle[0]).all()) and bool((image[1:] == image[:1]).all())


def digest(image: np.ndarray) -> bytes:
    """Hashes the pixels (C, H, W) of one image to 8 bytes; a grey one is the same with one channel or three."""
    if len(image) == 3 and is_grey(image):
        image = image[:1]
    return _hash(np.ascontiguousarray(image).data)


def _hash(data: Any) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def digests(x: np.ndarray) -> np.ndarray:
    """Hashes the pixels of every image: (N, C, H, W) -> uint64 (N,)."""
    return from_digests(b"".join(digest(image) for image in x))


def from_digests(joined: bytes) -> np.ndarray:
    """Reads joined digests as uint64 (N,)."""
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


def together(keys: np.ndarray, group: np.ndarray | None) -> np.ndarray:
    """Gives the members of a group (a patient, a speaker) one hash: :func:`split_by_content` keeps them together.

    Items of the same content stay together as well, and groups that share content become one.

    Args:
        keys: Content hashes, uint64 (N,).
        group: The group of each item, values of any kind, (N,); an empty text is none. None leaves the hashes as
            they are.

    Returns:
        uint64 (N,). The hash of a group that shares no content with another depends on its value alone, so that new
        members do not move it to another split.

    >>> together(np.array([1, 2, 3, 3], np.uint64), np.array(["a", "a", "b", "c"])).tolist()[2:]
    [1957948516733239095, 1957948516733239095]
    """
    if group is None:
        return keys
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    group = group.astype(str)
    values, groups = np.unique(np.where(group == "", keys.astype(str), group), return_inverse=True)
    contents = np.unique(keys, return_inverse=True)[1]
    # a graph with a node for each group and each content, and an edge for each item
    size = len(values) + len(keys)
    edges = coo_array((np.ones(len(keys)), (groups, len(values) + contents)), (size, size))
    part = connected_components(edges, directed=False)[1]
    hashes = from_digests(b"".join(_hash(str(value).encode()) for value in values))
    least = np.full(part.max(initial=-1) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, part[: len(values)], hashes)
    return least[part[groups]]


def divided(group: np.ndarray, splits: Mapping[str, np.ndarray]) -> list[str]:
    """Lists the groups, str (N,), that have members in more than one split."""
    splits_of = Counter(name for index in splits.values() for name in set(group[index].tolist()))
    return sorted(name for name, count in splits_of.items() if name and count > 1)


def group_notes(
    group: str,
    members: np.ndarray,
    splits: Mapping[str, np.ndarray],
    shares: Mapping[str, float],
) -> list[str]:
    """Says how well a set could be split by its groups.

    Args:
        group: What keeps items together, for example ``patient``.
        members: The group of each item, str (N,), empty for none.
        splits: Rows of each split, (n,).
        shares: The shares that were wished for, of the splits that were drawn and not given.
    """
    named, alone = len(set(members.tolist()) - {""}), int((members == "").sum())
    note = f"Kept together by {group}: {many(named, 'group')}"
    note += f"; {many(alone, 'picture')} without one." if alone else "."
    if torn := divided(members, splits):
        note += (
            f" The splits were given with members of {many(len(torn), 'group')} in more than one of them (such as "
            f"{torn[0]!r}), and were kept: reports on held-out images will be too good."
        )
    real = {name: len(splits[name]) / len(members) for name in shares}
    missed = [
        f"{name} has {percent(real[name], 0)} instead of {percent(share, 0)}"
        for name, share in shares.items()
        if abs(real[name] - share) > share / 2
    ]
    if missed:
        return [note, f"Too few or too unequal groups for the shares: {', '.join(missed)}."]
    return [note]


def leaks(keys: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Marks images that a later split holds as well: a test image in train or valid, a valid image in train.

    Args:
        keys: Content hashes, uint64 (N,).
        given: Position in :data:`SPLITS` that the source gave each image, int (N,).

    Returns:
        bool (N,), True for an image to leave out.
    """
    leaked = np.zeros(len(keys), bool)
    for later in (1, 2):
        leaked |= (given < later) & np.isin(keys, keys[given == later])
    return leaked


def split_by_content(
    keys: np.ndarray,
    y: np.ndarray | None = None,
    *,
    valid_share: float = 0.1,
    test_share: float = 0.2,
    given: np.ndarray | None = None,
    trains: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Splits by content hash: duplicates stay together, and a new image does not move the others.

    A hash is read as u in [0, 1): test below ``test_share``, then valid, then train. Two repairs follow: each class
    keeps a training image, and no split is empty while another can spare an image.

    Args:
        keys: Content hashes, uint64 (N,).
        y: Labels, int64 (N,), or None.
        valid_share, test_share: Shares in [0, 1).
        given: Position in :data:`SPLITS` that the source gave each image, int (N,). What was given as valid
            or test stays there; what was given as train is divided among the splits that were not given.
        trains: Images that are never held out, bool (N,): what was made of others, and those others.

    Returns:
        Sorted int64 indices per split.
    """
    split = np.zeros(len(keys), np.int8) if given is None else given.astype(np.int8)  # (N,)
    free = (split == 0) if trains is None else (split == 0) & ~trains
    u = keys / 2.0**64
    groups = np.unique(keys, return_inverse=True)[1]  # in the order of u
    labels = np.zeros(len(keys), np.int64) if y is None else y
    wanted = [
        (code, share)
        for code, share in ((2, test_share), (1, valid_share))
        if not (split == code).any()
    ]
    edge = 0.0
    for code, share in wanted:
        split[free & (edge <= u) & (u < edge + share)] = code
        edge += share
    for label in np.setdiff1d(labels[free], labels[split == 0]):  # classes without a training image
        rows = np.flatnonzero(free & (labels == label))
        split[free & (groups == groups[rows[np.argmax(u[rows])]])] = 0
    for code, share in wanted:
        if share == 0 or (split == code).any():
            continue
        rows = np.flatnonzero(split == 0)
        pairs = np.unique(np.stack([groups[rows], labels[rows]], 1), axis=0)  # (distinct images, 2)
        last = np.bincount(pairs[:, 1])[pairs[:, 1]] < 2  # the only one of its class
        spare = np.setdiff1d(pairs[:, 0], pairs[last, 0])
        if not len(spare):  # then the other held-out split gives one, if it has two
            others = np.unique(groups[free & (split > 0)])
            spare = others if len(others) > 1 else spare
        if len(spare):
            split[free & (groups == spare[0])] = code
    return {
        name: np.flatnonzero(split == code).astype(np.int64) for code, name in enumerate(SPLITS)
    }
