"""Parquet files as Hugging Face writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from core.building.layouts import layouts
from core.building.outgoing import SHARD, Outgoing, cells
from core.datasets import chunks
from core.datasets.pairing import FOLDER as PAIR
from core.ground.watch import UNWATCHED, Watch

ONLY = "it has a column of them"


@layouts.add(
    "parquet",
    "Parquet",
    opens='datasets.load_dataset(".")',
    order=1,
    only=ONLY,
    pairs=True,
    texts=True,
)
def parquet(going: Outgoing, folder: Path, watch: Watch = UNWATCHED) -> None:
    """One table per split with the pictures inside, as on the Hugging Face hub: types and class names are kept."""
    features = write(going, folder, watch)
    going.describe(folder, {split: f"data/{split}-*" for split, _ in going.splits()}, features)


def write(
    going: Outgoing, folder: Path, watch: Watch = UNWATCHED, most: int = SHARD
) -> dict[str, dict[str, Any]]:
    """Writes ``data/<split>-0000i-of-0000n.parquet``, with at most so many bytes of pictures in a file.

    Returns:
        What each column holds, in the words of ``datasets``.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    place = folder / "data"
    place.mkdir()
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    texts = going.dataset.medium.item == "tokens"
    schema = going.schema(_texts(going) if texts else pa.field("image", picture))
    if going.dataset.pair is not None:
        schema = schema.insert(1, pa.field(PAIR, picture))
    features = {name: _feature(schema.field(name).type) for name in schema.names}
    if "label" in features:
        features["label"] = {"names": list(going.dataset.classes), "_type": "ClassLabel"}
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = schema.with_metadata({**schema.metadata, **told})
    words = [name for name in schema.names if pa.types.is_string(schema.field(name).type)]
    options: Any = {  # pyarrow's own types know one value for all columns only
        "compression": _leaves(schema),
        "use_dictionary": words,
        "write_statistics": [name for name in schema.names if name not in ("image", PAIR)],
    }
    done, total = 0, len(going.dataset)
    for split, rows in going.splits():
        shards: list[Path] = []
        for number, parts in going.shards(rows, most, watch):
            shards.append(place / f"{split}-{number:05d}")
            with pq.ParquetWriter(shards[-1], schema, **options) as file:
                for part, items in parts:
                    if texts:
                        text = pa.array(items, pa.binary()).cast(schema.field("text").type)
                        file.write_table(going.table(part, schema, text=text))
                        done += len(part)
                        watch.count("Writing Parquet", done, total, "items")
                        continue
                    names = cells(np.array([f"{split}/{id}.png" for id in going.ids[part]]))
                    both = [cells(items), names]
                    first = {"image": pa.StructArray.from_arrays(both, fields=list(picture))}
                    if seconds := going.seconds(part):
                        pair = [cells(seconds), names]
                        first[PAIR] = pa.StructArray.from_arrays(pair, fields=list(picture))
                    file.write_table(going.table(part, schema, **first))
                    done += len(part)
                    watch.count("Writing Parquet", done, total, "items")
        for number, shard in enumerate(shards):  # their number is known only now
            shard.rename(place / f"{split}-{number:05d}-of-{len(shards):05d}.parquet")
    return features


def _texts(going: Outgoing) -> Any:
    """Gives the column of texts: bytes where an item cuts a letter into two."""
    import pyarrow as pa

    dataset = going.dataset
    try:
        for part in chunks(dataset.x):
            for item in dataset.medium.files(part, dataset.levels):
                item.decode("utf-8")
    except UnicodeDecodeError:
        return pa.field("text", pa.binary())
    return pa.field("text", pa.string())


def _leaves(schema: Any) -> dict[str, str]:
    """Gives the compression of each column that a file holds: none of pictures, which are packed already."""
    inside = {
        f"{name}.{part}": "none" if part == "bytes" else "snappy"
        for name in ("image", PAIR)
        if name in schema.names
        for part in ("bytes", "path")
    }
    return inside | {name: "snappy" for name in schema.names if name not in ("image", PAIR)}


def _feature(kind: Any) -> dict[str, Any]:
    """Says what a column holds in the words of ``datasets``."""
    from pyarrow import types

    if types.is_struct(kind):
        return {"_type": "Image"}
    names = {"double": "float64"}
    return {"dtype": names.get(str(kind), str(kind)), "_type": "Value"}
