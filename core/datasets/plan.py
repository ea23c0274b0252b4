"""What a directory on the server or a ZIP of pictures holds, and how it would be read; nothing is decoded yet.

A file's type is read from its content, and what cannot be a picture is listed with its reason.
"""

from __future__ import annotations

import functools
import hashlib
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from core.catalog import Config, UserError, knob
from core.datasets import labels, sources
from core.datasets.dataset import Consent
from core.datasets.files import Archive, Directory, File, shown, walk
from core.datasets.labels import Labels, is_labels
from core.datasets.layout import Reading, readings
from core.datasets.pictures import (
    HEAD,
    NO_PICTURE,
    Header,
    Refused,
    explained,
    kind_of,
    look,
    most_bytes,
)
from core.ground.settings import settings


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


class Picture(NamedTuple):
    """A file that is a picture.

    Attributes:
        file: Where it lies.
        header: What it says of itself.
        label: Name of its class; None for none.
        split: Position in :data:`core.datasets.SPLITS`; 0 where nothing says one.
    """

    file: File
    header: Header
    label: str | None = None
    split: int = 0


@dataclass
class FolderPlan:
    """What a folder or ZIP holds, before a pixel is decoded.

    Attributes:
        pictures: Each with its header.
        refused: Names of files that are left out, with the reason.
        readings: The ways to read the folders, by kind.
        taken: The kind that is taken.
        problem: Why a file of labels cannot be read; empty where there is none, or it can.
        columns: What tables say beside labels.
        group: The value of the column ``config.group``, by the name of the file.
    """

    pictures: list[Picture]
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
    def placed(self) -> list[Picture]:
        """The pictures that are used, with their labels and splits."""
        return [
            self.pictures[i]._replace(label=label, split=split)
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
            "dataset.path must name a directory or a ZIP of pictures, got ''. "
            "For example path=~/birds.zip."
        )
    try:
        path = Path(config.path).expanduser().absolute()
        about = path.stat()
        config = config.model_copy(update={"path": str(path)})
        if stat.S_ISDIR(about.st_mode):
            files, links = walk(path)
            listing = sorted((file.name, file.size, file.key.stat().st_mtime_ns) for file in files)
            return config, hashlib.sha256(ascii((str(path), listing, links)).encode()).hexdigest()
        if not stat.S_ISREG(about.st_mode):
            raise UserError(
                f"{config.path!r} must be a directory or a ZIP, and is neither. Choose another path."
            )
        return config, _sha(path, about.st_size, about.st_mtime_ns, about.st_ino)
    except UserError:
        raise
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


def opened(config: FolderConfig) -> Directory | Archive:
    """Opens the folder or ZIP of a config.

    Raises:
        UserError: If the ZIP is not to be trusted.
    """
    path = Path(config.path)
    return Directory(path) if path.is_dir() else Archive(path)


def planned(config: FolderConfig, source: Directory | Archive) -> FolderPlan:
    """Plans the import of what is open.

    Raises:
        UserError: If a choice does not fit.
    """
    name = Path(config.path).name
    refused, pictures, tables = list(source.refused), [], []
    for file in source.files:
        if is_labels(file.name):
            tables.append(file)
            continue
        try:
            pictures.append(Picture(file, header(source, file)))
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
    if config.group and not matched.group and not problem:
        raise UserError(
            f"dataset.group={config.group!r:.80} must be a column of a table beside the pictures in "
            f"{name!r} (labels.csv, metadata.csv) that says something of them. Columns: "
            f"{', '.join(map(shown, matched.columns)) or 'none'}. Choose one of them, or leave it out."
        )
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
    group = {files[i]: value for i, value in matched.group.items()}
    return FolderPlan(pictures, refused, kinds, taken, problem, matched.columns, group)


def header(source: Directory | Archive, file: File) -> Header:
    """Reads a picture's header from the file's beginning; from all of it where that is not enough.

    Raises:
        Refused: If it is no picture, or may not be decoded.
    """
    limit = settings().max_megapixels
    head = source.read(file, HEAD, count=False)
    if kind_of(head) is None:
        raise Refused(NO_PICTURE)
    try:
        return look(head, limit)
    except Refused:
        raise
    except Exception:  # cut off in the header, or damaged: its decoder says which
        with explained():
            return look(content(source, file, count=False), limit)


def content(source: Directory | Archive, file: File, count: bool = True) -> bytes:
    """Reads the whole file of a picture; ``count`` as in :meth:`core.datasets.files.Archive.read`.

    Raises:
        Refused: If it is too large, or cannot be read.
    """
    most = most_bytes(settings().max_megapixels)
    if file.size > most:
        raise Refused(
            f"has {file.size / 2**20:.0f} MB, and at most {most / 2**20:.0f} MB are allowed"
        )
    return source.read(file, most, count)


def _labels(
    source: Directory | Archive,
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
        read.append((file.name, table))
    matched = labels.match(
        read, [picture.file.name for picture in pictures], [name for name, _ in refused]
    )
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
