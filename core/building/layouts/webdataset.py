"""Tar files as WebDataset reads them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from core.building.layouts import layouts
from core.building.outgoing import SHARD, Outgoing
from core.ground.watch import UNWATCHED, Watch


@layouts.add(
    "webdataset",
    "WebDataset",
    opens='webdataset.WebDataset("train-000000.tar").decode("pil")',
    order=3,
    only="the ending of a file says how it is decoded",
    texts=True,
)
def webdataset(going: Outgoing, folder: Path, watch: Watch = UNWATCHED) -> None:
    """Tar files that training streams from disk or network: picture, number of the class, and lineage as JSON."""
    write(going, folder, watch)
    going.describe(folder, {split: f"{split}-*.tar" for split, _ in going.splits()})


def write(going: Outgoing, folder: Path, watch: Watch = UNWATCHED, most: int = SHARD) -> None:
    """Writes ``<split>-000000.tar``; ``most`` are the bytes of items in a file."""
    y, suffix = going.dataset.y, going.dataset.medium.suffix
    done, total = 0, len(going.dataset)
    for split, rows in going.splits():
        for number, parts in going.shards(rows, most, watch):
            file = folder / f"{split}-{number:06d}.tar"
            with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as tar:
                for part, items in parts:
                    for row, item, record in zip(part, items, going.records(part), strict=True):
                        # a key has no point: readers take what follows its first one for the ending
                        key = str(going.ids[row])
                        _put(tar, f"{key}{suffix}", item)
                        if y is not None:
                            _put(tar, f"{key}.cls", str(y[row]).encode())
                        _put(tar, f"{key}.json", json.dumps(record, ensure_ascii=False).encode())
                    done += len(part)
                    watch.count("Writing WebDataset", done, total, "items")
    (folder / "classes.json").write_text(json.dumps(going.about(), indent=1), "utf-8")


def _put(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # of no time and no owner
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
