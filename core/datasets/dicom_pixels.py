"""The pixels of a DICOM file, one frame at a time, and never more of them than its header says.

Those that are not packed, or packed by runs (RLE), are read here; others by a package that pydicom knows, where one is
installed.

References:
    The DICOM standard, PS3.5 section 8 (encoding of pixels) and annex G (runs)
    https://dicom.nema.org/medical/dicom/current/output/html/part05.html
"""

from __future__ import annotations

import itertools
import math
import struct
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image

from core.catalog import optional
from core.datasets.dicom import BIG, NATIVE, RUNS, Scan
from core.datasets.pictures import Refused, explained

Pieces = Sequence[tuple[int, int]]  # where each piece of packed pixels begins and ends


def pixels(data: bytes, scan: Scan, frame: int, pieces: Pieces | None = None) -> np.ndarray:
    """Reads the values of a frame.

    Args:
        data: The content of the file.
        scan: What its header says.
        frame: Which one, from 0.
        pieces: What :func:`pieces_of` has found, for whoever reads several frames.

    Returns:
        Of grey, float32 (H, W) in the units of the picture; of colour, uint8 (H, W, 3).

    Raises:
        Refused: If they cannot be read.
    """
    with explained():
        if scan.syntax in NATIVE:
            values = _native(data, scan, frame)
        elif scan.syntax == RUNS:
            values = _runs(_piece(data, scan, frame, pieces), scan)
        else:
            values = _plugged(_piece(data, scan, frame, pieces), scan)
            return _finished(values, scan, frame, plugged=True)
        return _finished(_bits(values, scan), scan, frame)


def _finished(values: np.ndarray, scan: Scan, frame: int, plugged: bool = False) -> np.ndarray:
    """Brings the numbers of a file to what they stand for."""
    if scan.grey:
        slope, intercept = scan.scales[frame if len(scan.scales) > 1 else 0]
        return values.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    if scan.palette is not None:
        colours, first = scan.palette
        return colours[np.clip(values.astype(np.int64) - first, 0, len(colours) - 1)]
    light = (values >> max(0, scan.stored - 8)).astype(np.uint8)
    if scan.kind.startswith("YBR") and not plugged:
        return np.asarray(Image.fromarray(light, "YCbCr").convert("RGB"))
    return light


def _bits(values: np.ndarray, scan: Scan) -> np.ndarray:
    """Takes the bits that belong to a number out of those that it lies in, with its sign."""
    shifted = (values.astype(np.int32) >> (scan.high + 1 - scan.stored)) & ((1 << scan.stored) - 1)
    if scan.signed:
        half = 1 << (scan.stored - 1)
        shifted = (shifted ^ half) - half
    return shifted


def _native(data: bytes, scan: Scan, frame: int) -> np.ndarray:
    big = scan.syntax == BIG
    shape = (scan.rows, scan.columns, scan.samples)
    count = math.prod(shape)
    at = scan.start + frame * count * scan.allocated // 8
    if scan.allocated == 16:
        flat = np.frombuffer(data, ">u2" if big else "<u2", count, at)
    elif big and scan.words:  # each two bytes are swapped
        even = at - (at - scan.start) % 2
        more = count + (at - even)
        pairs = np.frombuffer(data, np.uint8, more + more % 2, even).reshape(-1, 2)
        flat = pairs[:, ::-1].reshape(-1)[at - even :][:count]
    else:
        flat = np.frombuffer(data, np.uint8, count, at)
    return _shaped(flat, scan)


def _shaped(flat: np.ndarray, scan: Scan) -> np.ndarray:
    if scan.samples == 1:
        return flat.reshape(scan.rows, scan.columns)
    if scan.planar or scan.syntax == RUNS:
        return flat.reshape(scan.samples, scan.rows, scan.columns).transpose(1, 2, 0)
    return flat.reshape(scan.rows, scan.columns, scan.samples)


def pieces_of(data: bytes, scan: Scan) -> Pieces:
    """Finds the pieces of packed pixels, without the table of offsets in front; none where they are not packed.

    Raises:
        Refused: If one goes on beyond the file.
    """
    pieces, at = [], scan.start
    while scan.syntax not in NATIVE and data[at : at + 4] == b"\xfe\xff\x00\xe0":
        begin = at + 8
        at = begin + int.from_bytes(data[at + 4 : begin], "little")
        if at > len(data):
            raise Refused("is cut off (truncated)")
        pieces.append((begin, at))
    return pieces[1:]


def _piece(data: bytes, scan: Scan, frame: int, pieces: Pieces | None) -> bytes:
    """Gives the bytes of a frame."""
    pieces = pieces_of(data, scan) if pieces is None else pieces
    if scan.frames == 1 and scan.syntax != RUNS:
        return b"".join(data[begin:end] for begin, end in pieces)
    if len(pieces) != scan.frames:
        raise Refused(f"declares {scan.frames:,} frames, and is packed in {len(pieces):,} pieces")
    begin, end = pieces[frame]
    return data[begin:end]


def _runs(piece: bytes, scan: Scan) -> np.ndarray:
    """Unpacks runs: a segment for each byte of each sample, the highest first."""
    count = scan.rows * scan.columns
    parts = scan.samples * scan.allocated // 8
    numbers = struct.unpack("<16I", piece[:64])
    if numbers[0] != parts:
        raise Refused(f"has {numbers[0]} segments of runs, and needs {parts}")
    edges = [*numbers[1 : parts + 1], len(piece)]
    if any(not 64 <= a <= b <= len(piece) for a, b in itertools.pairwise(edges)):
        raise Refused("has segments of runs that lie outside of it")
    segments = [
        np.frombuffer(unpacked(piece[a:b], count), np.uint8) for a, b in itertools.pairwise(edges)
    ]
    wide = scan.allocated // 8
    samples = [
        sum(
            segment.astype(np.uint16) << (8 * (wide - 1 - position))
            for position, segment in enumerate(segments[k * wide : (k + 1) * wide])
        )
        for k in range(scan.samples)
    ]
    return _shaped(np.concatenate(samples), scan)


def unpacked(segment: bytes, count: int) -> bytes:
    """Unpacks a segment of runs to exactly so many bytes.

    >>> unpacked(bytes([2, 7, 8, 9, 254, 5]), 6)
    b'\\x07\\x08\\t\\x05\\x05\\x05'

    Raises:
        Refused: If it holds fewer; what it holds beyond them is not unpacked.
    """
    out, at = bytearray(), 0
    while len(out) < count and at < len(segment):
        head = segment[at]
        if head < 128:  # as it stands
            out += segment[at + 1 : at + 2 + head]
            at += 2 + head
        else:
            if head > 128:  # one byte, several times
                out += segment[at + 1 : at + 2] * (257 - head)
            at += 2 if head > 128 else 1
    if len(out) < count:
        raise Refused("has a segment of runs that is too short")
    return bytes(out[:count])


def _plugged(piece: bytes, scan: Scan) -> np.ndarray:
    """Lets a package that pydicom knows unpack a frame, after its own head was read."""
    pydicom = optional("pydicom", "DICOM")
    encaps = optional("pydicom.encaps", "DICOM")
    if (found := _inner_size(piece)) != (scan.columns, scan.rows):
        raise Refused(f"declares {scan.columns} × {scan.rows} pixels, and its picture says {found}")
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = pydicom.uid.UID(scan.syntax)
    one.Rows, one.Columns, one.SamplesPerPixel = scan.rows, scan.columns, scan.samples
    one.BitsAllocated, one.BitsStored, one.HighBit = scan.allocated, scan.stored, scan.high
    one.PixelRepresentation, one.PhotometricInterpretation = int(scan.signed), scan.kind
    if scan.samples > 1:
        one.PlanarConfiguration = 0
    one.PixelData = encaps.encapsulate([piece])
    one["PixelData"].is_undefined_length = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(one.pixel_array)


def _inner_size(piece: bytes) -> tuple[int, int] | None:
    """Reads width and height out of a JPEG, JPEG-LS or JPEG 2000 stream; None if it is none of them."""
    if piece[:4] == b"\xff\x4f\xff\x51" and len(piece) >= 24:
        wide, high, left, top = struct.unpack(">4I", piece[8:24])
        return wide - left, high - top
    at = 2
    while piece[:2] == b"\xff\xd8" and at + 9 <= len(piece) and piece[at] == 0xFF:
        mark = piece[at + 1]
        if mark == 0xFF:
            at += 1
        elif mark == 0xF7 or (0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC)):
            high, wide = struct.unpack(">2H", piece[at + 5 : at + 9])
            return wide, high
        else:
            at += 2 + int.from_bytes(piece[at + 2 : at + 4], "big")
    return None
