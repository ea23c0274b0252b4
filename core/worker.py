"""The process that does one job: ``python -m core.worker JOB``.

A training on several GPUs is as many of them, started by ``torchrun``: the first does the job as one alone would, and
the others train beside it and write nothing.
"""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from core import jobs
from core.catalog import UserError
from core.ground import files, machine
from core.ground.settings import settings
from core.ground.watch import Stopped
from core.jobs import kinds
from core.kinds import Task

PATIENCE = timedelta(hours=2)  # of other processes, while the first one measures and publishes


def work(path: Path) -> int:
    """Does one job from waiting to its end; gives the exit code."""
    from filelock import FileLock, Timeout

    try:
        # it waits, because others take the lock for a moment to see whether the job lives
        alive = FileLock(path / "alive.lock").acquire(timeout=5)
    except Timeout:
        return 1  # another process has the job
    with alive:
        machine.step_back(settings().nice)
        job = jobs.get(path.name)
        try:
            with jobs.slot(job) as mine:
                if not mine:
                    message = "Stopped while it waited. Resume queues it again."
                    jobs.set_state(path, status="stopped", message=message)
                    return 0
                process = {"pid": os.getpid(), "node": platform.node()}
                jobs.set_state(path, status="running", message=jobs.STARTING, speed=0, **process)
                task = Task(job)
                log, status = files.Log(path), "finished"
                last: dict[str, Any] = {}
                with files.full_disk_told(), _together():
                    try:
                        for record in kinds.get(job.kind).make(task):
                            log.append(record)
                            last |= record
                    except Stopped as stop:
                        status, task.message = "stopped", str(stop)
                if not last:  # killed after its last checkpoint: nothing was left to do
                    for record in log.read()[0]:
                        last |= record
                jobs.set_state(
                    path,
                    status=status,
                    message=task.message,
                    done=task.done,
                    total=task.total,
                    speed=0,
                    step=last.get("step", 0),
                    last=last,
                )
        except UserError as error:
            _fail(path, error)
            return int(_several())  # torchrun then ends the others
        except Exception as error:
            _fail(path, error)
            return 1
    return 0


def help_out(path: Path) -> int:
    """Trains beside the first process of the job, once its turn has come; gives the exit code."""
    while (status := files.read_json(path / "state.json")["status"]) == "queued":
        time.sleep(0.2)
    if status != "running":
        return 0
    machine.step_back(settings().nice)
    job = jobs.get(path.name)
    try:
        with _together(), suppress(Stopped):
            for _ in kinds.get(job.kind).make(Task(job, lead=False)):
                pass
    except Exception as error:
        _fail(path, error)
        return 1
    return 0


def _fail(path: Path, error: Exception) -> None:
    """Says what went wrong; of several processes, the one that fails first is heard."""
    message = str(error)
    if isinstance(error, UserError):
        print(error, file=sys.stderr)
    else:
        traceback.print_exception(error)
        message = (
            f"Something went wrong inside Simulacra. The details are in {path / 'worker.log'}."
        )
    if not (_several() and files.read_json(path / "state.json")["status"] in ("failed", "stopped")):
        jobs.set_state(path, status="failed", message=message, speed=0)


def _several() -> bool:
    """Tells whether torchrun has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def _together() -> Iterator[None]:
    """Joins the processes that torchrun has started for this job; nothing for one that is alone."""
    if not _several():
        yield
        return
    import torch

    from core.tensors import device

    backend = "gloo"
    if device().type == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group(backend, timeout=PATIENCE)
    yield
    torch.distributed.destroy_process_group()  # not after a failure, when nobody answers


if __name__ == "__main__":
    first = not _several() or os.environ["RANK"] == "0"
    sys.exit((work if first else help_out)(Path(sys.argv[1])))
