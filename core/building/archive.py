"""Taking a dataset away, as one ZIP that is read as it is or unpacked."""

from __future__ import annotations

import io
import json
import os
import threading
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from core.building import door
from core.building.door import DoorConfig, Purpose
from core.building.optout import without
from core.building.outgoing import SPLIT_NAMES, Outgoing, cells
from core.building.version import COLUMNS, provenance
from core.datasets import SPLITS, Dataset
from core.ground import files, machine, tables

MANIFEST = ("file", "label", "split", *COLUMNS)
# A ZIP is one split to Hugging Face datasets, whatever its folders are called: without a table its labels fail, and
# with one per split the test items join the training ones. So the table that it looks for is in train/ only, and
# unpacked the card names the others.
TABLES = {"train": "metadata.parquet", "valid": "labels.parquet", "test": "labels.parquet"}


def pack(
    dataset: Dataset,
    out: Path,
    purpose: Purpose = "not said",
    overrides: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Asks a dataset at the door, and writes it as ZIP where nothing but its licence holds it.

    A ZIP is for oneself, too, so that a licence is only told; near copies are not looked for, which takes longest.

    Args:
        dataset: What leaves.
        out: Where to.
        purpose: What it leaves for.
        overrides: By the name of a check at the door, why the dataset leaves all the same; the card says so.

    Returns:
        ``images``, ``bytes``, ``left_out``, the number of items that must not be used, and ``door``, what was said.

    Raises:
        UserError: If a check at the door holds it, or an override names none, or no reason.
    """
    whole, dataset = len(dataset), without(dataset)
    asked = DoorConfig(purpose=purpose, near=False)
    refusals = door.check(dataset, asked, overrides=overrides)
    door.allow(refusals, door.ONLY_TOLD)
    used = {refusal.check: refusal.reason for refusal in refusals if refusal.reason}
    size = archive(dataset, out, "" if purpose == "not said" else purpose, used)
    told = [refusal.record() for refusal in refusals]
    return {**size, "left_out": whole - len(dataset), "door": told}


def archive(
    dataset: Dataset,
    out: io.BufferedIOBase | Path,
    purpose: str = "",
    overrides: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Writes a dataset as ZIP: ``split/class/number.png``, ``manifest.csv``, ``about.json`` and ``README.md``.

    The same dataset gives the same bytes. ``parent`` in the manifest is the file of the image that an augmented one was
    made from; a last column ``group`` says who belongs together, where something does. The tables in the folders of the
    splits carry the same for readers that look for them there.

    Args:
        dataset: What to write.
        out: A file, or where to write one.
        purpose: What it leaves for; empty where nobody said.
        overrides: By the name of a check at the door, why it was overridden; the card says so.

    Returns:
        ``images`` and ``bytes``.
    """
    dataset = without(dataset)
    if isinstance(out, Path):
        new = out.with_name(f".{out.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            with files.full_disk_told(out):
                with new.open("w+b") as file:
                    size = archive(dataset, file, purpose, overrides)
                machine.patiently(lambda: new.replace(out))
        except BaseException:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise
        return size
    start = out.tell()
    going, rows = Outgoing(dataset, purpose, overrides or {}), []
    splits = [SPLITS[code] for code in dataset.split_of()]
    names = [f"{split}/{going.file(i)}" for i, split in enumerate(splits)]
    columns, members = list(provenance(dataset).values()), dataset.members
    head = MANIFEST if members is None else (*MANIFEST, "group")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
        for part, items in going.batches(np.arange(len(dataset))):
            for i, item in zip(part.tolist(), items, strict=True):
                packed.writestr(_member(names[i]), item)
                label = "" if dataset.y is None else dataset.classes[dataset.y[i]]
                origin, parent, run, seed, parameters = (column[i] for column in columns)
                parent = names[parent] if parent >= 0 else ""
                seed = int(seed) if seed >= 0 else ""
                row = (
                    names[i],
                    label,
                    splits[i],
                    str(origin),
                    parent,
                    str(run),
                    seed,
                    str(parameters),
                )
                rows.append(row if members is None else (*row, members[i]))
        packed.writestr(_member("manifest.csv", True), tables.write(head, rows).encode())
        about = json.dumps(going.about(), indent=1)
        packed.writestr(_member("about.json", True), about.encode())
        for name, content in _beside(going).items():
            packed.writestr(_member(name), content)
    return {"images": len(dataset), "bytes": out.tell() - start}


def zipped(folder: Path, name: str) -> bytes:
    """Packs the folder of a layout.

    Its members lie in a folder whose name begins with two underscores, where libraries that open a ZIP as it is do not
    look: they would take the items of all splits for training.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
        for file in sorted(folder.rglob("*")):
            inside = f"__{name}/{file.relative_to(folder).as_posix()}"
            if file.is_dir():
                packed.writestr(_member(f"{inside}/"), b"")
            else:
                packed.writestr(_member(inside), file.read_bytes())
    return out.getvalue()


def _beside(going: Outgoing) -> dict[str, bytes]:
    """Writes the card, and the table of each split."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    schema = going.schema(pa.field("file_name", pa.string()), named=True)
    found: dict[str, bytes] = {}
    for split, index in going.dataset.splits.items():
        if len(index):
            names = cells(np.array([going.file(row) for row in index]))
            table = io.BytesIO()
            pq.write_table(going.table(index, schema, file_name=names), table)
            found[f"{split}/{TABLES[split]}"] = table.getvalue()
    patterns = {
        SPLIT_NAMES[name]: f"{name}/**"
        for name, index in going.dataset.splits.items()
        if len(index)
    }
    text = going.readme(patterns)
    listed = "".join(f"\n  - {name}" for name in dict.fromkeys(TABLES.values()))
    text = text.replace(
        "- config_name: default", f"- config_name: default\n  metadata_filenames:{listed}", 1
    )
    return found | {"README.md": text.encode()}


def _member(name: str, deflate: bool = False) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    return info
