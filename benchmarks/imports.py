"""Imports pictures from a Parquet file, beside the ``datasets`` of Hugging Face on the same file.

``python -m benchmarks.imports --count 10000 --side 32``

Each side reads the file anew, in a process of its own whose modules are loaded: ours imports it as a dataset (checks,
decodes, splits, writes), theirs loads it and decodes every picture. Of several rounds in turns the median counts. Peak
memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NAMES = [f"class {k}" for k in range(10)]


def written(file: Path, count: int, side: int) -> None:
    """Writes smooth pictures as PNG in a Parquet file, as ``datasets`` does it."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    rng = np.random.default_rng(0)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": NAMES},
    }
    schema = pa.schema(
        [("image", kind), ("label", pa.int64())],
        {"huggingface": json.dumps({"info": {"features": features}})},
    )
    with pq.ParquetWriter(file, schema) as out:
        for start in range(0, count, 1000):
            rows = []
            for i in range(start, min(count, start + 1000)):
                coarse = rng.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
                memory = io.BytesIO()
                Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(
                    memory, "PNG"
                )
                rows.append({"bytes": memory.getvalue(), "path": f"{i}.png"})
            labels = [i % 10 for i in range(start, start + len(rows))]
            out.write_table(pa.table({"image": pa.array(rows, kind), "label": labels}, schema))


def ours(file: Path, side: int) -> float:
    """Imports it as a dataset; seconds."""
    import pyarrow.parquet  # noqa: F401  as theirs, its modules are loaded before

    from core import datasets

    started = time.perf_counter()
    found = datasets.load("folder", {"path": str(file), "size": side})
    assert len(found.classes) == 10
    return time.perf_counter() - started


def theirs(file: Path, side: int) -> float:
    """Loads it with ``datasets``, and decodes every picture; seconds."""
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        started = time.perf_counter()
        found = datasets.load_dataset(
            "parquet", data_files=str(file), cache_dir=cache, split="train"
        )
        pixels = [np.asarray(row["image"]) for row in found]
        assert pixels[0].shape[:2] == (side, side)
        return time.perf_counter() - started


def main() -> None:
    """Prints a line per round, and the medians as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        seconds = {"ours": ours, "theirs": theirs}[given.one](given.file, given.side)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cpu = time.process_time()  # with what it took to load the modules
        print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak}))
        return
    import importlib.util
    import os

    sides = ["ours"] + ["theirs"] * (importlib.util.find_spec("datasets") is not None)
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory(prefix="simulacra-bench-") as folder:
        file = Path(folder) / "x.parquet"
        written(file, given.count, given.side)
        for number in range(given.rounds):
            for side in sides:
                home = Path(folder) / f"home-{side}-{number}"
                environment = os.environ | {
                    "SIMULACRA_HOME": str(home),
                    "HF_HUB_OFFLINE": "1",
                    "HF_HOME": str(home),
                }
                command = [sys.executable, "-m", "benchmarks.imports", "--one", side]
                done = subprocess.run(
                    [*command, "--file", str(file), "--side", str(given.side)],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                found[side].append(json.loads(done.stdout.splitlines()[-1]))
                print(side, found[side][-1], flush=True)
                shutil.rmtree(home, ignore_errors=True)
    medians = {
        side: {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        for side, rounds in found.items()
    }
    if "theirs" in medians:
        medians["ratio"] = {"seconds": medians["ours"]["seconds"] / medians["theirs"]["seconds"]}
    print(json.dumps({"count": given.count, "side": given.side, **medians}, indent=1))


if __name__ == "__main__":
    main()
