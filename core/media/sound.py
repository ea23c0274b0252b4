"""Sounds of 1.024 seconds: what is stored is a waveform, and a model sees a log-mel spectrogram of it, as a picture.

The side of that picture says the rate: 32 px are 4 kHz, 64 px 8 kHz, 128 px 16 kHz. Frames are 128 samples apart, rows
are as many mel bands between 0 Hz and half the rate, and the values from 0 to 1 are 80 dB, up to a sine at full scale.
The way back finds the powers of the frequencies by non-negative least squares, and then phases that fit them.

References (used throughout the code):
    [1] Stevens, Volkmann and Newman, 1937, A scale for the measurement of the psychological magnitude pitch
    [2] Griffin and Lim, 1984, Signal estimation from modified short-time Fourier transform,
        https://doi.org/10.1109/TASSP.1984.1164317
    [3] Lee and Seung, 2001, Algorithms for non-negative matrix factorization
    [4] Park et al., 2019, SpecAugment: a simple data augmentation method, https://arxiv.org/abs/1904.08779
"""

from __future__ import annotations

import functools
import io
import wave
from typing import TYPE_CHECKING

import numpy as np

from core.media import media

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

SECONDS = 1.024
SIDES = (32, 64, 128)  # of what a model sees
HOP = 128  # samples from one frame to the next
RANGE = 80.0  # dB from 0 to 1
ROUNDS = 32  # of the search for phases
PART = 8  # sounds that are searched for at once: more leave the caches of a processor
UPDATES = 50  # of the search for powers
STEP = 2**-16  # of what is stored, of a range of 1
FLOOR = 10 ** (-RANGE / 10)  # the power that is nothing
_HEAT = {  # from silence to full scale
    0.0: (0, 0, 4),
    0.2: (40, 11, 84),
    0.4: (120, 28, 109),
    0.6: (203, 62, 72),
    0.8: (248, 145, 30),
    1.0: (252, 255, 164),
}


def rate_of(samples: int) -> int:
    """Tells the rate in Hz of a sound of so many samples: 8 000 of 8 192."""
    return round(samples / SECONDS)


def samples_of(rate: int) -> int:
    """Counts the samples of a sound of a rate in Hz."""
    return round(rate * SECONDS)


RATES = tuple(rate_of(HOP * side) for side in SIDES)


def frequencies(rate: int) -> np.ndarray:
    """Gives the middle frequencies of the mel bands in Hz, from the lowest, (side,)."""
    return _edges(samples_of(rate) // HOP)[1:-1]


def _edges(side: int) -> np.ndarray:
    """Gives where mel bands begin, have their middle and end, in Hz, (side + 2,) [1]."""
    top = rate_of(HOP * side) / 2
    mel = np.linspace(0, 2595 * np.log10(1 + top / 700), side + 2)
    return 700 * (10 ** (mel / 2595) - 1)


def _window(side: int) -> int:
    return max(2 * HOP, 4 * side)


@functools.lru_cache(16)
def _bank(side: int, device: str) -> tuple[Tensor, Tensor]:
    """Gives the mel bands (side, bins) and the Hann window (samples), by which a sine at full scale has power 1."""
    import torch

    length = _window(side)
    bins = np.fft.rfftfreq(length, 1 / rate_of(HOP * side))
    edges = _edges(side)
    # a band is at least as wide as the frequencies lie apart: none is empty
    low = np.minimum(edges[:-2], edges[1:-1] - bins[1])[:, None]
    high = np.maximum(edges[2:], edges[1:-1] + bins[1])[:, None]
    middle = edges[1:-1, None]
    bands = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clip(0)
    window = np.hanning(length + 1)[:-1]
    window *= 2 / window.sum()
    return tuple(torch.tensor(each, dtype=torch.float32, device=device) for each in (bands, window))  # type: ignore[return-value]


def _spectra(s: Tensor, window: Tensor) -> Tensor:
    """Takes the spectra of waves, (N, T) to complex (N, bins, frames); as many frames as hops."""
    import torch
    from torch.nn import functional as F

    edge = (len(window) - HOP) // 2
    padded = F.pad(s[:, None], (edge, edge), mode="reflect")[:, 0]
    return torch.fft.rfft(padded.unfold(1, len(window), HOP) * window).transpose(1, 2)


def _waves(spectra: Tensor, window: Tensor) -> Tensor:
    """Adds up the frames of spectra, complex (N, bins, frames) to (N, T): the waves with the nearest spectra [2]."""
    import torch
    from torch.nn import functional as F

    length, frames = len(window), spectra.shape[-1]
    edge, total = (length - HOP) // 2, (frames - 1) * HOP + length

    def added(parts: Tensor) -> Tensor:  # (N, length, frames) -> (N, total)
        return F.fold(parts, (1, total), (1, length), stride=(1, HOP))[:, 0, 0]

    parts = torch.fft.irfft(spectra.transpose(1, 2), length) * window  # (N, frames, length)
    weight = added(window.square()[None, :, None].expand(1, -1, frames))
    return (added(parts.transpose(1, 2)) / weight)[:, edge:-edge]


def powers(s: Tensor) -> Tensor:
    """Gives the powers in the mel bands of waves in [-1, 1], (N, T) to (N, bands, frames)."""
    bands, window = _bank(s.shape[-1] // HOP, str(s.device))
    spectra = _spectra(s, window)
    return bands @ (spectra.real.square() + spectra.imag.square())


def spectrogram(x: Tensor) -> Tensor:
    """Makes what a model sees of sounds: (N, 1, T) to (N, 1, S, S), both in [0, 1]; the lowest band is the last row."""
    if not len(x):
        return x.new_zeros(0, 1, x.shape[-1] // HOP, x.shape[-1] // HOP)
    power = powers(2 * x[:, 0] - 1)
    level = (10 / RANGE) * (power + FLOOR).log10() + 1
    return level.clamp(0, 1).flip(1)[:, None]


def waveform(x: Tensor) -> Tensor:
    """Makes sounds of what a model has made, always the same of one: (N, 1, S, S) to (N, 1, T), both in [0, 1]."""
    import torch

    if not len(x):
        return x.new_zeros(0, 1, x.shape[-1] * HOP)
    return torch.cat([_found(part) for part in x.split(PART)])


def _found(x: Tensor) -> Tensor:
    import torch

    x = x[:, 0].nan_to_num(0.0).clamp(0, 1).flip(1)
    side = x.shape[-1]
    bands, window = _bank(side, str(x.device))
    mel = (10 ** (RANGE / 10 * (x - 1)) - FLOOR).clamp_min(0)  # (N, bands, frames)
    # [3]: each update multiplies, so nothing becomes negative
    aim, both = bands.T @ mel, bands.T @ bands
    power = aim / (both.sum(1, keepdim=True) + 1e-12)
    for _ in range(UPDATES):
        power = power * aim / (both @ power + 1e-12)
    size = power.clamp_min(1e-20).sqrt()  # (N, bins, frames)
    spectra = torch.polar(size, _phases(side, str(x.device)).expand_as(size))
    for _ in range(ROUNDS):
        spectra = _spectra(_waves(spectra, window), window)
        spectra = spectra * (size / (spectra.real.square() + spectra.imag.square() + 1e-20).sqrt())
    return (0.5 + _waves(spectra, window) / 2).clamp(0, 1)[:, None]


@functools.lru_cache(16)
def _phases(side: int, device: str) -> Tensor:
    """Gives the phases that the search starts from, the same for every sound: (1, bins, frames)."""
    from core.tensors import noise

    shape = (_window(side) // 2 + 1, side)
    return 2 * np.pi * noise(0, [0], shape, "phases", uniform=True, device=device)


def _read(x: Tensor, levels: int) -> Tensor:
    import torch

    return x.to(torch.float32) * STEP + 0.5


def _write(x: Tensor, levels: int) -> np.ndarray:
    import torch

    whole = ((x.detach().nan_to_num(0.5) - 0.5) / STEP).round().clamp(-(2**15), 2**15 - 1)
    return whole.to(torch.int16).cpu().numpy()


def heat(x: np.ndarray) -> np.ndarray:
    """Colours spectrograms in [0, 1], (N, 1, H, W), as uint8 (N, 3, H, W)."""
    places, colours = list(_HEAT), np.array(list(_HEAT.values()))
    steps = np.linspace(0, 1, 256)
    table = np.stack([np.interp(steps, places, colours[:, i]) for i in range(3)], 1)
    levels = (np.nan_to_num(x).clip(0, 1) * 255).round().astype(np.uint8)
    return table.round().astype(np.uint8)[levels[:, 0]].transpose(0, 3, 1, 2)


def _look(x: Tensor) -> np.ndarray:
    return heat(x.detach().cpu().numpy())


def wav(x: np.ndarray) -> bytes:
    """Writes a stored sound, int16 (1, T), as a WAV file of 16 bits."""
    return _wav(x, rate_of(x.shape[-1]))


def joined(x: np.ndarray) -> bytes:
    """Writes stored sounds, int16 (N, 1, T), as one WAV file: each goes over into the next within a quarter of it."""
    n, _, length = x.shape
    over = length // 4
    ramp = np.sin(np.linspace(0, np.pi / 2, over))  # of equal power
    out = np.zeros(n * (length - over) + over)
    for i, sound in enumerate(x[:, 0].astype(np.float64)):
        if i:
            sound[:over] *= ramp
        if i < n - 1:
            sound[-over:] *= ramp[::-1]
        out[i * (length - over) : i * (length - over) + length] += sound
    return _wav(out.round().clip(-(2**15), 2**15 - 1), rate_of(length))


def _wav(x: np.ndarray, rate: int) -> bytes:
    memory = io.BytesIO()
    with wave.open(memory, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.ascontiguousarray(x, "<i2").tobytes())
    return memory.getvalue()


def practised(x: Tensor, generator: Generator) -> Tensor:
    """Changes spectrograms (N, 1, S, S) as another voice and another room would [4].

    They begin earlier or later, lie higher or lower, are louder or softer, and have a gap in time and one in frequency.
    """
    import torch

    n, side = len(x), x.shape[-1]

    def drawn(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator, device=x.device) * (high - low) + low

    def moved(x: Tensor, by: Tensor, axis: int) -> Tensor:
        place = torch.arange(side, device=x.device) - by.round().long()[:, None]  # (N, S)
        inside = ((place >= 0) & (place < side)).to(x.dtype)
        shape = (n, 1, side, 1) if axis == 2 else (n, 1, 1, side)
        place, inside = place.clamp(0, side - 1).view(shape), inside.view(shape)
        return x.gather(axis, place.expand_as(x)) * inside

    def gap(width: Tensor, axis: int) -> Tensor:
        start = drawn(0, 1) * (1 - width)
        at = torch.arange(side, device=x.device) / side
        return ((at >= start[:, None]) & (at < (start + width)[:, None])).view(
            (n, 1, side, 1) if axis == 2 else (n, 1, 1, side)
        )

    x = moved(x, drawn(-0.12, 0.12) * side, 3)
    x = moved(x, drawn(-0.08, 0.08) * side, 2)
    x = torch.where(x > 0, x + drawn(-8, 8).view(n, 1, 1, 1) / RANGE, x).clamp(0, 1)
    return x.masked_fill(gap(drawn(0, 0.12), 3) | gap(drawn(0, 0.12), 2), 0.0)


def _near(x: Tensor) -> Tensor:
    from core.tensors import coarse

    return coarse(spectrogram(x))


def _body(shape: tuple[int, ...], width: int, features: int) -> nn.Module:
    from torch import nn

    from core.nets import ConvFeatures

    side = min(32, shape[-1])  # as well judged at 32, at a quarter of the time
    return nn.Sequential(nn.AdaptiveAvgPool2d(side), ConvFeatures(shape[0], side, width, features))


def _below(x: Tensor, eps: float, norm: str) -> str:
    """Says how far the loudest change of a strength lies below the sounds: of their middle one, in dB."""
    import math

    size = eps if norm == "linf" else eps / math.sqrt(x[0].numel())
    level = float((x - 0.5).flatten(1).square().mean(1).sqrt().median())
    if not size or not level:
        return ""
    below = 20 * math.log10(level / size)
    return f"{abs(below):.0f} dB {'below' if below >= 0 else 'above'} the signal"


def _describe(count: int, shape: tuple[int, ...]) -> str:
    return f"{count:,} sounds of {SECONDS} s at {rate_of(shape[-1]) // 1000} kHz"


@media.add(
    "sound",
    "Sounds",
    item="sequence",
    model="picture",
    shape="(N, 1, T), T of 4096, 8192 or 16384",
    fits=lambda shape: len(shape) == 2 and shape[0] == 1 and shape[1] in [HOP * s for s in SIDES],
    describe=_describe,
    files=lambda x, levels: [wav(item) for item in x],
    suffix=".wav",
    mime="audio/wav",
    body=_body,
    usual=lambda shape: 0.002,
    strength=_below,
    norms=("linf", "l2"),
    source="recordings",
    dtype="int16",
    read=_read,
    write=_write,
    to_model=spectrogram,
    from_model=waveform,
    look=_look,
    costly=True,
    practise=practised,
    join=joined,
    near=_near,
)
def sound(x: np.ndarray, levels: int) -> np.ndarray:
    """Draws sounds as spectrograms: time to the right, frequency upwards, the louder the brighter."""
    import torch

    parts = np.array_split(np.asarray(x), max(1, len(x) // 250))
    seen = [spectrogram(_read(torch.from_numpy(np.array(part)), levels)) for part in parts]
    return _look(torch.cat(seen))
