"""Pictures from a directory, a ZIP or a file on the server, as a dataset.

Nothing is unpacked to disk, and a picture that cannot be used is listed with its reason while the others go on.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.catalog import UserError
from core.datasets import decoding, hub
from core.datasets.attributes import BEFORE, LINEAGE
from core.datasets.attributes import attributes as made
from core.datasets.container import Container
from core.datasets.dataset import (
    FEWEST,
    SPLITS,
    Dataset,
    Preview,
    SecondImages,
    assemble,
    datasets,
    from_digests,
    group_notes,
    split_by_content,
    together,
)
from core.datasets.files import shown
from core.datasets.layout import Reading
from core.datasets.own import square
from core.datasets.pairing import FOLDER as PAIR
from core.datasets.pairing import half_of
from core.datasets.pictures import KINDS, SUFFIXES, Span
from core.datasets.plan import FolderConfig, FolderPlan, Picture, opened, plan, planned, prepare
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import many

CLASSES = 1000  # at most
FEW = 3  # held-out images of a class; with fewer, a note says so
TRAINS = 0.8  # of the expected training images of a class; with fewer, a note says so
_LISTED = 1000  # refused files that are listed by name
_GLANCE = 30_000_000  # pixels that a preview decodes to find the largest value
_FOLDERS = 200  # folders whose meaning is listed by name
_SAMPLES, _SIDE = 24, 64  # pictures that a preview shows, and their side


def preview(config: FolderConfig) -> Preview:
    """Says what an import would make of a folder, ZIP or file; nothing is written.

    Raises:
        UserError: If it cannot be opened, the ZIP is not to be trusted, or a choice does not fit.
    """
    config, _ = prepare(config)
    with opened(config) as source:
        tree = planned(config, source)
        deep = [picture for picture in tree.pictures if picture.header.deep]
        pictures = deep or tree.pictures
        few = sum(picture.header.pixels for picture in pictures) <= _GLANCE
        largest = decoding.ends(source, pictures)[1] if pictures and few else None
        ones = not deep and largest == 1
        span = Span(largest, ones) if largest and (deep or ones) else None
        samples = tuple(decoding.samples(source, _some_of(tree), _SIDE, span, half_of(config.pair)))
    return Preview(
        pictures=len(tree.pictures),
        refused=_shown(tree.refused[:_LISTED]),
        readings=tuple(
            {
                "kind": reading.kind,
                "sentence": shown(reading.sentence),
                "notes": [shown(note) for note in [*reading.notes, *_expected(reading, config)]],
                "folders": [
                    {"folder": name, "taken_as": kind}
                    for name, kind in _shown(reading.folders[:_FOLDERS])
                ],
                "classes": {
                    shown(name): count
                    for name, count in sorted(
                        Counter(name for _, name, _ in reading.placed if name is not None).items(),
                        key=lambda pair: _natural(pair[0]),
                    )[:CLASSES]
                },
                "splits": {
                    name: count
                    for code, name in enumerate(SPLITS)
                    if (count := sum(split == code for _, _, split in reading.placed))
                }
                if any(split for _, _, split in reading.placed)
                else {},
            }
            for reading in tree.readings.values()
        ),
        taken=tree.taken,
        problem=tree.problem,
        columns=tuple(name for name in tree.columns if name.isprintable() and name not in LINEAGE),
        format=source.title,
        knobs=source.knobs,
        group=source.rows.group if source.rows else "",
        deep=len(deep),
        ones=ones,
        largest=largest if deep or ones else None,
        samples=tuple((shown(name), pixels) for name, pixels in samples),
        oblong=sum(picture.header.width != picture.header.height for picture in tree.pictures),
        reach=source.rows.reach if source.rows else 0,
    )


def _expected(reading: Reading, config: FolderConfig) -> list[str]:
    """Says which classes are so small that few of their pictures will be held out, where splits are drawn."""
    sizes = Counter(name for _, name, _ in reading.placed if name is not None)
    given = {split for _, _, split in reading.placed}
    shares = {"validation": config.valid_share, "the test": config.test_share}
    drawn = {name: share for i, (name, share) in enumerate(shares.items(), 1) if i not in given}
    small = [
        (n, name) for name, n in sizes.items() if any(n * share < FEW for share in drawn.values())
    ]
    if not small:
        return []
    n, name = min(small)
    about = " and ".join(f"{n * share:.1f} for {split}" for split, share in drawn.items())
    rest = (
        f" {len(small) - 1:,} more {'class is' if len(small) == 2 else 'classes are'} as small."
        if len(small) > 1
        else ""
    )
    return [
        f"Class {name!r} has {many(n, 'picture')}: by the shares about {about}, by chance more, fewer or none.{rest} "
        "More pictures, or larger shares under Advanced, give each class more to be judged by."
    ]


def _some_of(tree: FolderPlan) -> list[Picture]:
    """Chooses pictures that tell most of a set: of each class in turn, until they are enough."""
    reading = tree.readings.get(tree.taken) or next(iter(tree.readings.values()))
    of: dict[str | None, list[Picture]] = defaultdict(list)
    for i, label, _ in reading.placed:
        of[label].append(tree.pictures[i])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*of.values()))
    return list(itertools.islice(filter(None, turns), _SAMPLES))


def check(config: FolderConfig) -> FolderConfig:
    """Refuses at once a folder or ZIP that is not there, or holds too little or too much.

    Returns:
        The choices, with the absolute path.

    Raises:
        UserError: As :func:`folder`.
    """
    if hub.is_hub(config.path) and not hub.place(config.path).is_dir():
        return config  # it is fetched by whoever loads it
    tree, path = plan(config), Path(config.path)
    pictures = tree.placed
    if len(pictures) < FEWEST:
        raise _too_few(path.name, len(pictures), tree.refused)
    if not 0 < config.count < len(pictures):  # else some of them are chosen
        _allow_pixels(path.name, pictures)
    return prepare(config)[0]


def teaches(config: FolderConfig) -> bool:
    """Tells whether there is a picture that is not given to ``valid`` or ``test``.

    Raises:
        UserError: As :func:`check`.
    """
    if hub.is_hub(config.path) and not hub.place(config.path).is_dir():
        return True
    return any(picture.split == 0 for picture in plan(config).placed)


@datasets.add(
    "folder",
    "Your own pictures",
    FolderConfig,
    prepare=prepare,
    check=check,
    own=square,
    terms=lambda config: {"licence": shown(config.licence.strip()), "consent": config.consent},
    suffixes=SUFFIXES,
    teaches=teaches,
    preview=preview,
    upload=f"Pictures ({KINDS}) of any sizes, grey or colour: one folder per class, splits of such folders, a file of "
    "labels, or all in one.",
)
def folder(config: FolderConfig, folder: Path, watch: Watch = UNWATCHED) -> Dataset:
    """Your own pictures, from a directory or a ZIP: one folder per class, splits of such folders, or all in one.

    PNG, JPEG, WebP, BMP, TIFF, AVIF and HEIC of any size, grey or colour, scaled to one size. Folders around all
    pictures are skipped, and what lies beside the others changes nothing. ``metadata.csv``, ``metadata.jsonl``,
    ``labels.csv`` and ``dataset.json`` say the classes where there is one. Of pictures with more than 8 bits, the
    largest value of the whole set becomes white.

    Raises:
        UserError: If fewer than 8 pictures can be read, or the ZIP is not to be trusted.
    """
    path = Path(config.path)
    with opened(config) as source:
        tree = planned(config, source)
        pictures, reading, notes = tree.placed, tree.reading, list(tree.reading.notes)
        refused = tree.refused + [
            (tree.pictures[i].file.name, reason) for i, reason in reading.refused
        ]
        names = {picture.label for picture in pictures if picture.label is not None}
        names.update(tree.classes)
        if len(names) > CLASSES:
            what = "names" if reading.kind == "file" else "folders of pictures"
            raise UserError(
                f"{path.name!r} has {len(names)} {what}, and at most {CLASSES} classes "
                "are allowed. Put several folders together, or all pictures into one for a set without classes."
            )
        if 0 < config.count < len(pictures):
            notes.append(f"{config.count} of {len(pictures)} pictures are used.")
            # by a hash of their names, so that a new picture does not change the choice among the others
            pictures.sort(key=lambda p: hashlib.blake2b(ascii(p.file.name).encode()).digest())
            del pictures[config.count :]
        _allow_pixels(path.name, pictures)
        # test first: a training picture that repeats one of them is then known before it is written
        if source.rows is None:
            pictures.sort(key=lambda picture: (-picture.split, _natural(picture.file.name)))
        else:  # in the order in which it is read fastest
            pictures.sort(key=lambda picture: (-picture.split, picture.row))
        settings().allow_disk(len(pictures) * 3 * config.size**2 / 2**20)
        file = folder / "x.npy"
        span, range_notes = _span(source, pictures, config.range)
        written = decoding.write(source, pictures, config, span, file, watch)
        if span is None and written.keys and written.brightest <= 1:
            span, range_notes = _ones(source, pictures, config.range)
            if span is not None:
                written = decoding.write(source, pictures, config, span, file, watch)
        pair = None
        half = half_of(config.pair, second=True)
        if (half or source.pairs) and len(written.pictures) >= FEWEST:
            decoding.seconds(source, written.pictures, config, folder / "pair.npy", watch)
            name = f"{half} half" if half else config.pair.strip().strip("/") or PAIR
            pair = SecondImages(np.load(folder / "pair.npy", mmap_mode="r"), name=shown(name)[:80])
            notes.append(f"Each picture has a second image: {pair.name}.")
    if config.range and span is None:
        range_notes = [
            f"The largest value {config.range:g} was not used: every picture has 8 bits, and holds more values "
            "than 0 and 1."
        ]
    notes += range_notes
    refused += written.refused
    pictures = written.pictures
    if len(pictures) < FEWEST:
        raise _too_few(path.name, len(pictures), refused)
    if written.repeated:
        notes.append(f"{written.repeated} pictures that a later split holds as well were left out.")
    seen = {picture.label for picture in pictures}
    classes = tree.classes or tuple(sorted(names & seen, key=_natural))
    number = {label: i for i, label in enumerate(classes)}
    y = np.array([number[str(p.label)] for p in pictures], np.int64) if classes else None  # (N,)
    if names - seen:
        missing = _some("class", sorted(names - seen, key=_natural))
        kept = "kept, so that the numbers stay" if tree.classes else "left out"
        notes.append(f"{missing} without a readable picture: {kept}.")
    wide, high = (np.array(side, np.int64) for side in zip(*written.sizes, strict=True))
    attributes = {
        "picture": np.array([shown(picture.file.name) for picture in pictures], dtype=str),
        "width": wide,
        "height": high,
    }
    group = tree.called or tree.group
    known = {name: values for name, values in tree.columns.items() if name != tree.group}
    attributes |= made(known, [p.file.name for p in tree.pictures], [p.row for p in pictures])
    notes += [
        f"The column {name!r} is kept as {name + BEFORE!r}: here {name!r} means something else."
        for name in known
        if name not in ("width", "height") and name + BEFORE in attributes
    ]
    members = None
    if tree.group:
        values = tree.columns[tree.group]
        groups = ["" if (of := values[p.row]) is None else shown(str(of))[:200] for p in pictures]
        members = attributes["group"] = np.array(groups, dtype=str)
    keys = together(from_digests(b"".join(written.keys)), members)
    given = np.array([picture.split for picture in pictures], np.int8)
    splits = split_by_content(
        keys,
        y,
        valid_share=config.valid_share,
        test_share=config.test_share,
        given=given,
        trains=_trains(attributes, keys),
    )
    notes += _class_notes(keys, y, classes, splits, group or "image")
    shares = {"valid": config.valid_share, "test": config.test_share}
    drawn = {name: share for name, share in shares.items() if SPLITS.index(name) not in given}
    notes += _small_notes(y, classes, splits, drawn)
    if members is not None:
        notes += group_notes(group, members, splits, drawn)
    notes += [
        f"There is no image for {split}" + (": the set is too small." if 0 in given else ".")
        for split in splits
        if not len(splits[split])
    ]
    if refused:
        notes.append(
            f"{many(refused, 'file')} {'were' if len(refused) > 1 else 'was'} left out"
            + (f"; the first {_LISTED} are listed." if len(refused) > _LISTED else ".")
        )
    small, large = (
        f"{w} × {h}" for w, h in (f(written.sizes, key=lambda s: s[0] * s[1]) for f in (min, max))
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
    position = written.metadata["position"]
    if told := written.metadata["some"] + position:
        notes.append(
            f"Metadata was removed from {many(told, 'picture')}; "
            + (f"{position:,} of them held a position." if position else "none held a position.")
        )
    return assemble(
        np.load(file, mmap_mode="r"),
        y,
        _lines(classes),
        splits,
        attributes=attributes,
        refused=_shown(refused[:_LISTED]),
        notes=tuple(map(shown, notes)),
        source={
            "folders": [list(pair) for pair in _shown(reading.folders[:_FOLDERS])],
            **({} if span is None else {"range": span._asdict()}),
            **({"chain": source.rows.chain} if source.rows and source.rows.chain else {}),
        },
        terms={
            **{name: shown(said) for name, said in tree.terms.items()},
            **{  # what a person chose holds before what the files say
                name: tree.terms.get(name, value) if value in ("", "unknown") else value
                for name, value in datasets.get("folder").terms(config).items()
            },
        },
        group=group,
        pair=pair,
    )


def _trains(attributes: Mapping[str, np.ndarray], keys: np.ndarray) -> np.ndarray | None:
    """Finds the images that were made of others or by a model, those others, and whatever has their content."""
    if "origin" not in attributes:
        return None
    made = (attributes["origin"] != "real") | (attributes["parent"] >= 0)
    parents = attributes["parent"][made]
    made[parents[parents >= 0]] = True
    return np.isin(keys, keys[made])


def _shown(pairs: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((shown(name), shown(text)) for name, text in pairs)


def _allow_pixels(name: str, pictures: list[Picture]) -> None:
    most, pixels = settings().max_gigapixels, sum(picture.header.pixels for picture in pictures)
    if pixels > round(most * 1e9):
        raise UserError(
            f"The pictures in {name!r} unpack to {pixels / 1e9:.4g} gigapixels in all, and at most {most:g} are "
            "allowed on this server. Take fewer or smaller pictures, or raise SIMULACRA_MAX_GIGAPIXELS."
        )


def _span(
    source: Container, pictures: list[Picture], white: float
) -> tuple[Span | None, list[str]]:
    """Finds the range of the pictures with more than 8 bits, over all of them; None where there are none."""
    deep = [picture for picture in pictures if picture.header.deep]
    if not deep:
        return None, []
    low, high = decoding.ends(source, deep)
    largest = white or high or 1.0
    some = "All" if len(deep) == len(pictures) else f"{len(deep):,} of {len(pictures):,}"
    note = (
        f"{some} pictures hold more than 8 bits: their values 0 … {largest:g} were taken as black to white"
        + (
            f", as asked; their largest value is {high:g}."
            if white
            else ", where the largest value of all of them is white."
        )
    )
    if low < 0:
        note += f" Values below 0 (to {low:g}) are black."
    return Span(largest), [note]


def _ones(
    source: Container, pictures: list[Picture], white: float
) -> tuple[Span | None, list[str]]:
    """Finds the range of pictures of 8 bits that hold nothing but 0 and 1, as masks do; None if they hold more."""
    if decoding.ends(source, pictures)[1] != 1:
        return None, []
    largest = white or 1.0
    note = (
        f"The pictures hold only the values 0 and 1: 0 … {largest:g} was taken as black to white."
    )
    return Span(largest, ones=True), [note]


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


def _small_notes(
    y: np.ndarray | None,
    classes: tuple[str, ...],
    splits: Mapping[str, np.ndarray],
    drawn: Mapping[str, float],
) -> list[str]:
    """Says which classes got few images for training, validation or the test, where the splits were drawn."""
    if y is None or not drawn:
        return []
    counts = {name: np.bincount(y[rows], minlength=len(classes)) for name, rows in splits.items()}
    every = np.bincount(y, minlength=len(classes))
    small = counts["train"] < TRAINS * (1 - sum(drawn.values())) * every
    for name in drawn:
        small |= counts[name] < FEW
    listed = np.flatnonzero(small & (every > 1))
    if not len(listed):
        return []
    said = [
        f"{classes[i]!r} has {counts['train'][i]:,} training, {counts['valid'][i]:,} validation and "
        f"{counts['test'][i]:,} test images of {every[i]:,}"
        for i in listed[:3]
    ]
    more = f", and {len(listed) - 3:,} more classes have as few" if len(listed) > 3 else ""
    return [
        f"Class {'; '.join(said)}{more}: too few to judge a class by. Import with more images, or with another Test "
        "or Validation share under Advanced."
    ]


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


def _lines(names: Sequence[str]) -> tuple[str, ...]:
    """Writes each name of a class on one line, as long as they stay different."""
    lines = [" ".join(name.split()) for name in names]
    return tuple(map(shown, lines if len(set(lines)) == len(lines) and all(lines) else names))


def _natural(name: str) -> tuple[list[Any], str]:
    """Sorts ``class 2`` before ``class 10``."""
    return [
        int(part) if i % 2 else part.casefold()
        for i, part in enumerate(re.split(r"([0-9]+)", name))
    ], name
