"""WebDataset: tars in which the files of one name, up to its first dot, are one row.

References:
    WebDataset, the format https://github.com/webdataset/webdataset
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from core.catalog import UserError
from core.datasets import labels
from core.datasets.attributes import described, ours, whole_names
from core.datasets.container import Container, File, Rows, Volume
from core.datasets.files import allow_number, shown
from core.datasets.formats import Heads, formats
from core.datasets.layout import of_shards
from core.datasets.pictures import SUFFIXES
from core.datasets.tape import Tape, beginning, is_tar
from core.ground.untrusted import Limits, NoData, read_json
from core.ground.writing import many

_SAID = ("cls", "cls2", "index", "json", "txt")
_LIMITS = Limits(characters=2**16, depth=20, values=2000)
_NUMBERS = ("label", "class", "category", "target", "y", "class_id", "label_id")
_NAMED = ("label", "class_name", "label_name", "name", *_NUMBERS)


@dataclass
class TarRow:
    """The files of one key, which is what their names have in common up to the first dot."""

    key: str
    picture: File | None = None
    beside: dict[str, File] = field(default_factory=dict)


def told(volume: Volume, heads: Heads) -> Sequence[File]:
    """Lists the tars of a folder; of a tar itself its files, where something is said beside its pictures."""
    if isinstance(volume, Tape):
        said = any(file.name.rpartition(".")[2] in ("cls", "json", "txt") for file, _ in heads)
        return list(volume.files) if said and _has_pairs(volume.files) else []
    return [file for file, head in heads if is_tar(beginning(head))]


@formats.add("webdataset", "WebDataset", told=told, suffixes=("tar", "tgz", "gz"))
def webdataset(volume: Volume, files: Sequence[File], config: Any) -> Container:
    """Pictures in tars, each with its class or what else is known of it in files of the same name."""
    return TarContainer(volume, files)


class TarContainer(Container):
    """Rows of tars; a tar is read where it lies.

    Raises:
        UserError: If a tar is not to be trusted, or a key is that of two rows.
    """

    def __init__(self, volume: Volume, files: Sequence[File]) -> None:
        self.volume, self.refused = volume, []
        self._tapes: list[Tape] = []
        try:
            if isinstance(volume, Tape):
                self._tapes.append(volume)
            else:
                for file in sorted(files, key=lambda file: file.name):
                    self._tapes.append(Tape(volume.open(file), file.name))
            self.files, self.rows = self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes all tars."""
        for tape in self._tapes:
            tape.close()
        self.volume.close()

    def read(self, file: File, most: int, count: bool = True) -> bytes:
        """Reads a picture."""
        number, member = file.key
        return self._tapes[number].read(member, most, count)

    def _read(self) -> tuple[list[File], Rows]:
        listed: list[File] = []
        split: list[str] = []
        numbers: list[int | None] = []
        names: list[str | None] = []
        known: list[dict[str, Any]] = []
        used: set[str] = set()  # keys that said a class or a split, and are no columns
        shards = of_shards([tape.name for tape in self._tapes])
        for number, (tape, part) in enumerate(zip(self._tapes, shards, strict=True)):
            stem = PurePosixPath(tape.name).name.partition(".")[0]
            for sample in _samples(tape):
                if sample.picture is None:
                    self.refused.append((sample.key, "has no picture among its files"))
                    continue
                said = _said(tape, sample)
                name = f"{sample.key}.{sample.picture.name.rpartition('.')[2]}"
                name = name if len(self._tapes) == 1 else f"{stem}/{name}"
                listed.append(File(name, sample.picture.size, (number, sample.picture)))
                allow_number(len(listed), Path(self.volume.name))
                of, called = _class(tape, sample, said, used)
                numbers.append(of)
                names.append(called)
                key = next((key for key in labels.SPLIT if isinstance(said.get(key), str)), "")
                used.add(key)
                split.append(said.get(key) or part)
                known.append(said)
        about = self._about()
        label, classes = _classes(numbers, names)
        if names_of := whole_names({name for name in label if name}, about.get("classes", ())):
            label = [names_of[name] if name else None for name in label]
            classes = tuple(about["classes"])
        columns = list(dict.fromkeys(key for said in known[:1000] for key in said))
        if about.get("classes") == []:  # our own, of a set without classes
            label, classes = [], ()
        if label:
            used.add("label")  # also where a file beside says the same
        rows = Rows(
            label=label,
            classes=classes,
            split=split if any(split) else (),
            columns={
                key: [said.get(key) for said in known]
                for key in columns[: labels.COLUMNS]
                if key not in used
            },
            sentence="the files beside the pictures",
            **ours(about, columns),
        )
        if len(self._tapes) > 1:
            rows.notes.append(f"{many(self._tapes, 'tar')} are one set.")
        return listed, rows

    def _about(self) -> dict[str, Any]:
        """Reads the classes.json that an export of this program has beside its tars."""
        for file in () if isinstance(self.volume, Tape) else self.volume.files:
            if PurePosixPath(file.name).name == "classes.json" and file.size < 2**22:
                return described(self.volume.read(file, 2**22))
        return {}


def _has_pairs(files: Sequence[File]) -> bool:
    """Tells whether something is said of a picture in a file of the same name."""
    pictures = {_key(file.name)[0] for file in files if _key(file.name)[1] in SUFFIXES}
    return any(_key(file.name)[0] in pictures for file in files if _key(file.name)[1] in _SAID)


def _key(name: str) -> tuple[str, str]:
    """Divides a name at the first dot of its last part: what is common, and the last ending.

    >>> _key("a.b/img_0.seg.png")
    ('a.b/img_0', 'png')
    """
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return folder + slash + stem, ending.rpartition(".")[2].casefold()


def _samples(tape: Tape) -> Iterator[TarRow]:
    """Yields the rows of a tar: neighbours with one key."""
    seen: set[str] = set()
    at: TarRow | None = None
    for file in tape.files:
        key, ending = _key(file.name)
        if at is None or key != at.key:
            if at is not None:
                yield at
            if key in seen:
                raise _refused(
                    tape,
                    f"has the key {key[:200]!r} twice, and not one after the other: two rows would become one or be "
                    "torn. Give each row a key of its own",
                )
            seen.add(key)
            at = TarRow(key)
        if ending in SUFFIXES:
            if at.picture is not None:
                raise _refused(
                    tape,
                    f"has two pictures under the key {key[:200]!r} ({at.picture.name[-60:]!r}, {file.name[-60:]!r}): "
                    "a key ends at the first dot. Give each picture a key without dots",
                )
            at.picture = file
        else:
            at.beside[ending] = file
    if at is not None:
        yield at


def _said(tape: Tape, sample: TarRow) -> dict[str, Any]:
    """Reads the plain values of the JSON beside a picture, and its text."""
    found: dict[str, Any] = {}
    if file := sample.beside.get("json"):
        try:
            text = tape.read(file, 2**16 + 1).decode()
            value = read_json(text, f"{file.name[-80:]!r} in {tape.name!r}", _LIMITS)
        except (NoData, UnicodeDecodeError):
            raise _refused(tape, f"has {file.name[-80:]!r}, which is no JSON") from None
        if not isinstance(value, dict):
            raise _refused(tape, f"has {file.name[-80:]!r}, which is no JSON object")
        found = {
            str(key)[:200]: each
            for key, each in value.items()
            if each is None or isinstance(each, bool | int | float | str)
        }
    if file := sample.beside.get("txt"):
        found.setdefault("txt", tape.read(file, 1000).decode("utf-8", "replace").strip())
    return found


def _class(
    tape: Tape, sample: TarRow, said: dict[str, Any], used: set[str]
) -> tuple[int | None, str | None]:
    """Gives the number and the name of a class, of what is known of them; adds the keys that said them to ``used``."""
    number: int | None = None
    name: str | None = None
    if file := sample.beside.get("cls") or sample.beside.get("index"):
        text = tape.read(file, 1000).decode("utf-8", "replace").strip()
        if text.lstrip("-").isdecimal() and len(text) < 10:
            number = int(text)
        elif text:
            name = labels.class_name(text)
    for key in _NUMBERS:
        if number is None and isinstance(said.get(key), int):
            number = int(said[key])
            used.add(key)
    for key in _NAMED:
        if (
            name is None
            and isinstance(said.get(key), str)
            and (key != "name" or number is not None)
        ):
            name = labels.class_name(said[key]) or None
            used.add(key)
    return (None, name) if number is not None and number < 0 else (number, name)


def _classes(
    numbers: Sequence[int | None], names: Sequence[str | None]
) -> tuple[list[str | None], tuple[str, ...]]:
    """Names the class of each row; where numbers and names fit, the numbers say the order."""
    known = {(of, name) for of, name in zip(numbers, names, strict=True) if of is not None and name}
    of = dict(known)
    if len(of) == len(known) == len({name for _, name in known}) and of:
        label = [
            name or of.get(-1 if k is None else k) for k, name in zip(numbers, names, strict=True)
        ]
        if all(name is None or name in of.values() for name in label):
            return label, tuple(of[k] for k in sorted(of))
        return label, ()
    if any(names):
        return list(names), ()
    if any(k is not None for k in numbers):
        return [None if k is None else str(k) for k in numbers], ()
    return [], ()


def _refused(tape: Tape, why: str) -> UserError:
    return UserError(f"The tar {shown(tape.name)!r} {shown(why)}.")
