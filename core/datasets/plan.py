"""What a directory, a ZIP or a file of pictures on the server holds, and how it would be read; nothing is decoded yet.

A file's type is read from its content, and what cannot be a picture is listed with its reason.
"""

from __future__ import annotations

import functools
import hashlib
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from core.catalog import Config, UserError, knob
from core.datasets import formats, hub, labels, sources
from core.datasets.attributes import ours
from core.datasets.container import Container, File, Rows
from core.datasets.dataset import SPLITS, Consent
from core.datasets.files import header, shown, walk
from core.datasets.labels import Labels, is_labels
from core.datasets.layout import Reading, classes_of, readings, role
from core.datasets.pictures import Header, Refused
from core.ground.settings import settings

UNPAIRED = "has no second image"


class ImportConfig(Config):
    """The choices for pictures of one's own, whatever the format."""

    path: str = knob(
        "",
        "A directory, a ZIP or a file of pictures on the server, of any format; or hf://datasets/OWNER/NAME.",
        path=True,
    )
    size: int = knob(
        32,
        "Height and width that every picture is scaled to; SIMULACRA_MAX_SIDE says how large these may be here.",
        ge=8,
        le=settings().max_side,
        unit="px",
    )
    channels: Literal["auto", "grey", "colour"] = knob(
        "auto", "Grey or colour; auto takes grey if no picture has a colour.", title="Colours"
    )
    fit: Literal["crop", "pad"] = knob(
        "crop", "A picture that is not square loses its edges, or gets white ones."
    )
    count: int = sources.count_knob()
    valid_share: float = sources.valid_share_knob()
    test_share: float = sources.final_share_knob()
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
    pair: str = knob(
        "",
        "Where the second image of each picture is: left or right, where each holds both side by side (that half is "
        "the second one); or the name of a folder whose files are called like the others. Empty for none, or for a "
        "folder called pair.",
        title="Second image",
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


Joined: Any = formats.joined(ImportConfig)


class FolderConfig(Joined):
    """The choices for pictures of one's own, with those of each format."""


class Picture(NamedTuple):
    """A file that is a picture.

    Attributes:
        file: Where it lies.
        header: What it says of itself.
        label: Name of its class; None for none.
        split: Position in :data:`core.datasets.SPLITS`; 0 where nothing says one.
        row: Position in the plan.
    """

    file: File
    header: Header
    label: str | None = None
    split: int = 0
    row: int = -1


@dataclass
class FolderPlan:
    """What a folder or ZIP holds, before a pixel is decoded.

    Attributes:
        pictures: Each with its header.
        refused: Names of files that are left out, with the reason.
        readings: The ways to read the folders, by kind.
        taken: The kind that is taken.
        problem: Why a file of labels cannot be read; empty where there is none, or it can.
        columns: What is known beside labels, by the name of the column: a value for each picture, or None.
        classes: All names of classes in the order of their numbers; empty for the order of the names.
        terms: The ``licence`` and the ``consent``, where the source says them.
        group: The column whose values keep pictures in one split; empty for none.
        called: What these values are, for example ``patient``; empty for the name of the column.
    """

    pictures: list[Picture]
    refused: list[tuple[str, str]]
    readings: dict[str, Reading]
    taken: str
    problem: str
    columns: Mapping[str, Sequence[Any]]
    classes: tuple[str, ...] = ()
    terms: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    called: str = ""

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
    def placed(self) -> list[Picture]:
        """The pictures that are used, with their labels and splits."""
        return [
            self.pictures[i]._replace(label=label, split=split, row=i)
            for i, label, split in self.reading.placed
        ]


def plan(config: FolderConfig) -> FolderPlan:
    """Looks into a folder or ZIP, and says how it would be read.

    Raises:
        UserError: If it cannot be opened, the ZIP is not to be trusted, or a choice does not fit.
    """
    config, _ = prepare(config)
    with opened(config) as source:
        return planned(config, source)


def prepare(config: FolderConfig) -> tuple[FolderConfig, str]:
    """Finds the folder or ZIP; gives the config with its absolute path, and a hash that changes with its content.

    Raises:
        UserError: If it cannot be opened.
    """
    settings().allow_change("import images")
    sources.allow_count(config.count)
    if not config.path.strip():
        raise UserError(
            "dataset.path must name a directory, a ZIP or a file of pictures, got ''. "
            "For example path=~/birds.zip."
        )
    try:
        path = place(config.path)
        about = path.stat()
        if not hub.is_hub(config.path):
            config = config.model_copy(update={"path": str(path)})
        if stat.S_ISDIR(about.st_mode):
            files, links = walk(path)
            listing = sorted((file.name, file.size, file.key.stat().st_mtime_ns) for file in files)
            return config, hashlib.sha256(ascii((str(path), listing, links)).encode()).hexdigest()
        if not stat.S_ISREG(about.st_mode):
            raise UserError(
                f"{config.path!r} must be a directory, a ZIP or a file, and is none. Choose another path."
            )
        return config, _sha(path, about.st_size, about.st_mtime_ns, about.st_ino)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(
            f"There is no file or folder {config.path!r}. A directory, a ZIP or a file of pictures on the "
            "server is read; check the path for a typing error."
        ) from None
    except PermissionError as error:
        raise UserError(
            f"This program may not read {error.filename or config.path!r}. A directory, a ZIP or a file that it "
            "may read is needed; give it the permission, or copy the pictures elsewhere."
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{config.path!r} cannot be opened ({error}). A directory, a ZIP or a file of pictures is read; "
            "check the path."
        ) from error


@functools.lru_cache(maxsize=64)
def _sha(path: Path, size: int, mtime: int, inode: int) -> str:
    mark = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            mark.update(piece)
    return mark.hexdigest()


def opened(config: FolderConfig) -> Container:
    """Opens the folder, ZIP or file of a config.

    Raises:
        UserError: If it is of no format that is read, or not to be trusted.
    """
    return formats.opened(place(config.path), config)


def place(path: str) -> Path:
    """Gives the place of what a path names; a dataset of the hub is fetched where it is not there yet.

    Raises:
        UserError: If it cannot be fetched.
    """
    return hub.fetched(path) if hub.is_hub(path) else Path(path).expanduser().absolute()


def planned(config: FolderConfig, source: Container) -> FolderPlan:
    """Plans the import of what is open.

    Raises:
        UserError: If a choice does not fit.
    """
    rows = source.rows or Rows()
    if source.rows is not None and not rows.beside:
        return _by_rows(config, source, rows)
    name = Path(config.path).name
    refused, pictures, tables = list(source.refused), [], []
    for at, file in enumerate(source.files):
        if is_labels(file.name):
            tables.append(file)
            continue
        if source.pairs and file.name not in source.pairs:
            refused.append((file.name, UNPAIRED))
            continue
        try:
            pictures.append(Picture(file, header(source, file), row=at))
        except Refused as reason:
            refused.append((file.name, str(reason)))
    matched, named, problem = Labels(), [], ""
    by_file = config.reading in ("auto", "file")
    if pictures and (config.group or by_file):
        try:
            matched, named = _labels(source, tables, pictures, refused, config.group)
            if matched.two_groups:
                why = f"is named with two values of {config.group!r}"
                refused += [(pictures[i].file.name, why) for i in sorted(matched.two_groups)]
                pictures = [p for i, p in enumerate(pictures) if i not in matched.two_groups]
                matched, named = _labels(source, tables, pictures, refused, config.group)
        except UserError as error:
            problem = str(error)
    if config.group and not matched.group and config.group not in rows.columns and not problem:
        raise _no_group(config.group, name, [*matched.columns, *rows.columns])
    files = [picture.file.name for picture in pictures]
    kinds, taken = readings(
        files,
        matched if by_file and matched.label else None,
        named if by_file else [],
        config.training,
    )
    if config.reading != "auto":
        if config.reading not in kinds and not problem:
            raise UserError(
                f"dataset.reading={config.reading} does not fit {name!r}, which can be read as "
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
    columns = {
        name: [found.get(i) for i in range(len(pictures))]
        for name, found in matched.columns.items()
    }
    for column, values in rows.columns.items():
        columns.setdefault(column, [values[picture.row] for picture in pictures])
    for reading in kinds.values():
        reading.notes += rows.notes
    about = matched.about
    own: dict[str, Any] = ours(about, columns)
    if group := config.group or rows.group:
        own |= {"group": group, "called": "" if config.group else rows.called}
    kept = tuple(about.get("classes", ())) if taken == "file" else ()
    return FolderPlan(pictures, refused, kinds, taken, problem, columns, kept, **own)


def _no_group(group: str, name: str, columns: Iterable[str]) -> UserError:
    return UserError(
        f"dataset.group={group!r:.80} must be a column of a table beside the pictures in "
        f"{name!r} (labels.csv, metadata.csv) that says something of them. Columns: "
        f"{', '.join(map(shown, columns)) or 'none'}. Choose one of them, or leave it out."
    )


def _by_rows(config: FolderConfig, source: Container, rows: Rows) -> FolderPlan:
    """Plans the import of a container that says itself what its pictures are."""
    refused, pictures, taken = list(source.refused), [], []
    for i, file in enumerate(source.files):
        if source.pairs and file.name not in source.pairs:
            refused.append((file.name, UNPAIRED))
            continue
        try:
            pictures.append(Picture(file, header(source, file)))
            taken.append(i)
        except Refused as reason:
            refused.append((file.name, str(reason)))
    if config.group and not any(rows.columns.get(config.group, ())):
        raise _no_group(config.group, Path(config.path).name, rows.columns)
    split = list(rows.split) or [""] * len(source.files)
    said = [split[i] for i in taken]
    code = {name: SPLITS.index(role(name) or "test") if name else 0 for name in set(said)}
    splits = [code[name] for name in said]
    none = Reading("none", placed=[(i, None, at) for i, at in enumerate(splits)])
    labels = [rows.label[i] if rows.label else None for i in taken]
    kinds: dict[str, Reading] = {}
    if any(label is not None for label in labels):
        kinds["file"] = Reading("file")
        for i, (label, at) in enumerate(zip(labels, splits, strict=True)):
            if label is None:
                kinds["file"].refused.append((i, f"has no label in {rows.sentence}"))
            else:
                kinds["file"].placed.append((i, label, at))
    kinds["none"] = none
    none.sentence = f"No classes: all {len(pictures):,} pictures are one set."
    counts = Counter(splits)
    numbers = ", ".join(f"{counts[i]:,} {split}" for i, split in enumerate(SPLITS) if counts[i])
    for reading in kinds.values():
        if reading.kind == "file":
            reading.sentence = f"{classes_of(reading)}, by {rows.sentence}."
        reading.notes += rows.notes
        if any(said):
            reading.notes.append(f"Splits by {rows.sentence}: {numbers}.")
        reading.notes += [
            f"The split {shown(name)[:80]!r} says none that is known, so it is taken as test, never as training."
            for name in sorted(code)
            if name and not role(name)
        ]
        if pictures and not counts[0]:
            reading.notes.append(
                "None of the pictures is for training, so nothing can be trained on this set."
            )
    kind = "file" if "file" in kinds else "none"
    if config.reading not in ("auto", *kinds):
        raise UserError(
            f"dataset.reading={config.reading} does not fit {Path(config.path).name!r}, which can be read as "
            f"{', '.join(kinds)}. Choose one of them, or auto."
        )
    kind = kind if config.reading == "auto" else config.reading
    columns = {name: [values[i] for i in taken] for name, values in rows.columns.items()}
    classes = rows.classes if kind == "file" else ()
    group, called = (config.group, "") if config.group else (rows.group, rows.called)
    return FolderPlan(
        pictures, refused, kinds, kind, "", columns, classes, rows.terms, group, called
    )


def _labels(
    source: Container,
    tables: Sequence[File],
    pictures: Sequence[Picture],
    refused: Sequence[tuple[str, str]],
    group: str,
) -> tuple[Labels, list[str]]:
    """Reads the files of labels, and matches them with the pictures.

    Returns:
        What they say, and the names of those that have labels; if none has, of those that say that no picture has one.

    Raises:
        UserError: If one is malformed, or none of its files is there.
    """
    given = source.rows.given if source.rows else {}
    read: list[tuple[str, labels.Table]] = []
    for file in tables:
        most = labels.most_bytes(len(pictures))
        try:
            table = labels.parse(file.name, source.read(file, most + 1), len(pictures), group)
        except (labels.Malformed, Refused) as error:
            raise UserError(
                f"The file of labels {shown(file.name)!r} cannot be read: {shown(str(error))}. Mend it or take it out, "
                "or read the folders instead (dataset.reading=classes)."
            ) from None
        read.append((given.get(file.name, file.name), table))
    names = [given.get(picture.file.name, picture.file.name) for picture in pictures]
    matched = labels.match(read, names, [name for name, _ in refused])
    labelled = [(name, table) for name, table in read if table.labelled]
    if not labelled:
        empty = [name for name, table in read if table.rows and name.casefold().endswith(".json")]
        return matched, list(map(shown, empty))
    named = [shown(name) for name, _ in labelled]
    if not matched.label:
        first = labelled[0][1].rows[0].file
        raise UserError(
            f"The file of labels {', '.join(map(repr, named))} names none of the {len(pictures):,} pictures that are "
            f"here (its first is {shown(first)[:80]!r}). Mend it or take it out, or read the folders instead "
            "(dataset.reading=classes)."
        )
    return matched, named
