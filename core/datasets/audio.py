"""Files of sound: what they are is told by their content, and what is too long, too fast or too wide is not decoded.

WAV is read here, whatever its samples are written as; FLAC, OGG and MP3 by the package soundfile, an extra.
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from core.catalog import UserError, installed, optional
from core.datasets.pictures import Refused
from core.ground.writing import many

KINDS = "WAV, FLAC, OGG or MP3"
SUFFIXES = ("wav", "flac", "ogg", "mp3")
HEAD = 16  # bytes that tell what a file is
MOST_BYTES = 64 * 2**20
RATES = (1_000, 384_000)  # Hz
CHANNELS = 8
MOST_SECONDS = 600
SEARCHED = 30  # seconds that are decoded to find the loudest part
_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
NO_SOUND = "is no sound that is read"


class Wave(NamedTuple):
    """The beginning of a recording.

    Attributes:
        samples: One channel, float32 (T,) in [-1, 1].
        rate: In Hz.
        seconds: Of the whole recording, as far as it is known.
        channels: That it had.
    """

    samples: np.ndarray
    rate: int
    seconds: float
    channels: int


def kind_of(head: bytes) -> str:
    """Tells by its first bytes which sound a file holds: ``wav``, ``flac``, ``ogg``, ``mp3``, or nothing."""
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        return "wav"
    if head.startswith(b"fLaC"):
        return "flac"
    if head.startswith(b"OggS"):
        return "ogg"
    # a frame of layer III, or a tag before the first one
    if head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
        return "mp3"
    return ""


def decode(data: bytes, seconds: float) -> Wave:
    """Reads at most the first seconds of a recording.

    Args:
        data: The file.
        seconds: How much of it is decoded.

    Raises:
        Refused: If it is no sound, or one beyond the bounds.
        UserError: If it needs a package that is not installed.
    """
    kind = kind_of(data[:HEAD])
    if not kind:
        raise Refused(f"{NO_SOUND}: use {KINDS}")
    if len(data) > MOST_BYTES:
        raise Refused(
            f"has {len(data) / 2**20:.0f} MB, and at most {MOST_BYTES >> 20} MB are allowed"
        )
    found = _wav(data, seconds) if kind == "wav" else None
    if kind == "wav" and not found and not installed("soundfile"):  # the others go on
        raise Refused("has samples in a way that only the package soundfile reads: make extras")
    return found or _foreign(data, kind, seconds)


def _allow(rate: int, channels: int, frames: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise Refused(f"has {rate:,} samples a second, and {RATES[0]:,} to {RATES[1]:,} are read")
    if not 1 <= channels <= CHANNELS:
        raise Refused(f"has {many(channels, 'channel')}, and 1 to {CHANNELS} are read")
    if frames > MOST_SECONDS * rate:
        raise Refused(
            f"lasts {frames / rate:,.0f} seconds, and at most {MOST_SECONDS} are read: cut it into pieces"
        )


def _chunks(data: bytes, order: str) -> dict[bytes, memoryview]:
    """Finds the first chunk of each name; one that says a wrong length ends where the file does."""
    found: dict[bytes, memoryview] = {}
    at, view = 12, memoryview(data)
    while at + 8 <= len(data) and len(found) < 1000:
        name, size = data[at : at + 4], struct.unpack_from(f"{order}I", data, at + 4)[0]
        rest = len(data) - at - 8
        # a program that was ended while it recorded leaves 0 or the largest number
        if size > rest or (name == b"data" and size == 0):
            size = rest
        found.setdefault(name, view[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    return found


def _wav(data: bytes, seconds: float) -> Wave | None:
    """Reads a WAV file; None of a way to write samples that is not known here."""
    order = ">" if data.startswith(b"RIFX") else "<"
    parts = _chunks(data, order)
    form, body = parts.get(b"fmt "), parts.get(b"data")
    if form is None or body is None or len(form) < 16:
        raise Refused("is a WAV file without " + ("samples" if form is not None else "a header"))
    code, channels, rate, _, _, bits = struct.unpack_from(f"{order}HHIIHH", form)
    if code == _EXTENSIBLE and len(form) >= 26:
        code = struct.unpack_from(f"{order}H", form, 24)[0]
    width = bits // 8
    known = {_PCM: (1, 2, 3, 4), _FLOAT: (4, 8), _ALAW: (1,), _MULAW: (1,)}
    if bits % 8 or width not in known.get(code, ()):
        return None
    # what the header says of bytes a second and a frame follows from this, and is often wrong
    frames = len(body) // (width * channels) if channels else 0
    _allow(rate, channels, frames)
    taken = min(frames, int(seconds * rate) + 1)
    raw = np.frombuffer(body, np.uint8, taken * channels * width).reshape(-1, width)
    return _mono(_levels(raw, code, order).reshape(-1, channels), rate, frames)


def _levels(raw: np.ndarray, code: int, order: str) -> np.ndarray:
    """Turns samples as they are written, uint8 (n, width), into float32 (n,) in [-1, 1]."""
    width = raw.shape[1]
    if code == _FLOAT:
        with np.errstate(over="ignore"):  # what becomes infinite is cut off later
            return np.ascontiguousarray(raw).view(f"{order}f{width}")[:, 0].astype(np.float32)
    if code in (_ALAW, _MULAW):
        return _expanded(code)[raw[:, 0]]
    if width == 1:  # unsigned
        return (raw[:, 0].astype(np.float32) - 128) / 128
    low = raw if order == "<" else raw[:, ::-1]
    whole = np.zeros((len(low), 4), np.uint8)  # the last bytes weigh most
    whole[:, 4 - width :] = low
    return (whole.view("<i4")[:, 0] / 2.0**31).astype(np.float32)


def _expanded(code: int) -> np.ndarray:
    """Gives what the bytes of a companding law stand for, float32 (256,) in [-1, 1].

    References:
        ITU-T, 1988, Recommendation G.711, Pulse code modulation (PCM) of voice frequencies
    """
    byte = np.arange(256)
    if code == _MULAW:
        byte = byte ^ 0xFF
        size = (((byte & 15) << 3) + 132 << (byte >> 4 & 7)) - 132
        return np.where(byte & 0x80, -size, size).astype(np.float32) / 2**15
    byte = byte ^ 0x55
    exponent, size = byte >> 4 & 7, ((byte & 15) << 4) + 8
    size = np.where(exponent > 0, (size + 256) << np.maximum(exponent - 1, 0), size)
    return np.where(byte & 0x80, size, -size).astype(np.float32) / 2**15


def _mono(x: np.ndarray, rate: int, frames: int) -> Wave:
    """Makes one channel of several, (T, C)."""
    x = np.nan_to_num(x.astype(np.float32), nan=0.0, posinf=1.0, neginf=-1.0).clip(-1, 1)
    one = x.mean(1) if len(x) else np.zeros(0, np.float32)
    if x.shape[1] > 1 and len(x) and np.abs(one).max() < 1e-3 * np.abs(x).max():
        one = x[:, 0]  # the others are its opposite
    return Wave(one, rate, frames / rate, x.shape[1])


def _foreign(data: bytes, kind: str, seconds: float) -> Wave:
    soundfile = optional("soundfile", f"Reading {kind.upper()}", "WAV of 8 to 32 bits is read")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _allow(file.samplerate, file.channels, file.frames)
            taken = int(seconds * file.samplerate) + 1
            x = file.read(min(taken, file.frames), dtype="float32", always_2d=True)
            return _mono(x, file.samplerate, file.frames)
    except (RuntimeError, ValueError, OSError, TypeError, MemoryError) as error:
        raise Refused(f"cannot be read as {kind.upper()} ({str(error)[:80]})") from error


def missing(kind: str) -> str:
    """Says why a kind of file is not read here; empty where it is."""
    if kind == "wav" or installed("soundfile"):
        return ""
    try:
        optional("soundfile", f"Reading {kind.upper()}", "WAV of 8 to 32 bits is read")
    except UserError as error:
        return str(error)
    return ""


def fitted(wave: Wave, rate: int, samples: int, part: str) -> tuple[np.ndarray, list[str]]:
    """Makes an item of a recording.

    Args:
        wave: What was read.
        rate: In Hz, of the item.
        samples: Of the item.
        part: Which part is taken of a longer one: ``start`` or ``loudest``.

    Returns:
        int16 (1, samples), and what was done, as sentences.
    """
    from scipy.signal import resample_poly

    x, notes = wave.samples, []
    if wave.channels > 1:
        notes.append(f"Its {wave.channels} channels were mixed into one.")
    if wave.rate != rate and len(x):
        # off by less than a thousandth, and never a filter of millions of taps
        by = Fraction(rate, wave.rate).limit_denominator(1000)
        x = resample_poly(x, by.numerator, by.denominator).astype(np.float32)
        notes.append(f"It was brought from {wave.rate:,} to {rate:,} samples a second.")
    if len(x) > samples:
        at = 0
        if part == "loudest":
            energy = np.cumsum(np.concatenate([[0.0], np.square(x, dtype=np.float64)]))
            at = int(np.argmax(energy[samples:] - energy[:-samples]))
        x = x[at : at + samples]
        of = f"from second {at / rate:.2f} on" if at else "its beginning"
        notes.append(f"Of {wave.seconds:.1f} seconds, {samples / rate:.2f} were taken: {of}.")
    elif len(x) < samples:
        notes.append(f"It was filled with silence to {samples / rate:.2f} seconds.")
        x = np.pad(x, (0, samples - len(x)))
    return (x.clip(-1, 1) * (2**15 - 1)).round().astype(np.int16)[None], notes
