"""The formats in which pictures come; each file beside this one is one format, of the file's name.

A format is told by content, never by a name alone. What it makes is a
:class:`core.datasets.container.Container`: pictures as bytes that are decoded like those of a folder, with all bounds,
and what the format says of each. Where no format is found, the folders and tables beside the pictures say it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import create_model

from core.catalog import Config, Entry, Registry, UserError
from core.datasets.container import Container, File, Volume
from core.datasets.dataset import FEWEST
from core.datasets.files import Archive, Directory, Single
from core.datasets.labels import is_labels
from core.datasets.pairing import set_apart
from core.datasets.pictures import SUFFIXES, Refused
from core.datasets.tape import Tape, beginning, is_tar

HEAD = 264  # bytes of a file by which a format is told
Heads = Sequence[tuple[File, bytes]]


@dataclass(frozen=True, kw_only=True)
class Format(Entry):
    """A format; ``make(volume, files, config) -> Container`` opens the files of a volume that are of it.

    The container closes the volume. The knobs of ``config`` are those of an import of pictures
    (:class:`core.datasets.plan.FolderConfig`), which has the ones of every format.

    Attributes:
        told: Gets a volume and the heads of its files (:func:`heads`), and lists the files that are of this format, by
            their content; none where it is another one.
        beside: Whether the pictures lie beside those files, which say what is on them; else they are inside.
        suffixes: Endings of the files, for whoever chooses one.
    """

    told: Callable[[Volume, Heads], Sequence[File]]
    beside: bool = False
    suffixes: tuple[str, ...] = ()


formats = Registry("format", Format, "core.datasets.formats")


def joined(base: type[Config]) -> Any:
    """Makes the config that has the knobs of every format beside those of ``base``."""
    own = [entry.config for entry in formats if entry.config is not Config]
    return create_model("Joined", __base__=(*dict.fromkeys(own), base))


def opened(path: Path, config: Any) -> Container:
    """Opens a folder, a ZIP or a file of pictures, in the format that its content is of.

    Raises:
        UserError: If it is of none, or is not to be trusted.
    """
    volume = volume_of(path)
    try:
        set_apart(volume, getattr(config, "pair", ""))
        container = _container(volume, path, config)
        if volume.pairs:
            container.pairs, container.pairs_in = volume.pairs, volume
        return container
    except BaseException:
        volume.close()
        raise


def volume_of(path: Path) -> Volume:
    """Opens a folder, a ZIP, a tar or a file, whatever it holds.

    Raises:
        UserError: If it is not to be trusted.
    """
    if path.is_dir():
        return Directory(path)
    with path.open("rb") as file:
        head = file.read(HEAD)
    if is_tar(beginning(head)):
        return Tape.of(path)
    return Archive(path) if head.startswith(b"PK") else Single(path)


def _container(volume: Volume, path: Path, config: Any) -> Container:
    first = heads(volume)
    found = [(entry, files) for entry in formats if (files := entry.told(volume, first))]
    if not found:
        if type(volume) is not Single:
            return volume
        if zipfile.is_zipfile(path):  # behind a program that unpacks it
            return Archive(path)
        titles = ", ".join(entry.title for entry in formats if entry.suffixes)
        raise UserError(
            f"{path.name!r} must be a directory, a ZIP or a file of a format that is read ({titles}), and is none, or "
            "is cut off. Pack the pictures into a ZIP again."
        )
    # annotations before pictures, then what holds most; loose pictures beside a format are no part of it
    weights = [(entry.beside, _bytes(files)) for entry, files in found]
    best = max(range(len(found)), key=lambda i: weights[i])
    entry, files = found[best]
    pictures = [file for file in volume.files if _picture(file.name)]
    if not entry.beside and _bytes(pictures) > weights[best][1]:
        return volume
    try:
        container = entry.make(volume, files, config)
    except UserError:
        if entry.beside or len(pictures) < FEWEST:
            raise
        return volume  # of a set of pictures, what lies beside them may be anything
    container.title, container.knobs = entry.title, tuple(entry.config.knobs())
    return container


def heads(volume: Volume) -> list[tuple[File, bytes]]:
    """Reads the first bytes of each file that is no picture by its name, and no table beside pictures."""
    found = []
    for file in volume.files:
        if not _picture(file.name) and not is_labels(file.name):
            with suppress(Refused):
                found.append((file, volume.read(file, HEAD, count=False)))
    return found


def _picture(name: str) -> bool:
    return name.casefold().rpartition(".")[2] in SUFFIXES


def _bytes(files: Sequence[File]) -> int:
    return sum(file.size for file in files)


def written(image: np.ndarray) -> bytes:
    """Writes the numbers of a picture as a file that is decoded like any other, without packing them.

    Args:
        image: uint8 (H, W) or (H, W, 3); or with more than 8 bits uint16 or float32 (H, W).

    Raises:
        UserError: If it is of another kind.
    """
    from PIL import Image

    grey = image.ndim == 2
    if image.dtype == np.uint8 and (grey or image.shape[2:] == (3,)):
        kind = "BMP"
    elif image.dtype in (np.uint16, np.float32) and grey:
        kind = "TIFF"
    else:
        raise UserError(
            f"Pictures must be numbers of 8 bits (grey or of three colours), or of 16 or 32 bits (grey), got "
            f"{image.dtype} {image.shape}. Convert them first."
        )
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(out, kind)
    return out.getvalue()
