"""Files in a tar, read where they lie and never unpacked to a place that their names say; and what gzip has packed.

References:
    POSIX, pax https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
"""

from __future__ import annotations

import gzip
import re
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from core.catalog import UserError, reason
from core.datasets.container import File, Volume
from core.datasets.files import RATIO, SMALL, allow_number, hidden, shown
from core.datasets.pictures import Refused
from core.ground.settings import settings

GZIP = b"\x1f\x8b"
_LONGEST, _BEFORE = 2**20, 20  # bytes of a header before a member, and how many of them it may have
_HEADS = tuple(bytes([kind]) for kind in b"xXgLK")


def is_tar(head: bytes) -> bool:
    """Tells by its first 264 bytes whether a file is a tar."""
    return head[257:262] == b"ustar"


def beginning(head: bytes, most: int = 264) -> bytes:
    """Unpacks the beginning of what gzip has packed, as far as a head of a file holds it; others stay as they are."""
    if not head.startswith(GZIP):
        return head
    import zlib

    try:
        return zlib.decompressobj(31).decompress(head, most)
    except zlib.error:
        return b""


def unpacked(packed: BinaryIO, name: str) -> BinaryIO:
    """Unpacks what gzip has packed, into a file without a name; anything else is given back as it is.

    Raises:
        Refused: If it is damaged.
        UserError: If it unpacks to more than it may.
    """
    head = packed.read(2)
    packed.seek(0, 2)
    size = packed.tell()
    packed.seek(0)
    if head != GZIP:
        return packed
    most = settings().max_unpacked_mb * 2**20
    out = cast(BinaryIO, tempfile.SpooledTemporaryFile(SMALL))  # noqa: SIM115
    total = 0
    try:
        with packed, gzip.GzipFile(fileobj=packed) as opened:
            while piece := opened.read(1 << 20):
                total += len(piece)
                if total > most or (total > SMALL and total > RATIO * size):
                    raise UserError(
                        f"{shown(name)!r} unpacks to more than {settings().max_unpacked_mb} MB, or to more than "
                        f"{RATIO} times its size. Nothing of it was kept. Pack fewer or smaller pictures."
                    )
                out.write(piece)
    except BaseException as error:
        out.close()
        if isinstance(error, UserError) or not isinstance(error, Exception):
            raise
        # whatever a forged file makes the reader raise
        raise Refused(f"is damaged ({reason(error)})") from error
    out.seek(0)
    return out


class Tape(Volume):
    """Reads the regular files of a tar, plain or packed by gzip, after looking at the head of each.

    Raises:
        UserError: If it is damaged, or has a member that is no file or leads out of it.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name, self.refused = name, []
        try:
            self._stream = unpacked(stream, name)
        except Refused as why:
            stream.close()
            raise UserError(f"{shown(name)!r} {why}. Get it again.") from None
        try:
            self.files = self._listed()
        except BaseException:
            self.close()
            raise

    @classmethod
    def of(cls, path: Path) -> Tape:
        """Opens a file on the server."""
        return cls(path.open("rb"), path.name)

    def close(self) -> None:
        """Closes the file."""
        super().close()
        self._stream.close()

    def read(self, file: File, most: int, count: bool = True) -> bytes:
        """Reads at most ``most`` bytes of a member; ``count`` means nothing here: a tar does not unpack to more."""
        self._stream.seek(file.key)
        return self._stream.read(min(most, file.size))

    def open(self, file: File) -> BinaryIO:
        """Copies a member into a file without a name."""
        out = cast(BinaryIO, tempfile.SpooledTemporaryFile(SMALL))  # noqa: SIM115
        self._stream.seek(file.key)
        left = file.size
        while left and (piece := self._stream.read(min(left, 1 << 20))):
            out.write(piece)
            left -= len(piece)
        out.seek(0)
        return out

    def _listed(self) -> Sequence[File]:
        end = self._stream.seek(0, 2)
        self._stream.seek(0)
        found: list[File] = []
        count = 0
        try:
            self._allow_before(0)  # it reads the first one at once
            tape = tarfile.open(fileobj=self._stream, mode="r:")  # noqa: SIM115
            while (member := tape.next()) is not None:
                tape.members = []  # type: ignore[attr-defined]  # else it keeps all of them
                count += 1
                allow_number(count, Path(self.name), factor=4)  # a picture, and what is said of it
                self._allow(member)
                self._allow_before(tape.offset)
                if not member.isfile():
                    continue
                if member.offset_data + member.size > end:
                    raise self._bad("is cut off (truncated)")
                name = member.name.replace("\\", "/").removeprefix("./")
                if not hidden(name):
                    found.append(File(name, member.size, member.offset_data))
        except UserError:
            raise
        except Exception as error:  # whatever a forged head makes the reader raise
            raise self._bad(
                f"is no tar that can be read, or is damaged ({reason(error)})"
            ) from error
        if not found:
            raise self._bad("holds no file")
        return found

    def _allow_before(self, at: int) -> None:
        """Looks at what lies before a member, such as its long name: tarfile reads all of it into memory."""
        here = self._stream.tell()
        for _ in range(_BEFORE):
            self._stream.seek(at)
            try:
                head = tarfile.TarInfo.frombuf(self._stream.read(512), "utf-8", "surrogateescape")
            except tarfile.TarError:  # the end, or damaged, which tarfile tells apart
                break
            if head.type not in _HEADS:
                break
            if head.size > _LONGEST:
                raise self._bad("has a name or a header that is too long")
            at += 512 + -(-head.size // 512) * 512
        else:
            raise self._bad("has too many headers before a file")
        self._stream.seek(here)

    def _allow(self, member: Any) -> None:
        path = member.name.replace("\\", "/")
        if (
            path.startswith("/")
            or "\0" in path
            or re.match("[A-Za-z]:", path)
            or ".." in path.split("/")
        ):
            raise self._bad(
                f"has the member {member.name[:200]!r}, whose path leads out of it. Only paths that stay inside are "
                "allowed, so nothing of it was read"
            )
        if not (member.isfile() or member.isdir()) or member.issparse():
            kind = "a link" if member.issym() or member.islnk() else "no plain file"
            raise self._bad(
                f"has the member {member.name[:200]!r}, which is {kind}. Only files and folders are allowed"
            )

    def _bad(self, why: str) -> UserError:
        return UserError(f"The tar {shown(self.name)!r} {shown(why)}. Pack it again.")
