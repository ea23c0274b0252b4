"""The process of a job: how it is started, and how one sees that it lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core.ground import files, machine, writing
from core.ground.settings import settings
from core.jobs.kind import kinds

ROOT = Path(__file__).resolve().parents[2]

# newest first; of those that have ended (the system keeps their exit codes until they are asked for) the last few
_children: list[subprocess.Popen[Any]] = []


def spawn(path: Path) -> None:
    """Starts the job's process, detached: it outlives the page, the session and the server."""
    threads = str(settings().worker_threads)
    environment = os.environ | {
        "SIMULACRA_HOME": str(settings().home.absolute()),
        "SIMULACRA_DATA_DIR": str(settings().data),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",  # also where a log would be written in an older code
    }
    if settings().device == "mps":  # what it lacks is done on the processor
        environment.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    command = ["core.worker", str(path)]
    job = files.read_json(path / "job.json")
    if (count := kinds.get(job["kind"]).processes(job["config"])) > 1:
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m"]
        command = [*torchrun, *command]
    with (path / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **machine.apart(settings().nice),
        )
    ended = [child for child in _children if child.poll() is not None]
    _children[:] = [process, *(child for child in _children if child not in ended), *ended[:50]]


def has_ended(path: Path) -> bool:
    """Tells whether the process that this one started last for a job is gone; False where another started it."""
    mine = next((child for child in _children if child.args[-1] == str(path)), None)  # pyright: ignore
    return mine is not None and mine.poll() is not None


def is_alive(path: Path) -> bool:
    """Tells whether a process holds the job. Only the lock is believed: clocks jump, and process ids come back."""
    file = path / "alive.lock"
    if not file.exists():
        return False
    try:
        with FileLock(file).acquire(blocking=False):
            return False
    except Timeout:
        return True
    except OSError:  # a volume that this server may only read
        return _is_locked(file)


def _is_locked(file: Path) -> bool:
    """Tells whether somebody holds a lock that may not be opened for writing."""
    try:
        import fcntl
    except ImportError:  # Windows, where the lock could not even be looked at
        return False
    try:
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def last_line(path: Path, since: float) -> str:
    """Gives the last line that a job's process has printed since a time, as a sentence; empty without one."""
    try:
        file = path / "worker.log"
        if file.stat().st_mtime < since:
            return ""  # of an earlier start
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - 4000))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    printable = (writing.one_line(line) for line in reversed(lines))
    last = next(filter(None, printable), "")
    return f"{last[:300].rstrip('.')}." if last else ""
