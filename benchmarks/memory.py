"""Measures the memory of a server with its background imports done and no model, beside the packages that it needs.

The server has an empty home, and sends the Overview to one visitor; then it is waited until its memory rests. Beside
it, in the same run, stands a bare process that imports streamlit, pandas, plotly and torch and does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.app import ROOT, memory, ready, serve
from benchmarks.evidence import row
from benchmarks.pad import Session

BARE = "import streamlit, pandas, plotly, torch; print('ready', flush=True); input()"


def bare() -> float:
    """Imports the packages in a process of their own; its memory in MB."""
    command = [sys.executable, "-c", BARE]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        took = memory(process.pid)
        process.communicate("\n")
    return took


def server() -> float:
    """Serves the Overview to a visitor who stays, until the memory has not grown for ten seconds; MB."""
    with tempfile.TemporaryDirectory(prefix="simulacra-bench-") as folder:
        process = serve(Path(folder))
        try:
            ready()
            return asyncio.run(visit(process.pid))
        finally:
            process.terminate()
            process.wait()


async def visit(pid: int) -> float:
    """Looks at the first page, and at the memory of its server until that rests, in MB."""
    session = await Session().connect()
    await session.run(page="")
    seen: list[float] = []
    while len(seen) < 40 or seen[-1] - seen[-20] > 1:
        await asyncio.sleep(0.5)
        seen.append(memory(pid))
    await session.socket.close()
    return seen[-1]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    pairs = [(server(), bare()) for _ in range(arguments.times)]
    above = statistics.median(here - there for here, there in pairs)
    here, there = (statistics.median(column) for column in zip(*pairs, strict=True))
    row(
        f"memory of a server without a model above its bare packages: {above:.0f} MB ({here:.0f} beside {there:.0f})",
        f"median of {arguments.times}; bare: streamlit, pandas, plotly, torch imported",
    )


if __name__ == "__main__":
    main()
