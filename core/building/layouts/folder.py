"""Folders of pictures, with a table per split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.building.layouts import layouts
from core.building.outgoing import Outgoing, cells
from core.datasets.pairing import FOLDER as PAIR
from core.ground.watch import UNWATCHED, Watch

TABLE = "metadata.parquet"


@layouts.add(
    "folder",
    "Folders",
    opens='datasets.load_dataset("imagefolder", data_dir=".")',
    order=2,
    pairs=True,
)
def folder(going: Outgoing, folder: Path, watch: Watch = UNWATCHED) -> None:
    """A folder per split and class, with a table of names and lineage beside: opens in any file manager.

    The second images of a set with pairs lie in a folder ``pair`` beside the splits, under the same names.
    A class without an item in a split has an empty folder there: torchvision numbers the classes by their folders.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    schema = going.schema(pa.field("file_name", pa.string()), named=True)
    done, total = 0, len(going.dataset)
    for split, rows in going.splits():
        place = folder / split
        for name in going.folders:
            (place / name).mkdir(parents=True, exist_ok=True)

        def put(row: int, item: bytes, place: Path = place) -> None:
            (place / going.file(row)).write_bytes(item)

        with pq.ParquetWriter(place / TABLE, schema) as table:
            for part, _ in going.batches(rows, watch, put):
                names = [going.file(row) for row in part]
                table.write_table(going.table(part, schema, file_name=cells(np.array(names))))
                for name, second in zip(names, going.seconds(part), strict=False):
                    file = folder / PAIR / split / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(second)
                done += len(part)
                watch.count("Writing folders", done, total, "items")
    going.describe(folder, {split: f"{split}/**" for split, _ in going.splits()})
