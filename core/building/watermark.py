"""An own invisible watermark of generated pictures: whoever has the key of this server finds it again in the pixels.

A pattern of 64 × 64 pixels, repeated over the picture, fixes the phases of its middle frequencies: spread over hundreds
of them, so that no one is seen, and where the picture itself is busy, so that the eye is (Cox et al.). The writer knows
the picture, and turns its phases toward those of the key instead of adding noise blindly (Miller, Doërr and Cox). The
finder knows the key only: it keeps the phases of what it sees and throws their sizes away (Horner and Gianino), so that
without a mark its statistic is a sum of cosines of random angles, whatever the picture. A repeated pattern is found
wherever a picture was cut; for a scaled one a few scales are tried.

It says one thing: that this server has written it. Its absence proves nothing: a picture that is turned, scaled more or
painted over loses it, and whoever averages very many pictures of a server can learn its pattern, and take it out.

References:
    Cox, Kilian, Leighton, Shamoon 1997, Secure Spread Spectrum Watermarking for Multimedia
    Miller, Doërr, Cox 2004, Applying Informed Coding and Embedding to Design a Robust High-Capacity Watermark
    Horner, Gianino 1984, Phase-Only Matched Filtering
    Kalker, Depovere, Haitsma, Maes 1999, A Video Watermarking System for Broadcast Monitoring (the repeated tile)
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from core.catalog import UserError
from core.datasets import Dataset
from core.ground.files import full_disk_told
from core.ground.settings import settings

SMALLEST = 64  # pixels of a side; below that there are too few frequencies to be sure
PSNR = 38.1  # dB that a marked picture keeps at least
THRESHOLD = 6.2  # standard deviations; benchmarks/watermark.py counts its false alarms
KEY = "watermark.key"
_TILE = 64
_BAND = (5, 24)  # periods per tile: below, pictures are loud; above, JPEG leaves nothing
_SCALES = 0.12  # how far a picture may have been scaled, either way
_WINDOW = 256  # pixels of a side that are looked at, from the middle
_ROUNDS = 4  # in which a picture's phases are turned, each from where the last one left them


@dataclass(frozen=True)
class Watermark:
    """A watermark of one key.

    Attributes:
        key: Secret; whoever has it can find the mark, and forge or remove it.
    """

    key: bytes

    def write(self, x: np.ndarray) -> np.ndarray:
        """Marks a picture.

        Args:
            x: uint8 (C, H, W), 0 … 255, both sides at least :data:`SMALLEST`.

        Returns:
            uint8 (C, H, W), at least :data:`PSNR` from ``x``; the same picture and key give the same bytes.

        Raises:
            UserError: If it is smaller.
        """
        high, wide = x.shape[-2:]
        if min(high, wide) < SMALLEST:
            raise UserError(
                f"A picture of {wide} × {high} is too small for a watermark, which needs {SMALLEST} pixels a side. "
                "Leave the watermark out, or generate larger pictures."
            )
        was = x.astype(np.float32)
        grey = was.mean(0)
        room = _room(grey)
        most = 255 * 10 ** (-PSNR / 20)  # root mean square of the change
        change = np.zeros_like(grey)
        for _ in range(_ROUNDS):
            tile = self._toward(_spectrum(grey + change))
            times = (-(-high // _TILE), -(-wide // _TILE))
            step = np.tile(tile, times)[:high, :wide] * room
            change += step * (1.5 * most / _ROUNDS / max(float(step.std()), 1e-9))
            change = np.clip(grey + change, 0, 255) - grey
        low, up, marked = 0.0, 3.0, was
        for _ in range(9):  # as strong as the distance allows, after rounding
            factor = (low + up) / 2
            new = np.clip(np.rint(was + factor * change), 0, 255)
            if float(((new - was) ** 2).mean()) > most**2:
                up = factor
            else:
                low, marked = factor, new
        return marked.astype(np.uint8)

    def strength(self, picture: Image.Image) -> float:
        """Measures how clearly a picture carries the mark, in standard deviations of what chance gives at one place.

        The largest over all places and scales: pictures without a mark reach 4 to 5.5. 0 for one that is too small.
        """
        grey = _middle(picture)
        best = 0.0
        for size in _sizes(*grey.size):
            scaled = grey if size == grey.size else grey.resize(size, Image.Resampling.BICUBIC)
            best = max(best, self._match(np.asarray(scaled, np.float32)))
            if best > 2 * THRESHOLD:  # no other scale would change the answer
                break
        return best

    def found(self, picture: Image.Image) -> bool:
        """Tells whether a picture carries the mark; False proves nothing."""
        return self.strength(picture) > THRESHOLD

    @cached_property
    def _phases(self) -> np.ndarray:
        """Draws the phases of the band from the key, complex64 (64, 33); 0 outside it."""
        band = _band()
        drawn = hashlib.shake_256(b"watermark 1\0" + self.key).digest(2 * int(band.sum()))
        phases = np.zeros(band.shape, np.complex64)
        phases[band] = np.exp(2j * np.pi * np.frombuffer(drawn, "<u2") / 2**16)
        return phases

    def _toward(self, spectrum: np.ndarray) -> np.ndarray:
        """Gives the tile (64, 64) whose addition turns the phases of a spectrum (64, 33) toward those of the key.

        A strong frequency is only turned, across its own direction, for to lengthen it helps no phase; a weak one is
        moved all the way. Strong ones get less: the same change turns them less.
        """
        from scipy import fft

        band = _band()
        size = np.abs(spectrum[band]) + 1e-6
        usual = np.median(size)
        angle = spectrum[band] * np.conj(self._phases[band]) / size
        own = size**2 / (size**2 + (usual / 2) ** 2)
        wanted = np.zeros_like(spectrum)
        wanted[band] = (
            (1 - own * angle.real * angle) * np.minimum(1, usual / size) * self._phases[band]
        )
        return np.asarray(fft.irfft2(wanted, (_TILE, _TILE)))

    def _match(self, grey: np.ndarray) -> float:
        """Correlates the phases of a picture float32 (H, W), at every shift; the largest, in standard deviations."""
        from scipy import fft

        band = _band()
        spectrum = _spectrum(grey)
        size = np.abs(spectrum)
        if not size[band].any():
            return 0.0
        phases = np.where(band, spectrum / np.maximum(size, 1e-6), 0)
        # the sum of the cosines of all angles of the half plane, whose variance is half their number
        sums = np.asarray(fft.irfft2(phases * np.conj(self._phases), (_TILE, _TILE)))
        return float(sums.max() * _TILE**2 / 2 / np.sqrt(band.sum() / 2))


def _band() -> np.ndarray:
    """Gives the frequencies that are used, bool (64, 33): one of each pair of a real picture's."""
    u, v = np.meshgrid(
        np.fft.fftfreq(_TILE, 1 / _TILE), np.arange(_TILE // 2 + 1), indexing="ij"
    )  # whole numbers
    radius = np.hypot(u, v)
    half = (v > 0) & (v < _TILE // 2)  # the first column holds both of each pair
    return half & (radius >= _BAND[0]) & (radius <= _BAND[1])


def _room(grey: np.ndarray) -> np.ndarray:
    """Says how much change each pixel hides, float32 (H, W): more where the neighbourhood is busy."""
    from scipy import ndimage

    mean = ndimage.uniform_filter(grey, 7)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(grey * grey, 7) - mean * mean, 0))
    return np.clip(spread, 2, 20) ** 0.3


def _spectrum(grey: np.ndarray) -> np.ndarray:
    """Folds a picture (H, W) onto one tile and gives its spectrum (64, 33); every neighbourhood counts alike."""
    from scipy import fft, ndimage

    high, wide = grey.shape
    detail = grey - ndimage.gaussian_filter(grey, 2.5)
    detail /= np.sqrt(ndimage.gaussian_filter(detail * detail, 4)) + 2
    rows, columns = -(-high // _TILE), -(-wide // _TILE)
    whole = np.zeros((rows * _TILE, columns * _TILE), np.float32)
    whole[:high, :wide] = detail
    return np.asarray(fft.rfft2(whole.reshape(rows, _TILE, columns, _TILE).sum((0, 2))))


def _middle(picture: Image.Image) -> Image.Image:
    """Gives the middle of a picture in grey of the channels' mean, mode F, at most 256 pixels a side."""
    wide, high = picture.size
    left, top = max(0, wide - _WINDOW) // 2, max(0, high - _WINDOW) // 2
    part = picture.crop((left, top, min(wide, left + _WINDOW), min(high, top + _WINDOW)))
    values = np.asarray(part if part.mode in ("L", "F", "I;16") else part.convert("RGB"))
    values = values.astype(np.float32)
    return Image.fromarray(values.mean(-1) if values.ndim == 3 else values)


def _sizes(wide: int, high: int) -> Iterator[tuple[int, int]]:
    """Yields the sizes that a picture may have had, its own first: so close that no edge is off by half a pixel."""
    step = min(0.014, 1.28 / max(wide, high))
    count = round(_SCALES / step)
    scales = sorted(range(-count, count + 1), key=abs)
    sizes = [(round(wide / (1 + i * step)), round(high / (1 + i * step))) for i in scales]
    yield from dict.fromkeys(size for size in sizes if min(size) >= SMALLEST * 0.8)


# --- The key of this server -------------------------------------------------------------------------------------------


def kept() -> Watermark | None:
    """Gives the watermark of this server; None where no picture was ever marked here."""
    try:
        key = (settings().home / KEY).read_bytes()
    except OSError:
        return None
    return Watermark(key) if len(key) == 32 else None


def own() -> Watermark:
    """Gives the watermark of this server, and makes its key first where there is none.

    Raises:
        UserError: If the server is view-only, the disk is full, or the file of the key holds something else.
    """
    if (mark := kept()) is not None:
        return mark
    settings().allow_change("make the key of its watermark")
    place = settings().home / KEY
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f".{KEY}.{secrets.token_hex(8)}")
    with full_disk_told():
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(secrets.token_bytes(32))
            if not place.exists():
                _claim(new, place)
        finally:
            new.unlink(missing_ok=True)
    if (mark := kept()) is None:
        raise UserError(
            f"{place} is not a key of a watermark, or cannot be read. Restore it from a copy; only if there is none, "
            "delete it: pictures that were marked with it are not found any more."
        )
    return mark


def _claim(new: Path, place: Path) -> None:
    """Moves the key to its place unless somebody else was quicker: a key is never replaced."""
    try:
        os.link(new, place)
    except FileExistsError:
        pass
    except OSError:  # a disk without links
        new.replace(place)


def refuses(dataset: Dataset) -> str:
    """Says why the items of a dataset cannot be marked; empty where they can."""
    high, wide = dataset.shape[-2:]
    if dataset.medium.name != "image":
        return f"A watermark is for pictures; {dataset.name} holds {dataset.medium.title.lower()}."
    if min(high, wide) < SMALLEST:
        return (
            f"Pictures of {wide} × {high} are too small for a watermark, which needs {SMALLEST} pixels a side. "
            "Their marks in the files stay."
        )
    if dataset.levels != 256:
        return f"The pictures have {dataset.levels} grey levels, and a watermark needs 256."
    return ""
