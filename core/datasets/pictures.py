"""Decodes single pictures that nobody vouches for."""

from __future__ import annotations

import io
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Image.MAX_IMAGE_PIXELS = None  # our own limit is asked before anything is decoded
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
NO_PICTURE = "is not a PNG, JPEG, WebP or BMP picture"


class Refused(Exception):
    """Says why one file is left out."""


Metadata = Literal["none", "some", "position"]


class Decoded(NamedTuple):
    """One picture.

    Attributes:
        pixels: uint8 (1 or 3, size, size).
        was: Width and height that it had.
        metadata: What the file said beside the pixels: nothing, something, or where it was taken; none of it is kept.
    """

    pixels: np.ndarray
    was: tuple[int, int]
    metadata: Metadata


def decode(
    data: bytes, size: int, channels: str = "auto", fit: str = "crop", megapixels: float = 16
) -> Decoded | str:
    """Decodes one picture that nobody vouches for.

    Args:
        data: The file's content; its type is read from it.
        size: Height and width of the result.
        channels: ``grey``, ``colour``, or ``auto``: one channel if the three are equal.
        fit: ``crop`` to the middle square, or ``pad`` with white.
        megapixels: Largest picture that is decoded.

    Returns:
        The picture, or a sentence part that says why not.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > megapixels * 1e6:
                raise Refused(
                    f"has {width} × {height} pixels, and at most {megapixels:g} megapixels are allowed"
                )
            metadata = _metadata(picture)
            picture.draft(None, (3 * size, 3 * size))  # a JPEG is decoded at a fraction of its size
            flat = _flat(ImageOps.exif_transpose(picture))
            if channels == "grey":
                flat = flat.convert("L")
            if fit == "crop":
                flat = ImageOps.fit(flat, (size, size), Image.Resampling.BICUBIC)
            else:
                flat = ImageOps.pad(flat, (size, size), Image.Resampling.BICUBIC, color="white")
            image = np.asarray(flat)
    except Refused as reason:
        return str(reason)
    except UnidentifiedImageError:
        return NO_PICTURE
    except Exception as error:  # a forged file can make a decoder raise anything
        return (
            "is cut off (truncated)"
            if "truncated" in str(error).lower()
            else f"is damaged ({error})"
        )
    image = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)  # (1 or 3, size, size)
    if channels == "colour":
        image = np.repeat(image, 3, axis=0) if len(image) == 1 else image
    elif (image == image[:1]).all():
        image = image[:1]
    return Decoded(image, (width, height), metadata)


def _metadata(picture: Image.Image) -> Metadata:
    """Says whether a picture holds EXIF, XMP, IPTC or comments, and whether they hold a position."""
    exif = picture.getexif()
    if exif.get_ifd(0x8825):  # GPS
        return "position"
    rest = [str(picture.info.get(name, "")) for name in ("xmp", "XML:com.adobe.xmp", "comment")]
    if any("GPSLatitude" in text or "GPSLongitude" in text for text in rest):
        return "position"
    if len(exif) or any(rest) or "photoshop" in picture.info or getattr(picture, "text", None):
        return "some"
    return "none"


def _flat(picture: Image.Image) -> Image.Image:
    """Brings any mode to L or RGB: 16 bits to 8, palettes to colours, transparency onto white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return Image.fromarray((np.asarray(picture).clip(0, 65535) / 257).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def is_picture(head: bytes) -> bool:
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    )
