"""ONNX graphs that nobody vouches for: what a file describes is read before it runs, and first in a process apart.

A graph is data, but it is run by a large library: so only standard operators without loops, random numbers and files
beside it are let in, it is bounded, and its first run has a process of its own with bounded memory and time.

References:
    The format, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.catalog import UserError, optional
from core.graphs.wire import BrokenGraph, Described, Value, described

ROOT = Path(__file__).resolve().parents[2]
NODES = 20_000
RANDOM = frozenset({
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
})  # fmt: skip
BRANCHES = frozenset({"If", "Loop", "Scan", "SequenceMap"})
SECONDS = 60  # that the first run may take
MEMORY_MB = 4_000  # that it may ask for
EXPORT = (
    "Export it with torch.onnx.export(net.eval(), …, dynamic_axes={…: {0: 'n'}}, external_data=False), with what is "
    "random as an input."
)
NEEDS = "An ONNX graph"


def look(file: bytes) -> Described:
    """Looks at what a graph describes, without running any of it.

    Raises:
        UserError: If it is no graph, is damaged, reads other files, draws random numbers, branches, or holds operators
            that are not of the standard.
    """
    try:
        found = described(file, NODES)
    except BrokenGraph as error:
        raise UserError(
            f"This file is no ONNX graph that can be read ({error}). {EXPORT}"
        ) from None
    if found.external:
        raise UserError(
            f"The tensor {found.external[:80]!r} of this graph lies in another file, and a graph must be one file: one "
            f"that was renamed would read somebody else's numbers. {EXPORT}"
        )
    if strange := next((domain for domain in found.domains if domain not in ("", "ai.onnx")), ""):
        raise UserError(
            f"This graph uses operators of {strange[:80]!r}. Only those of the ONNX standard are run. {EXPORT}"
        )
    if drawn := sorted(RANDOM & found.operators.keys()):
        raise UserError(
            f"This graph draws random numbers by itself ({', '.join(drawn)}), so the same noise would not give the "
            f"same answer. What is random must be an input. {EXPORT}"
        )
    if found.trains:
        raise UserError(
            f"This graph was exported in training mode ({found.trains}): its answers would be random, or depend on "
            f"what stands beside an item. It must be in evaluation mode. {EXPORT}"
        )
    if branches := sorted(BRANCHES & found.operators.keys()):
        raise UserError(
            f"This graph loops or branches ({', '.join(branches)}), so how long it runs is not bounded. It must be one "
            f"straight computation. {EXPORT}"
        )
    if found.nested:
        raise UserError(
            f"This graph holds graphs or functions inside ({found.nested[:80]!r}). It must be flat. {EXPORT}"
        )
    if not found.inputs or len(found.outputs) < 1:
        raise UserError(f"This graph has no inputs or no outputs. It needs both. {EXPORT}")
    return found


@dataclass(frozen=True)
class Ran:
    """What the first run of a graph gave: for each batch its output's shape and range, and seconds of the last one."""

    shapes: tuple[tuple[int, ...], ...]
    low: float
    high: float
    finite: bool
    seconds: float


def tried(file: bytes, batches: Sequence[Mapping[str, tuple[str, Sequence[int]]]]) -> Ran:
    """Runs a graph for the first time, in a process of its own with bounded memory and time.

    Args:
        file: What :func:`look` has let in.
        batches: What it is given, one run each: by name of the input the type (``float32``, ``int64``) and shape.

    Raises:
        UserError: If the package is missing, or it cannot be run, takes too long or too much memory.
    """
    optional("onnxruntime", NEEDS)
    ask = json.dumps({"seconds": SECONDS, "megabytes": MEMORY_MB, "batches": batches}).encode()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "core.graphs.trial"],
            input=len(ask).to_bytes(8, "little") + ask + file,
            cwd=ROOT,
            capture_output=True,
            timeout=2 * SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _refused(f"it took more than {SECONDS} seconds") from None
    try:
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise _refused(
            f"its process ended, as it does beyond {MEMORY_MB:,} MB or {SECONDS} seconds"
        ) from None
    if "error" in said:
        raise _refused(said["error"])
    return Ran(
        tuple(map(tuple, said["shapes"])),
        said["low"],
        said["high"],
        said["finite"],
        said["seconds"],
    )


def _refused(why: str) -> UserError:
    return UserError(
        f"This graph could not be run on items of the dataset ({why.rstrip('. ')}). Choose the dataset that it belongs "
        "to, or run it with onnxruntime to see where it fails."
    )
