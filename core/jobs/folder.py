"""Jobs as their folders tell them: reading one, listing them, finding one by what a person typed."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.catalog import UserError, unknown
from core.ground import files
from core.ground.cache import Cache
from core.ground.settings import settings
from core.jobs import process
from core.jobs.kind import Kind, kinds

ACTIVE = ("queued", "running")
STATUSES = (*ACTIVE, "finished", "stopped", "failed", "interrupted")
STARTING = "Starting"  # what a job says between its turn and the first word of its work
SHIPPED = process.ROOT / "core" / "gallery"
START_GRACE = 20.0  # seconds that a process may take to start and lock its job
_REQUEST = {  # the fields of job.json, and their types
    "kind": str,
    "lane": str,
    "target": str,
    "config": dict,
    "name": str,
    "note": str,
    "who": str,
    "created": (int, float),
}
_NUMBERS = (
    *("since", "queued", "started", "told", "begun"),
    *("done", "total", "seconds", "speed", "step"),
)


@dataclass(frozen=True)
class Job:
    """A job as its folder told it at one moment.

    Attributes:
        id: Name of the folder, unique and never changed.
        kind: What is done, a name of :data:`kinds`.
        lane: ``train`` or ``short``.
        target: Id of the run that it works on; empty for a job that makes one.
        config: By part (``dataset``, ``family``, ``train`` …): ``{"name": …, "config": {…}}`` or plain values.
        name, note: The person's words; names need not be unique.
        who: Who asked for it; may be empty.
        created: Seconds since 1970.
        state: The content of ``state.json``: ``status``, ``since``, ``message``, and what the job last reported.
        status: One of :data:`STATUSES`; ``interrupted`` is a job whose process is gone without a word.
    """

    id: str
    path: Path
    kind: str
    lane: str
    target: str
    config: Mapping[str, Any]
    name: str
    note: str
    who: str
    created: float
    state: Mapping[str, Any]
    status: str

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.status in ACTIVE

    @property
    def shipped(self) -> bool:
        """Whether it came with the code, so that nobody changes it."""
        return self.path.parent == SHIPPED

    @property
    def message(self) -> str:
        """One sentence on how it stands, empty when there is nothing to say."""
        message = str(self.state.get("message", ""))
        if self.status != "interrupted":
            return message
        silent = "without a word (killed, or the machine restarted)."
        if self.state.get("status") != "queued" and message != STARTING:
            kind = _kind(self.kind)
            return f"Its process ended {silent}" + (f" {kind.resumes}" if kind else "")
        line = process.last_line(self.path, self.state.get("queued", 0))
        how = f": {line} More is in {self.path / 'worker.log'}." if line else f", {silent}"
        return f"Its process ended before the work began{how} Resume tries again."

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""
        total = self.state.get("total") or 0
        if not total:
            return float(self.status == "finished")
        return min(1.0, self.state.get("done", 0) / total)

    def result(self) -> Any:
        """Reads what it has found so far, as its kind does; None before there is anything.

        Raises:
            UserError: If a file is damaged, or the kind is not known here.
        """
        return kinds.get(self.kind).read(self)

    @property
    def seconds_left(self) -> float | None:
        """Time to the end, as :attr:`seconds_more` says; None while it does not run."""
        return self.seconds_more if self.status == "running" else None

    @property
    def seconds_more(self) -> float | None:
        """Time from here to the end; None when it is not known.

        It goes by the pace since its start, with samples and checkpoints in it. Where a speed is told, that one counts
        at the begin, when hardly anything but samples and checkpoints was made, and less and less later.
        """
        state = self.state
        done = state.get("done", 0) - state.get("begun", 0)
        timed = state.keys() >= {"total", "told", "started"}
        if done <= 0 or not timed:
            return None
        spent = max(0.0, state["told"] - state["started"])  # a clock may have been set back
        pace = spent / done
        if speed := state.get("speed"):
            share = done / (state["total"] - state.get("begun", 0))
            pace = share * pace + (1 - share) / speed
        return (state["total"] - state["done"]) * pace

    @property
    def took(self) -> float | None:
        """Time that its work took, from its first word to its end; None where it has not finished, or told nothing.

        Of one that was resumed it is reckoned from the pace of the rest.
        """
        state = self.state
        if self.status != "finished" or not state.keys() >= {"total", "begun", "started", "since"}:
            return None
        whole, rest = state["total"], state["total"] - state["begun"]
        spent = state["since"] - state["started"]
        return spent * whole / rest if rest > 0 and spent > 0 else None

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for and not yet followed."""
        return self.active and (self.path / "STOP").exists()


# jobs that have ended, by folder and by what their two files looked like: whoever changes one replaces its file
_ended = Cache[Job](2048)
_gallery = Cache[list[Job]](2)  # by the folder and what it looked like


def read(path: Path) -> Job:
    """Reads the job of a folder; one that has ended is read once, until its files are others.

    Raises:
        UserError: If the folder is damaged.
    """
    key = (str(path), _look(path / "job.json"), _look(path / "state.json"))
    if (job := _ended.peek(key)) is None:
        job = _read(path)
        if job.status not in (*ACTIVE, "interrupted"):
            _ended.put(key, job)
    return job


def _look(file: Path) -> tuple[int, int, int] | None:
    """Tells one state of a file from another, without reading it; None where there is none."""
    try:
        about = file.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def _read(path: Path) -> Job:
    request = {"target": "", **files.read_json(path / "job.json")}  # older jobs had none
    state = files.read_json(path / "state.json")
    _check(path / "job.json", request, _REQUEST)
    numbers = {key: (int, float) for key in _NUMBERS if state.get(key) is not None}
    _check(path / "state.json", state, {"status": str, **numbers})
    if state["status"] not in STATUSES:
        raise _damaged(path / "state.json", "status")
    kind = _kind(request["kind"])
    for part, types in (kind.shape if kind else {}).items():
        _check(path / "job.json", request["config"].get(part), types, part)
    job = Job(
        id=path.name,
        path=path,
        state=state,
        status=state["status"],
        **{key: request[key] for key in _REQUEST},
    )
    if not job.active or process.is_alive(path):
        return job
    # its process may still be starting; a clock that was set back keeps no job so
    recent = abs(time.time() - state.get("since", 0)) < START_GRACE
    if job.status == "queued" and recent and not process.has_ended(path):
        return job
    # it may have ended between the two looks: the state that was written last counts
    state = files.read_json(path / "state.json")
    return replace(
        job, state=state, status="interrupted" if state["status"] in ACTIVE else state["status"]
    )


def _check(file: Path, values: Any, types: Mapping[str, Any], part: str = "") -> None:
    for key, kind in types.items():
        if not isinstance(values, dict) or not isinstance(values.get(key), kind):
            raise _damaged(file, part or key)


def _damaged(file: Path, part: str) -> UserError:
    return UserError(
        f"{file} is damaged ({part} is missing or wrong). Restore it, or delete its folder."
    )


def _kind(name: str) -> Kind | None:
    """Finds a kind; None for one that another version knew."""
    with suppress(UserError):
        return kinds.get(name)
    return None


def listing(*kinds: str) -> list[Job]:
    """Lists jobs, newest first, shipped ones last; folders that cannot be read are left to :func:`damaged`."""
    every = _readable(settings().jobs)
    if (
        settings().gallery
    ):  # nobody changes a job of it, so that the folder tells whether it is the same
        every = [*every, *_gallery.get((SHIPPED, _look(SHIPPED)), lambda: _readable(SHIPPED))]
    jobs = [job for job in every if not kinds or job.kind in kinds]
    return sorted(jobs, key=lambda job: (job.shipped, -job.created, job.id))


def _readable(home: Path) -> list[Job]:
    """Reads the jobs of a folder, but for those that cannot be read."""
    jobs = []
    for path in _folders(home):
        with suppress(UserError):
            jobs.append(read(path))
    return jobs


def damaged(sound: Collection[str] = ()) -> list[tuple[str, str]]:
    """Lists folders that are no readable jobs, each with the reason; ``sound`` are ids that need no look."""
    problems = []
    for path in _folders(settings().jobs):
        try:
            if path.name not in sound:
                read(path)
        except UserError as error:
            problems.append((path.name, str(error)))
    return problems


def get(id: str) -> Job:
    """Reads one job.

    Raises:
        UserError: If there is none of this id, or its folder is damaged.
    """
    for home in _homes():
        if _exists(home, id):
            return read(home / id)
    ids = [folder.name for folder in _folders(settings().jobs)]
    raise UserError(unknown("job or run", id, ids[-50:]))


def find(text: str, *kinds: str) -> Job:
    """Finds a job by id, by its name, or by a start of the id; of equal names, the one that was made here.

    Raises:
        UserError: If nothing fits, or several do.
    """
    if any(_exists(home, text) for home in _homes()):
        return get(text)
    jobs = listing(*kinds)
    named = [job for job in jobs if job.name == text]
    fits = (
        [job for job in named if not job.shipped]
        or named
        or [job for job in jobs if text and job.id.startswith(text)]
    )
    if len(fits) == 1:
        return fits[0]
    if fits:
        ids = ", ".join(job.id for job in fits[:5])
        raise UserError(f"{len(fits)} runs are called {text!r}. Write the id of one: {ids}.")
    raise UserError(unknown("run", text, [name for job in jobs for name in (job.id, job.name)]))


def outcome(job: Job, name: str) -> dict[str, Any] | None:
    """Reads a result of a job that is one JSON file; None before it is written.

    Raises:
        UserError: If it is damaged.
    """
    file = job.path / name
    return files.read_json(file) if file.exists() else None


def _homes() -> list[Path]:
    """Lists the folders that hold jobs: this home's, and the one that ships with the code."""
    return [settings().jobs, *([SHIPPED] if settings().gallery else [])]


def _exists(home: Path, id: str) -> bool:
    """Tells whether a job has this id; what somebody typed is never a path out of the folder."""
    if not id or not id.isprintable():  # bytes that are no text, for example
        return False
    plain = Path(id).name == id and id[0] not in "._" and len(id.encode()) < 256
    return plain and (home / id).is_dir()


def _folders(home: Path) -> list[Path]:
    try:
        with os.scandir(home) as entries:
            folders = (entry for entry in entries if entry.is_dir() and entry.name[0] not in "._")
            return sorted(Path(entry.path) for entry in folders)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        raise UserError(
            f"This program may not read {home}. Give it the permission, "
            "or set SIMULACRA_HOME to a folder that it may read."
        ) from None
