"""Pictures from a directory on the server or from a ZIP: hostile until checked, decoded one at a time.

Nothing is unpacked to disk, a file's type is read from its content, and a picture that cannot be used is
listed with its reason while the others go on.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.catalog import Config, UserError, knob
from core.datasets import labels, sources
from core.datasets.dataset import (
    FEWEST,
    Consent,
    Dataset,
    Preview,
    assemble,
    datasets,
    digest,
    divided,
    from_digests,
    split_by_content,
    together,
)
from core.datasets.files import Archive, Directory, File, shown, walk
from core.datasets.labels import Labels, is_labels
from core.datasets.layout import Reading, readings
from core.datasets.own import square
from core.datasets.pictures import (
    HEAD,
    KINDS,
    NO_PICTURE,
    SUFFIXES,
    Decoded,
    Header,
    Refused,
    Span,
    decode,
    explained,
    extent,
    kind_of,
    look,
    most_bytes,
)
from core.datasets.store import PixelFile
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import many

CLASSES = 1000  # at most
_LISTED = 1000  # refused files that are kept by name
_GLANCE = 30_000_000  # pixels that a preview decodes to find the largest value
_FOLDERS = 200  # folders whose meaning is kept by name


class FolderConfig(Config):
    """The choices for pictures of one's own."""

    path: str = knob("", "A directory on the server, or a ZIP of pictures.", path=True)
    size: int = knob(
        32, "Height and width that every picture is scaled to.", ge=8, le=128, unit="px"
    )
    channels: Literal["auto", "grey", "colour"] = knob(
        "auto", "Grey or colour; auto takes grey if no picture has a colour.", title="Colours"
    )
    fit: Literal["crop", "pad"] = knob(
        "crop", "A picture that is not square loses its edges, or gets white ones."
    )
    count: int = sources.count_knob()
    valid_share: float = sources.valid_share_knob()
    test_share: float = knob(
        0.2,
        "Share of the images that is kept for the final report.",
        ge=0.01,
        le=0.4,
        title="Test share",
        advanced=True,
    )
    licence: str = knob("", "The licence of the pictures; it travels with every version.")
    consent: Consent = knob(
        "unknown",
        "Whether the people on the pictures agreed to their use; not needed where there are none.",
        title="Consent",
    )
    reading: Literal["auto", "file", "splits", "classes", "none"] = knob(
        "auto",
        "What says the classes: a file of labels, folders inside the splits, the folders at the top, or nothing; "
        "auto takes a file of labels if there is one, and else what the folders look like.",
        title="How the folders are read",
        advanced=True,
    )
    group: str = knob(
        "",
        "The column of a table beside the pictures, such as patient or speaker, whose pictures stay in one split; "
        "empty for none.",
        title="Keep together by",
        advanced=True,
    )
    training: str = knob(
        "",
        "Folders that are for training, with commas, where their names do not say so.",
        title="Folders for training",
        advanced=True,
    )
    range: float = knob(
        0.0,
        "The value that becomes white, for pictures of more than 8 bits or of only 0 and 1; 0 takes the largest value "
        "of the whole set.",
        ge=0,
        title="Largest value",
        advanced=True,
        log=True,
    )


def _prepare(config: FolderConfig) -> tuple[FolderConfig, str]:
    settings().allow_change("import images")
    sources.allow_count(config.count)
    if not config.path.strip():
        raise UserError(
            "dataset.path must name a directory or a ZIP of pictures, got ''. "
            "For example path=~/birds.zip."
        )
    try:
        path = Path(config.path).expanduser().absolute()
        found = path.stat()
        config = config.model_copy(update={"path": str(path)})
        if stat.S_ISDIR(found.st_mode):
            files, links = walk(path)
            listing = sorted((file.name, file.size, file.key.stat().st_mtime_ns) for file in files)
            return config, hashlib.sha256(ascii((str(path), listing, links)).encode()).hexdigest()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(
                f"{config.path!r} must be a directory or a ZIP, and is neither. Choose another path."
            )
        return config, _sha(path, found.st_size, found.st_mtime_ns, found.st_ino)
    except FileNotFoundError:
        raise UserError(
            f"There is no file or folder {config.path!r}. A directory or a ZIP of pictures on the server "
            "is read; check the path for a typing error."
        ) from None
    except PermissionError as error:
        raise UserError(
            f"This program may not read {error.filename or config.path!r}. A directory or a ZIP that it "
            "may read is needed; give it the permission, or copy the pictures elsewhere."
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{config.path!r} cannot be opened ({error}). A directory or a ZIP of pictures is read; "
            "check the path."
        ) from error


@functools.lru_cache(maxsize=64)
def _sha(path: Path, size: int, mtime: int, inode: int) -> str:
    mark = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            mark.update(piece)
    return mark.hexdigest()


@dataclass
class Plan:
    """What a folder or ZIP holds, before a pixel is decoded.

    Attributes:
        pictures: Each with its header.
        refused: Names of files that are no pictures, with the reason.
        readings: The ways to read the folders, by kind.
        taken: The kind that is taken.
        problem: Why a file of labels cannot be read; empty where there is none, or it can.
        columns: What tables say beside labels.
        group: What the column that was asked for says, by the name of the file.
    """

    pictures: list[tuple[File, Header]]
    refused: list[tuple[str, str]]
    readings: dict[str, Reading]
    taken: str
    problem: str
    columns: list[str]
    group: Mapping[str, str]

    @property
    def reading(self) -> Reading:
        """The one that is taken.

        Raises:
            UserError: If the file of labels cannot be read.
        """
        if self.problem:
            raise UserError(self.problem)
        return self.readings[self.taken]

    @property
    def deep(self) -> int:
        """How many pictures hold more than 8 bits."""
        return sum(header.deep for _, header in self.pictures)


def plan(config: FolderConfig) -> Plan:
    """Looks into a folder or ZIP, and says how it would be read; nothing is decoded or kept.

    Raises:
        UserError: If it cannot be opened, the ZIP is not to be trusted, or a choice does not fit.
    """
    config, _ = _prepare(config)
    with _source(Path(config.path)) as source:
        return _planned(config, source)


def preview(config: FolderConfig) -> Preview:
    """Says what an import would make of a folder or ZIP; nothing is kept.

    Raises:
        UserError: If it cannot be opened, the ZIP is not to be trusted, or a choice does not fit.
    """
    config, _ = _prepare(config)
    with _source(Path(config.path)) as source:
        planned = _planned(config, source)
        deep = [item for item in planned.pictures if item[1].deep]
        asked = deep or planned.pictures
        few = sum(header.pixels for _, header in asked) <= _GLANCE
        largest = _extent(source, asked)[1] if asked and few else None
    told = tuple(
        {
            "kind": reading.kind,
            "sentence": shown(reading.sentence),
            "notes": [shown(note) for note in reading.notes],
            "folders": [
                {"folder": shown(name), "taken_as": kind}
                for name, kind in reading.folders[:_FOLDERS]
            ],
        }
        for reading in planned.readings.values()
    )
    refused = tuple((shown(name), shown(reason)) for name, reason in planned.refused[:_LISTED])
    return Preview(
        pictures=len(planned.pictures),
        refused=refused,
        readings=told,
        taken=planned.taken,
        problem=planned.problem,
        columns=tuple(name for name in planned.columns if name.isprintable()),
        deep=len(deep),
        ones=not deep and largest == 1,
        largest=largest if deep or largest == 1 else None,
    )


def _source(path: Path) -> Directory | Archive:
    return Directory(path) if path.is_dir() else Archive(path)


def _planned(config: FolderConfig, source: Directory | Archive) -> Plan:
    limits = settings()
    most = most_bytes(limits.max_megapixels)
    refused, pictures, tables = list(source.refused), [], []
    for file in source.files:
        if is_labels(file.name):
            tables.append(file)
            continue
        try:
            pictures.append((file, _looked(source, file, most, limits.max_megapixels)))
        except Refused as reason:
            refused.append((file.name, str(reason)))
    names = [file.name for file, _ in pictures]
    found, told, problem = labels.Labels(), [], ""
    by_file = config.reading in ("auto", "file")
    if pictures and (config.group or by_file):
        try:
            left = [name for name, _ in refused]
            found, told = _labels(source, tables, names, left, config.group)
        except UserError as error:
            problem = str(error)
    if config.group and not found.group and not problem:
        raise UserError(
            f"dataset.group={config.group!r:.80} must be a column of a table beside the pictures in "
            f"{Path(config.path).name!r} (labels.csv, metadata.csv) that says something of them. Columns: "
            f"{', '.join(map(shown, found.columns)) or 'none'}. Choose one of them, or leave it out."
        )
    kinds, taken = readings(
        names, found if by_file and found.label else None, told if by_file else [], config.training
    )
    if config.reading != "auto":
        if config.reading not in kinds and not problem:
            raise UserError(
                f"dataset.reading={config.reading} does not fit {Path(config.path).name!r}, which can be read as "
                f"{', '.join(kinds)}. Choose one of them, or auto."
            )
        taken = config.reading
    elif problem:
        taken = "file"
    if config.training.strip() and taken not in ("splits", "file"):
        raise UserError(
            f"dataset.training={config.training!r} names splits, and the folders are read as {taken}. Leave it out, or "
            "choose dataset.reading=splits."
        )
    group = {names[i]: value for i, value in found.group.items()}
    return Plan(pictures, refused, kinds, taken, problem, found.columns, group)


def _looked(source: Directory | Archive, file: File, most: int, megapixels: float) -> Header:
    """Reads a picture's header from the file's beginning; from all of it where that is not enough."""
    head = source.read(file, HEAD, count=False)
    if kind_of(head) is None:
        raise Refused(NO_PICTURE)
    try:
        return look(head, megapixels)
    except Refused:
        raise
    except Exception:  # cut off in the header, or damaged: its decoder says which
        _allow_bytes(file, most)
        return explained(lambda: look(source.read(file, most, count=False), megapixels))


def _allow_bytes(file: File, most: int) -> None:
    if file.size > most:
        raise Refused(
            f"has {file.size / 2**20:.0f} MB, and at most {most / 2**20:.0f} MB are allowed"
        )


def _labels(
    source: Directory | Archive,
    tables: Sequence[File],
    names: Sequence[str],
    others: Sequence[str],
    group: str,
) -> tuple[Labels, list[str]]:
    """Reads the files of labels, and finds their pictures.

    The names are those of the files; without labels, of those that say that no picture has one.

    Raises:
        UserError: If one is malformed, or none of its files is there.
    """
    read: list[tuple[str, labels.Table]] = []
    for file in tables:
        most = labels.most_bytes(len(names))
        try:
            said = labels.parse(file.name, source.read(file, most + 1), len(names), group)
        except (labels.Malformed, Refused) as error:
            raise UserError(
                f"The file of labels {shown(file.name)!r} cannot be read: {shown(str(error))}. Mend it or take it out, "
                "or read the folders instead (dataset.reading=classes)."
            ) from None
        read.append((file.name, said))
    found = labels.match(read, names, others)
    labelled = [(name, said) for name, said in read if said.labelled]
    if not labelled:
        empty = [name for name, said in read if said.rows and name.casefold().endswith(".json")]
        return found, list(map(shown, empty))
    told = [shown(name) for name, _ in labelled]
    if not found.label:
        first = labelled[0][1].rows[0].file
        raise UserError(
            f"The file of labels {', '.join(map(repr, told))} names none of the {len(names):,} pictures that are here "
            f"(its first is {shown(first)[:80]!r}). Mend it or take it out, or read the folders instead "
            "(dataset.reading=classes)."
        )
    return found, told


@dataclass
class _Read:
    """What the pictures of a set gave, in the order in which they were written."""

    labels: list[str | None] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    spoke: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, str]] = field(default_factory=list)
    repeated: int = 0
    brightest: int = 0  # of the pictures of 8 bits


def check(config: FolderConfig) -> FolderConfig:
    """Says at once what a job would find out later: that there is no folder or ZIP, or too little or too much in it.

    Returns:
        The choices, with the path from the root.

    Raises:
        UserError: As :func:`folder`.
    """
    planned, name = plan(config), Path(config.path).name
    placed = planned.reading.placed
    if len(placed) < FEWEST:
        raise _too_few(name, len(placed), planned.refused)
    if not 0 < config.count < len(placed):  # else some of them are chosen
        _allow_pixels(name, sum(planned.pictures[i][1].pixels for i, *_ in placed))
    return config.model_copy(update={"path": str(Path(config.path).expanduser().absolute())})


@datasets.add(
    "folder",
    "Your own pictures",
    FolderConfig,
    prepare=_prepare,
    check=check,
    own=square,
    suffixes=SUFFIXES,
    preview=preview,
    upload=f"A ZIP of pictures ({KINDS}): one folder per class, splits of such folders, a file of labels, or all in "
    "one. Any sizes, grey or colour.",
)
def folder(config: FolderConfig, place: Path, watch: Watch = UNWATCHED) -> Dataset:
    """Your own pictures, from a directory or a ZIP: one folder per class, splits of such folders, or all in one.

    PNG, JPEG, WebP, BMP, TIFF, AVIF and HEIC of any size, grey or colour, scaled to one size. Folders around all
    pictures are skipped, and what lies beside the others changes nothing. ``metadata.csv``, ``metadata.jsonl``,
    ``labels.csv`` and ``dataset.json`` say the classes where there is one. Of pictures with more than 8 bits, the
    largest value of the whole set becomes white.

    Raises:
        UserError: If fewer than 8 pictures can be read, or the ZIP is not to be trusted.
    """
    path = Path(config.path)
    with _source(path) as source:
        planned = _planned(config, source)
        reading = planned.reading
        refused = planned.refused
        refused += [(planned.pictures[i][0].name, reason) for i, reason in reading.refused]
        notes = list(reading.notes)
        placed = [(*planned.pictures[i], label, code) for i, label, code in reading.placed]
        names = {label for *_, label, _ in placed if label is not None}
        if len(names) > CLASSES:
            what = "names" if reading.kind == "file" else "folders of pictures"
            raise UserError(
                f"{path.name!r} has {len(names)} {what}, and at most {CLASSES} classes "
                "are allowed. Put several folders together, or all pictures into one for a set without classes."
            )
        if 0 < config.count < len(placed):
            notes.append(f"{config.count} of {len(placed)} pictures are used.")
            chosen = sorted(
                placed, key=lambda item: hashlib.blake2b(ascii(item[0].name).encode()).digest()
            )
            placed = chosen[: config.count]
        _allow_pixels(path.name, sum(header.pixels for _, header, *_ in placed))
        # test first: a training picture that repeats one of them is then known before it is written
        placed.sort(key=lambda item: (-item[-1], _natural(item[0].name)))
        settings().allow_disk(len(placed) * 3 * config.size**2 / 2**20)
        span, said = _span(source, placed, config)
        read = _written(source, placed, config, span, place, watch)
        if span is None and read.keys and read.brightest <= 1:
            span, said = _ones(source, placed, config)
            if span is not None:
                read = _written(source, placed, config, span, place, watch)
    if config.range and span is None:
        said = [
            f"The largest value {config.range:g} was not used: every picture has 8 bits, and holds more values "
            "than 0 and 1."
        ]
    notes += said
    refused += read.refused
    if len(read.keys) < FEWEST:
        raise _too_few(path.name, len(read.keys), refused)
    if read.repeated:
        notes.append(f"{read.repeated} pictures that a later split holds as well were left out.")
    classes = tuple(sorted(names & set(read.labels), key=_natural))
    number = {label: i for i, label in enumerate(classes)}
    y = np.array([number[str(label)] for label in read.labels], np.int64) if classes else None
    if names - set(classes):
        missing = _some("class", sorted(names - set(classes), key=_natural))
        notes.append(f"{missing} without a readable picture: left out.")
    attributes: dict[str, np.ndarray] = {}
    if config.group:
        named = [shown(planned.group.get(name, "")) for name in read.files]
        attributes["group"] = np.array(named, dtype=str)
    members = attributes.get("group")
    hashes = together(from_digests(b"".join(read.keys)), members)
    codes = np.array(read.given, np.int8)
    splits = split_by_content(
        hashes, y, valid_share=config.valid_share, test_share=config.test_share, given=codes
    )
    notes += _class_notes(hashes, y, classes, splits, config.group or "image")
    notes += [] if members is None else _group_notes(config.group, members, splits)
    notes += [
        f"There is no image for {split}" + (": the set is too small." if 0 in codes else ".")
        for split in splits
        if not len(splits[split])
    ]
    if refused:
        notes.append(
            f"{len(refused):,} file{'s were' if len(refused) > 1 else ' was'} left out"
            + (f"; the first {_LISTED} are listed." if len(refused) > _LISTED else ".")
        )
    small, large = (
        f"{w} × {h}" for w, h in (f(read.sizes, key=lambda s: s[0] * s[1]) for f in (min, max))
    )
    notes.append(
        f"The pictures had {small}"
        + (f" to {large}" if large != small else "")
        + (
            " pixels before they were scaled."
            if {small, large} != {f"{config.size} × {config.size}"}
            else " pixels; none was scaled."
        )
    )
    if held := read.spoke["some"] + read.spoke["position"]:
        notes.append(
            f"Metadata was removed from {many(held, 'picture')}; "
            f"{read.spoke['position']:,} of them held a position."
            if read.spoke["position"]
            else f"Metadata was removed from {many(held, 'picture')}; none held a position."
        )
    wide, high = (np.array(side, np.int64) for side in zip(*read.sizes, strict=True))
    listed = tuple((shown(name), shown(reason)) for name, reason in refused[:_LISTED])
    return assemble(
        np.load(place / "x.npy", mmap_mode="r"),
        y,
        tuple(map(shown, classes)),
        splits,
        attributes={
            "picture": np.array(list(map(shown, read.files)), dtype=str),
            "width": wide,
            "height": high,
            **attributes,
        },
        refused=listed,
        notes=tuple(map(shown, notes)),
        source={
            "folders": [[shown(name), kind] for name, kind in reading.folders[:_FOLDERS]],
            **({} if span is None else {"range": span._asdict()}),
        },
        terms={"licence": shown(config.licence.strip()), "consent": config.consent},
        group=config.group,
    )


def _allow_pixels(name: str, pixels: int) -> None:
    most = settings().max_gigapixels
    if pixels > round(most * 1e9):
        raise UserError(
            f"The pictures in {name!r} unpack to {pixels / 1e9:.4g} gigapixels in all, and at most {most:g} are "
            "allowed on this server. Take fewer or smaller pictures, or raise SIMULACRA_MAX_GIGAPIXELS."
        )


def _span(
    source: Directory | Archive, placed: list[Any], config: FolderConfig
) -> tuple[Span | None, list[str]]:
    """Finds the range of the pictures with more than 8 bits, over all of them; None where there are none."""
    deep = [item for item in placed if item[1].deep]
    if not deep:
        return None, []
    low, high = _extent(source, deep)
    largest = config.range or high or 1.0
    some = "All" if len(deep) == len(placed) else f"{len(deep):,} of {len(placed):,}"
    note = (
        f"{some} pictures hold more than 8 bits: their values 0 … {largest:g} were taken as black to white"
        + (
            f", as asked; their largest value is {high:g}."
            if config.range
            else ", where the largest value of all of them is white."
        )
    )
    if low < 0:
        note += f" Values below 0 (to {low:g}) are black."
    return Span(largest), [note]


def span_of_files(source: Directory | Archive, files: Sequence[File]) -> Span | None:
    """Finds the range of the pictures with more than 8 bits among files; None where there are none."""
    limit = settings().max_megapixels
    deep = []
    for file in files:
        with suppress(Refused):
            header = _looked(source, file, most_bytes(limit), limit)
            deep += [(file, header)] if header.deep else []
    return Span(_extent(source, deep)[1] or 1.0) if deep else None


def _ones(
    source: Directory | Archive, placed: list[Any], config: FolderConfig
) -> tuple[Span | None, list[str]]:
    """Finds out whether pictures of 8 bits hold nothing but 0 and 1, as masks do."""
    if _extent(source, placed)[1] != 1:
        return None, []
    largest = config.range or 1.0
    note = (
        f"The pictures hold only the values 0 and 1: 0 … {largest:g} was taken as black to white."
    )
    return Span(largest, ones=True), [note]


def _extent(source: Directory | Archive, placed: list[Any]) -> tuple[float, float]:
    """Finds the smallest and the largest value of pictures; what cannot be read is told when it is decoded."""
    limit = settings().max_megapixels
    most = most_bytes(limit)

    def start(item: Any) -> Callable[[], tuple[float, float]]:
        try:
            data = source.read(item[0], most, count=False)
        except Refused:
            return lambda: (0.0, 0.0)

        def find() -> tuple[float, float]:
            try:
                return extent(data, limit)
            except Refused:
                return 0.0, 0.0

        return find

    ends = [end for _, end in _ahead(placed, start)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _written(
    source: Directory | Archive,
    placed: list[Any],
    config: FolderConfig,
    span: Span | None,
    place: Path,
    watch: Watch,
) -> _Read:
    """Decodes the pictures, and writes them one after the other."""
    read = _Read()
    seen: dict[int, set[bytes]] = {0: set(), 1: set(), 2: set()}
    wide = 3 if config.channels == "colour" else 1
    with PixelFile(place / "x.npy", (wide, config.size, config.size)) as pixels:
        for (file, header, label, code), decoded in _decoded(source, placed, config, span, watch):
            if isinstance(decoded, str):
                read.refused.append((file.name, decoded))
                continue
            image = decoded.pixels
            read.spoke[decoded.metadata] += 1
            if not header.deep:
                read.brightest = max(read.brightest, int(image.max()))
            mark = digest(image)
            if any(mark in seen[later] for later in range(code + 1, 3)):
                read.repeated += 1
                continue
            seen[code].add(mark)
            if len(image) > pixels.shape[0]:
                pixels.widen()
            pixels.add(image)
            read.labels.append(label)
            read.keys.append(mark)
            read.given.append(code)
            read.files.append(file.name)
            read.sizes.append(decoded.was)
    return read


def _class_notes(
    keys: np.ndarray,
    y: np.ndarray | None,
    classes: tuple[str, ...],
    splits: Mapping[str, np.ndarray],
    unit: str,
) -> list[str]:
    if y is None:
        return []
    pairs = np.unique(np.stack([keys, y.astype(np.uint64)], 1), axis=0)[:, 1].astype(np.int64)
    once = np.flatnonzero(np.bincount(pairs, minlength=len(classes)) == 1)
    trained = np.unique(y[splits["train"]])
    notes = []
    if lonely := [classes[i] for i in np.intersect1d(once, trained)]:
        has = f"has one {unit}: it is" if len(lonely) == 1 else f"have one {unit} each: these are"
        notes.append(f"{_some('class', lonely)} {has} used for training only.")
    if missing := [classes[i] for i in np.setdiff1d(y, trained)]:
        notes.append(f"{_some('class', missing)} without an image for training.")
    return notes


def _group_notes(group: str, members: np.ndarray, splits: Mapping[str, np.ndarray]) -> list[str]:
    named, alone = len(set(members.tolist()) - {""}), int((members == "").sum())
    note = f"Kept together by {group}: {many(named, 'group')}"
    note += f"; {many(alone, 'picture')} without one." if alone else "."
    if torn := divided(members, splits):
        note += (
            f" The splits were given with members of {many(len(torn), 'group')} in more than one of them (such as "
            f"{torn[0]!r}), and were kept: reports on held-out images will be too good."
        )
    return [note]


def _decoded(
    source: Directory | Archive,
    placed: list[Any],
    config: FolderConfig,
    span: Span | None,
    watch: Watch,
) -> Iterator[tuple[Any, Decoded | str]]:
    """Yields every item with its picture, or with the reason why there is none."""
    limits = settings()
    most = most_bytes(limits.max_megapixels)

    def start(item: Any) -> Callable[[], Decoded | str]:
        try:
            _allow_bytes(item[0], most)
            data = source.read(item[0], most)
        except Refused as reason:
            refusal = str(reason)
            return lambda: refusal
        return lambda: decode(
            data, config.size, config.channels, config.fit, limits.max_megapixels, span
        )

    for done, (item, image) in enumerate(_ahead(placed, start), 1):
        yield item, image
        watch.count("Reading", done, len(placed), "pictures")


def _ahead(
    items: Iterable[Any], start: Callable[[Any], Callable[[], Any]]
) -> Iterator[tuple[Any, Any]]:
    """Runs what ``start(item)`` returns on a few threads, never more than a few items ahead, in order."""
    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[Any, Future]] = deque()
        for item in items:
            waiting.append((item, pool.submit(start(item))))
            if len(waiting) > 2 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _too_few(name: str, read: int, refused: list[tuple[str, str]]) -> UserError:
    read_words = (
        "No picture" if not read else "Only one picture" if read == 1 else f"Only {read} pictures"
    )
    text = f"{read_words} in {name!r} could be read, and at least {FEWEST} are needed."
    if refused:
        first = "; ".join(f"{shown(file)} {shown(reason)}" for file, reason in refused[:3])
        text += f" Left out: {first}{f'; and {len(refused) - 3} more' if len(refused) > 3 else ''}."
    return UserError(f"{text} Add {KINDS} pictures.")


def _some(kind: str, names: list[str]) -> str:
    if len(names) == 1:
        return f"{kind} {names[0]!r}"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} {kind}es ({', '.join(map(repr, names[:3]))}{more})"


def _natural(name: str) -> tuple[list[Any], str]:
    """Sorts ``class 2`` before ``class 10``."""
    return [
        int(part) if i % 2 else part.casefold()
        for i, part in enumerate(re.split(r"([0-9]+)", name))
    ], name
