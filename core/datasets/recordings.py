"""Datasets of sounds: the notes that are drawn, and recordings from a directory, a ZIP or a file on the server."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np

from core.catalog import Config, UserError, knob, seed_knob
from core.datasets import audio, files, plan, sources
from core.datasets.container import Container, File
from core.datasets.dataset import (
    FEWEST,
    SPLITS,
    Consent,
    Dataset,
    Own,
    Preview,
    assemble,
    datasets,
    digest,
    digests,
    group_notes,
    split_by_content,
    together,
)
from core.datasets.files import shown
from core.datasets.layout import role
from core.datasets.pictures import Refused
from core.datasets.store import PixelFile
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import many
from core.media.sound import SECONDS, rate_of, samples_of, sound

CLASSES = 1000  # at most
_LISTED = 1000  # refused files that are listed by name
_SAMPLES = 16  # sounds that a preview shows
_TEXTS = re.compile(r"[^A-Za-z*]+")
_NUMBERED = re.compile(r"[^_]+_[^_]+_\d+")  # one_jane_3
_HASHED = re.compile(r"[^_]+_nohash_\d+")  # below a folder for each word: 0a7c2a8d_nohash_0
PATTERN, BELOW = "label_group_number", "group_nohash_number"


def rate_knob() -> Any:
    """Declares how many samples a second a sound has."""
    return knob(
        8000,
        f"Samples a second; each sound lasts {SECONDS} seconds. Models see 32 × 32 px of 4 kHz, 64 × 64 of 8 kHz and "
        "128 × 128 of 16 kHz, so that each step up costs four times as much.",
        unit="Hz",
        title="Rate",
    )


class ToneConfig(Config):
    """The choices of the drawn notes."""

    rate: Literal[4000, 8000, 16000] = rate_knob()
    count: int = knob(
        2000,
        "How many notes to play.",
        ge=16,
        le=50_000,
        unit="notes",
        title="Number of notes",
        log=True,
    )
    seed: int = seed_knob("Another seed plays other notes; the same seed always plays the same.")
    valid_share: float = sources.valid_share_knob("sounds")


@datasets.add(
    "tone",
    "Notes of instruments",
    ToneConfig,
    medium="sound",
    chain="sounds",
    weighs=lambda config: config.count * 2 * samples_of(config.rate),
    terms=lambda config: {"licence": "Apache-2.0", "consent": "not needed"},
)
def tone(config: ToneConfig, folder: Path, watch: Watch = UNWATCHED) -> Dataset:
    """Notes of six instruments that the program plays itself, with the truth about each: pitch, vibrato, brightness.

    Sounds of 1.024 s; the class is the instrument, and every attribute is kept beside the sound.
    """
    from core.datasets import tones

    attributes = tones.attributes(config.seed, config.count)
    x = tones.play(attributes, config.rate, config.seed, watch)
    y = attributes["instrument"].astype(np.int64)
    splits = split_by_content(digests(x), y, valid_share=config.valid_share, test_share=0.2)
    terms = datasets.get("tone").terms(config)
    return assemble(x, y, tones.CLASSES, splits, medium="sound", attributes=attributes, terms=terms)


class RecordingsConfig(Config):
    """The choices for recordings of one's own."""

    path: str = knob("", "A directory, a ZIP or a file of recordings on the server.", path=True)
    rate: Literal[4000, 8000, 16000] = rate_knob()
    part: Literal["start", "loudest"] = knob(
        "start",
        f"Which {SECONDS} seconds are taken of a longer recording: its beginning, or where it is loudest within "
        f"{audio.SEARCHED} seconds.",
        title="Part",
    )
    names: str = knob(
        "auto",
        "How file names are read, as words with underscores: label, group (such as the speaker, who is kept in one "
        f"split), and any other word for what means nothing. auto takes {PATTERN} where no folder says the class and "
        f"every name is like that, and {BELOW} below such folders.",
        title="File names",
        advanced=True,
    )
    reading: Literal["auto", "classes", "names", "none"] = knob(
        "auto",
        "What says the classes: the folders, the names of the files, or nothing.",
        title="How it is read",
        advanced=True,
    )
    count: int = sources.count_knob("sounds")
    valid_share: float = sources.valid_share_knob("sounds")
    test_share: float = sources.final_share_knob("sounds")
    licence: str = knob("", "The licence of the recordings; it travels with every version.")
    consent: Consent = knob(
        "unknown",
        "Whether the people who are heard agreed to their use; not needed where nobody is.",
        title="Consent",
    )


class _Recording(NamedTuple):
    """One file, and what its place and its name say."""

    file: File
    kind: str
    folder: str  # empty for none
    label: str  # of its name; empty for none
    group: str
    split: int


class _RecordingPlan(NamedTuple):
    """What there is, and how it would be read."""

    recordings: list[_Recording]
    refused: list[tuple[str, str]]
    kinds: dict[str, str]  # the ways to read the classes, each with a sentence
    taken: str
    group: str  # what keeps them together
    notes: list[str]

    def label(self, each: _Recording, kind: str) -> str:
        """Gives the class of a recording; empty without."""
        return {"classes": each.folder, "names": each.label}.get(kind, "")


@contextmanager
def _opened(config: RecordingsConfig) -> Iterator[Container]:
    path = plan.place(config.path)
    if path.is_dir():
        source: Container = files.Directory(path)
    else:
        with path.open("rb") as file:
            packed = file.read(2) == b"PK"
        source = files.Archive(path, "recordings") if packed else files.Single(path)
    with source:
        yield source


def _template(text: str) -> list[str]:
    words = [word.casefold() for word in text.split("_")]
    if words.count("label") > 1 or words.count("group") > 1 or not {"label", "group"} & {*words}:
        raise UserError(
            f"dataset.names must hold the word label or group, each once at most, with underscores between words, got "
            f"{text!r}. For example {PATTERN}."
        )
    return words


def _named(stem: str, words: list[str]) -> tuple[str, str]:
    """Reads the class and the group out of a name; empty where it has other parts than the words."""
    parts = stem.split("_")
    if len(parts) != len(words):
        return "", ""
    told = dict(zip(words, parts, strict=True))
    return told.get("label", ""), told.get("group", "")


def _planned(config: RecordingsConfig, source: Container) -> _RecordingPlan:
    found, refused = [], list(source.refused)
    for file in source.files:
        try:
            kind = audio.kind_of(source.read(file, audio.HEAD, count=False))
            if kind:
                found.append((file, kind))
            else:
                refused.append((file.name, f"{audio.NO_SOUND}: use {audio.KINDS}"))
        except Refused as why:
            refused.append((file.name, str(why)))
    if why := next(filter(None, (audio.missing(kind) for kind in {kind for _, kind in found})), ""):
        lost = [file.name for file, kind in found if audio.missing(kind)]
        refused += [(name, why) for name in lost]
        found = [(file, kind) for file, kind in found if not audio.missing(kind)]
    paths = [PurePosixPath(file.name) for file, _ in found]
    folders = [path.parts[:-1] for path in paths]
    while folders and all(folders) and len({parts[0] for parts in folders}) == 1:
        if len({parts[:2] for parts in folders}) == 1 and len(folders[0]) == 1:
            break  # one class alone would be none
        folders = [parts[1:] for parts in folders]
    if len(set(folders)) == 1:
        folders = [()] * len(folders)
    splits = [SPLITS.index(of) if parts and (of := role(parts[0])) else 0 for parts in folders]
    if any(splits):
        folders = [parts[1:] if parts and role(parts[0]) else parts for parts in folders]
    classes = [parts[0] if parts else "" for parts in folders]
    stems = [path.stem for path in paths]
    words: list[str] = []
    if config.names.strip() not in ("", "auto"):
        words = _template(config.names.strip())
    elif config.names.strip() == "auto" and stems:
        if all(classes) and all(map(_HASHED.fullmatch, stems)):
            words = _template(BELOW)
        elif not any(classes) and all(map(_NUMBERED.fullmatch, stems)):
            words = _template(PATTERN)
    named = [_named(stem, words) for stem in stems]
    recordings = [
        _Recording(file, kind, name, label, group, split)
        for (file, kind), name, (label, group), split in zip(
            found, classes, named, splits, strict=True
        )
    ]
    kinds = {}
    if any(classes):
        of = Counter(classes)
        kinds["classes"] = f"{len(of)} classes, by the folders."
    if any(label for label, _ in named):
        of = Counter(label for label, _ in named)
        kinds["names"] = f"{len(of)} classes, by the file names ({'_'.join(words)})."
    kinds["none"] = f"No classes: all {len(recordings):,} sounds are one set."
    if config.reading not in ("auto", *kinds):
        raise UserError(
            f"dataset.reading={config.reading} does not fit {Path(config.path).name!r}, which can be read as "
            f"{', '.join(kinds)}. Choose one of them, or auto."
        )
    taken = next(iter(kinds)) if config.reading == "auto" else config.reading
    groups = {each.group for each in recordings} - {""}
    notes = []
    if groups:
        notes.append(
            f"{many(len(groups), 'group')} by the file names ({'_'.join(words)}): none is divided among the splits."
        )
    return _RecordingPlan(recordings, refused, kinds, taken, "speaker" if groups else "", notes)


def preview(config: RecordingsConfig) -> Preview:
    """Says what an import would make of recordings; nothing is written.

    Raises:
        UserError: If there are none, they cannot be opened, or a choice does not fit.
    """
    config, _ = prepare(config)
    with _opened(config) as source:
        tree = _planned(config, source)
        if not tree.recordings:
            raise _too_few(Path(config.path).name, 0, tree.refused)
        samples = []
        step = max(1, len(tree.recordings) // _SAMPLES)
        for each in tree.recordings[::step][:_SAMPLES]:
            try:
                x, _ = _item(source, each.file, config)
                samples.append((shown(each.file.name), sound(x[None], 256)[0]))
            except Refused:
                continue
    readings = []
    for kind, sentence in tree.kinds.items():
        labels = Counter(shown(tree.label(each, kind)) for each in tree.recordings)
        splits = Counter(SPLITS[each.split] for each in tree.recordings)
        readings.append(
            {
                "kind": kind,
                "sentence": shown(sentence),
                "notes": [shown(note) for note in tree.notes],
                "folders": [],
                "classes": {
                    name: labels[name] for name in sorted(labels)[:CLASSES] if kind != "none"
                },
                "splits": dict(splits) if len(splits) > 1 else {},
            }
        )
    return Preview(
        pictures=len(tree.recordings),
        refused=tuple((shown(name), shown(why)) for name, why in tree.refused[:_LISTED]),
        readings=tuple(readings),
        taken=tree.taken,
        samples=tuple(samples),
        format=", ".join(sorted({each.kind.upper() for each in tree.recordings})),
        knobs=("rate", "part"),
    )


def prepare(config: RecordingsConfig) -> tuple[RecordingsConfig, str]:
    """Finds the recordings; gives the config with their absolute path, and a hash that changes with their content.

    Raises:
        UserError: If they cannot be opened.
    """
    place, signature = plan.prepare(plan.FolderConfig(path=config.path, count=config.count))
    return config.model_copy(update={"path": place.path}), signature


def check(config: RecordingsConfig) -> RecordingsConfig:
    """Refuses at once what holds too few recordings.

    Raises:
        UserError: As :func:`recordings`.
    """
    config, _ = prepare(config)
    with _opened(config) as source:
        tree = _planned(config, source)
    if len(tree.recordings) < FEWEST:
        raise _too_few(Path(config.path).name, len(tree.recordings), tree.refused)
    return config


def _too_few(name: str, count: int, refused: list[tuple[str, str]]) -> UserError:
    first = (
        f" The first file that was left out: {shown(refused[0][0])} {shown(refused[0][1])}."
        if refused
        else ""
    )
    return UserError(
        f"{shown(name)!r} holds {many(count, 'recording')} that can be read, and at least {FEWEST} are needed "
        f"({audio.KINDS}).{first} Add more, or choose another folder or ZIP."
    )


def _item(source: Container, file: File, config: RecordingsConfig) -> Own:
    if file.size > audio.MOST_BYTES:
        raise Refused(
            f"has {file.size / 2**20:.0f} MB, and at most {audio.MOST_BYTES >> 20} MB are allowed"
        )
    data = source.read(file, audio.MOST_BYTES)
    return _made(data, config.rate, config.part)


def _made(data: bytes, rate: int, part: str) -> Own:
    wave = audio.decode(data, audio.SEARCHED if part == "loudest" else SECONDS + 0.05)
    if len(wave.samples) < 2:
        raise Refused("holds no samples")
    return audio.fitted(wave, rate, samples_of(rate), part)


def own(data: bytes | np.ndarray, dataset: Dataset) -> Own:
    """Makes a sound of somebody's own file, at the rate of a dataset: the loudest part of it.

    Raises:
        UserError: If it cannot be read.
    """
    if isinstance(data, np.ndarray):
        raise UserError("A drawing is no sound. Send a recording, or take a sound of the dataset.")
    try:
        return _made(data, rate_of(dataset.shape[-1]), "loudest")
    except Refused as why:
        raise UserError(f"The recording {why}. Send a {audio.KINDS} file.") from None


@datasets.add(
    "recordings",
    "Your own recordings",
    RecordingsConfig,
    medium="sound",
    chain="sounds",
    prepare=prepare,
    check=check,
    preview=preview,
    own=own,
    suffixes=audio.SUFFIXES,
    upload=f"Recordings ({audio.KINDS}) of any rate and length: one folder per class, or all in one with the class in "
    "their names.",
    terms=lambda config: {"licence": shown(config.licence.strip()), "consent": config.consent},
)
def recordings(config: RecordingsConfig, folder: Path, watch: Watch = UNWATCHED) -> Dataset:
    """Your own recordings, from a directory or a ZIP: one folder per class, or the class in the names of the files.

    Each becomes a sound of 1.024 s with one channel. Who speaks may stand in the names as well; the recordings of one
    speaker are then never divided among the splits.

    Raises:
        UserError: If fewer than 8 recordings can be read, or the ZIP is not to be trusted.
    """
    samples = samples_of(config.rate)
    with _opened(config) as source:
        tree = _planned(config, source)
        notes, refused = list(tree.notes), list(tree.refused)
        chosen = sorted(tree.recordings, key=lambda each: (-each.split, each.file.name))
        if 0 < config.count < len(chosen):
            notes.append(f"{config.count} of {len(chosen)} recordings are used.")
            at = np.linspace(0, len(chosen) - 1, config.count).astype(int)
            chosen = [chosen[i] for i in at]
        settings().allow_disk(len(chosen) * 2 * samples / 2**20)
        taken: list[_Recording] = []
        held: dict[bytes, int] = {}  # the split of each content: a held-out one is met first
        repeated = 0
        with PixelFile(folder / "x.npy", (1, samples), "int16") as pixels:
            for i, each in enumerate(chosen):
                watch.count("Reading", i, len(chosen), "recordings")
                try:
                    x, _ = _item(source, each.file, config)
                except Refused as why:
                    refused.append((each.file.name, str(why)))
                    continue
                if held.setdefault(digest(x), each.split) > each.split:
                    repeated += 1
                    continue
                pixels.add(x)
                taken.append(each)
    if len(taken) < FEWEST:
        raise _too_few(Path(config.path).name, len(taken), refused)
    x = np.load(folder / "x.npy", mmap_mode="r")
    labels = [tree.label(each, tree.taken) for each in taken]
    if tree.taken != "none" and not all(labels):
        notes.append(f"{labels.count('')} recordings without a class are of the class 'none'.")
        labels = [label or "none" for label in labels]
    classes = tuple(sorted({shown(label) for label in labels if label}))
    if len(classes) > CLASSES:
        raise UserError(
            f"{Path(config.path).name!r} has {len(classes)} classes, and at most {CLASSES} are allowed. Put several "
            "together, or read it without classes (dataset.reading=none)."
        )
    y = np.array([classes.index(shown(label)) for label in labels], np.int64) if classes else None
    attributes = {"picture": np.array([shown(each.file.name) for each in taken], dtype=str)}
    members = None
    if tree.group:
        members = np.array([shown(each.group)[:200] for each in taken], dtype=str)
        attributes["group"] = members
    keys, given = digests(x), np.array([each.split for each in taken], np.int8)
    shares = {"valid": config.valid_share, "test": config.test_share}
    splits = split_by_content(
        together(keys, members),
        y,
        valid_share=config.valid_share,
        test_share=config.test_share,
        given=given,
    )
    if repeated:
        notes.append(
            f"{many(repeated, 'recording')} that a later split holds as well were left out."
        )
    if members is not None:
        drawn = {name: share for name, share in shares.items() if SPLITS.index(name) not in given}
        notes += group_notes(tree.group, members, splits, drawn)
    if refused:
        notes.append(f"Left out: {many(refused, 'file')}.")
    return assemble(
        x,
        y,
        classes,
        splits,
        medium="sound",
        attributes=attributes,
        refused=tuple((shown(name), shown(why)) for name, why in refused[:_LISTED]),
        notes=tuple(shown(note) for note in notes),
        terms=datasets.get("recordings").terms(config),
        group=tree.group,
    )
