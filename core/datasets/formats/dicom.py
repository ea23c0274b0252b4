"""DICOM: the pictures of scanners, one or many in a file, with a header full of what must not travel with them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from core.catalog import Config, UserError, knob
from core.datasets import dicom, dicom_pixels
from core.datasets.container import Container, File, Rows, Volume
from core.datasets.dataset import evenly
from core.datasets.dicom import KEPT, NUMBERS, Scan, Window
from core.datasets.files import allow_number, header
from core.datasets.formats import formats, written
from core.datasets.pictures import HEAD, Header, Refused
from core.ground.settings import settings
from core.ground.writing import many

MOST = 2**29  # bytes of a file
PERCENTILES = (0.5, 99.5)
LOOKED = 256  # frames, evenly spread, out of which the window of a set is taken
_POINTS = 2**13  # values of each of them


class WindowConfig(Config):
    """How the values of a scanner become greys."""

    window: Literal["of the set", "of each file", "as given"] = knob(
        "of the set",
        "Which values of DICOM pictures become black to white: 0.5 to 99.5 % of those of the whole set, the window "
        "that each file says, or the one that is given here.",
        title="Window",
        advanced=True,
    )
    centre: float = knob(
        40.0,
        "The value in the middle of the window as given, in the units of the pictures (of a CT, Hounsfield units).",
        ge=-100_000,
        le=100_000,
        title="Centre of the window",
        advanced=True,
        log=True,
    )
    width: float = knob(
        400.0,
        "How many values the window as given reaches over, from black to white.",
        gt=0,
        le=200_000,
        title="Width of the window",
        advanced=True,
        log=True,
    )


@formats.add(
    "dicom",
    "DICOM",
    WindowConfig,
    told=lambda volume, heads: [file for file, head in heads if dicom.told(head)],
    suffixes=("dcm", "dicom", "ima"),
)
def opened(volume: Volume, files: Sequence[File], config: Any) -> Container:
    """Pictures of scanners, single ones and series; who is on them is a code that nothing leads back from."""
    return Scans(volume, files, config)


class ScanFrame(NamedTuple):
    """A picture in a file.

    Attributes:
        file: Which one.
        scan: What its header says.
        number: Of the picture, from 0.
    """

    file: File
    scan: Scan
    number: int


class Scans(Container):
    """The frames of DICOM files as pictures of 8 bits, and the other pictures and tables beside them.

    Nothing of a header is kept but :data:`core.datasets.dicom.KEPT`. Patient, study and series become codes, hashed
    with a salt that is made of all headers together: whoever does not have the files cannot try out names.

    Raises:
        UserError: If pydicom is not installed, no file can be read, or there are too many pictures.
    """

    def __init__(self, volume: Volume, files: Sequence[File], config: Any) -> None:
        self.volume, self.refused = volume, list(volume.refused)
        self._config = config
        self._held: tuple[str, bytes, dicom_pixels.Pieces] = ("", b"", ())
        scans: list[tuple[File, Scan]] = []
        marks, mine = [], {file.name for file in files}
        for file in files:
            try:
                scan, mark = self._look(file)
            except Refused as reason:
                self.refused.append((file.name, str(reason)))
                continue
            scans.append((file, scan))
            marks.append(mark)
        salt = hashlib.sha256(b"".join(sorted(marks))).digest()
        self.files, self._headers = [], dict[str, Header]()
        codes = [_codes(salt, scan) for _, scan in scans]
        below: dict[str, set[str]] = defaultdict(set)  # the patients of each folder
        for (file, _), code in zip(scans, codes, strict=True):
            for folder in _folders(file.name):
                below[folder].add(code["patient"])
        shared = {folder for folder, patients in below.items() if len(patients) > 1}
        renamed: dict[str, str] = {}  # folders
        self.given: dict[str, str] = {}  # what a picture was called
        told: list[dict[str, Any]] = []
        for (file, scan), code in zip(scans, codes, strict=True):
            name = unnamed(file.name, _words(salt, scan, code), shared)
            renamed |= zip(_folders(file.name), _folders(name), strict=True)
            for number in range(scan.frames):
                own = f"{name}#{number:04d}" if scan.frames > 1 else name
                if own in self._headers:  # two paths that were told apart by a name
                    own = f"{own} ({len(self.files)})"
                size = scan.rows * scan.columns * (1 if scan.grey else 3)
                self.files.append(File(own, size, ScanFrame(file, scan, number)))
                self.given[own] = file.name + (f"#{number:04d}" if scan.frames > 1 else "")
                self._headers[own] = Header(scan.columns, scan.rows, False)
                told.append(
                    {**code, **_plain(scan)} | ({"frame": number} if scan.frames > 1 else {})
                )
            allow_number(len(self.files), Path(volume.name))
        if not scans:
            first = "; ".join(f"{name} {why}" for name, why in self.refused[:3])
            raise UserError(f"No DICOM file in {volume.name!r} can be read: {first}.")
        frames = list(self.files)

        def beside(name: str) -> str:
            folder, slash, last = name.rpartition("/")
            return renamed.get(folder, folder) + slash + last

        self.refused = [(beside(name), why) for name, why in self.refused]
        for file in volume.files:  # tables that say the classes, and other pictures
            if file.name not in mine:
                name = beside(file.name)
                self.files.append(replace(file, name=name))
                self.given[name] = file.name
                told.append({})
        names = dict.fromkeys(name for row in told for name in row)
        self._window = self._of_set(frames) if config.window == "of the set" else None
        if config.window == "as given":
            self._window = Window(config.centre, config.width)
        self.rows = Rows(
            columns={name: [row.get(name) for row in told] for name in names},
            notes=self._notes(scans, frames),
            sentence="the headers of the DICOM files",
            group="patient" if any(code["patient"] for code in codes) else "",
            given=self.given,
            chain="scans",
            beside=True,
        )

    def close(self) -> None:
        """Closes what they lie in."""
        self.volume.close()

    def header(self, file: File) -> Header:
        """Says how large a picture is."""
        if file.name in self._headers:
            return self._headers[file.name]
        return header(self.volume, file)

    def read(self, file: File, most: int, count: bool = True) -> bytes:
        """Reads a picture, or a file beside it.

        Raises:
            Refused: If it cannot be read.
            UserError: If what it lies in unpacks to more than it may.
        """
        if not isinstance(file.key, ScanFrame):
            return self.volume.read(file, most, count)
        values = self._values(file.key, count)
        if not file.key.scan.grey:
            return written(values)[:most]
        light = self._seen_through(file.key).light(values)
        if file.key.scan.kind == "MONOCHROME1":  # its lowest value is white
            light = 1 - light
        return written((light * 255).round().astype(np.uint8))[:most]

    def _look(self, file: File) -> tuple[Scan, bytes]:
        """Reads a header, and hashes it."""
        if file.size > MOST:
            raise Refused(
                f"has {file.size / 2**20:.0f} MB, and at most {MOST >> 20} MB are allowed"
            )
        limit = settings().max_megapixels
        data = self.volume.read(file, HEAD, count=False)
        try:
            scan = dicom.look(data, file.size, limit)
        except dicom.Short:
            data = self.volume.read(file, MOST, count=False)
            scan = dicom.look(data, len(data), limit)
        return scan, hashlib.sha256(data[: scan.start]).digest()

    def _values(self, frame: ScanFrame, count: bool) -> np.ndarray:
        if self._held[0] != frame.file.name:
            data = self.volume.read(frame.file, MOST, count)
            self._held = frame.file.name, data, dicom_pixels.pieces_of(data, frame.scan)
        return dicom_pixels.pixels(self._held[1], frame.scan, frame.number, self._held[2])

    def _seen_through(self, frame: ScanFrame) -> Window:
        own = frame.scan.window(frame.number) if self._config.window == "of each file" else None
        if own is None and self._window is None:
            self._window = self._of_set(self.files)
        return own or self._window or Window(0, 1)

    def _of_set(self, files: Sequence[File]) -> Window:
        """Finds the window that nearly all values of the set lie in; a frame that cannot be read says nothing."""
        grey = [
            file.key for file in files if isinstance(file.key, ScanFrame) and file.key.scan.grey
        ]
        points = []
        for at in evenly(np.arange(len(grey)), LOOKED):
            try:
                values = self._values(grey[at], count=False).ravel()
            except Refused:
                continue
            points.append(values[:: max(1, len(values) // _POINTS)])
        if not points:
            return Window(0, 1)
        low, high = np.percentile(np.concatenate(points), PERCENTILES)
        return Window(float(low + high) / 2, max(float(high - low), 1e-6))

    def _notes(self, scans: Sequence[tuple[File, Scan]], frames: Sequence[File]) -> list[str]:
        every = [scan for _, scan in scans]
        notes = [f"{many(frames, 'picture')} out of {many(scans, 'DICOM file')}."]
        if any(scan.grey for scan in every):
            notes.append(self._told_window(every))
        modalities = Counter(scan.about.get("modality", "unknown") for scan in every)
        if len(modalities) > 1 and self._config.window != "of each file":
            listed = ", ".join(f"{name} {count:,}" for name, count in modalities.items())
            notes.append(
                f"One window for pictures of several kinds ({listed}), whose values mean different things: import each "
                "kind by itself, or take the window of each file."
            )
        kept = [name for name in KEPT if any(name in scan.about for scan in every)]
        dropped = sorted(set().union(*(scan.dropped for scan in every)))
        some = ", ".join(dropped[:4]) + (" …" if len(dropped) > 4 else "")
        notes.append(
            f"Of the headers, {', '.join(kept) or 'nothing'} {'are' if len(kept) > 1 else 'is'} kept; patient, study "
            f"and series are codes that are new in each import. Dropped: {many(dropped, 'other tag')}"
            + (f" ({some})." if some else ".")
        )
        burned = sum(scan.burned for scan in every)
        notes.append(
            "Text that is burned into pictures, such as a name, is not looked for: see for yourself."
            + (f" {many(burned, 'file')} say that they hold some." if burned else "")
        )
        return notes

    def _told_window(self, scans: Sequence[Scan]) -> str:
        if self._config.window == "of each file":
            without = sum(scan.grey and None in scan.windows for scan in scans)
            return "Each picture is seen through the window that its file says" + (
                f"; {many(without, 'file')} without one through the window of the set."
                if without
                else "."
            )
        assert self._window is not None
        low, width = self._window.centre - self._window.width / 2, self._window.width
        how = "as given" if self._config.window == "as given" else "0.5 to 99.5 % of all values"
        return (
            f"The values {low:g} to {low + width:g} became black to white (window of centre {self._window.centre:g}, "
            f"width {width:g}: {how})."
        )


def _code(salt: bytes, name: str, value: str) -> str:
    return hashlib.sha256(salt + f"{name}:{value}".encode()).hexdigest()[:12] if value else ""


def _codes(salt: bytes, scan: Scan) -> dict[str, str]:
    """Gives the codes of patient, study and series; empty for what a header does not say."""
    keys = {"patient": "PatientID", "study": "StudyInstanceUID", "series": "SeriesInstanceUID"}
    return {name: _code(salt, name, scan.secret[key]) for name, key in keys.items()}


def _words(salt: bytes, scan: Scan, codes: Mapping[str, str]) -> dict[str, str]:
    """Gives what a path must not say, with what stands there instead."""
    own = {key: _code(salt, key, value) for key, value in scan.secret.items()}
    own |= {"StudyInstanceUID": codes["study"], "SeriesInstanceUID": codes["series"]}
    words = {value: own[key] for key, value in scan.secret.items() if key != "PatientName"}
    who = [scan.secret["PatientID"], *re.split(r"[\^=\s]+", scan.secret["PatientName"])]
    words |= dict.fromkeys(who, codes["patient"] or "x")
    return {word: code for word, code in words.items() if len(word) > 2}


def _folders(path: str) -> list[str]:
    """Lists the folders around a file, the outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _plain(scan: Scan) -> dict[str, Any]:
    """Gives what is kept of a header, numbers as numbers."""
    found: dict[str, Any] = {}
    for name, value in scan.about.items():
        try:
            number = float(value) if name in NUMBERS else 0.0
            found[name] = (
                value if name not in NUMBERS else int(number) if name == "number" else number
            )
        except ValueError:
            continue
    return found


def unnamed(path: str, words: Mapping[str, str], shared: Collection[str] = ()) -> str:
    """Takes names, numbers and dates out of a path: folders are often called so.

    >>> unnamed("sick/DOE^JANE_4711/1.dcm", {"Doe": "ab12", "Jane": "ab12", "4711": "ab12"})
    'sick/ab12^ab12_ab12/1.dcm'

    Args:
        path: Of a file.
        words: What it must not say, with what stands there instead.
        shared: Folders of several patients, whose names are none of one of them.
    """
    parts, folders = path.split("/"), [*_folders(path), path]
    for word in sorted(words, key=len, reverse=True):
        code = words[word]
        for i, part in enumerate(parts):
            at = part.casefold().find(word.casefold()) if folders[i] not in shared else -1
            while at >= 0:
                part = part[:at] + code + part[at + len(word) :]
                at = part.casefold().find(word.casefold(), at + len(code))
            parts[i] = part
    return "/".join(parts)
