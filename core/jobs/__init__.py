"""Background work in processes of its own: submit, watch, stop, resume; the queue is a directory.

A job is a folder: ``job.json`` (what was asked), ``state.json`` (where it is), ``log.jsonl`` (one object per record),
``worker.log`` (what its process printed), and its results. Its process holds the file lock ``alive.lock``; the
kernel frees it when the process dies, however it dies, so nothing here trusts a process id. A waiting job is a
light process that polls for a slot of its lane; slots are file locks too. No server is needed for a job to go on.

Beside the jobs of this home stand those that ship with the code, in ``core/gallery``: looked at like any other, listed
after them, and never changed.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core.catalog import UserError
from core.ground import files, writing
from core.ground.settings import settings
from core.jobs.folder import (
    ACTIVE,
    SHIPPED,
    STARTING,
    STATUSES,
    Job,
    damaged,
    find,
    get,
    listing,
    outcome,
    read,
)
from core.jobs.kind import Kind, Trained, kinds
from core.jobs.process import is_alive, spawn

# --- Asking for work ------------------------------------------------------------------------------------------------


def create(
    kind: str,
    lane: str,
    config: Mapping[str, Any],
    *,
    title: str,
    target: str = "",
    name: str = "",
    who: str = "",
    put: Mapping[str, bytes] | None = None,
) -> Job:
    """Writes a job's folder and starts its process, which waits for its turn.

    Args:
        kind, lane, config: See :class:`Job`; the config is already validated.
        title: Start of the id, for example ``digits-vae``.
        target: Id of the run that it works on; empty for a job that makes one.
        name: The person's name for it; the title when empty.
        put: Files that it finds in its folder, by name.

    Raises:
        UserError: If the server is view-only, its queue or its disk is full.
    """
    settings().allow_change("start a job")
    settings().allow_disk()
    _allow_queue()
    now = time.time()
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40] or kind
    id = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{slug}-{secrets.token_hex(2)}"
    request = {
        "kind": kind,
        "lane": lane,
        "target": target,
        "config": dict(config),
        "name": clean(name) or slug,
        "note": "",
        "who": who,
        "created": now,
    }
    with files.full_disk_told():
        with files.new_folder(settings().jobs / id) as new:
            for file, content in (put or {}).items():
                (new / file).write_bytes(content)
            files.write_json(new / "job.json", request)
            files.write_json(new / "state.json", {"status": "queued", "since": now, "queued": now})
        spawn(settings().jobs / id)
    return get(id)


def _allow_queue() -> None:
    waiting = sum(job.status == "queued" for job in listing())
    if waiting >= settings().max_queue:
        raise UserError(
            f"{waiting} jobs are waiting, and this server queues at most {settings().max_queue}. "
            "Wait for one to end, or stop one."
        )


def stop(id: str) -> Job:
    """Asks a job to save a checkpoint and end; a waiting one ends at once.

    Raises:
        UserError: If the server is view-only, or the job ships with the code or is not active.
    """
    settings().allow_change("stop a job")
    job = own(id, "stopped")
    if not job.active:
        raise UserError(
            f"{job.name} is {job.status}, so there is nothing to stop. Resume or delete it instead."
        )
    with files.full_disk_told():
        (job.path / "STOP").touch()
    return get(id)


def resume(id: str, config: Mapping[str, Any] | None = None) -> Job:
    """Starts a job again where its newest checkpoint left it.

    Args:
        id: Of the job.
        config: What it asks for from now on, when that has changed; a finished job goes on only then.

    Raises:
        UserError: If the server is view-only, or the job ships with the code, is active or finished.
    """
    settings().allow_change("resume a job")
    settings().allow_disk()
    job = own(id, "resumed")
    if job.active:
        raise UserError(f"{job.name} is {job.status} already. Stop it first, or let it go on.")
    if job.status == "finished" and config is None:
        raise UserError(
            f"{job.name} has finished, so there is nothing to resume. "
            "Give it more images, or start a new one with its settings."
        )
    _allow_queue()
    now = time.time()
    state = {**job.state, "status": "queued", "since": now, "queued": now, "message": ""}
    with files.full_disk_told():
        if config is not None:
            _change(job, config=dict(config))
        files.write_json(job.path / "state.json", state)
        (job.path / "STOP").unlink(missing_ok=True)
        spawn(job.path)
    return get(id)


def delete(id: str) -> None:
    """Deletes a job and all its results, for good.

    Raises:
        UserError: If the server is view-only, or the job ships with the code or is active. A damaged folder can be
            deleted too.
    """
    settings().allow_change("delete a job")
    path = settings().jobs / id
    if id in dict(damaged()):
        if is_alive(path):
            raise UserError(f"The process of {id} is still at work. Wait for its end.")
    elif (job := own(id, "deleted")).active:
        raise UserError(f"{job.name} is {job.status}. Stop it before you delete it.")
    with files.full_disk_told():
        files.delete_folder(path)


def describe(id: str, *, name: str | None = None, note: str | None = None) -> Job:
    """Gives a job another name or note.

    Raises:
        UserError: If the server is view-only, the job ships with the code, or the name is empty.
    """
    settings().allow_change("rename or annotate a job")
    job = own(id, "renamed or annotated")
    changes = {}
    if name is not None:
        if not clean(name):
            raise UserError(
                "A name needs at least one visible character, got an empty one. Type a name."
            )
        changes["name"] = clean(name)
    if note is not None:
        changes["note"] = note.strip()[:4000]
    with files.full_disk_told():
        _change(job, **changes)
    return get(id)


def _change(job: Job, **fields: Any) -> None:
    file = job.path / "job.json"
    files.write_json(file, files.read_json(file) | fields)


def own(id: str, done: str) -> Job:
    """Reads a job that is about to be changed, and refuses one that ships with the code.

    Args:
        id: Of the job.
        done: What is about to be done to it: "renamed".

    Raises:
        UserError: If there is none of this id, or it ships with the code.
    """
    job = get(id)
    if job.shipped:
        raise UserError(
            f"{job.name} ships with Simulacra and is for looking only, so it cannot be {done}. "
            "Runs that were trained here can be. Train a copy with its settings, and change that one."
        )
    return job


def clean(name: str) -> str:
    """Makes a name fit one line of 80 characters."""
    return writing.one_line(name)[:80]


# --- Waiting for one's turn, and telling how it goes ----------------------------------------------------------------


def position(job: Job) -> int:
    """Gives the place in the queue of the lane, 1 for the next one; 0 for a job that does not wait."""
    if job.status != "queued":
        return 0
    return 1 + sum(
        other.status == "queued" and other.lane == job.lane and _turn(other) < _turn(job)
        for other in listing()
    )


def _turn(job: Job) -> tuple[float, str]:
    return float(job.state.get("queued", job.created)), job.id


@contextmanager
def slot(job: Job, poll: float = 0.25) -> Iterator[bool]:
    """Waits for the job's turn in its lane and holds the slot; gives False when it was stopped while waiting."""
    folder = settings().home.absolute() / "slots"
    folder.mkdir(parents=True, exist_ok=True)
    count = settings().slots_train if job.lane == "train" else settings().slots_short
    while not (job.path / "STOP").exists():
        for number in range(count):
            lock = FileLock(folder / f"{job.lane}-{number}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            try:
                if position(get(job.id)) <= 1:  # asked last, because it reads the whole queue
                    yield True
                    return
            finally:
                lock.release()
        time.sleep(poll)
    yield False


def set_state(path: Path, **fields: Any) -> None:
    """Changes fields of the state; a new status starts a new ``since``."""
    state = files.read_json(path / "state.json")
    if fields.get("status", state["status"]) != state["status"]:
        fields["since"] = time.time()
    files.write_json(path / "state.json", state | fields)
