"""Background work in processes of its own: submit, watch, stop, resume; the queue is a directory.

A job is a folder: ``job.json`` (what was asked), ``state.json`` (where it is), ``log.jsonl`` (one object per record),
``worker.log`` (what its process printed), and its results. Its process holds the file lock ``alive.lock``; the
kernel frees it when the process dies, however it dies, so nothing here trusts a process id. A waiting job is a
light process that polls for a slot of its lane; slots are file locks too. No server is needed for a job to go on.

Beside the jobs of this home stand those that ship with the code, in ``core/gallery``: looked at like any other, listed
after them, and never changed.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from core.catalog import Config, Entry, Registry, UserError, unknown
from core.ground import files, machine
from core.ground.settings import settings

ACTIVE = ("queued", "running")
STATUSES = (*ACTIVE, "finished", "stopped", "failed", "interrupted")
STARTING = "Starting"  # what a job says between its turn and the first word of its work
_START_GRACE = 20.0  # seconds that a process may take to start and lock its job
_WORDS = {
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
    "since",
    "queued",
    "started",
    "told",
    "begun",
    "done",
    "total",
    "seconds",
    "speed",
    "step",
)
_ROOT = Path(__file__).resolve().parents[2]
SHIPPED = _ROOT / "core" / "gallery"


@dataclass(frozen=True)
class Trained:
    """What the jobs of a kind train: they are runs, which others open.

    Attributes:
        part: The part of the config, and of the run's record, that describes the network: ``family``.
        build: Makes the untrained network of a record for images of a :class:`core.models.Spec`; its weights come from
            torch's global generator.
        curves: Gives the charts (:class:`core.models.Curve`) of what the network of a record logs in training.
        sampling: Gives how one of a name draws, None if it knows none of it; itself None for what makes nothing.
    """

    part: str
    build: Callable[[Mapping[str, Any], Any], Any]
    curves: Callable[[Mapping[str, Any]], Sequence[Any]]
    sampling: Callable[[str], type[Config] | None] | None = None


@dataclass(frozen=True)
class Kind(Entry):
    """A kind of job: all that lists, pages and the job's process have to know of it.

    ``make(task) -> Iterator[dict]`` does the work and yields what is worth logging. It has finished when it ends by
    itself; when its :class:`core.kinds.Task` is stopped, it lets :class:`core.ground.watch.Stopped` pass.

    Attributes:
        lane: Jobs of one lane wait for each other.
        parts: Gives the config classes of a job by part, from what was chosen (``{"dataset": "digits"}``).
        unit: Of what it counts: ``images``, ``fits``; empty when it tells shares.
        shape: By part of the config, what lists and pages rely on, and of which type it is.
        read: Reads what a job has found so far; None before there is anything.
        files: Results that can be taken away, by name, and what they are called.
        allow: Refuses a config before the job is made, and completes it where names stand for something.
        processes: How many processes a config asks for.
        resumes: What resuming an interrupted one would do.
        trained: What it trains, None if it trains nothing that others open.
    """

    lane: Literal["train", "short"]
    parts: Callable[[Mapping[str, str]], dict[str, type[Config]]]
    unit: str = ""
    shape: Mapping[str, Mapping[str, type]] = field(default_factory=dict)
    read: Callable[[Job], Any] = lambda job: None
    files: Mapping[str, str] = field(default_factory=dict)
    allow: Callable[[dict[str, Any]], None] = lambda config: None
    processes: Callable[[Mapping[str, Any]], int] = lambda config: 1
    resumes: str = "Resume starts it again."
    trained: Trained | None = None


kinds = Registry("job kind", Kind, "core.kinds")


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
        begun = self.state.get("status") != "queued" and self.state.get("message") != STARTING
        if self.status == "interrupted" and not begun:
            said = _last_words(self)
            return (
                f"Its process ended before the work began: {said} More is in {self.path / 'worker.log'}. "
                "Resume tries again."
                if said
                else "Its process ended before the work began, without a word (killed, or the machine restarted). "
                "Resume tries again."
            )
        if self.status == "interrupted":
            kind = _kind(self.kind)
            return "Its process ended without a word (killed, or the machine restarted)." + (
                f" {kind.resumes}" if kind else ""
            )
        return str(self.state.get("message", ""))

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
        """Time to the end at the pace since the start, samples and checkpoints included; None when it is not known."""
        state = self.state
        done = state.get("done", 0) - state.get("begun", 0)
        if (
            self.status != "running"
            or done <= 0
            or not state.keys() >= {"total", "told", "started"}
        ):
            return None
        spent = max(0.0, state["told"] - state["started"])  # a clock may have been set back
        return (state["total"] - state["done"]) * spent / done

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for and not yet followed."""
        return self.active and (self.path / "STOP").exists()


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
    job = {
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
            files.write_json(new / "job.json", job)
            files.write_json(new / "state.json", {"status": "queued", "since": now, "queued": now})
        spawn(settings().jobs / id)
    return get(id)


def _allow_queue() -> None:
    waiting = [job for job in listing() if job.status == "queued"]
    if len(waiting) >= settings().max_queue:
        raise UserError(
            f"{len(waiting)} jobs are waiting, and this server queues at most {settings().max_queue}. "
            "Wait for one to end, or stop one."
        )


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
    if (count := _processes(path)) > 1:
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m"]
        command = [*torchrun, *command]
    with (path / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **machine.apart(settings().nice),
        )
    ended = [child for child in _children if child.poll() is not None]
    _children[:] = [process, *(child for child in _children if child not in ended), *ended[:50]]


def _has_ended(path: Path) -> bool:
    """Tells whether the process that this one started last for a job is gone; False where another started it."""
    mine = next((child for child in _children if child.args[-1] == str(path)), None)  # pyright: ignore
    return mine is not None and mine.poll() is not None


def _last_words(job: Job) -> str:
    """Gives the last line that a job's process printed since it was asked for, as a sentence; empty without one."""
    try:
        file = job.path / "worker.log"
        if file.stat().st_mtime < job.state.get("queued", 0):
            return ""  # of an earlier start
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - 4000))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    words = [" ".join("".join(c for c in line if c.isprintable()).split()) for line in lines]
    last = next((line for line in reversed(words) if line), "")
    return f"{last[:300].rstrip('.')}." if last else ""


def _processes(path: Path) -> int:
    """Counts the processes of a job."""
    words = files.read_json(path / "job.json")
    return kinds.get(words["kind"]).processes(words["config"])


def stop(id: str) -> Job:
    """Asks a job to save a checkpoint and end; a waiting one ends at once.

    Raises:
        UserError: If the server is view-only, or the job ships with the code or is not active.
    """
    settings().allow_change("stop a job")
    job = _own(id, "stopped")
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
    job = _own(id, "resumed")
    if job.active:
        raise UserError(f"{job.name} is {job.status} already. Stop it first, or let it go on.")
    if job.status == "finished" and config is None:
        raise UserError(
            f"{job.name} has finished, so there is nothing to resume. "
            "Give it more images, or start a new one with its settings."
        )
    _allow_queue()
    now = time.time()
    with files.full_disk_told():
        if config is not None:
            words = files.read_json(job.path / "job.json")
            files.write_json(job.path / "job.json", words | {"config": dict(config)})
        files.write_json(
            job.path / "state.json",
            dict(job.state) | {"status": "queued", "since": now, "queued": now, "message": ""},
        )
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
    elif (job := _own(id, "deleted")).active:
        raise UserError(f"{job.name} is {job.status}. Stop it before you delete it.")
    with files.full_disk_told():
        files.delete_folder(path)


def describe(id: str, *, name: str | None = None, note: str | None = None) -> Job:
    """Gives a job another name or note.

    Raises:
        UserError: If the server is view-only, the job ships with the code, or the name is empty.
    """
    settings().allow_change("rename or annotate a job")
    job = _own(id, "renamed or annotated")
    words = files.read_json(job.path / "job.json")
    if name is not None:
        if not clean(name):
            raise UserError(
                "A name needs at least one visible character, got an empty one. Type a name."
            )
        words["name"] = clean(name)
    if note is not None:
        words["note"] = note.strip()[:4000]
    with files.full_disk_told():
        files.write_json(job.path / "job.json", words)
    return get(id)


def _own(id: str, done: str) -> Job:
    """Reads a job that is about to be changed, and refuses one that ships with the code."""
    job = get(id)
    if job.shipped:
        raise UserError(
            f"{job.name} ships with Simulacra and is for looking only, so it cannot be {done}. "
            "Runs that were trained here can be. Train a copy with its settings, and change that one."
        )
    return job


def clean(name: str) -> str:
    """Makes a name fit one line of 80 characters."""
    return " ".join("".join(c for c in name if c.isprintable()).split())[:80]


# --- Looking --------------------------------------------------------------------------------------------------------


def listing(*kinds: str) -> list[Job]:
    """Lists jobs, newest first, shipped ones last; folders that cannot be read are left to :func:`damaged`."""
    return sorted(
        (job for job in _all() if not kinds or job.kind in kinds),
        key=lambda job: (job.shipped, -job.created, job.id),
    )


def damaged(sound: Collection[str] = ()) -> list[tuple[str, str]]:
    """Lists folders that are no readable jobs, each with the reason; ``sound`` are ids that need no look."""
    problems = []
    for path in _folders():
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
    for place in _places():
        if _exists(id, place):
            return read(place / id)
    raise UserError(unknown("job or run", id, [folder.name for folder in _folders()][-50:]))


def find(text: str, *kinds: str) -> Job:
    """Finds a job by id, by its name, or by a start of the id; of equal names, the one that was made here.

    Raises:
        UserError: If nothing fits, or several do.
    """
    if any(_exists(text, place) for place in _places()):
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


def place(job: Job) -> int:
    """Gives the place in the queue of the lane, 1 for the next one; 0 for a job that does not wait."""
    if job.status != "queued":
        return 0
    return 1 + sum(
        other.status == "queued" and _turn(other) < _turn(job)
        for other in listing()
        if other.lane == job.lane
    )


def _turn(job: Job) -> tuple[float, str]:
    return float(job.state.get("queued", job.created)), job.id


def _places() -> list[Path]:
    """Lists the folders that hold jobs: this home's, and the one that ships with the code."""
    return [settings().jobs, *([SHIPPED] if settings().gallery else [])]


def _exists(id: str, place: Path) -> bool:
    """Tells whether a job has this id; what somebody typed is never a path out of the folder."""
    if not id or not id.isprintable():  # bytes that are no text, for example
        return False
    plain = Path(id).name == id and id[0] not in "._" and len(id.encode()) < 256
    return plain and (place / id).is_dir()


def _folders(place: Path | None = None) -> list[Path]:
    """Lists the folders of jobs in a place, by default this home's."""
    try:
        with os.scandir(place or settings().jobs) as entries:
            return sorted(
                Path(entry.path)
                for entry in entries
                if entry.is_dir() and entry.name[0] not in "._"
            )
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        raise UserError(
            f"This program may not read {place or settings().jobs}. Give it the permission, "
            "or set SIMULACRA_HOME to a folder that it may read."
        ) from None


def _all() -> Iterator[Job]:
    for path in (path for place in _places() for path in _folders(place)):
        with suppress(UserError):
            yield read(path)


def read(path: Path) -> Job:
    """Reads the job of a folder.

    Raises:
        UserError: If the folder is damaged.
    """
    words = {"target": "", **files.read_json(path / "job.json")}  # older jobs had none
    state = files.read_json(path / "state.json")
    for file, values, types in (
        ("job.json", words, _WORDS),
        ("state.json", state, {"status": str}),
    ):
        for key, type in types.items():
            if not isinstance(values.get(key), type) or (
                key == "status" and values[key] not in STATUSES
            ):
                raise _damaged_part(path / file, key)
    for key in _NUMBERS:
        if state.get(key) is not None and not isinstance(state[key], (int, float)):
            raise _damaged_part(path / "state.json", key)
    kind = _kind(words["kind"])
    for part, shape in (kind.shape if kind else {}).items():
        made_of = words["config"].get(part)
        for key, type in shape.items():
            if not isinstance(made_of, dict) or not isinstance(made_of.get(key), type):
                raise _damaged_part(path / "job.json", part)
    job = Job(
        id=path.name,
        path=path,
        state=state,
        status=state["status"],
        **{key: words[key] for key in _WORDS},
    )
    if job.active and not (is_alive(path) or (_just_asked(job) and not _has_ended(path))):
        # it may have ended between the two looks: the state that was written last counts
        state = files.read_json(path / "state.json")
        return replace(
            job, state=state, status="interrupted" if state["status"] in ACTIVE else state["status"]
        )
    return job


def _kind(name: str) -> Kind | None:
    """Finds a kind; None for one that another version knew."""
    with suppress(UserError):
        return kinds.get(name)
    return None


def _damaged_part(file: Path, part: str) -> UserError:
    return UserError(
        f"{file} is damaged ({part} is missing or wrong). Restore it, or delete its folder."
    )


def _just_asked(job: Job) -> bool:
    """Tells whether the process of a waiting job may still be starting; a clock that was set back keeps none so."""
    return job.status == "queued" and abs(time.time() - job.state.get("since", 0)) < _START_GRACE


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
        return _held(file)


def _held(file: Path) -> bool:
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


# --- Inside the job's process ---------------------------------------------------------------------------------------


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
                if place(get(job.id)) <= 1:  # asked last, because it reads the whole queue
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


def outcome(job: Job, name: str) -> dict[str, Any] | None:
    """Reads a result of a job that is one JSON file; None before it is written.

    Raises:
        UserError: If it is damaged.
    """
    file = job.path / name
    return files.read_json(file) if file.exists() else None
