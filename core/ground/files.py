"""JSON, logs that grow, and files and folders that are written in one piece or not at all."""

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
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Gives a fresh folder to fill. It stands at ``path`` once it is filled, and is gone again after an error.

    Until then it lies beside it as ``.new-…``, and :func:`core.ground.scratch.sweep` sees that somebody owns it.

    Args:
        path: Where it belongs; the folder around it is made.
        replace: Whether an older one of that name gives way.

    Raises:
        FileExistsError: If there is a folder of that name meanwhile.
        OSError: If the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".new-{uuid.uuid4().hex}")
    with scratch.owned(new):
        try:
            new.mkdir()
            yield new
            exists = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            gone = new.with_name(f".gone-{new.name[5:]}")
            if replace:
                with suppress(FileNotFoundError):
                    path.rename(gone)
            elif path.exists():
                raise exists
            try:
                new.rename(path)
            except OSError as error:
                if error.errno == errno.ENOTEMPTY:  # somebody was faster
                    raise exists from None
                with suppress(OSError):
                    gone.rename(path)
                raise
            shutil.rmtree(gone, ignore_errors=True)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise


def delete_folder(path: Path) -> None:
    """Renames a folder, so that no list shows it any more, and deletes it; open files of it stay readable.

    Raises:
        OSError: If the disk refuses; the folder is whole then.
    """
    gone = path.with_name(f".gone-{uuid.uuid4().hex}")
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def keep(file: Path, content: bytes) -> None:
    """Keeps in the cache what can be computed again: not on a view-only server, nor where the disk refuses."""
    if not settings().view_only:
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, content)


@contextmanager
def full_disk_told(place: Path | None = None) -> Iterator[None]:
    """Turns "no space left" and "permission denied" into sentences.

    Args:
        place: Where it is written to, outside of this program's own folder.

    Raises:
        UserError: Instead of OSError, when the disk is full, the quota used up, or the file may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            if place is not None:
                raise UserError(
                    f"This program may not write to {str(place)!r}. Give it the permission, or choose another folder."
                ) from None
            raise UserError(
                f"This program may not write to {error.filename or settings().home}. Give it the permission, "
                "or set SIMULACRA_HOME to a folder that it may write."
            ) from None
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        if place is not None:
            raise UserError(
                f"The disk of {str(place)!r} is full, so nothing was kept there. Make room, or choose another disk."
            ) from None
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
            known, size, records, bad = _parsed.pop(str(self.file), (0, 0, [], 0))
            try:
                with self.file.open("rb") as file:
                    inode = os.fstat(file.fileno()).st_ino
                    if inode != known:  # another file since
                        size, records, bad = 0, [], 0
                    file.seek(size)
                    new = file.read()
            except FileNotFoundError:
                return [], 0
            lines = new[: new.rfind(b"\n") + 1]  # the rest is still being written
            more, worse = parse(lines)
            records, bad = [*records, *more], bad + worse
            _parsed[str(self.file)] = inode, size + len(lines), records, bad
            while len(_parsed) > 32:
                _parsed.pop(next(iter(_parsed)))
            return records, bad

    def cut(self, step: int) -> None:
        """Drops the records after a step, before the job goes on from there."""
        records, _ = self.read()
        lines = "".join(
            json.dumps(r, separators=(",", ":")) + "\n" for r in records if r.get("step", 0) <= step
        )
        write_atomic(self.file, lines.encode())


# of a log that only grows, by file: inode, bytes read, records, damaged lines
_parsed: dict[str, tuple[int, int, list[dict[str, Any]], int]] = {}
_parsing = threading.Lock()


def parse(lines: bytes) -> tuple[list[dict[str, Any]], int]:
    """Reads the objects of JSON lines, and counts the lines that are damaged."""
    records, bad = [], 0
    for line in filter(bytes.strip, lines.splitlines()):
        record = None
        with suppress(ValueError, RecursionError):
            record = json.loads(line)
        if isinstance(record, dict) and not any(
            isinstance(record.get(key), str) for key in ("step", "images", "seconds")
        ):
            records.append(record)
        else:
            bad += 1
    return records, bad
