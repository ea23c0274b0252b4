"""What pictures come in: files that are read one at a time, and what is known of them beside their pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, BinaryIO, Self

from core.datasets.pictures import Header


@dataclass(frozen=True)
class File:
    """One file that may be a picture."""

    name: str  # with slashes, below the folder or in the ZIP
    size: int
    key: Any  # what reads it: a Path or a ZipInfo


@dataclass
class Rows:
    """What a container says of its files beside their pictures; each list is in the order of the files, or empty.

    Attributes:
        label: Name of the class; None for none.
        classes: All names in the order of their numbers; empty for the order of the names.
        split: As the source calls it; empty where it says none.
        columns: What else is known: whole numbers, numbers, texts, booleans, or None.
        notes: What is worth knowing.
        sentence: What says all this, the end of a sentence: ``the Parquet file``.
        terms: The ``licence`` and the ``consent``, where it says them.
        group: The column whose values keep pictures in one split, unless another one is chosen.
        called: What these values are, for example ``patient``; empty for the name of the column.
        chain: The usual augmentations of such pictures, a preset's name; empty for what suits any.
        given: What files were called that have another name here; tables beside them name them so.
        reach: Pictures with an annotated box outside of their middle square.
        beside: Whether it says only columns, and folders and tables beside the pictures say classes and splits.
    """

    label: Sequence[str | None] = ()
    classes: tuple[str, ...] = ()
    split: Sequence[str] = ()
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sentence: str = "the file"
    terms: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    called: str = ""
    chain: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    reach: int = 0
    beside: bool = False


class Container(ABC):
    """Files that hold one picture each, and are read one at a time.

    Attributes:
        files: Those that may be pictures. With ``rows`` their names differ, and they are read fastest in their order.
        refused: Names of what is left out, with the reason.
        rows: What is known of each file; None where folders and tables beside the pictures say it.
        title: The format, for people; empty for pictures that lie in folders.
        knobs: Names of the choices that only this format has.
        pairs: The second image of each file, by its name; empty where there are none.
        pairs_in: What reads these; None for the container itself.
    """

    files: Sequence[File] = ()
    refused: list[tuple[str, str]]
    pairs: Mapping[str, File] = MappingProxyType({})
    pairs_in: Container | None = None
    rows: Rows | None = None
    title: str = ""
    knobs: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027  most have nothing open
        """Lets go of what is open."""

    def header(self, file: File) -> Header | None:
        """Says what is known of a picture before it is read; None where its first bytes say it."""
        return None

    @abstractmethod
    def read(self, file: File, most: int, count: bool = True) -> bytes:
        """Reads at most ``most`` bytes of a file: a picture of one of :data:`core.datasets.pictures.KINDS`.

        Args:
            file: Which one.
            most: How much.
            count: Whether it adds to what the container unpacks to; a look at the beginning does not.

        Raises:
            Refused: If it cannot be read.
            UserError: If the container unpacks to more than it may.
        """


class Volume(Container):
    """Files of any kind, out of which formats make containers of pictures."""

    name: str
    _kept: list[BinaryIO] | None = None

    def close(self) -> None:
        """Closes what was kept open."""
        for stream in self._kept or ():
            stream.close()
        self._kept = None

    def kept(self, stream: BinaryIO) -> BinaryIO:
        """Keeps a stream open until this volume is closed, and gives it back."""
        self._kept = [*(self._kept or ()), stream]
        return stream

    @abstractmethod
    def open(self, file: File) -> BinaryIO:
        """Opens a file for reading at any place.

        Raises:
            Refused: If it cannot be read.
            UserError: If it unpacks to more than it may.
        """
