"""Folders that are being filled, each owned by a lock of the system, and the sweeping of those that nobody owns.

A killed process leaves what it was filling: an upload, half a dataset. The kernel frees its lock, so whoever starts
next can tell it from a folder that another server or a job is filling now.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "simulacra-"  # of folders in the system's temporary one
UNOWNED = (
    3600  # seconds that a folder without a lock is left alone: its owner may just be locking it
)


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder while it is being filled; it lies beside, so that the folder can be renamed."""
    file = _lock(folder)
    try:
        with FileLock(file):
            yield
    finally:
        with suppress(OSError):
            file.unlink()


@contextmanager
def temporary() -> Iterator[Path]:
    """Gives a folder in the system's temporary one, which is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    with owned(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep(*parents: Path) -> None:
    """Deletes half-filled and half-deleted folders that nobody owns, in these folders and in the temporary one."""
    for parent in parents:
        for folder in _folders(parent):
            if folder.name.startswith(".gone-"):
                shutil.rmtree(folder, ignore_errors=True)
            elif folder.name.startswith(".new-") or folder.suffix == ".new":
                _drop(folder)
    for folder in _folders(Path(tempfile.gettempdir())):
        if folder.name.startswith(PREFIX):
            _drop(folder)


def abandoned(parent: Path) -> None:
    """Deletes the folders that a killed process was filling in a folder that is not ours: those with a free lock."""
    for folder in _folders(parent):
        if folder.name.startswith(".new-") and _lock(folder).exists():
            _drop(folder)


def _folders(parent: Path) -> list[Path]:
    with suppress(OSError), os.scandir(parent) as entries:
        return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def _drop(folder: Path) -> None:
    file = _lock(folder)
    with suppress(OSError, Timeout):
        if not file.exists():
            if abs(time.time() - folder.stat().st_mtime) > UNOWNED:
                shutil.rmtree(folder, ignore_errors=True)
            return
        with FileLock(file).acquire(blocking=False):
            shutil.rmtree(folder, ignore_errors=True)
            file.unlink()


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
