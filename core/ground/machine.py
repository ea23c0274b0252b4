"""What Linux, macOS and Windows do differently: detached processes, peak memory, files that are open elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

HOLDS = os.name == "nt"  # whether a file that one process has open cannot be replaced by another
PATIENCE = 2.0  # seconds that another process may have a file open


def apart(nice: int) -> dict[str, Any]:
    """Gives what ``subprocess.Popen`` takes so that a process outlives the one that starts it, and its terminal.

    Args:
        nice: Above 0, a lower priority; on Windows only the starting process can set it.
    """
    if hasattr(os, "setsid"):
        return {"start_new_session": True}
    flags = ["CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW"]
    flags += ["BELOW_NORMAL_PRIORITY_CLASS"] if nice else []
    return {"creationflags": sum(getattr(subprocess, flag, 0) for flag in flags)}


def step_back(nice: int) -> None:
    """Lowers the priority by a niceness of 0 to 19; on Windows the starting process has done it already."""
    if hasattr(os, "nice"):
        os.nice(nice)


def peak_mb() -> int | None:
    """Gives the most memory that this process has held at a time, in MB; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))  # bytes there, kB elsewhere


def patiently(act: Callable[[], Result]) -> Result:
    """Does something to a file that another process may have open at this moment.

    Windows refuses that as long as the other one holds it, so it is tried again for a while; elsewhere, once.

    Raises:
        PermissionError: If it is still refused then.
    """
    end = time.monotonic() + (PATIENCE if HOLDS else 0)
    while True:
        try:
            return act()
        except PermissionError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.01)
