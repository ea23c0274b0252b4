"""Sounds: the way to a model's picture and back, files of every kind, drawn notes, and the steps that change them."""

from __future__ import annotations

import io
import struct
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from core import augment, datasets
from core.augment.sound import faster, higher, louder, shifted
from core.catalog import UserError
from core.datasets import audio, tones
from core.datasets.pictures import Refused
from core.media import media
from core.media import sound as sounds

SOUND = media.get("sound")


def sine(hertz: float, rate: int = 8000, peak: float = 0.5, channels: int = 1) -> np.ndarray:
    """A tone at a rate, float64 (T, channels) of 1.024 s."""
    t = np.arange(round(1.024 * rate)) / rate
    return np.repeat(peak * np.sin(2 * np.pi * hertz * t)[:, None], channels, 1)


def items(*waves: np.ndarray) -> torch.Tensor:
    """Waves in [-1, 1], (T, 1) each, as items in [0, 1]."""
    return torch.tensor(np.stack([w.T for w in waves]), dtype=torch.float32) / 2 + 0.5


def riff(body: bytes, code: int, channels: int, rate: int, bits: int, **wrong: int) -> bytes:
    """A WAV file, in which parts of the header may be wrong."""
    block = wrong.get("block", min(channels * bits // 8, 65535))
    form = struct.pack(
        "<HHIIHH",
        code,
        channels,
        rate,
        wrong.get("bytes", min(rate * block, 2**32 - 1)),
        block,
        bits,
    )
    size = wrong.get("size", len(body))
    return b"RIFF" + struct.pack("<I", 4) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size) + body  # fmt: skip


def written(x: np.ndarray, kind: str) -> bytes:
    """Writes waves (T, C) the way that a kind of WAV does."""
    whole = {"8": 2**7, "16": 2**15, "24": 2**23, "32": 2**31}
    if kind == "float":
        return x.astype("<f4").tobytes()
    if kind == "double":
        return x.astype("<f8").tobytes()
    if kind in ("mulaw", "alaw"):  # by search in the law's own formula, not by its bits
        table = np.array([audio._expanded(7 if kind == "mulaw" else 6)])[0]
        return np.abs(x.reshape(-1, 1) - table[None]).argmin(1).astype(np.uint8).tobytes()
    y = np.clip(np.round(x * whole[kind]), -whole[kind], whole[kind] - 1).astype("<i4")
    if kind == "8":
        return (y + 128).astype(np.uint8).tobytes()
    return (
        np.ascontiguousarray(y).view(np.uint8).reshape(*y.shape, 4)[..., : int(kind) // 8].tobytes()
    )


CODES = {"8": 1, "16": 1, "24": 1, "32": 1, "float": 3, "double": 3, "mulaw": 7, "alaw": 6}
BITS = {"float": 32, "double": 64, "mulaw": 8, "alaw": 8}


# --- The medium -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", sounds.RATES)
def test_a_sine_is_where_its_frequency_is_and_as_loud_as_it_is(rate):
    seen = SOUND.to_model(items(sine(700, rate, 1.0), sine(700, rate, 0.5), sine(700, rate, 0.05)))
    side = rate // 125
    assert seen.shape == (3, 1, side, side)
    column = seen[:, 0, :, side // 2].flip(1)  # the lowest band first
    middle = sounds.frequencies(rate)
    band = int(column[0].argmax())
    assert abs(middle[band] - 700) <= np.diff(middle)[max(0, band - 1) : band + 1].max()
    assert float(column[0].max()) > 0.97  # a sine at full scale has 0 dB
    assert float(column[1].max() - column[2].max()) * 80 == pytest.approx(20, abs=0.2)


def test_the_spectrum_is_that_of_scipy():
    from scipy.signal import stft

    x = np.random.default_rng(0).standard_normal(8192) * 0.1
    power = sounds.powers(torch.tensor(x[None], dtype=torch.float32))[0].numpy()
    padded = np.pad(x, 64, mode="reflect")
    _, _, spectra = stft(
        padded,
        window="hann",
        nperseg=256,
        noverlap=128,
        boundary=None,
        padded=False,  # type: ignore[arg-type]
    )
    bands = sounds._bank(64, "cpu")[0].numpy()
    assert power.shape == (64, 64)
    assert np.allclose(power, bands @ (4 * np.abs(spectra) ** 2), rtol=1e-3, atol=1e-9)


def test_what_a_model_sees_comes_back_within_three_decibels_whatever_is_beside_it():
    notes = tones.attributes(3, 9)
    x = SOUND.read(torch.tensor(tones.play(notes, 8000)), 256)
    seen = SOUND.to_model(x)
    back = SOUND.from_model(seen)
    again = SOUND.to_model(back)
    assert back.shape == x.shape and float(back.min()) >= 0 and float(back.max()) <= 1
    loud = seen > 0.35  # what is above 52 dB below full scale
    assert 80 * float((again - seen)[loud].square().mean().sqrt()) < 3
    alone = SOUND.kept(seen[4:5])
    assert np.array_equal(alone, SOUND.kept(seen)[4:5])  # the batch changes nothing


def test_silence_noise_and_what_is_not_a_number_stay_sounds():
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 2.0]).repeat(1024)
    seen = torch.stack(
        [torch.zeros(1, 32, 32), torch.ones(1, 32, 32), odd[: 32 * 32].view(1, 32, 32)]
    )
    x = SOUND.kept(seen)
    assert x.dtype == np.int16 and (x[0] == 0).all() and x[1].any()
    assert np.isfinite(SOUND.to_model(SOUND.read(torch.tensor(x), 256)).numpy()).all()
    assert SOUND.shown(seen).shape == (3, 3, 32, 32)
    assert (SOUND.write(torch.full((1, 1, 4096), float("nan")), 256) == 0).all()


def test_stored_values_come_back_and_the_file_is_a_wav_of_16_bits():
    x = np.array([[[-32768, -1, 0, 1, 32767] + [7] * 4091]], np.int16)
    assert np.array_equal(SOUND.write(SOUND.read(torch.tensor(x), 256), 256), x)
    with wave.open(io.BytesIO(SOUND.alone(x[0], 256))) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (4000, 2, 1)
        assert file.readframes(5) == np.array([-32768, -1, 0, 1, 32767], "<i2").tobytes()


def test_a_gradient_reaches_the_waveform():
    x = items(sine(500)).requires_grad_()
    SOUND.to_model(x)[:, :, 20:40].sum().backward()
    step = 1e-3 * x.grad / x.grad.norm()  # type: ignore[operator]
    with torch.no_grad():
        rise = (
            SOUND.to_model(x + step)[:, :, 20:40].sum()
            - SOUND.to_model(x - step)[:, :, 20:40].sum()
        )
    assert float(rise) == pytest.approx(2e-3 * float(x.grad.norm()), rel=0.1)  # type: ignore[union-attr]


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CODES)
def test_every_way_to_write_a_wav_is_read(kind):
    x = sine(440, channels=2)
    data = riff(written(x, kind), CODES[kind], 2, 8000, BITS.get(kind) or int(kind))
    read = audio.decode(data, 2.0)
    error = {"8": 1 / 128, "mulaw": 0.02, "alaw": 0.02}.get(kind, 1e-4)
    assert (read.rate, read.channels, read.seconds) == (8000, 2, pytest.approx(1.024))
    assert np.abs(read.samples - x[:, 0]).max() < error


def test_the_companding_laws_are_those_of_the_standard():
    steps = {
        7: [(0xFF, 0), (0x80, 32124), (0x00, -32124), (0xEF, 132)],
        6: [(0xD5, 8), (0xAA, 32256), (0x2A, -32256)],
    }
    for code, pairs in steps.items():
        table = audio._expanded(code)
        assert [round(float(table[byte]) * 2**15) for byte, _ in pairs] == [
            value for _, value in pairs
        ]


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": 2**32 - 1}, {"block": 77}, {"bytes": 1}], ids=str
)
def test_a_wrong_header_is_read_right(wrong):
    body = written(sine(440), "16")
    read = audio.decode(riff(body, 1, 1, 8000, 16, **wrong), 2.0)
    assert len(read.samples) == 8192 and np.abs(read.samples - sine(440)[:, 0]).max() < 1e-4


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GIF89a" + bytes(99), "is no sound that is read: use WAV, FLAC, OGG or MP3"),
        (riff(bytes(99), 1, 1, 10**9, 16), "samples a second, and 1,000 to 384,000"),
        (riff(bytes(99), 1, 0, 8000, 16), "has 0 channels, and 1 to 8 are read"),
        (riff(bytes(99), 1, 60_000, 8000, 16), "60,000 channels"),
        (riff(bytes(2_000_000), 1, 1, 1000, 8), "lasts 2,000 seconds, and at most 600"),
        (b"RIFF\0\0\0\0WAVE", "without a header"),
        (riff(b"", 1, 1, 8000, 16)[:36], "without samples"),
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused_before_it_is_decoded(data, why):
    with pytest.raises(Refused, match=why):
        audio.decode(data, 1.0)


def test_a_wav_that_only_the_package_reads_does_not_end_an_import_without_it(monkeypatch):
    monkeypatch.setattr("core.datasets.audio.installed", lambda module: False)
    with pytest.raises(Refused, match="only the package soundfile reads"):
        audio.decode(riff(bytes(99), 17, 1, 8000, 4), 1.0)


def test_numbers_too_large_for_a_sample_are_cut_off_and_no_sounds_stay_none():
    read = audio.decode(riff(np.array([1e300, 0.5, -1e300]).tobytes(), 3, 1, 8000, 64), 1.0)
    assert read.samples.tolist() == [1, 0.5, -1]
    assert sounds.spectrogram(torch.zeros(0, 1, 8192)).shape == (0, 1, 64, 64)
    assert sounds.waveform(torch.zeros(0, 1, 64, 64)).shape == (0, 1, 8192)


def test_numbers_that_are_none_never_get_in():
    x = sine(440)
    x[100:200], x[300], x[301] = np.nan, np.inf, -np.inf
    read = audio.decode(riff(written(x, "float"), 3, 1, 8000, 32), 2.0)
    made, _ = audio.fitted(read, 8000, 8192, "start")
    assert np.isfinite(read.samples).all() and (made[0, 100:200] == 0).all()
    assert (made[0, 300], made[0, 301]) == (32767, -32767)


def test_a_recording_keeps_its_pitch_at_another_rate_and_its_loudest_part():
    x = np.concatenate([np.zeros(44100), sine(440, 44100)[:, 0], np.zeros(30000)])
    read = audio.decode(riff(written(x[:, None], "16"), 1, 1, 44100, 16), 30.0)
    made, notes = audio.fitted(read, 8000, 8192, "loudest")
    spectrum = np.abs(np.fft.rfft(made[0] * np.hanning(8192)))
    assert spectrum.argmax() * 8000 / 8192 == pytest.approx(440, abs=1)
    assert np.abs(made).max() == pytest.approx(2**14, rel=0.02)
    assert "from 44,100 to 8,000" in notes[0] and "from second 1.0" in notes[1]


def test_two_channels_that_cancel_each_other_are_heard():
    x = sine(440, channels=2) * [1, -1]
    assert np.abs(audio.decode(riff(written(x, "16"), 1, 2, 8000, 16), 2.0).samples).max() > 0.4


def test_without_the_package_a_flac_says_what_to_install(monkeypatch):
    monkeypatch.setattr("core.catalog.installed", lambda module: False)
    with pytest.raises(
        UserError, match=r"Reading FLAC needs the package soundfile.*requirements-sound.txt"
    ):
        audio.decode(b"fLaC" + bytes(60), 1.0)


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_compressed_files_are_read_by_the_package(kind):
    soundfile = pytest.importorskip("soundfile")
    memory = io.BytesIO()
    soundfile.write(memory, sine(440, 16000), 16000, format=kind)
    read = audio.decode(memory.getvalue(), 2.0)
    spectrum = np.abs(np.fft.rfft(read.samples * np.hanning(len(read.samples))))
    assert spectrum.argmax() * 16000 / len(read.samples) == pytest.approx(440, abs=2)
    with pytest.raises(Refused, match="cannot be read as"):
        audio.decode(memory.getvalue()[:40], 2.0)


# --- Datasets ---------------------------------------------------------------------------------------------------------


def test_a_note_is_as_its_attributes_say():
    notes = tones.attributes(0, 40)
    assert np.array_equal(notes["pitch"][:5], tones.attributes(0, 5)["pitch"])
    x = tones.play(notes, 8000)
    assert np.array_equal(tones.play({k: v[:3] for k, v in notes.items()}, 8000), x[:3])
    peak = 20 * np.log10(np.abs(x[:, 0] / 2**15).max(1))
    assert np.allclose(peak, notes["loudness"], atol=0.05)
    for i in np.flatnonzero(np.isin(notes["instrument"], [0, 1, 3]) & (notes["vibrato"] == 0))[:6]:
        spectrum = np.abs(np.fft.rfft(x[i, 0] * np.hanning(8192), 2**16))
        hertz = spectrum.argmax() * 8000 / 2**16
        assert 12 * np.log2(hertz / 440) + 69 == pytest.approx(notes["pitch"][i], abs=0.2)
    quiet = np.abs(x[:, 0, int(0.97 * 8000) :]).max()
    assert quiet == 0 and len(np.unique(notes["instrument"])) == 6


def folder(place: Path, names: list[str]) -> Path:
    """Writes a recording of each name, no two alike."""
    for i, name in enumerate(names):
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(riff(written(sine(200 + 5 * i, 4000), "16"), 1, 1, 4000, 16))
    return place


def test_who_speaks_is_never_in_two_splits(tmp_path):
    names = [f"{digit}_{who}_{n}.wav" for digit in "012" for who in "abcdefgh" for n in range(2)]
    place = folder(tmp_path / "said", names)
    (place / "notes.txt").write_text("no sound")
    seen = datasets.preview({"path": str(place)})
    assert (seen.source, seen.taken, seen.pictures) == ("recordings", "names", 48)
    assert seen.readings[0]["classes"] == {"0": 16, "1": 16, "2": 16}
    data = datasets.bring("said", {"path": str(place), "rate": 4000})
    assert (data.medium.name, data.group, data.classes) == ("sound", "speaker", ("0", "1", "2"))
    who = [set(data.members[index]) for index in data.splits.values()]  # type: ignore[index]
    assert all(who) and not (who[0] & who[1] or who[0] & who[2] or who[1] & who[2])
    assert data.refused == (("notes.txt", "is no sound that is read: use WAV, FLAC, OGG or MP3"),)
    free = datasets.bring("free", {"path": str(place), "rate": 4000, "names": "label_who_number"})
    assert free.group == "" and free.classes == data.classes
    with pytest.raises(UserError, match="must hold the word label or group"):
        datasets.bring("no", {"path": str(place), "names": "a_b_c"})


def test_folders_are_classes_or_splits_and_a_zip_is_read_alike(tmp_path):
    names = [
        f"set/{part}/{of}/{n}.wav"
        for part in ("train", "test")
        for of in ("low", "high")
        for n in range(5)
    ]
    place = folder(tmp_path / "in", names)
    packed = tmp_path / "in.zip"
    with zipfile.ZipFile(packed, "w") as out:
        for name in names:
            out.write(place / name, name)
        out.write(place / names[0], "set/test/low/again.wav")
    data = datasets.bring("notes", {"path": str(packed), "rate": 8000})
    assert data.classes == ("high", "low") and data.shape == (1, 8192)
    assert (
        len(data.splits["test"]) == 11
        and len(data.splits["train"]) + len(data.splits["valid"]) == 9
    )
    assert any("a later split holds as well" in note for note in data.notes)
    few = folder(tmp_path / "few", ["one.wav", "two.wav"])
    with pytest.raises(UserError, match="holds 2 recordings that can be read, and at least 8"):
        datasets.bring("few", {"path": str(few)}, source="recordings")


def test_an_own_recording_becomes_an_item_of_a_dataset():
    data = datasets.load("tone", {"count": 16, "rate": 4000})
    mine = datasets.prepare(riff(written(sine(300, 44100), "24"), 1, 1, 44100, 24), data)
    assert mine.x.shape == (1, 4096) and "44,100 to 4,000" in mine.notes[0]
    with pytest.raises(UserError, match=r"The recording is no sound.*Send a WAV"):
        datasets.prepare(b"nothing at all", data)
    with pytest.raises(UserError, match="A drawing is no sound"):
        datasets.prepare(np.zeros((9, 9), np.uint8), data)


# --- Augmentation -----------------------------------------------------------------------------------------------------

STEPS = [entry for entry in augment.augmentations if entry.medium == "sound"]


def pitch_of(x: torch.Tensor) -> float:
    """The strongest frequency of an item, in Hz."""
    spectrum = torch.fft.rfft((x[0, 0] - 0.5) * torch.hann_window(8192)).abs()
    return float(spectrum.argmax() * 8000 / 8192)


@pytest.mark.parametrize("entry", STEPS, ids=lambda entry: entry.name)
def test_a_step_of_strength_nothing_changes_nothing_and_depends_on_the_id_alone(entry):
    x = items(sine(440), sine(300), sine(700))
    still = augment.Pipeline.of([{"name": entry.name, "parameters": {entry.strength: 0}}])
    assert float((augment.Chain(still)(x, 0, range(3)) - x).abs().max()) < 2e-4
    chain = augment.Chain(augment.Pipeline.of([{"name": entry.name}]))
    moved = chain(x, 5, [10, 11, 12])
    assert torch.allclose(moved[1:2], chain(x[1:2], 5, [11]), atol=1e-6) and moved.isfinite().all()
    assert float((moved - x).abs().max()) > 1e-3 and moved.min() >= 0 and moved.max() <= 1


def test_pitch_leaves_the_time_speed_moves_both_and_shift_moves_neither():
    x, one = items(sine(440)), torch.ones(1)
    assert pitch_of(higher(x, 7 * one)) == pytest.approx(440 * 2 ** (7 / 12), abs=2)
    assert pitch_of(faster(x, 1.25 * one)) == pytest.approx(550, abs=2)
    fast = faster(x, 1.25 * one)[0, 0] - 0.5
    assert float(fast[6600:].abs().max()) == 0 and float(fast[6000:6500].abs().max()) > 0.2
    tail = higher(x, 7 * one)[0, 0, 7000:7800] - 0.5
    assert float(tail.abs().max()) > 0.1
    late = shifted(x, 0.1 * one)
    assert (
        torch.allclose(late[..., 800:], x[..., :-800], atol=1e-5) and (late[..., :800] == 0.5).all()
    )
    soft = (louder(x, -6.0206 * one) - 0.5) / (x - 0.5)
    assert float(soft.nanmedian()) == pytest.approx(0.5, abs=1e-3)


def test_steps_of_sounds_are_for_sounds_and_those_of_images_are_not():
    assert "sounds" in augment.trainable("sequence", "sound")
    assert not {"photos", "digits", "faces"} & augment.trainable("sequence", "sound").keys()
    assert "sounds" not in augment.trainable() and "sounds" not in augment.trainable(
        "sequence", "signal"
    )
    with pytest.raises(UserError, match=r"Shift in time is not for .*images.*Choose from"):
        augment.load("sounds").allow("sequence", "image")
    with pytest.raises(
        UserError, match=r"Mirror left and right is not for sounds as they are taken here"
    ):
        augment.load("photos").allow("picture", "sound")  # the picture that a model sees
