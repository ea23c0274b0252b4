"""Decodes single pictures that nobody vouches for.

A file's type is read from its content, and its size from its header before a pixel is decoded. A picture with more than
8 bits (16-bit and float files) is mapped from 0 … a largest value to black … white: the largest of its whole set, or
its own where it stands alone.
"""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from core.catalog import installed, optional
from core.datasets.dataset import Dataset, is_grey
from core.ground.writing import percent

Image.MAX_IMAGE_PIXELS = None  # our own limit is asked before anything is decoded
KINDS = "PNG, JPEG, WebP, BMP, TIFF, AVIF or HEIC"
NO_PICTURE = f"is not a {KINDS} picture"
SUFFIXES = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "avif", "heic", "heif")
HEAD = 2**16  # bytes that nearly always hold a header
_PACKED = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "tiff_raw_16")
# Pillow keeps the upper of two bytes; the rawmode of the other byte order gives the lower one
_LOWER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


class Refused(Exception):
    """Says why one file is left out."""


Metadata = Literal["none", "some", "position"]


class Header(NamedTuple):
    """What the header of a picture says.

    Attributes:
        width, height: In pixels.
        deep: Whether it holds more than 8 bits.
    """

    width: int
    height: int
    deep: bool

    @property
    def pixels(self) -> int:
        """How many pixels decoding it makes."""
        return self.width * self.height


class Span(NamedTuple):
    """Which value becomes white in a set of pictures whose values are not 0 … 255.

    Attributes:
        largest: That value; 0 becomes black.
        ones: Whether the set is one of 8 bits that holds nothing but 0 and 1; else it has more than 8 bits.
    """

    largest: float
    ones: bool = False


def span_of(dataset: Dataset) -> Span | None:
    """Gives the range that the pictures of a dataset were read with; None for 0 … 255."""
    span = dataset.imported("range")
    return None if span is None else Span(float(span["largest"]), bool(span["ones"]))


class Decoded(NamedTuple):
    """One picture.

    Attributes:
        pixels: uint8 (1 or 3, size, size).
        was: Width and height that it had.
        metadata: What the file said beside the pixels: nothing, something, or where it was taken; none of it is kept.
        notes: What was done to its values, as sentences.
    """

    pixels: np.ndarray
    was: tuple[int, int]
    metadata: Metadata
    notes: tuple[str, ...] = ()


def most_bytes(megapixels: float) -> int:
    """Bounds a file by its pixels: four channels of 16 bits, unpacked."""
    return int(megapixels * 8e6) + 2**20


def kind_of(head: bytes) -> str | None:
    """Names the format of a file by its first bytes; None for anything that is not read here."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"BM"):
        return "BMP"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if head[4:8] == b"ftyp":
        brands = {head[i : i + 4] for i in range(8, min(len(head), 64) - 3, 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1"}:
            return "HEIF"
    return None


def look(data: bytes, megapixels: float = 16) -> Header:
    """Reads a picture's header, and decodes nothing.

    Args:
        data: The file's content, or its beginning.
        megapixels: Largest picture that may be decoded.

    Raises:
        Refused: If it is no picture that is read here, or too large.
        Exception: Whatever a decoder raises for a header that is damaged, or longer than ``data``.
    """
    if data[12:16] == b"IHDR" and zlib.crc32(data[12:29]) == int.from_bytes(data[29:33], "big"):
        # most pictures are PNG, and reading these numbers takes a tenth of the time of opening it
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        if width and height and kind_of(data) == "PNG":
            _allow(width, height, megapixels)
            return Header(width, height, data[24] == 16)
    with _opened(data, megapixels) as picture:
        return Header(*picture.size, _deep(picture))


def extent(data: bytes, megapixels: float = 16) -> tuple[float, float]:
    """Finds the smallest and the largest value of a picture, in the file's own numbers.

    Raises:
        Refused: If it cannot be read.
    """
    with explained():
        with _opened(data, megapixels) as picture:
            if not _deep(picture):
                return 0.0, float(_brightest(_flat(picture)))
        return _ends(*_values(data, megapixels))


Half = Literal["", "left", "right"]


def decode(
    data: bytes,
    size: int,
    channels: str = "auto",
    fit: str = "crop",
    megapixels: float = 16,
    span: Span | None = None,
    half: Half = "",
) -> Decoded | str:
    """Decodes one picture that nobody vouches for.

    Args:
        data: The file's content; its type is read from it.
        size: Height and width of the result.
        channels: ``grey``, ``colour``, or ``auto``: one channel if the three are equal.
        fit: ``crop`` to the middle square, or ``pad`` with white.
        megapixels: Largest picture that is decoded.
        span: Range of the set that it belongs to; without one, a picture with more than 8 bits takes its own.
        half: Which half is taken, of a picture that holds two side by side; empty for the whole.

    Returns:
        The picture, or a sentence part that says why not.
    """

    try:
        with explained():
            notes: tuple[str, ...] = ()
            deep = False
            if plain := _plain(data, megapixels):
                flat, metadata = plain
                was = flat.size
            else:
                with _opened(data, megapixels) as picture:
                    was, deep, metadata = picture.size, _deep(picture), _metadata(picture)
                    if deep:
                        flat, notes = _eight(picture, data, megapixels, span)
                    else:
                        picture.draft(None, (3 * size, 3 * size))  # a JPEG at a fraction
                        picture.load()
                        turned = picture.getexif().get(_ORIENTATION, 1) != 1
                        flat = _flat(ImageOps.exif_transpose(picture) if turned else picture)
            if half:
                middle = flat.width // 2
                start = middle if half == "right" else 0
                flat = flat.crop((start, 0, start + max(1, middle), flat.height))
            if not deep and span is not None and span.ones and _brightest(flat) <= 1:
                table = [min(255, round(v * 255 / span.largest)) for v in _BYTES]
                flat = flat.point(table * len(flat.getbands()))
            if channels == "grey":
                flat = flat.convert("L")
            if flat.size == (size, size):
                pass  # most of what programs write is a square of the right size
            elif fit == "crop":
                flat = ImageOps.fit(flat, (size, size), Image.Resampling.BICUBIC)
            else:
                flat = ImageOps.pad(flat, (size, size), Image.Resampling.BICUBIC, color="white")
            image = np.frombuffer(flat.tobytes(), np.uint8).reshape(size, size, -1)
            image = np.ascontiguousarray(image.transpose(2, 0, 1))  # (1 or 3, H, W)
            if channels == "colour":
                image = np.repeat(image, 3, axis=0) if len(image) == 1 else image
            elif is_grey(image):
                image = image[:1]
            return Decoded(image, was, metadata, notes)
    except Refused as reason:
        return str(reason)


def upright(data: bytes, megapixels: float = 16, size: tuple[int, int] = (0, 0)) -> Image.Image:
    """Decodes a picture that something is cut out of, turned as it is looked at.

    Args:
        data: The file's content.
        megapixels: Largest picture that is decoded.
        size: Width and height that is expected; a picture that has it only as it lies in the file is not turned.

    Returns:
        Mode L or RGB; I;16 or F where it holds more than 8 bits.

    Raises:
        Refused: If it cannot be read, or has more than 8 bits and colours, transparency or zero as white.
    """
    with explained():
        with _opened(data, megapixels) as picture:
            if not _deep(picture):
                seen = ImageOps.exif_transpose(picture)
                return _flat(picture if picture.size == size != seen.size else seen)
            turned = picture.format == "TIFF" and picture.tag_v2.get(262) == 0  # type: ignore[attr-defined]
        values, solid = _values(data, megapixels)
        if turned or values.ndim > 2 or solid is not None:
            raise Refused(
                "holds more than 8 bits in a form that nothing is cut out of; plain grey is read"
            )
        return Image.fromarray(values.astype(np.uint16 if values.dtype.kind == "u" else np.float32))


def _plain(data: bytes, megapixels: float) -> tuple[Image.Image, Metadata] | None:
    """Decodes a PNG of 8 bits, grey or of three colours, that holds nothing but its pixels and short texts.

    Most pictures that programs write are such, and Pillow takes most of its time for what the others may hold. None for
    all others, and for whatever is not as it should be: the usual way says what is wrong with it.
    """
    if data[:16] != _PNG or data[24] != 8 or data[25] not in (0, 2) or data[26:29] != bytes(3):
        return None
    size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not 0 < size[0] * size[1] <= megapixels * 1e6:
        return None
    at, pixels, some = 8, [], False
    while True:
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(
            data[end - 4 : end], "big"
        ):
            return None
        if kind == b"IDAT":
            pixels.append(data[at + 8 : end - 4])
        elif kind == b"IEND":
            break
        elif kind in (b"tEXt", b"iTXt"):
            text = data[at + 8 : end - 4]
            if b"GPS" in text or b"exif" in text.lower() or b"rientation" in text:
                return None
            some = True
        elif kind not in _BARE or (kind == b"IHDR" and at > 8):
            return None
        at = end
    mode = "L" if data[25] == 0 else "RGB"
    try:
        return Image.frombytes(
            mode, size, b"".join(pixels), "zip", mode
        ), "some" if some else "none"
    except (ValueError, OSError):
        return None


# of TIFF: description, maker, model, software, date, artist, host, XMP, copyright, IPTC, EXIF
_TELLING = {270, 271, 272, 305, 306, 315, 316, 700, 33432, 33723, 34665}
_BYTES = range(256)
_ORIENTATION = 0x0112  # of EXIF
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_BARE = (b"IHDR", b"gAMA", b"pHYs", b"sRGB", b"cHRM", b"sBIT", b"tIME")  # change no pixel here


@contextmanager
def explained() -> Iterator[None]:
    """Turns whatever a decoder raises into a reason: a forged file can make it raise anything.

    Raises:
        Refused: With that reason.
    """
    try:
        yield
    except Refused:
        raise
    except UnidentifiedImageError as error:
        raise Refused(NO_PICTURE) from error
    except Exception as error:
        raise Refused(
            "is cut off (truncated)"
            if "truncated" in str(error).lower()
            else f"is damaged ({error})"
        ) from error


def _opened(data: bytes, megapixels: float) -> Image.Image:
    """Opens a file of one of the formats, and checks its size before a decoder reserves memory for its pixels."""
    kind = kind_of(data)
    if kind is None:
        raise Refused(NO_PICTURE)
    if kind == "WEBP":  # Pillow reserves memory for its pixels when it opens one
        _allow(*_webp_size(data), megapixels)
    if kind == "HEIF":
        _read_heif()
    if kind == "TIFF":
        return _opened_tiff(data, megapixels)
    picture = Image.open(io.BytesIO(data), formats=(kind,))
    _allow(*picture.size, megapixels)
    return picture


def _allow(width: int, height: int, megapixels: float) -> None:
    if width * height > megapixels * 1e6:
        raise Refused(
            f"has {width} × {height} pixels, and at most {megapixels:g} megapixels are allowed"
        )


def _opened_tiff(data: bytes, megapixels: float) -> Image.Image:
    # 16 bits, big-endian, zero is white: the one form of plain grey that Pillow leaves out
    forms = TiffImagePlugin.OPEN_INFO
    forms.setdefault((TiffImagePlugin.MM, 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))
    try:
        picture = Image.open(io.BytesIO(data), formats=("TIFF",))
    except UnidentifiedImageError as error:
        raise Refused(
            "is a TIFF of a form that is not read, or is damaged; grey of 8 or 16 bits, floats of 32 bits and "
            "colour of 8 or 16 bits are read"
        ) from error
    _allow(*picture.size, megapixels)
    if (pages := getattr(picture, "n_frames", 1)) > 1:
        raise Refused(f"has {pages} pages, and only a TIFF of one page is read")
    packed = str(picture.info.get("compression", "raw"))
    if packed not in _PACKED:
        raise Refused(
            f"is a TIFF packed as {packed}; only plain, LZW, deflate and PackBits ones are read"
        )
    tags = picture.tag_v2  # type: ignore[attr-defined]
    if picture.mode == "I" and tags.get(339, (1,)) in (1, (1,)) and tags.get(258, (32,))[0] == 32:
        raise Refused("holds whole numbers of 32 bits without a sign, which are not read")
    return picture


def _webp_size(head: bytes) -> tuple[int, int]:
    """Reads width and height of a WebP file, of any of its three forms."""

    def number(at: int, length: int) -> int:
        if len(head) < at + length:
            raise Refused("is cut off (truncated)")
        return int.from_bytes(head[at : at + length], "little")

    form = head[12:16]
    if form == b"VP8X":
        return number(24, 3) + 1, number(27, 3) + 1
    if form == b"VP8L":
        bits = number(21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return number(26, 2) & 0x3FFF, number(28, 2) & 0x3FFF


def _read_heif() -> None:
    """Lets Pillow read HEIC through a package that is not always there."""
    if not installed("pi_heif"):
        raise Refused(
            "is a HEIC picture, which is read only where the package pi-heif is installed "
            "(make extras, or: pip install -r requirements-heic.txt); save it as JPEG or PNG"
        )
    optional("pi_heif", "HEIC").register_heif_opener()


# --- Values ---------------------------------------------------------------------------------------------------------


def _raw(picture: Any) -> str:
    """Names the form of the numbers in the file, as Pillow calls it."""
    args = picture.tile[0].args if picture.tile else ""
    return str(args if isinstance(args, str) else args[0] if args else "")


def _deep(picture: Image.Image) -> bool:
    if picture.mode[0] in "IF":
        return True
    return picture.format in ("PNG", "TIFF") and _raw(picture)[:-1] in (
        "RGB;16",
        "RGBA;16",
        "LA;16",
    )


def _values(data: bytes, megapixels: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads a picture with more than 8 bits, in the file's own numbers.

    Returns:
        Values (H, W) or (H, W, 3), and how solid each pixel is, 0 … 65535, (H, W); None if all are.
    """

    def read(raw: str | None = None) -> np.ndarray:
        picture: Any
        with _opened(data, megapixels) as picture:
            if raw is not None:
                picture.tile = [
                    tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:]))
                    for tile in picture.tile
                ]
            return np.asarray(ImageOps.exif_transpose(picture))

    def both(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
        return upper.astype(np.uint16) << 8 | lower

    with _opened(data, megapixels) as picture:
        mode, raw, clear = picture.mode, _raw(picture), picture.info.get("transparency")
    solid = None
    if mode[0] in "IF":
        values = read()
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise Refused("holds numbers that are not finite")
    elif raw.startswith("LA"):  # two numbers of two bytes, read as four of one
        four = read("RGBA")
        values, solid = both(four[..., 0], four[..., 1]), both(four[..., 2], four[..., 3])
    else:
        values = both(read(), read(raw[:-1] + _LOWER[raw[-1]]))
        if values.shape[-1] == 4:
            values, solid = values[..., :3], values[..., 3]
    if solid is None and isinstance(clear, int | tuple):  # one value stands for transparency
        same = values == np.asarray(clear)
        solid = np.where(same if values.ndim == 2 else same.all(-1), 0, 65535).astype(np.uint16)
    return values, solid


def _parts(
    values: np.ndarray, solid: np.ndarray | None
) -> Iterator[tuple[slice, np.ndarray, np.ndarray | None]]:
    """Goes through a picture by rows, in float32, so that a large one never is in memory as such."""
    step = max(1, 2**20 // max(1, values[:1].size))
    for top in range(0, len(values), step):
        rows = slice(top, top + step)
        yield (
            rows,
            values[rows].astype(np.float32),
            None if solid is None else solid[rows].astype(np.float32) / 65535,
        )


def _ends(values: np.ndarray, solid: np.ndarray | None) -> tuple[float, float]:
    """Finds the smallest and the largest value of what is not quite transparent, and 0."""
    low = high = 0.0
    for _, part, opaque in _parts(values, solid):
        part = part if opaque is None else part[opaque > 0]
        low, high = min(low, float(part.min(initial=0))), max(high, float(part.max(initial=0)))
    return low, high


def _eight(
    picture: Image.Image, data: bytes, megapixels: float, span: Span | None
) -> tuple[Image.Image, tuple[str, ...]]:
    """Brings a picture with more than 8 bits to L or RGB, transparency onto white."""
    values, solid = _values(data, megapixels)
    alone = span is None or span.ones
    largest = _ends(values, solid)[1] if span is None or span.ones else span.largest
    turned = picture.format == "TIFF" and picture.tag_v2.get(262) == 0  # type: ignore[attr-defined]
    flat = np.empty(values.shape, np.uint8)
    above = 0
    for rows, part, opaque in _parts(values, solid):
        above += int((part > largest).sum())
        light = (part / (largest if largest > 0 else 1)).clip(0, 1)
        if turned:  # zero is white
            light = 1 - light
        if opaque is not None:
            opaque = opaque if light.ndim == 2 else opaque[..., None]
            light = light * opaque + (1 - opaque)
        flat[rows] = (light * 255).round()
    why = ": it holds more than 8 bits, and its set says nothing of their range"
    note = f"Its values 0 … {largest:g} were taken as black to white"
    notes = [f"{note}{why if alone else ', as in its set'}."]
    if above and not alone:
        notes.append(
            f"{percent(above / values.size)} of its values lie above and are white as well."
        )
    return Image.fromarray(flat), tuple(notes)


def _flat(picture: Image.Image) -> Image.Image:
    """Brings any mode of 8 bits to L or RGB: palettes to colours, transparency onto white."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    mode = "L" if picture.mode in ("1", "L") else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def _brightest(flat: Image.Image) -> int:
    ends = flat.getextrema()
    return int(
        max(band[1] for band in ends) if isinstance(ends[0], tuple) else ends[1]  # type: ignore
    )


def _metadata(picture: Image.Image) -> Metadata:
    """Says whether a picture holds EXIF, XMP, IPTC or comments, and whether they hold a position."""
    exif = picture.getexif()
    if exif.get_ifd(0x8825):  # GPS
        return "position"
    rest = [str(picture.info.get(name, "")) for name in ("xmp", "XML:com.adobe.xmp", "comment")]
    if any("GPSLatitude" in text or "GPSLongitude" in text for text in rest):
        return "position"
    tags = set(exif)
    if picture.format == "TIFF":  # most of its tags describe the pixels
        tags &= _TELLING
    if tags or any(rest) or "photoshop" in picture.info or getattr(picture, "text", None):
        return "some"
    return "none"
