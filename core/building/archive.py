"""Taking a dataset away, as a ZIP."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core.building.version import COLUMNS, origins, provenance
from core.datasets import SPLITS, Dataset
from core.ground import files, tables

MANIFEST = ("file", "label", "split", *COLUMNS)


def archive(dataset: Dataset, out: io.BufferedIOBase | Path) -> dict[str, int]:
    """Writes a dataset as ZIP: ``split/class/number.png``, ``manifest.csv`` and ``about.json``.

    The same dataset gives the same bytes. ``parent`` in the manifest is the file of the image that an augmented one was
    made from; a last column ``group`` says who belongs together, where something does.

    Args:
        dataset: What to write.
        out: A file, or where to write one.

    Returns:
        ``images`` and ``bytes``.
    """
    if isinstance(out, Path):
        memory = io.BytesIO()
        size = archive(dataset, memory)
        with files.full_disk_told():
            files.write_atomic(out, memory.getbuffer().tobytes())
        return size
    start = out.tell()
    rows = []
    names = list(_files(dataset))
    columns, members = list(provenance(dataset).values()), dataset.members
    head = MANIFEST if members is None else (*MANIFEST, "group")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
        for i, (file, split) in enumerate(names):
            item = dataset.medium.alone(np.asarray(dataset.x[i]), dataset.levels)
            packed.writestr(_member(file), item)
            label = "" if dataset.y is None else dataset.classes[dataset.y[i]]
            origin, parent, run, seed, parameters = (column[i] for column in columns)
            parent = names[parent][0] if parent >= 0 else ""
            seed = int(seed) if seed >= 0 else ""
            row = (file, label, split, str(origin), parent, str(run), seed, str(parameters))
            rows.append(row if members is None else (*row, members[i]))
        about = {
            "name": dataset.name,
            "images": len(dataset),
            "classes": list(dataset.classes),
            "fingerprint": dataset.fingerprint,
            "parent": dataset.parent,
            "levels": dataset.levels,
            "terms": dict(dataset.terms),
            "origins": origins(dataset),
            "notes": list(dataset.notes),
            **({"group": dataset.group} if dataset.group else {}),
        }
        packed.writestr(_member("manifest.csv", True), tables.write(head, rows).encode())
        packed.writestr(_member("about.json", True), json.dumps(about, indent=1).encode())
    return {"images": len(dataset), "bytes": out.tell() - start}


def _member(name: str, deflate: bool = False) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    return info


def _files(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Names the file and the split of every image, in order."""
    folders = _folders(dataset.classes)
    width = len(str(max(0, len(dataset) - 1)))
    for i, code in enumerate(dataset.split_of()):
        folder = "" if dataset.y is None else folders[int(dataset.y[i])] + "/"
        yield f"{SPLITS[code]}/{folder}{i:0{width}d}{dataset.medium.suffix}", SPLITS[code]


def _folders(classes: tuple[str, ...]) -> list[str]:
    """Turns class names into names of folders that any system can hold, each its own."""
    folders: list[str] = []
    for number, name in enumerate(classes):
        plain = "".join(c if c.isalnum() or c in " -_.()" else "_" for c in name).strip(" .")
        plain = plain[:60] or f"class {number}"
        taken = {folder.casefold() for folder in folders}
        folders.append(plain if plain.casefold() not in taken else f"{plain} {number}")
    return folders
