"""The second image of each picture of an import: found by where it lies.

Three ways that people have: pictures that hold both side by side; two folders with files of equal names; and a folder
``pair`` beside the others, as this program exports it.

References:
    Isola et al., 2017, Image-to-image translation with conditional adversarial networks
    https://arxiv.org/abs/1611.07004 (its datasets hold both images side by side)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from core.catalog import UserError
from core.datasets.container import Volume
from core.datasets.files import shown
from core.datasets.pictures import Half

FOLDER = "pair"  # what is found without being asked for
HALVES = ("left", "right")


def half_of(wanted: str, second: bool = False) -> Half:
    """Names the half of each picture that is the image, or the second one; empty where pictures are whole.

    >>> half_of("left"), half_of("left", second=True), half_of("masks")
    ('right', 'left', '')
    """
    sides: dict[str, tuple[Half, Half]] = {"left": ("right", "left"), "right": ("left", "right")}
    nothing: tuple[Half, Half] = ("", "")
    image, other = sides.get(wanted.strip(), nothing)
    return other if second else image


def set_apart(volume: Volume, wanted: str) -> None:
    """Takes the second images out of the files of a volume, and keeps them as its ``pairs``.

    Args:
        volume: A directory or a ZIP.
        wanted: As the choice ``dataset.pair`` says it.

    Raises:
        UserError: If a folder is asked for that is not there, or whose files are called like no others.
    """
    folder = wanted.strip().strip("/")
    if folder in HALVES:
        return
    files = list(volume.files)
    paths = [PurePosixPath(file.name) for file in files]
    seconds = [i for i, path in enumerate(paths) if (folder or FOLDER) in path.parts[:-1]]
    if not seconds:
        if folder:
            names = sorted({part for path in paths for part in path.parts[:-1]})
            raise UserError(
                f"dataset.pair={wanted!r:.80} must be left, right, or the name of a folder in {volume.name!r}: "
                f"{', '.join(map(shown, names[:20])) or 'there is none'}. Choose one of them, or leave it out."
            )
        return
    mine = set(seconds)
    found = _matched(
        {i: path for i, path in enumerate(paths) if i not in mine},
        {i: paths[i] for i in seconds},
        folder or FOLDER,
        loose=bool(folder),
    )
    if not folder and len(found) < len(seconds):
        return  # a folder that happens to be called so
    if not found:
        raise UserError(
            f"No file of the folder {shown(folder)!r} is called like a picture of another one in {volume.name!r}. Two "
            "images that belong together have the same name in two folders; rename them, or leave dataset.pair out."
        )
    volume.pairs = {files[i].name: files[j] for i, j in found.items()}
    volume.files = [file for i, file in enumerate(files) if i not in mine]
    used = set(found.values())
    volume.refused = [
        *volume.refused,
        *((files[j].name, "is the second image of no picture") for j in seconds if j not in used),
    ]


def _matched(
    pictures: Mapping[int, PurePosixPath],
    seconds: Mapping[int, PurePosixPath],
    folder: str,
    loose: bool,
) -> dict[int, int]:
    """Finds the second image of each picture: the path without that folder, or without one folder on either side."""
    by_path: dict[tuple[str, ...], list[int]] = {}
    for j, path in seconds.items():
        by_path.setdefault(_without(path, path.parts.index(folder)), []).append(j)
    found: dict[int, int] = {}
    for i, path in pictures.items():
        keys = [_without(path, -1)]
        if loose:
            keys += [_without(path, k) for k in range(len(path.parts) - 1)]
        hits = {j for key in keys for j in by_path.get(key, ())}
        if len(hits) == 1:
            found[i] = hits.pop()
    return found


def _without(path: PurePosixPath, folder: int) -> tuple[str, ...]:
    """Gives the parts of a path without one folder, and without what the file ends in."""
    parts: Sequence[str] = (*path.parts[:-1], path.stem)
    return tuple(part for k, part in enumerate(parts) if k != folder)
