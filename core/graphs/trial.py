"""The process that runs a graph for the first time: ``python -m core.graphs.trial``, which reads it from its input.

It prints one line of JSON; a graph that asks for more memory or time than is allowed ends this process alone.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from typing import Any


def bounded(seconds: int, megabytes: int) -> None:
    """Bounds what this process may use, where the system can."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20, megabytes * 2**20))


def run(file: bytes, batches: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs a graph on batches of small numbers, and says what came out."""
    import numpy as np

    from core.graphs.session import opened

    session = opened(file, threads=1)
    shapes, low, high, finite, seconds = [], np.inf, -np.inf, True, 0.0
    for batch in batches:
        feeds = {}
        for name, (dtype, shape) in batch.items():
            ramp = np.arange(np.prod(shape)).reshape(shape)
            feeds[name] = (ramp % 2 if "int" in dtype else np.sin(ramp) / 2 + 0.5).astype(dtype)
        began = time.perf_counter()
        out = np.asarray(session.run(None, feeds)[0])
        seconds = time.perf_counter() - began
        shapes.append(out.shape)
        finite &= bool(np.isfinite(out).all())
        low, high = min(low, float(out.min())), max(high, float(out.max()))
    return {
        "shapes": shapes,
        "low": low if finite else 0.0,
        "high": high if finite else 0.0,
        "finite": finite,
        "seconds": seconds,
    }


def main() -> None:
    """Reads what is asked and the graph, and prints what came of it."""
    content = sys.stdin.buffer.read()
    size = int.from_bytes(content[:8], "little")
    ask = json.loads(content[8 : 8 + size])
    bounded(ask["seconds"], ask["megabytes"])
    try:
        said = run(content[8 + size :], ask["batches"])
    except Exception as error:  # whatever the library says of a graph that it cannot run
        lines = str(error).strip().splitlines()
        said = {"error": f"{type(error).__name__}: {lines[0][:200] if lines else ''}"}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
