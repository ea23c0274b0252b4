"""Many small pictures of one size as PNG files at once: filtered together, packed side by side.

Pillow filters one row after the other while it keeps all other threads waiting; here NumPy filters a whole batch, and
zlib lets the others work. Any reader opens the files, and they are as small.

References:
    W3C, Portable Network Graphics, 2003, sections 9 (filtering) and 12.8 (the choice of a filter)
    https://www.w3.org/TR/2003/REC-PNG-20031110/
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

_AT_ONCE = 2**20  # bytes of pixels that are filtered together
_SIGNATURE, _END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"


def encode(x: np.ndarray, level: int = 4) -> list[bytes]:
    """Writes every picture as a file.

    Args:
        x: uint8 (N, 1 or 3, H, W).
        level: Of zlib, 1 (fast) to 9 (small).
    """
    n, channels, height, width = x.shape
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    begin = _SIGNATURE + _chunk(b"IHDR", head)
    step = max(1, _AT_ONCE // max(1, x[:1].size))
    files: list[bytes] = []
    for start in range(0, n, step):
        part = np.ascontiguousarray(x[start : start + step].transpose(0, 2, 3, 1))
        rows = part.reshape(-1, height, width * channels)
        files += (
            begin + _chunk(b"IDAT", _packed(picture.tobytes(), level)) + _END
            for picture in _filtered(rows, channels)
        )
    return files


def _filtered(rows: np.ndarray, step: int) -> np.ndarray:
    """Gives each row of bytes the filter whose differences are smallest in sum: (N, H, W) -> (N, H, 1 + W)."""
    left, up, corner = (np.zeros_like(rows) for _ in range(3))
    left[..., step:] = rows[..., :-step]
    up[:, 1:] = rows[:, :-1]
    corner[:, 1:, step:] = rows[:, :-1, :-step]
    a, b, c = (part.astype(np.int16) for part in (left, up, corner))
    by_left, by_up = np.abs(b - c), np.abs(a - c)  # |p - a| and |p - b| for p = a + b - c
    by_corner = np.abs(a + b - 2 * c)
    nearest = np.where(
        (by_left <= by_up) & (by_left <= by_corner), left, np.where(by_up <= by_corner, up, corner)
    )
    ahead = ((a + b) >> 1).astype(np.uint8)
    # all differences wrap around in a byte, as the filters want it
    tried = [rows, rows - left, rows - up, rows - ahead, rows - nearest]
    # of -128 the absolute value has the same bits, and is 128 without a sign
    costs = [np.abs(each.view(np.int8)).view(np.uint8).sum(-1, dtype=np.int32) for each in tried]
    best = np.argmin(costs, 0)  # (N, H)
    out = np.empty((*rows.shape[:2], 1 + rows.shape[2]), np.uint8)
    out[..., 0] = best
    out[..., 1:] = rows
    for kind, each in enumerate(tried[1:], 1):
        chosen = best == kind
        out[chosen, 1:] = each[chosen]
    return out


def _packed(data: bytes, level: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED)
    return packer.compress(data) + packer.flush()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
