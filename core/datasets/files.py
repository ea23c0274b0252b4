"""Files in a directory or a ZIP, read one at a time and never unpacked to a place that their names say."""

from __future__ import annotations

import io
import itertools
import mmap
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from core.catalog import UserError
from core.datasets.container import Container, File, Volume
from core.datasets.dataset import FEWEST
from core.datasets.pictures import (
    HEAD,
    KINDS,
    NO_PICTURE,
    Header,
    Refused,
    explained,
    kind_of,
    look,
    most_bytes,
)
from core.ground import scratch
from core.ground.settings import settings
from core.ground.writing import many

RATIO = 250  # times its own size that a ZIP may unpack to
SMALL = 64 * 2**20  # bytes that any ZIP may unpack to
# what systems and file servers leave beside pictures: no part of a set
_JUNK = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "@tmp", "#recycle", "@recycle", "$recycle.bin",
    "system volume information", "lost+found", "_thumbs", "_thumb", "_thumbnails",
}  # fmt: skip


def walk(root: Path) -> tuple[list[File], list[str]]:
    """Lists the regular files below a directory, and the linked folders that are not followed."""
    files: list[File] = []
    links: list[str] = []
    folders = [(root, "")]
    while folders:
        folder, prefix = folders.pop()
        for entry in os.scandir(folder):
            name = prefix + entry.name
            if hidden(name):
                continue
            if entry.is_dir():
                if entry.is_symlink():
                    links.append(name)
                else:
                    folders.append((Path(entry.path), name + "/"))
            elif entry.is_file():  # no pipe, no device
                files.append(File(name, entry.stat().st_size, Path(entry.path)))
        allow_number(len(files), root)
    return files, links


@contextmanager
def received(name: str, files: Sequence[tuple[str, bytes]]) -> Iterator[Path]:
    """Keeps on disk what a visitor sent, for as long as it is read.

    One ZIP or another file that is no picture stays as it is. A folder or loose files are packed into one under the
    paths that they had, so that all bounds of a ZIP hold for them, and no path that a visitor wrote is ever one of this
    server's.

    Args:
        name: What messages call it; a name of a dataset.
        files: Path with slashes and content of each.

    Yields:
        A path for an importer.

    Raises:
        UserError: If they are too many or too large, or several of them are ZIPs.
    """
    allow_size([len(content) for _, content in files])
    allow_number(len(files), Path(name))
    zips = [path for path, _ in files if path.casefold().endswith(".zip")]
    if zips and "/" not in zips[0] and len(files) > 1:
        raise UserError(
            f"{zips[0]!r} came with {many(len(files) - 1, 'other file')}. One ZIP alone is read, or files without "
            "any. Take it out, or send it alone."
        )
    with scratch.temporary() as folder:
        path, content = files[0]
        if len(files) == 1 and (zips or not ("/" in path or kind_of(content[:64]))):
            # of its name only an ending that is none of a path
            ending = "".join(re.findall(r"\.[a-z0-9]{1,12}", path.casefold())[-2:])
            file = folder / f"{name}{ending}"
            file.write_bytes(content)
        else:
            file, taken = folder / name, {}
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
                for path, content in files:
                    packed.writestr(zipfile.ZipInfo(_own(path, taken)), content)
        yield file


def allow_size(sizes: Sequence[int]) -> None:
    """Refuses files of so many bytes each that are larger together than a visitor may send.

    Raises:
        UserError: If they are.
    """
    most, size = settings().upload_mb, sum(sizes)
    if size > most * 2**20:
        what = "The file has" if len(sizes) == 1 else f"The {len(sizes):,} files have"
        raise UserError(
            f"{what} {round(size / 2**20, 1):,g} MB, at most {most} MB are allowed. Take fewer or smaller pictures."
        )


def _own(path: str, taken: dict[str, int]) -> str:
    """Numbers a path that another file has already: pictures chosen one by one may come from several folders.

    Args:
        path: Of the file.
        taken: The last number that was tried for each path; this one is added.
    """
    own, suffix = path, PurePosixPath(path).suffix
    while own in taken:
        taken[path] += 1
        own = f"{path.removesuffix(suffix)} ({taken[path]}){suffix}"
    taken[own] = 1
    return own


class Directory(Volume):
    """Reads a directory on the server."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.files, links = walk(path)
        self.refused = [(name, "is a link to a folder, which is not followed") for name in links]

    def read(self, file: File, most: int, count: bool = True) -> bytes:
        """Reads at most ``most`` bytes of a file; ``count`` means nothing here.

        Raises:
            Refused: If it cannot be read.
        """
        with self.open(file) as opened:
            try:
                return opened.read(most)
            except OSError as error:
                raise Refused(f"cannot be read ({error.strerror})") from error

    def open(self, file: File) -> BinaryIO:
        """Opens a file.

        Raises:
            Refused: If it cannot be read.
        """
        try:
            return file.key.open("rb")
        except OSError as error:
            raise Refused(f"cannot be read ({error.strerror})") from error


class Single(Directory):
    """Reads one file on the server."""

    def __init__(self, path: Path) -> None:
        self.name, self.refused = path.name, []
        self.files = [File(path.name, path.stat().st_size, path)]


class Archive(Volume):
    """Reads a ZIP member by member, after checking everything that its directory declares.

    Args:
        path: The ZIP.
        holds: What it is to hold, for messages.
    """

    def __init__(self, path: Path, holds: str = "pictures") -> None:
        self.path, self.unpacked, self.refused, self.holds = path, 0, [], holds
        self.name = path.name
        with path.open("rb") as file:  # zipfile would load a directory of any length
            size = os.fstat(file.fileno()).st_size
            if size:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                    allow_number(
                        _occurrences(whole, b"PK\x01\x02", 2 * settings().max_files), path, factor=2
                    )
        try:
            self.zip = zipfile.ZipFile(path)
        except Exception as error:  # whatever a forged directory makes the reader raise
            raise UserError(
                f"{path.name!r} is no ZIP that can be read, or is cut off ({error}). "
                f"Pack the {holds} into a ZIP again."
            ) from error
        try:
            self._check(size)
        except BaseException:
            self.zip.close()
            raise
        self.files = [
            File(name, info.file_size, info)
            for info in self.zip.infolist()
            if not (name := _slashed(info.filename)).endswith("/") and not hidden(name)
        ]

    def close(self) -> None:
        """Closes the ZIP."""
        super().close()
        self.zip.close()

    def read(self, file: File, most: int, count: bool = True) -> bytes:
        """Unpacks at most ``most`` bytes of a member.

        Args:
            file: Which one.
            most: How much.
            count: Whether it adds to what the ZIP unpacks to; a look at the beginning does not.

        Raises:
            Refused: If this member cannot be read.
            UserError: If the ZIP unpacks to more than it may.
        """
        with self._member(file) as opened, _inside():
            data = opened.read(most)
        if count:
            self._count(len(data))
        return data

    def open(self, file: File) -> BinaryIO:
        """Opens a member: in the ZIP itself where it is stored as it is, else unpacked into a file without a name.

        Raises:
            Refused: If this member cannot be read.
            UserError: If the ZIP unpacks to more than it may.
        """
        with self._member(file) as opened:
            if file.key.compress_type == zipfile.ZIP_STORED:
                with _inside(), self.path.open("rb") as whole:
                    whole.seek(file.key.header_offset)
                    head = whole.read(30)
                lengths = int.from_bytes(head[26:28], "little"), int.from_bytes(head[28:], "little")
                start = file.key.header_offset + 30 + sum(lengths)
                return cast(BinaryIO, io.BufferedReader(_Region(self.path, start, file.size)))
            out = cast(BinaryIO, tempfile.SpooledTemporaryFile(SMALL))  # noqa: SIM115
            try:
                while piece := self._piece(opened):
                    self._count(len(piece))
                    out.write(piece)
            except BaseException:
                out.close()
                raise
        out.seek(0)
        return out

    def _piece(self, opened: Any) -> bytes:
        with _inside():
            return opened.read(1 << 20)

    def _member(self, file: File) -> Any:
        if file.key.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refused("is packed in an unusual way; only stored and deflated files are read")
        with _inside():
            return self.zip.open(file.key)

    def _count(self, more: int) -> None:
        self.unpacked += more
        if self.unpacked > settings().max_unpacked_mb * 2**20:
            raise self._bomb(f"unpacks to more than {settings().max_unpacked_mb} MB")

    def _check(self, size: int) -> None:
        infos = self.zip.infolist()
        if not infos:
            needs = (
                f"at least {FEWEST} pictures: {KINDS}, one folder per class or all in one"
                if self.holds == "pictures"
                else self.holds
            )
            raise UserError(f"The ZIP {self.path.name!r} is empty. It must hold {needs}.")
        allow_number(len(infos), self.path)
        for info in infos:
            name = info.orig_filename
            path = _slashed(name)
            if (
                path.startswith("/")
                or "\0" in path
                or re.match("[A-Za-z]:", path)
                or ".." in path.split("/")
            ):
                raise UserError(
                    f"The ZIP {self.path.name!r} has the member {shown(name)!r}, whose path leads out of "
                    "it. Only paths that stay inside are allowed, so nothing of it was read. Pack it again."
                )
            if info.flag_bits & 1:
                raise UserError(
                    f"The ZIP {self.path.name!r} is protected by a password ({shown(name)!r}). "
                    "Only open ZIPs can be read. Pack it again without one."
                )
            if stat.S_ISLNK(info.external_attr >> 16):
                raise UserError(
                    f"The ZIP {self.path.name!r} has the member {shown(name)!r}, which is a link. "
                    "Only files and folders are allowed. Pack it again with the files themselves."
                )
        total = sum(info.file_size for info in infos)
        if total > settings().max_unpacked_mb * 2**20:
            raise self._bomb(
                f"unpacks to {total / 2**20:.0f} MB, and at most "
                f"{settings().max_unpacked_mb} MB are allowed (SIMULACRA_MAX_UNPACKED_MB)"
            )
        if total > SMALL and total > RATIO * size:
            raise self._bomb(
                f"unpacks to {total / size:.0f} times its size, and at most {RATIO} times is allowed"
            )
        ends = sorted(
            (info.header_offset, info.header_offset + 30 + info.compress_size) for info in infos
        )
        if (
            any(end > start for (_, end), (start, _) in itertools.pairwise(ends))
            or ends[-1][1] > size
        ):
            raise self._bomb("has members that lie inside each other")

    def _bomb(self, what: str) -> UserError:
        return UserError(
            f"The ZIP {self.path.name!r} {what}. Nothing of it was kept. "
            f"Pack fewer or smaller {self.holds}, without tricks."
        )


class _Region(io.RawIOBase):
    """Reads a part of a file as a file of its own."""

    mode = "rb"

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = path.open("rb"), start, size, 0
        self.name = path.name  # which a file that is typed has

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def _inside() -> Iterator[None]:
    """Turns whatever a forged member makes the reader of ZIPs raise into a reason."""
    try:
        yield
    except (Refused, UserError):
        raise
    except Exception as error:
        raise Refused(f"is damaged inside the ZIP ({error})") from error


def hidden(name: str) -> bool:
    """Tells whether a path is what a system leaves beside pictures, and no part of a set."""
    return any(
        part.startswith(".") or part.partition(":")[0].casefold() in _JUNK
        for part in name.split("/")
    )


def _slashed(name: str) -> str:
    """Writes a member's path with slashes: some programs of Windows pack it with backslashes."""
    return name.replace("\\", "/")


def allow_number(files: int, path: Path, factor: int = 1) -> None:
    """Refuses more files than a set may have.

    Raises:
        UserError: If they are more than ``factor`` times as many as are allowed.
    """
    most = settings().max_files
    if files > factor * most:
        raise UserError(
            f"{path.name!r} holds more than {most} files, which is all that is allowed. "
            "Take fewer pictures, or raise SIMULACRA_MAX_FILES."
        )


def _occurrences(whole: mmap.mmap, mark: bytes, most: int) -> int:
    count = at = 0
    while count <= most and (at := whole.find(mark, at)) >= 0:
        count, at = count + 1, at + len(mark)
    return count


def header(source: Container, file: File) -> Header:
    """Reads a picture's header from the file's beginning; from all of it where that is not enough.

    Raises:
        Refused: If it is no picture, or may not be decoded.
    """
    if (known := source.header(file)) is not None:
        return known
    limit = settings().max_megapixels
    head = source.read(file, HEAD, count=False)
    if kind_of(head) is None:
        raise Refused(NO_PICTURE)
    try:
        return look(head, limit)
    except Refused:
        raise
    except Exception:  # cut off in the header, or damaged: its decoder says which
        with explained():
            return look(content(source, file, count=False), limit)


def content(source: Container, file: File, count: bool = True) -> bytes:
    """Reads the whole file of a picture; ``count`` as in :meth:`core.datasets.files.Archive.read`.

    Raises:
        Refused: If it is too large, or cannot be read.
    """
    most = most_bytes(settings().max_megapixels)
    if file.size > most:
        raise Refused(
            f"has {file.size / 2**20:.0f} MB, and at most {most / 2**20:.0f} MB are allowed"
        )
    return source.read(file, most, count)


def shown(text: str) -> str:
    """Writes a text without what cannot be printed."""
    return "".join(char if char.isprintable() else "�" for char in text)
