"""How long a dataset takes to leave: seconds and memory of every layout with its check, beside Hugging Face's writer.

The images are drawn faces, since noise compresses like nothing that people have. Each layout is written by a process of
its own, whose largest memory is told; ``datasets`` writes the same arrays without a check.

    python -m benchmarks.export [--count 10000] [--dry]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import evidence
from core.ground import scratch

FEW = 50  # images of the export before, which is not measured
LAYOUTS = ("folder", "parquet", "webdataset", "croissant", "npz", "coco")


def images(count: int, marked: bool = True) -> Any:
    """Gives a dataset of so many images of 32 px, whose second half says that it was augmented, or all is real."""
    from core import datasets

    whole = datasets.load("faces", {"count": count, "size": 32})
    n = len(whole)
    child = np.arange(n) >= (n // 2 if marked else n)
    child[np.concatenate([whole.splits["valid"], whole.splits["test"]])] = False
    attributes = dict(whole.attributes or {})
    attributes |= {
        "origin": np.where(child, "augmented", "real"),
        "parent": np.where(child, whole.splits["train"][0], -1),
        "run": np.full(n, ""),
        "seed": np.where(child, 3, -1),
        "parameters": np.where(child, json.dumps([{"step": "rotate", "angle": 7.5}]), ""),
    }
    return datasets.assemble(
        whole.x,
        whole.y,
        whole.classes,
        whole.splits,
        name="measured",
        levels=whole.levels,
        attributes=attributes,
    )


def ours(layout: str, count: int, out: Path, marked: bool = True) -> dict[str, Any]:
    """Writes and checks one layout."""
    from core import building
    from core.building.door import DoorConfig

    dataset = images(count, marked)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    quick = DoorConfig(near=False)  # that look is of its own length, whatever the layout
    why = dict.fromkeys(("licence", "spdx", "consent", "test"), "measured")
    few = images(FEW, marked)  # all modules are there when the clock starts, as the peer's are
    building.export(few, [layout], out.with_name("few"), config=quick, overrides=why)
    began = time.perf_counter()
    record = building.export(dataset, [layout], out, config=quick, overrides=why)["layouts"][0]
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "check": record["seconds_check"],
        "bytes": record["bytes"],
        "mb": peak / 1024,
        "more_mb": (peak - before) / 1024,
        "png": png(out / layout / "data") if layout == "parquet" else 0,
    }


def png(folder: Path) -> int:
    """Counts the bytes of the pictures in Parquet files."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tables = [pq.read_table(file, columns=["image"]) for file in folder.glob("*.parquet")]
    return sum(
        pc.sum(pc.binary_length(pc.struct_field(table["image"], "bytes"))).as_py()
        for table in tables
    )


def theirs(count: int, out: Path) -> dict[str, Any]:
    """Writes Parquet by ``datasets``, from the same arrays, and without any check."""
    import datasets as hub

    dataset = images(count, marked=False)
    x = np.asarray(dataset.x).transpose(0, 2, 3, 1)
    x = x[..., 0] if x.shape[-1] == 1 else x
    names = list(dataset.classes)
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=names)})
    labels = np.zeros(len(x), np.int64) if dataset.y is None else dataset.y
    out.mkdir()
    began = time.perf_counter()
    for split, rows in dataset.splits.items():
        table = hub.Dataset.from_dict(
            {"image": [x[i] for i in rows], "label": labels[rows].tolist()}, features=features
        )
        table.to_parquet(str(out / f"{split}.parquet"))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "mb": peak, "png": png(out)}


def apart(what: str, count: int) -> dict[str, Any]:
    """Measures in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.export", "--count", str(count), "--one", what]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measures every layout, then the peer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--one", default="")
    parser.add_argument("--dry", action="store_true", help="print only, keep docs/evidence.md")
    chosen = parser.parse_args()
    if chosen.one:
        with scratch.temporary() as folder:
            out = folder / "out"
            if chosen.one == "datasets":
                print(json.dumps(theirs(chosen.count, out)))
            elif chosen.one == "plain":
                print(json.dumps(ours("parquet", chosen.count, out, marked=False)))
            else:
                print(json.dumps(ours(chosen.one, chosen.count, out)))
        return
    found = {name: apart(name, chosen.count) for name in LAYOUTS}
    for name, row in found.items():
        print(
            f"{name:<11} {row['seconds']:6.2f} s (check {row['check']:5.2f} s)  {row['bytes'] / 2**20:6.1f} MB  "
            f"peak {row['mb']:5.0f} MB, of the export {row['more_mb']:5.0f} MB"
        )
    peer, plain = apart("datasets", chosen.count), apart("plain", chosen.count)
    written = plain["seconds"] - plain["check"]
    faster, size = peer["seconds"] / written, plain["png"] / peer["png"]
    beside = (
        f"{faster:.1f} times as fast, {peer['seconds'] / plain['seconds']:.1f} times with the check; "
        f"pictures of {size:.3f} times the bytes"
    )
    print(f"datasets    {peer['seconds']:6.2f} s (no check)  peak {peer['mb']:5.0f} MB")
    print(f"Parquet of real images beside it: {beside}")
    if chosen.dry:
        return
    conditions = f"{chosen.count:,} drawn faces of 32 px with lineage, a process each"
    for name, row in found.items():
        evidence.row(
            f"export as {name} with its check: {row['seconds']:.1f} s, {row['mb']:.0f} MB at most",
            conditions,
        )
    evidence.row(f"export as Parquet beside the writer of datasets: {beside}", conditions)


if __name__ == "__main__":
    main()
