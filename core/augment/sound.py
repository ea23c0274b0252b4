"""Steps that change sounds, (N, 1, T) in [0, 1]: when they are, how loud, in what noise and room, how fast and high.

References (used throughout the code):
    [1] Park et al., 2019, SpecAugment: a simple data augmentation method, https://arxiv.org/abs/1904.08779
    [2] Flanagan and Golden, 1966, Phase vocoder, https://doi.org/10.1002/j.1538-7305.1966.tb01706.x
    [3] Moorer, 1979, About this reverberation business, https://doi.org/10.2307/3680280
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from core.augment.catalogue import Configured, Draws, NumberStep, Params, augmentations
from core.catalog import Config, knob
from core.media.sound import SECONDS, rate_of
from core.tensors import noise

_OF = {"group": "Sound", "takes": ("sequence",), "medium": "sound", "absent": "is of sounds"}
_EDGE = 0.005  # seconds in which a gap fades, so that it does not click
_GRAIN = 64  # frames of a phase vocoder in a sound


def _wave(x: Tensor) -> Tensor:
    """Gives waves in [-1, 1], (N, T)."""
    return 2 * x[:, 0] - 1


def _item(s: Tensor) -> Tensor:
    """Makes items of waves, (N, T) to (N, 1, T)."""
    return (0.5 + s / 2).clamp(0, 1)[:, None]


def _at(s: Tensor, place: Tensor) -> Tensor:
    """Reads waves (N, T) between their samples, (N, M) places; cubic, and silent outside."""
    length = s.shape[1]
    floor = place.floor()
    t = place - floor
    inside = (place >= 0) & (place <= length - 1)
    before, start, end, after = (
        s.gather(1, (floor.long() + k).clamp(0, length - 1)) for k in (-1, 0, 1, 2)
    )
    slope, arrive = (end - before) / 2, (after - start) / 2
    found = (
        (2 * t**3 - 3 * t**2 + 1) * start
        + (t**3 - 2 * t**2 + t) * slope
        + (3 * t**2 - 2 * t**3) * end
        + (t**3 - t**2) * arrive
    )
    return found * inside


def _step(name: str, title: str, config: type[Config], **fields: Any) -> Callable[..., Any]:
    return augmentations.add(name, title, config, **_OF, **fields)


def _numbered(
    name: str,
    title: str,
    config: type[Config],
    number: str,
    bounds: Callable[[Any], tuple[float, float]],
    unit: str,
    strength: str,
) -> Callable[..., Any]:
    """Registers a function of sounds and one number each as a step that draws the number."""

    def register(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
        def make(config: Config, context: object) -> NumberStep:
            return NumberStep(number, bounds(config), change)

        make.__doc__ = change.__doc__
        _step(name, title, config, strength=strength, units={number: unit})(make)
        return change

    return register


class ShiftConfig(Config):
    """How far sounds move."""

    seconds: float = knob(0.1, "Largest shift, to either side.", ge=0, le=0.5, unit="s")


@_numbered(
    "sound_shift", "Shift in time", ShiftConfig, "shift",
    lambda c: (-c.seconds, c.seconds), " s", "seconds",
)  # fmt: skip
def shifted(x: Tensor, shift: Tensor) -> Tensor:
    """Lets the sound begin earlier or later; what leaves is lost, and what is free is silent."""
    length = x.shape[-1]
    by = (shift * (length / SECONDS)).round()
    return _item(_at(_wave(x), torch.arange(length, device=x.device) - by[:, None]))


class GainConfig(Config):
    """How much louder, or softer."""

    decibels: float = knob(6.0, "Largest change, to either side.", ge=0, le=30, unit="dB")


@_numbered(
    "sound_gain", "Loudness", GainConfig, "gain",
    lambda c: (-c.decibels, c.decibels), " dB", "decibels",
)  # fmt: skip
def louder(x: Tensor, gain: Tensor) -> Tensor:
    """Makes the sound louder or softer; what is louder than full scale is clipped."""
    return _item(_wave(x) * 10 ** (gain / 20)[:, None])


class HissConfig(Config):
    """How loud the noise is."""

    share: float = knob(
        0.1, "Largest loudness of the noise, as a share of the sound's: 0.1 is 20 dB below it.", ge=0, le=2
    )  # fmt: skip


@_step("sound_noise", "Noise", HissConfig, strength="share", units={"share": " of its loudness"})
class Hiss(Configured[HissConfig]):
    """Adds white noise, as loud as a share of the sound."""

    def draw(self, draws: Draws) -> Params:
        return {"share": draws.uniform("share", high=self.config.share), "_key": draws.keys()}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        s = _wave(x)
        hiss = noise(0, params["_key"], s.shape[1:], "hiss", device=x.device)
        return _item(s + params["share"][:, None] * s.square().mean(1, keepdim=True).sqrt() * hiss)


class TimeMaskConfig(Config):
    """How much of the time is lost."""

    seconds: float = knob(0.15, "Longest gap.", ge=0, le=0.6, unit="s")


@_step(
    "time_mask",
    "Gap in time",
    TimeMaskConfig,
    strength="seconds",
    units={"start": " s", "gap": " s"},
)
class TimeMask(Configured[TimeMaskConfig]):
    """Silences a stretch of the sound [1]."""

    def draw(self, draws: Draws) -> Params:
        gap = draws.uniform("gap", high=self.config.seconds)
        return {"start": draws.uniform("start") * (SECONDS - gap), "gap": gap}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        t = torch.arange(x.shape[-1], device=x.device) * (SECONDS / x.shape[-1])
        start, gap = params["start"][:, None], params["gap"][:, None]
        outside = torch.maximum(start - t, t - start - gap)  # seconds to the gap, negative within
        kept = torch.where(gap > 0, (1 + outside / _EDGE).clamp(0, 1), 1.0)
        return _item(_wave(x) * kept)


class FrequencyMaskConfig(Config):
    """How much of the frequencies is lost."""

    share: float = knob(0.15, "Widest gap, as a share of the mel scale.", ge=0, le=0.6)


@_step(
    "frequency_mask",
    "Gap in frequency",
    FrequencyMaskConfig,
    strength="share",
    units={"low": " of the scale", "width": " of the scale"},
)
class FrequencyMask(Configured[FrequencyMaskConfig]):
    """Takes a band of frequencies out of the sound [1]."""

    def draw(self, draws: Draws) -> Params:
        width = draws.uniform("width", high=self.config.share)
        return {"low": draws.uniform("low") * (1 - width), "width": width}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        s = _wave(x)
        length = s.shape[1]
        hertz = torch.fft.rfftfreq(length, 1 / rate_of(length), device=x.device)
        mel = (1 + hertz / 700).log()
        at = mel / mel[-1]
        low, width = params["low"][:, None], params["width"][:, None]
        gap = (at >= low) & (at < low + width)
        return _item(torch.fft.irfft(torch.where(gap, 0.0, torch.fft.rfft(s)), length))


class SpeedConfig(Config):
    """How much faster, or slower."""

    amount: float = knob(
        0.15, "Largest change, as a share of the speed; the pitch follows.", ge=0, le=0.5
    )


@_numbered(
    "sound_speed", "Speed", SpeedConfig, "speed",
    lambda c: (1 - c.amount, 1 + c.amount), " times", "amount",
)  # fmt: skip
def faster(x: Tensor, speed: Tensor) -> Tensor:
    """Plays the sound faster or slower, and higher or lower with it, as a tape does."""
    return _item(_at(_wave(x), torch.arange(x.shape[-1], device=x.device) * speed[:, None]))


class PitchConfig(Config):
    """How much higher, or lower."""

    semitones: float = knob(
        2.0, "Largest change, to either side; the speed stays.", ge=0, le=12, unit="semitones"
    )


@_numbered(
    "sound_pitch", "Pitch", PitchConfig, "pitch",
    lambda c: (-c.semitones, c.semitones), " semitones", "semitones",
)  # fmt: skip
def higher(x: Tensor, pitch: Tensor) -> Tensor:
    """Makes the sound higher or lower, and not faster: stretched by a phase vocoder [2], then played at that speed."""
    s = _wave(x)
    by = 2 ** (pitch / 12)
    long = _stretched(s, by)
    moved = _at(long, torch.arange(s.shape[1], device=x.device) * by[:, None])
    return _item(torch.where((pitch == 0)[:, None], s, moved))


def _stretched(s: Tensor, by: Tensor) -> Tensor:
    """Makes waves (N, T) last so many times as long, (N,), at their pitch; (N, 2 T), cut or filled with silence."""
    length = s.shape[1]
    hop = length // (2 * _GRAIN)
    size = 4 * hop
    window = torch.hann_window(size, device=s.device)
    spectra = torch.stft(s, size, hop, window=window, return_complex=True)  # (N, bins, frames)
    frames = spectra.shape[2]
    place = torch.arange(2 * frames, device=s.device) / by[:, None]  # (N, M) in frames of the sound
    inside = place <= frames - 1
    floor = place.floor().long().clamp(0, frames - 2)
    share = (place - floor).clamp(0, 1)[:, None]  # (N, 1, M)
    index = floor[:, None].expand(-1, spectra.shape[1], -1)
    first, second = spectra.gather(2, index), spectra.gather(2, index + 1)
    level = torch.lerp(first.abs(), second.abs(), share) * inside[:, None]
    usual = 2 * torch.pi * hop / size * torch.arange(spectra.shape[1], device=s.device)[:, None]
    turn = second.angle() - first.angle() - usual
    turn = turn - 2 * torch.pi * (turn / (2 * torch.pi)).round() + usual
    phase = first[:, :, :1].angle() + turn.cumsum(2) - turn
    out = torch.istft(torch.polar(level, phase), size, hop, window=window)
    return torch.nn.functional.pad(out, (0, max(0, 2 * length - out.shape[1])))[:, : 2 * length]


class RoomConfig(Config):
    """How large the room is."""

    seconds: float = knob(
        0.4, "Longest time in which an echo fades by 60 dB.", ge=0, le=2, unit="s"
    )
    wet: float = knob(0.5, "Loudness of the echoes beside the sound itself.", ge=0, le=1)


@_step("sound_room", "Room", RoomConfig, strength="seconds", units={"fade": " s"})
class Room(Configured[RoomConfig]):
    """Lets the sound echo in a room that is drawn: noise that fades away [3]."""

    def draw(self, draws: Draws) -> Params:
        return {"fade": draws.uniform("fade", high=self.config.seconds), "_key": draws.keys()}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        s = _wave(x)
        length = s.shape[1]
        t = torch.arange(1, length + 1, device=x.device) * (SECONDS / length)
        echo = noise(0, params["_key"], (length,), "room", device=x.device)
        echo = echo * torch.exp(-6.9 * t / params["fade"].clamp_min(1e-4)[:, None])
        echo = echo / echo.square().sum(1, keepdim=True).sqrt().clamp_min(1e-9)
        both = torch.fft.rfft(s, 2 * length) * torch.fft.rfft(echo, 2 * length)
        wet = torch.fft.irfft(both, 2 * length)[:, : length - 1]
        late = torch.nn.functional.pad(wet, (1, 0))
        heard = (params["fade"] > 1e-3)[:, None] * self.config.wet
        return _item(s + heard * late)
