"""What the header of a DICOM file says that nobody vouches for; pydicom reads it, and no pixel.

Rescale and window come from the top of the file, else from what all frames share, else from the frame's own group.

References:
    The DICOM standard, PS3.3 C.7.6.3 (pixels), C.7.6.16 (groups of frames), C.11.2 (window)
    https://dicom.nema.org/medical/dicom/current/output/html/part03.html
"""

from __future__ import annotations

import io
import math
import struct
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.catalog import optional
from core.datasets.pictures import Refused, explained

DEFLATED = "1.2.840.10008.1.2.1.99"
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
BIG = "1.2.840.10008.1.2.2"
RUNS = "1.2.840.10008.1.2.5"
GREY = ("MONOCHROME1", "MONOCHROME2")
# what is kept of a header, by the name of the column
KEPT = {
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "view": "ViewPosition",
    "side": "ImageLaterality",
    "maker": "Manufacturer",
    "pixel_mm": "PixelSpacing",
    "slice_mm": "SliceThickness",
    "number": "InstanceNumber",
}
NUMBERS = ("pixel_mm", "slice_mm", "number")
# what is read to tell who belongs together and what a path must not say, and is never kept
_SECRET = (
    "PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "StudyDate", "StudyInstanceUID",
    "SeriesInstanceUID", "SOPInstanceUID",
)  # fmt: skip
# of the pixels themselves
_OF_PIXELS = {
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PhotometricInterpretation", "PlanarConfiguration", "RescaleSlope", "RescaleIntercept",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "BurnedInAnnotation", "SpecificCharacterSet", "SOPClassUID",
}  # fmt: skip


class Short(Exception):
    """Says that the header goes on beyond what was read of the file."""


@dataclass(frozen=True)
class Window:
    """Which values are drawn from black to white.

    Attributes:
        centre, width: In the units of the picture.
        curve: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``, as DICOM calls them.
    """

    centre: float
    width: float
    curve: str = "LINEAR_EXACT"

    def light(self, values: np.ndarray) -> np.ndarray:
        """Turns values (H, W) into light, 0 to 1."""
        if self.curve == "SIGMOID":
            return 1 / (1 + np.exp(-4 * (values - self.centre) / self.width))
        if self.curve == "LINEAR":  # of whole numbers: its edges lie half a value further in
            shifted = (values - (self.centre - 0.5)) / max(self.width - 1, 1e-6)
        else:
            shifted = (values - self.centre) / self.width
        return np.clip(shifted + 0.5, 0, 1)


@dataclass(frozen=True)
class Scan:
    """What the header of a file says.

    Attributes:
        rows, columns, frames: Of its pictures.
        samples: Numbers for each pixel, 1 or 3.
        allocated, stored, high: Bits that a number takes, that it has, and the highest of these.
        signed: Whether it may be below 0.
        kind: Photometric interpretation.
        planar: Whether colours follow each other as planes.
        syntax: How it is packed.
        start: Where the pixels begin.
        length: Bytes of them; None where they are packed in pieces.
        words: Whether bytes are stored as halves of words.
        scales: Slope and intercept of each frame, or one for all.
        windows: Of each frame, or one for all; None where the file says none.
        about: Of :data:`KEPT`, what the file says.
        secret: Of who belongs together, in clear; for hashing only.
        dropped: What else it says, by keyword.
        burned: Whether it says that text is burned into the picture.
        palette: Colours (entries, 3) and the number of the first; None without.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    kind: str
    planar: bool
    syntax: str
    start: int
    length: int | None
    words: bool
    scales: tuple[tuple[float, float], ...]
    windows: tuple[Window | None, ...]
    about: dict[str, str] = field(default_factory=dict)
    secret: dict[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    burned: bool = False
    palette: tuple[np.ndarray, int] | None = None

    @property
    def grey(self) -> bool:
        """Whether a window is needed to see it."""
        return self.kind in GREY

    def window(self, frame: int) -> Window | None:
        """Gives the window that the file says for a frame."""
        return self.windows[frame if len(self.windows) > 1 else 0]


def told(head: bytes) -> bool:
    """Tells by its beginning whether a file is one."""
    return head[128:132] == b"DICM"


def look(data: bytes, size: int, megapixels: float = 16) -> Scan:
    """Reads the header.

    Args:
        data: The file's content, or its beginning.
        size: Bytes of the whole file.
        megapixels: Largest picture that may be decoded.

    Raises:
        Short: If the header goes on beyond ``data``.
        Refused: If it holds no picture that is read here, or declares more than it holds.
        UserError: If pydicom is not installed.
    """
    pydicom = optional("pydicom", "DICOM", "save the pictures as PNG or TIFF")
    syntax = _syntax(data)
    if syntax == DEFLATED:
        raise Refused("is a DICOM file that is deflated as a whole, which is not read")
    stream = io.BytesIO(data)
    try:
        with explained(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about values that break the standard
            header = pydicom.dcmread(stream, stop_before_pixels=True)
            start, length, words = _pixels(data, stream.tell(), syntax)
            return _scan(header, syntax, start, length, words, size, megapixels)
    except Refused:
        if len(data) < size:
            raise Short from None
        raise


def _syntax(data: bytes) -> str:
    """Reads how a file is packed out of its first group, before anything else is read."""
    at = 132
    while data[at : at + 2] == b"\2\0" and at + 12 <= len(data):
        element, form = int.from_bytes(data[at + 2 : at + 4], "little"), data[at + 4 : at + 6]
        long = form in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"UC", b"UR")
        length = int.from_bytes(data[at + 8 : at + 12] if long else data[at + 6 : at + 8], "little")
        at += 12 if long else 8
        if element == 0x10:
            return data[at : at + min(length, 64)].rstrip(b"\0 ").decode("ascii", "replace")
        at += length
    return ""


def _pixels(data: bytes, at: int, syntax: str) -> tuple[int, int | None, bool]:
    """Reads the head of the pixels: where they begin, their length, and whether they are words.

    Raises:
        Refused: If there are none here.
    """
    order = ">" if syntax == BIG else "<"
    head = data[at : at + 12].ljust(12, b"\0")
    tag = struct.unpack(order + "HH", head[:4])
    if tag in ((0x7FE0, 8), (0x7FE0, 9)):
        raise Refused("holds floats as pixels, which are not read")
    if tag != (0x7FE0, 0x10):
        raise Refused("is a DICOM file that holds no picture, such as a report or a directory")
    if syntax == NATIVE[0]:
        form, (length,), start = b"OW", struct.unpack("<I", head[4:8]), at + 8
    else:
        form, (length,), start = head[4:6], struct.unpack(order + "I", head[8:12]), at + 12
    return start, None if length == 0xFFFFFFFF else length, form == b"OW"


def _scan(
    header: Any,
    syntax: str,
    start: int,
    length: int | None,
    words: bool,
    size: int,
    megapixels: float,
) -> Scan:
    rows, columns = (_whole(header, key, 1, 2**16 - 1) for key in ("Rows", "Columns"))
    frames = _whole(header, "NumberOfFrames", 1, 2**20, 1)
    samples = _whole(header, "SamplesPerPixel", 1, 3, 1)
    allocated = _whole(header, "BitsAllocated", 1, 64)
    stored = _whole(header, "BitsStored", 1, 64, allocated)
    high = _whole(header, "HighBit", 0, 63, stored - 1)
    signed = _whole(header, "PixelRepresentation", 0, 1, 0) == 1
    kind = str(header.get("PhotometricInterpretation", "")).strip()
    if rows * columns > megapixels * 1e6:
        raise Refused(
            f"has {columns} × {rows} pixels, and at most {megapixels:g} megapixels are allowed"
        )
    if allocated not in (8, 16) or stored > allocated or not stored - 1 <= high < allocated:
        raise Refused(f"has {stored} of {allocated} bits for each number; 8 and 16 are read")
    if (samples, kind) not in [(1, "MONOCHROME1"), (1, "MONOCHROME2"), (1, "PALETTE COLOR")] and (
        samples != 3 or kind[:3] not in ("RGB", "YBR")
    ):
        raise Refused(f"has pixels of the kind {kind or 'unknown'!r:.40}, which are not read")
    if syntax in NATIVE:
        if kind not in (*GREY, "PALETTE COLOR", "RGB", "YBR_FULL"):
            raise Refused(f"has pixels of the kind {kind!r:.40}, which are read only where packed")
        need = frames * rows * columns * samples * allocated // 8
        if length is None or length < need:
            raise Refused(
                f"declares {frames:,} × {columns} × {rows} pixels, and holds fewer of them"
            )
        if start + need > size:
            raise Refused("is cut off (truncated)")
    else:
        if frames > max(0, size - start) // 8:  # each has a piece with a head of 8 bytes
            raise Refused(f"declares {frames:,} frames, and holds fewer")
        if syntax != RUNS:
            _allow_packed(syntax)
    if header.get("ModalityLUTSequence"):
        raise Refused("maps its values by a table (Modality LUT), which is not read")
    groups = list(header.get("PerFrameFunctionalGroupsSequence") or [])
    if groups and len(groups) != frames:
        raise Refused(f"declares {frames:,} frames, and describes {len(groups):,}")
    each = groups or [None]
    keywords = {element.keyword for element in header if element.keyword}
    kept = {name: _first(header.get(key)) for name, key in KEPT.items()}
    if not kept["pixel_mm"]:
        kept["pixel_mm"] = _first(
            _grouped(header, each[0], "PixelMeasuresSequence", "PixelSpacing")
        )
    return Scan(
        rows,
        columns,
        frames,
        samples,
        allocated,
        stored,
        high,
        signed,
        kind,
        _whole(header, "PlanarConfiguration", 0, 1, 0) == 1,
        syntax,
        start,
        length,
        words,
        tuple(_scale(header, own) for own in each),
        tuple(_window(header, own) for own in each),
        {name: value for name, value in kept.items() if value},
        {key: str(header.get(key, "") or "").strip() for key in _SECRET},
        frozenset(keywords - _OF_PIXELS - set(KEPT.values())),
        str(header.get("BurnedInAnnotation", "")).strip().upper() == "YES",
        _palette(header) if kind == "PALETTE COLOR" else None,
    )


def _whole(header: Any, key: str, low: int, high: int, usual: int | None = None) -> int:
    value = header.get(key)
    if value is None or value == "":
        value = usual
    try:
        number = int(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = low - 1
    if not low <= number <= high:
        raise Refused(f"says {key} {value!r:.40}, and must say a whole number from {low} to {high}")
    return number


def _first(value: Any) -> str:
    """Writes the first of one or several values on one line."""
    if value is not None and not isinstance(value, str) and hasattr(value, "__len__"):
        value = value[0] if len(value) else None
    return "" if value is None else " ".join(str(value).split())[:64]


def _grouped(header: Any, own: Any, sequence: str, key: str) -> Any:
    """Looks for a value at the top, else in what all frames share, else in the frame's own group."""
    if header.get(key) not in (None, ""):
        return header.get(key)
    shared = header.get("SharedFunctionalGroupsSequence") or []
    for group in (*shared[:1], *([] if own is None else [own])):
        for part in group.get(sequence) or []:
            if part.get(key) not in (None, ""):
                return part.get(key)
    return None


def _real(value: Any, what: str) -> float | None:
    """Reads a number, the first where there are several.

    Raises:
        Refused: If it is none, or not finite.
    """
    if not (written := _first(value)):
        return None
    try:
        number = float(written)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or abs(number) > 1e9:
        raise Refused(f"says {what} {written!r:.40}, which is no usable number")
    return number


def _scale(header: Any, own: Any) -> tuple[float, float]:
    places = "PixelValueTransformationSequence"
    slope, intercept = (
        _real(_grouped(header, own, places, key), key)
        for key in ("RescaleSlope", "RescaleIntercept")
    )
    if slope == 0:
        raise Refused("says RescaleSlope 0, which makes all values one")
    return 1.0 if slope is None else slope, intercept or 0.0


def _window(header: Any, own: Any) -> Window | None:
    places = "FrameVOILUTSequence"
    centre, width = (
        _real(_grouped(header, own, places, key), key) for key in ("WindowCenter", "WindowWidth")
    )
    if centre is None or width is None or width <= 0:
        return None
    curve = str(_grouped(header, own, places, "VOILUTFunction") or "LINEAR").strip().upper()
    return Window(centre, width, curve if curve in ("LINEAR_EXACT", "SIGMOID") else "LINEAR")


def _palette(header: Any) -> tuple[np.ndarray, int]:
    """Reads the colours that pixels stand for, uint8 (entries, 3), and the number of the first."""
    columns, first = [], 0
    for colour in ("Red", "Green", "Blue"):
        described = header.get(f"{colour}PaletteColorLookupTableDescriptor")
        data = header.get(f"{colour}PaletteColorLookupTableData")
        if described is None or len(described) != 3 or not isinstance(data, bytes):
            raise Refused("has colours from a palette of a form that is not read")
        entries, first, bits = int(described[0]) or 2**16, int(described[1]), int(described[2])
        wide = bits == 16 and len(data) >= 2 * entries
        values = np.frombuffer(data, "<u2" if wide else np.uint8)[:entries]
        if len(values) < entries:
            raise Refused("has a palette that is cut off")
        columns.append((values >> 8 if wide else values).astype(np.uint8))
    if len({len(column) for column in columns}) > 1:
        raise Refused("has a palette whose colours differ in number")
    return np.stack(columns, 1), first


def _allow_packed(syntax: str) -> None:
    """Refuses pixels that nothing here unpacks, and says which package would."""
    pydicom = optional("pydicom", "DICOM")
    called = pydicom.uid.UID(syntax).name if syntax else "unknown"
    try:
        decoder = optional("pydicom.pixels", "DICOM").get_decoder(pydicom.uid.UID(syntax))
    except (NotImplementedError, ValueError):
        raise Refused(f"is packed as {called!r:.80}, which is not read") from None
    if not decoder.is_available:
        needs = " or ".join(text.partition(" ")[0] for text in decoder.missing_dependencies)
        raise Refused(f"is packed as {called}, which needs one more package: {needs}")
