"""The process that does one job: ``python -m core.worker JOB``."""

from __future__ import annotations

import os
import platform
import sys
import traceback
from pathlib import Path
from typing import Any

from core import jobs
from core.catalog import UserError
from core.settings import settings
from core.work import Task, kinds


def work(path: Path) -> int:
    """Does one job from waiting to its end; gives the exit code."""
    from filelock import FileLock, Timeout

    try:
        alive = FileLock(path / "alive.lock").acquire(
            timeout=5
        )  # somebody may be looking whether we live
    except Timeout:
        return 1  # another process has the job
    with alive:
        os.nice(settings().nice)
        job = jobs.get(path.name)
        try:
            with jobs.slot(job) as mine:
                if not mine:
                    jobs.set_state(
                        path,
                        status="stopped",
                        message="Stopped while it waited. Resume queues it again.",
                    )
                    return 0
                jobs.set_state(
                    path,
                    status="running",
                    message="Starting",
                    pid=os.getpid(),
                    node=platform.node(),
                    speed=0,
                )
                task = Task(job)
                last: dict[str, Any] = {}
                with jobs.full_disk_told():
                    for record in kinds.get(job.kind).make(task):
                        jobs.Log(path).append(record)
                        last |= record
                if not last:  # killed after its last checkpoint: nothing was left to do
                    for record in jobs.Log(path).read()[0]:
                        last |= record
                reason = task.stopped()
                ended = not reason or last.get("images") == (job.config.get("train") or {}).get(
                    "images"
                )
                done = {
                    "done": last.get("images", 0),
                    "speed": 0,
                    "step": last.get("step", 0),
                    "last": last,
                }
                jobs.set_state(
                    path,
                    status="finished" if ended else "stopped",
                    message="" if ended else reason,
                    **done,
                )
        except UserError as error:
            print(error, file=sys.stderr)
            jobs.set_state(path, status="failed", message=str(error), speed=0)
        except Exception:
            traceback.print_exc()
            message = (
                f"Something went wrong inside Simulacra. The details are in {path / 'worker.log'}."
            )
            jobs.set_state(path, status="failed", message=message, speed=0)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1])))
