"""Sounds on the pages: seen with their axes, heard, brought, found in the latent space, and changed."""

from __future__ import annotations

import base64
import io
import wave
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import datasets, jobs, worker
from core.__main__ import main
from core.datasets import tones
from core.kinds import submit
from core.media import media

SENT = {"data": "notes"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Keeps a few notes, and trains a small VAE of them."""
    from core.ground.settings import settings

    place = tmp_path_factory.mktemp("notes") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMULACRA_HOME", str(place))
        patch.setenv("SIMULACRA_GALLERY", "0")
        patch.setattr(jobs, "spawn", lambda path: None)
        settings.cache_clear()
        datasets.save("notes", datasets.load("tone", {"count": 48, "rate": 4000}))
        values = {"train.images": 64, "train.batch": 16, "family.width": 8, "train.watch": False}
        job = submit("train", {"dataset": "notes", "family": "vae"}, values)
        worker.work(job.path)
        assert jobs.get(job.id).status == "finished", jobs.get(job.id).message
        yield place, job.id
    settings.cache_clear()


@pytest.fixture
def notes(made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Opens the home with the run, and gives the run's id."""
    from core.ground.settings import settings

    monkeypatch.setenv("SIMULACRA_HOME", str(made[0]))
    settings.cache_clear()
    return made[1]


def heard(player: dict[str, Any]) -> np.ndarray:
    """The samples that a player got."""
    with wave.open(io.BytesIO(base64.b64decode(player["sound"]))) as file:
        assert (file.getframerate(), player["rate"]) == (4000, 4000)
        return np.frombuffer(file.readframes(9999), "<i2")


def test_the_wall_shows_spectrograms_and_a_chosen_one_is_heard(visit, notes):
    data = datasets.load("notes")
    seen = visit("data", **SENT).calm()
    assert seen.images("data.wall").shape == (48, 3, 32, 32)
    assert "48 sounds of 1.024 s at 4 kHz" in seen.texts("markdown") and "levels" not in seen.texts(
        "markdown"
    )
    seen.told("data.wall", {"clicked": {"number": 1, "index": 7}}).calm()
    player = seen.pictures("data.item.of")
    assert np.array_equal(heard(player), data.x[7, 0]) and player["hear"] is None
    # 1 kHz is 1000 mel of 1521 up to 2 kHz, which 32 bands divide into 33
    assert dict(map(tuple, player["ticks"]))["1 k"] == pytest.approx(
        (1000 / 1521 * 33 - 1) / 31, abs=0.005
    )
    assert seen.widget("data.item.of.file").label == "This one (WAV)"


def test_a_press_on_the_pad_is_heard_at_once_and_as_the_command_writes_it(visit, notes, tmp_path):
    seen = visit("latent", run=notes, **SENT).calm()
    pad, first = seen.pictures("latent.pad"), seen.pictures("latent.item")
    assert pad["instant"] and pad["tile"] == [32, 32] and first["hear"] == 0
    at = {"plane": pad["plane"], "went": pad["go"]["number"], "at": [0.5, 0.25]}
    asked = at | {"window": pad["go"]["window"], "number": 5, "rest": True, "has": "", "pins": []}
    seen.told("latent.pad", {"view": asked}).calm()
    second = seen.pictures("latent.item")
    assert second["hear"] == 5 and not np.array_equal(heard(first), heard(second))
    assert {"latent.heard.A.file", "latent.heard.B.file"} <= seen.keys()
    out = tmp_path / "one.wav"
    assert main(["sample", notes, "-n", "1", "--out", str(out)]) == 0
    with wave.open(str(out)) as file:
        assert file.getnframes() == 4096
    packed = tmp_path / "three.zip"
    assert main(["sample", notes, "-n", "3", "--out", str(packed)]) == 0
    with zipfile.ZipFile(packed) as files:
        assert files.namelist() == ["0.wav", "1.wav", "2.wav", "samples.json"]
    way = tmp_path / "way.wav"
    assert main(["interpolate", notes, "--frames", "4", "--out", str(way)]) == 0
    with wave.open(str(way)) as file:
        assert file.getnframes() == 4 * 3072 + 1024


def test_an_own_recording_is_found_and_the_pad_goes_there(visit, notes):
    seen = visit("latent", run=notes, **SENT).set(latent__tool="picture").calm()
    assert seen.widget("latent.mine").options == ["Upload", "Microphone", "Dataset"]
    note = tones.play(tones.attributes(9, 1), 16000)[0]
    seen.set(latent__mine="upload").widget("latent.upload").upload(
        "mine.wav", media.get("sound").alone(note, 256)
    )
    seen.run().calm()
    assert seen.images("latent.found").shape == (3, 3, 32, 32)
    given = heard(seen.pictures("latent.found.what the model sees"))
    assert given.any() and "from 16,000 to 4,000 samples a second" in seen.texts("caption")
    seen.press("latent.mine.land").calm()
    seen.set(latent__mine="record").calm()


def test_a_film_is_heard_as_one_way(visit, notes):
    seen = visit("latent", run=notes, **SENT).set(latent__tool="film").calm()
    assert seen.pictures("latent.film")["tile"] == [32, 32]
    assert "12 of its moments" in seen.texts("caption") and "latent.film.sound" in seen.keys()


def test_steps_for_sounds_are_offered_and_heard_before_and_after(visit, notes):
    seen = visit("augment", **SENT).calm()
    options = seen.widget("augment.add").options
    assert "Sound: Shift in time" in options and not any("Mirror" in option for option in options)
    assert seen.images("augment.film.0").shape[1:] == (3, 32, 32)
    seen.set(augment__view="before").calm()
    before, after = (seen.pictures(f"augment.heard.{side}") for side in ("As it is", "Augmented"))
    assert not np.array_equal(heard(before), heard(after))
    for view in ("grid", "sweep", "classes"):
        seen.set(augment__view=view).calm()


def test_recordings_are_brought_with_their_speakers(visit, home, monkeypatch):
    memory = io.BytesIO()
    notes = tones.play(tones.attributes(0, 24), 4000)
    with zipfile.ZipFile(memory, "w") as packed:
        for i, note in enumerate(notes):
            packed.writestr(
                f"{'ab'[i % 2]}_{'uvwxyz'[i % 6]}_{i}.wav", media.get("sound").alone(note, 256)
            )
    seen = visit("data", data="digits").press("data.bring")
    seen.widget("data.upload").upload("said.zip", memory.getvalue())
    seen.run().calm()
    assert "**24** sounds" in seen.texts("markdown") and "Bits" not in seen.texts("markdown")
    assert "by the names of the files" in seen.texts("markdown")
    seen.press("data.import").calm()
    data = datasets.load("said")
    assert (data.medium.name, data.group, data.shape) == ("sound", "speaker", (1, 8192))
