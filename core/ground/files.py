"""The files of the whole house: JSON, logs that grow, and files and folders written in one piece or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from core.catalog import UserError
from core.ground import machine, scratch
from core.ground.settings import settings


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        UserError: If the file is missing or damaged; the text names it.
    """
    try:
        value = json.loads(machine.patiently(path.read_bytes))
    except FileNotFoundError:
        raise UserError(f"{path} is missing. Restore it, or delete its folder.") from None
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}). Restore it, or delete its folder.") from None
    if not isinstance(value, dict):
        raise UserError(
            f"{path} is damaged (it holds no object). Restore it, or delete its folder."
        )
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object in one piece or not at all."""
    write_atomic(path, json.dumps(value, allow_nan=False).encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Writes a file in one piece or not at all."""
    new = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        new.write_bytes(content)
        machine.patiently(lambda: new.replace(path))
    except OSError:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(place: Path, *, replace: bool = False) -> Iterator[Path]:
    """Gives a fresh folder to fill. It stands at ``place`` once it is filled, and is gone again after an error.

    Until then it lies beside it as ``.new-…``, and :func:`core.ground.scratch.sweep` sees that somebody owns it.

    Args:
        place: Where it belongs; the folder around it is made.
        replace: Whether an older one of that name gives way.

    Raises:
        FileExistsError: If somebody took the place meanwhile.
        OSError: If the disk refuses.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f".new-{uuid.uuid4().hex}")
    with scratch.owned(new):
        try:
            new.mkdir()
            yield new
            taken = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place))
            gone = new.with_name(f".gone-{new.name[5:]}")
            if replace:
                with suppress(FileNotFoundError):
                    place.rename(gone)
            elif place.exists():
                raise taken
            try:
                new.rename(place)
            except OSError as error:
                if error.errno == errno.ENOTEMPTY:  # somebody was faster
                    raise taken from None
                with suppress(OSError):
                    gone.rename(place)
                raise
            shutil.rmtree(gone, ignore_errors=True)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise


def delete_folder(place: Path) -> None:
    """Takes a folder out of every list at once, even if the rest takes time; who has a file of it open keeps it.

    Raises:
        OSError: If the disk refuses; the folder is whole then.
    """
    gone = place.with_name(f".gone-{uuid.uuid4().hex}")
    place.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def keep(file: Path, content: bytes) -> None:
    """Keeps in the cache what can be computed again: not on a view-only server, nor where the disk refuses."""
    if not settings().view_only:
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, content)


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Turns "no space left" and "not for you" into sentences.

    Raises:
        UserError: Instead of OSError, when the disk is full, the quota used up, or the place may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise UserError(
                f"This program may not write to {error.filename or settings().home}. Give it the permission, "
                "or set SIMULACRA_HOME to a folder that it may write."
            ) from None
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"The disk of {settings().home} is full. "
            "Delete old runs or set SIMULACRA_HOME to a larger disk, then resume."
        ) from None


class Log:
    """The records of a job: one JSON object per line, appended whole; a damaged line is skipped and counted."""

    def __init__(self, path: Path) -> None:
        self.file = path / "log.jsonl"

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds one record; after a crash in the middle of a line, on a line of its own."""
        line = json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n"
        with self.file.open("ab+") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                line = "\n" + line
            file.write(line.encode())

    def read(self) -> tuple[list[dict[str, Any]], int]:
        """Reads all whole records, and how many lines are damaged."""
        with _parsing:
            old = _parsed.pop(str(self.file), (0, 0, [], 0))
            try:
                with self.file.open("rb") as file:
                    inode = os.fstat(file.fileno()).st_ino
                    done, records, bad = old[1:] if old[0] == inode else (0, [], 0)
                    file.seek(done)
                    new = file.read()
            except FileNotFoundError:
                return [], 0
            whole = new[: new.rfind(b"\n") + 1]  # the rest is still being written
            more, worse = parse(whole)
            records, bad = [*records, *more], bad + worse
            _parsed[str(self.file)] = inode, done + len(whole), records, bad
            while len(_parsed) > 32:
                _parsed.pop(next(iter(_parsed)))
            return records, bad

    def cut(self, step: int) -> None:
        """Drops the records after a step, before the job goes on from there."""
        records, _ = self.read()
        kept = "".join(
            json.dumps(r, separators=(",", ":")) + "\n" for r in records if r.get("step", 0) <= step
        )
        write_atomic(self.file, kept.encode())


# of a log that only grows, by file: inode, bytes read, records, damaged lines
_parsed: dict[str, tuple[int, int, list[dict[str, Any]], int]] = {}
_parsing = threading.Lock()


def parse(lines: bytes) -> tuple[list[dict[str, Any]], int]:
    """Reads the objects of JSON lines, and counts the lines that are damaged."""
    records, bad = [], 0
    for line in filter(bytes.strip, lines.splitlines()):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict) and not any(
            isinstance(record.get(key), str) for key in ("step", "images", "seconds")
        ):
            records.append(record)
        else:
            bad += 1
    return records, bad
