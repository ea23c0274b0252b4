"""Notes of drawn instruments with known attributes: a dataset of sounds without a download, by our own numpy code.

:func:`attributes` decides what is played, and :func:`play` plays it. A note is a sum of partials, each with an envelope
of its own, as far as the rate can hold them; so it is the same note at any rate.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from core.ground.watch import UNWATCHED, Watch
from core.media.sound import rate_of, samples_of

Array = np.ndarray


class _Instrument(NamedTuple):
    """How an instrument sounds."""

    partials: tuple[float, ...]  # frequencies, in multiples of the pitch
    levels: tuple[float, ...]
    decay: float = 0.0  # nepers per second of the first partial; 0 for a held note
    damping: float = 0.0  # what a partial decays faster for each multiple of the pitch
    swell: float = 0.0  # how much later the higher partials come in
    breath: float = 0.0  # noise beside the partials
    attack: tuple[float, float] = (0.005, 0.03)  # seconds


def _series(count: int, fall: float, step: int = 1) -> tuple[tuple[float, ...], tuple[float, ...]]:
    numbers = range(1, count * step + 1, step)
    return tuple(map(float, numbers)), tuple(number**-fall for number in numbers)


_INSTRUMENTS = {
    "organ": _Instrument((1, 2, 3, 4, 6, 8), (1, 0.8, 0.5, 0.4, 0.25, 0.2)),
    "flute": _Instrument((1, 2, 3), (1, 0.18, 0.05), breath=0.03, attack=(0.04, 0.12)),
    "string": _Instrument(*_series(16, 1.0), decay=2.5, damping=0.8, attack=(0.001, 0.006)),
    "bell": _Instrument(  # of a bar that is free at both ends
        (1, 2.756, 5.404, 8.933), (1, 0.7, 0.5, 0.3), decay=2.0, damping=0.7, attack=(0.001, 0.004)
    ),
    "reed": _Instrument(*_series(8, 0.9, 2), attack=(0.02, 0.07)),
    "brass": _Instrument(*_series(14, 0.7), swell=0.05, attack=(0.03, 0.1)),
}

CLASSES = tuple(_INSTRUMENTS)
NAMES = {"instrument": CLASSES}
"""What the values 0, 1, … of an attribute that is a choice stand for."""

RANGES = {
    "pitch": (48.0, 76.0),
    "attack": (0.001, 0.12),
    "length": (0.45, 0.9),
    "vibrato": (0.0, 1.0),
    "brightness": (0.0, 1.0),
    "loudness": (-18.0, -3.0),
}
"""Lowest and highest value of the other attributes: the pitch in semitones, of which 69 is 440 Hz; attack and length in
seconds; vibrato in halves of a semitone to each side; brightness from dull to full; the peak in dB below full scale."""

_START, _RELEASE = 0.03, 0.06  # seconds of silence before, and of fading at the end
_WAVES = 5.5  # of a vibrato, in Hz
_TOP = 0.46  # of the rate, below which partials are played


def attributes(seed: int, count: int) -> dict[str, Array]:
    """Decides which notes are played: the true attributes, one array of length ``count`` each.

    Note i of a seed is the same whatever ``count`` is. Pitches are whole semitones; :data:`NAMES` and :data:`RANGES`
    say what the values mean.
    """
    from core.tensors import noise

    u = noise(seed, range(count), (7,), "tones", uniform=True).numpy().astype(np.float64)
    instrument = np.minimum((u[:, 0] * len(CLASSES)).astype(np.int64), len(CLASSES) - 1)
    low, high = np.array([each.attack for each in _INSTRUMENTS.values()])[instrument].T
    chosen = {
        "instrument": instrument,
        "pitch": np.floor(48 + u[:, 1] * 29),
        "attack": low * (high / low) ** u[:, 2],
    }
    for column, name in ((3, "length"), (4, "vibrato"), (5, "brightness"), (6, "loudness")):
        least, most = RANGES[name]
        chosen[name] = least + u[:, column] * (most - least)
    chosen["vibrato"] = np.maximum(0, 2 * chosen["vibrato"] - 1)  # half of the notes have none
    return chosen


def play(notes: dict[str, Array], rate: int, seed: int = 0, watch: Watch = UNWATCHED) -> Array:
    """Plays notes.

    Args:
        notes: As :func:`attributes` gives them.
        rate: In Hz.
        seed: Of the breath.
        watch: Follows it.

    Returns:
        int16 (N, 1, T), as the medium ``sound`` stores them.
    """
    count, samples = len(notes["pitch"]), samples_of(rate)
    out = np.empty((count, 1, samples), np.int16)
    for i in range(count):
        if not i % 50:
            watch.count("Playing", i, count, "notes")
        one = {name: float(column[i]) for name, column in notes.items()}
        wave = _note(_INSTRUMENTS[CLASSES[int(one["instrument"])]], one, samples, seed, i)
        peak = 10 ** (one["loudness"] / 20) / max(float(np.abs(wave).max()), 1e-9)
        out[i, 0] = (wave * peak * (2**15 - 1)).round()
    return out


def _note(how: _Instrument, one: dict[str, float], samples: int, seed: int, i: int) -> Array:
    """Plays one note at any loudness, (T,)."""
    rate = rate_of(samples)
    t = np.arange(samples) / rate - _START
    pitch = 440 * 2 ** ((one["pitch"] - 69) / 12)
    depth = one["vibrato"] * (2 ** (1 / 24) - 1)
    turns = pitch * (t + depth * (1 - np.cos(2 * np.pi * _WAVES * t)) / (2 * np.pi * _WAVES))
    end = one["length"]
    shape = np.clip(t / one["attack"], 0, 1) * np.clip((end - t) / _RELEASE, 0, 1)
    first: np.ndarray = np.exp(2j * np.pi * turns)
    power: np.ndarray = np.ones(samples, complex)
    reached, wave = 0, np.zeros(samples)
    for partial, level in zip(how.partials, how.levels, strict=True):
        if partial * pitch * (1 + depth) > _TOP * rate:
            break
        if partial == int(partial):  # one multiplication is cheaper than a sine
            while reached < partial:
                power, reached = power * first, reached + 1
            sine = np.imag(power)
        else:
            sine = np.sin(2 * np.pi * partial * turns)
        level *= (0.35 + 0.65 * one["brightness"]) ** (partial - 1) if partial > 1 else 1
        fade = np.exp(-(how.decay + how.damping * (partial - 1)) * np.maximum(t, 0))
        late = np.clip(t / (one["attack"] + how.swell * (partial - 1) / 4 + 1e-6), 0, 1)
        wave += level * sine * fade * (late if how.swell else 1)
    if how.breath:
        wave += how.breath * np.random.default_rng((seed, i)).standard_normal(samples)
    return wave * shape
