"""Croissant: a description beside Parquet files, as this program and others write it; its checksums must be theirs.

References:
    MLCommons, Croissant format 1.1 https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from core.catalog import UserError
from core.datasets.arrow import MAGIC
from core.datasets.container import Container, File, Volume
from core.datasets.files import shown
from core.datasets.formats import Heads, formats
from core.datasets.formats.parquet import ParquetContainer
from core.datasets.pictures import Refused
from core.ground.untrusted import Limits, NoData, read_json

_MOST = 2**24  # bytes of a description
_LIMITS = Limits(characters=_MOST, depth=30, values=500_000)
_SPDX = "https://spdx.org/licenses/"


def told(volume: Volume, heads: Heads) -> Sequence[File]:
    """Lists a description of Croissant that lies beside Parquet files."""
    if not any(head.startswith(MAGIC) for _, head in heads):
        return []
    found = []
    for file, head in heads:
        named = PurePosixPath(file.name).name.casefold() == "croissant.json"
        if file.name.casefold().endswith(".json") and head.lstrip()[:1] == b"{":
            try:
                data = volume.read(file, 2**16, count=False)
            except Refused:
                continue
            if named or b"mlcommons.org/croissant" in data:
                found.append(file)
    return found


@formats.add("croissant", "Croissant", told=told, beside=True)
def croissant(volume: Volume, files: Sequence[File], config: Any) -> Container:
    """Parquet files that a description vouches for: each must be the one whose checksum it names."""
    if len(files) > 1:
        raise UserError(
            f"{volume.name!r} holds {len(files)} descriptions of Croissant. Keep one of them."
        )
    about = _described(volume, files[0])
    folder = str(PurePosixPath(files[0].name).parent)
    here = {file.name: file for file in volume.files}
    listed: list[File] = []
    for each in _entries(about.get("distribution")):
        kind, place = each.get("@type"), each.get("contentUrl")
        if kind not in ("cr:FileObject", "FileObject", "sc:FileObject") or not isinstance(
            place, str
        ):
            continue
        if "://" in place:  # lies elsewhere: what is fetched is never what somebody wrote
            continue
        name = place.removeprefix("./") if folder == "." else f"{folder}/{place.removeprefix('./')}"
        if name not in here:
            raise _refused(files[0], f"names the file {place[:200]!r}, which is not here")
        _check(volume, here[name], each.get("sha256"))
        if here[name].name.casefold().endswith(".parquet"):
            listed.append(here[name])
    if not listed:
        raise _refused(files[0], "describes no Parquet file that is here")
    container = ParquetContainer(volume, listed, config)
    rows = container.rows
    assert rows is not None
    said = rows.notes
    if isinstance(name := _text(about.get("name")), str) and name:
        said.append(f"Its description calls it {shown(name)[:200]!r}.")
    licence = _text(about.get("license")).removeprefix(_SPDX).removesuffix(".html")
    if licence:
        rows.terms = {**rows.terms, "licence": shown(licence)[:200]}
    said.append(f"{len(listed)} of its files have the checksums that croissant.json names.")
    return container


def _described(volume: Volume, file: File) -> dict[str, Any]:
    try:
        text = volume.read(file, _MOST + 1).decode()
        about = read_json(text, f"The description {file.name!r}", _LIMITS)
    except (NoData, UnicodeDecodeError, Refused):
        raise _refused(file, "is no JSON that can be read") from None
    if not isinstance(about, dict):
        raise _refused(file, "is no description of a dataset")
    return about


def _check(volume: Volume, file: File, sha256: object) -> None:
    if not isinstance(sha256, str) or len(sha256) != 64:
        raise UserError(
            f"The description of {shown(file.name)!r} must name its sha256, of 64 signs, got {sha256!r:.80}. Write it "
            "anew, or take croissant.json out."
        )
    mark = hashlib.sha256()
    with volume.open(file) as opened:
        while piece := opened.read(1 << 20):
            mark.update(piece)
    if mark.hexdigest() != sha256.lower():
        raise UserError(
            f"{shown(file.name)!r} is not the file that croissant.json describes: its sha256 begins with "
            f"{mark.hexdigest()[:12]}, and {sha256.lower()[:12]} is named. Get both again."
        )


def _entries(value: object) -> list[dict[str, Any]]:
    entries = value if isinstance(value, list) else [value]
    return [each for each in entries if isinstance(each, dict)]


def _text(value: object) -> str:
    """Reads a text that may stand in a list, or by languages."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        value = next(
            iter(value.get(key) for key in ("en", "@id", "url", "name") if key in value), ""
        )
    return value if isinstance(value, str) else ""


def _refused(file: File, why: str) -> UserError:
    return UserError(f"The description {shown(file.name)!r} {shown(why)}. Mend it, or take it out.")
