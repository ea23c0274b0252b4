"""What a visitor of a view-only server, or of one that may not write, can make it do; and what a killed one leaves."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import datasets, jobs, runs
from core.__main__ import main
from core.catalog import Config, UserError, knob
from core.datasets import store
from core.ground import scratch, sheets, slices
from core.ground.files import keep
from core.ground.settings import VISITOR_MB, settings
from core.measure import features
from core.models.diffusion import DiffusionSampling
from core.robustness import StudyConfig

FACES = {"size": 16, "count": 40}
FITS = 1365  # faces of 16 px in colour, 768 bytes each, in a megabyte


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def change(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"SIMULACRA_{name.upper()}", str(value))
        settings.cache_clear()
        store.memo.clear()
        store._in_memory_cache.clear()

    return change


def refuse(*args: Any, **more: Any) -> Any:
    raise OSError(errno.EROFS, "Read-only file system", "/demo/home")


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuses every write below the home, as a volume that is mounted to be read does."""
    for name in ("mkdir", "write_bytes", "write_text", "rename", "replace", "touch"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr("os.utime", refuse)
    monkeypatch.setattr("filelock._unix.os.open", refuse)


def files(home: Path) -> list[Path]:
    return sorted(home.rglob("*")) if home.exists() else []


# --- Datasets where nothing may be written ------------------------------------------------------------------------


def test_a_visitor_looks_at_small_embedded_sets_and_nothing_is_written(home, setting):
    ready = {
        name: datasets.load(name, FACES if name == "faces" else {}) for name in ("digits", "faces")
    }
    setting(view_only=1, home=home / "other")
    for name, before in ready.items():
        seen = datasets.load(name, FACES if name == "faces" else {})
        assert seen.fingerprint == before.fingerprint
        assert seen.source == before.source
        assert not isinstance(seen.x, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            seen.x[0] = 0
    assert not (home / "other").exists()


def test_a_visitor_gets_what_fits_in_memory_and_of_more_what_is_prepared(home, setting):
    datasets.load("faces", FACES)
    datasets.load("digits")
    setting(view_only=1, memory_mb=1)
    there = files(home)
    assert len(datasets.load("faces", {"size": 16, "count": FITS, "seed": 2})) == FITS
    with pytest.raises(UserError) as caught:
        datasets.load("faces", {"size": 16, "count": FITS + 1, "seed": 2})
    assert str(caught.value) == (
        "This server is for viewing only, so it prepares no faces with size=16, count=1366, seed=2, which would take "
        "1 MB: at most 1 MB are made in memory. Prepared are: digits; faces with size=16, count=40. "
        "Ask for fewer or smaller images, choose what is prepared, or run your own copy."
    )
    setting(memory_mb=0)
    assert len(datasets.load("faces", FACES)) == 40  # prepared: of any size
    assert files(home) == there


def test_what_is_made_in_memory_is_bounded(setting):
    setting(view_only=1, memory_mb=1)
    for seed in range(3):
        datasets.load("faces", {"size": 16, "count": FITS, "seed": seed})
    assert len(store._in_memory_cache.values()) == 2
    again = datasets.load("faces", {"size": 16, "count": FITS, "seed": 2})
    assert again is datasets.load("faces", {"size": 16, "count": FITS, "seed": 2})


def test_a_visitor_starts_no_download(home, setting, monkeypatch):
    monkeypatch.setattr("core.datasets.sources._on_disk", lambda name: "")
    setting(view_only=1)
    with pytest.raises(UserError, match="viewing only, so it cannot download mnist"):
        datasets.load("mnist")
    assert not home.exists()


def test_on_a_read_only_volume_small_sets_are_made_in_memory(setting, read_only):
    assert len(datasets.load("digits")) == 1797
    setting(memory_mb=0)
    with pytest.raises(
        UserError, match=r"may not write to .*cache/datasets\. Give it the permission"
    ):
        datasets.load("digits")


# --- What is measured and kept ------------------------------------------------------------------------------------


def test_a_visitor_trains_no_network_and_keeps_no_features(home, setting):
    import torch

    digits = datasets.load("digits")
    setting(view_only=1)
    there = files(home)
    for ask, what in (
        (features.judge, "train the judge of digits"),
        (features.self_supervised, "train the network that compares images of digits"),
    ):
        with pytest.raises(UserError, match=f"viewing only, so it cannot {what}"):
            ask(digits, torch.device("cpu"))
    with pytest.raises(UserError, match="cannot train the reader of digits"):
        features.reader(digits)
    assert isinstance(features.quick(digits, torch.device("cpu")), features.Components)
    pixels = features.extractors.get("pixels").make(digits, torch.device("cpu"))
    assert features.of_split(pixels, digits, np.arange(5)).shape == (5, 64)
    assert files(home) == there


def test_a_full_or_read_only_disk_keeps_nothing_in_the_cache_and_says_nothing(home, read_only):
    keep(home / "cache" / "x" / "y", b"1")
    assert not home.exists()


# --- What a link asks for -----------------------------------------------------------------------------------------


def test_what_a_visitor_asks_for_is_capped_and_said():
    class Asked(Config):
        steps: int = knob(5, "How many.", ge=1, le=100, visitor=10)
        words: str = knob("", "Which.", visitor="")
        free: int = knob(3, "Any.")

    assert Asked(steps=10, free=99).capped() == (Asked(steps=10, free=99), [])
    assert Asked(steps=11, words="a=b").capped() == (
        Asked(steps=10),
        [
            "Steps: 11, capped at 10 in view-only.",
            "Words: a=b, left out in view-only.",
        ],
    )


@pytest.mark.parametrize(
    ("config", "name", "most"), [(DiffusionSampling, "steps", 50), (StudyConfig, "n", 1000)]
)
def test_the_long_ones_are_capped(config, name, most):
    assert config(**{name: most}).capped()[1] == []
    capped, words = config(**{name: most + 1}).capped()
    assert getattr(capped, name) == most
    assert len(words) == 1


def test_uploads_to_a_view_only_server_are_small(setting, monkeypatch):
    assert settings().upload_mb == 200
    setting(view_only=1)
    assert settings().upload_mb == VISITOR_MB == 20
    setting(max_upload_mb=5)
    assert settings().upload_mb == 5
    monkeypatch.setattr("core.ground.settings.VISITOR_MB", 1)
    digits = datasets.load("digits")
    with pytest.raises(UserError, match=r"The picture .*Use a PNG"):
        datasets.prepare(b"0" * 2**20, digits)
    with pytest.raises(UserError, match="has 1 MB, and at most 1 MB are allowed"):
        datasets.prepare(b"0" * (2**20 + 1), digits)


# --- Slices -------------------------------------------------------------------------------------------------------


class Gone(Exception):
    """Nobody waits any more."""


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Counts the looks between two slices; the visitor is gone at the fifth."""
    looks: list[float] = []

    def look() -> None:
        looks.append(time.monotonic())
        if len(looks) == 5:
            raise Gone

    monkeypatch.setattr(slices, "EVERY", 0.0)
    slices.watch(look)
    yield looks
    slices.watch(lambda: None)


def test_sampling_with_a_thousand_steps_ends_when_the_visitor_leaves(gallery, looked):
    run = jobs.find("shipped-digits-diffusion")
    opened = runs.open_model(run)
    with pytest.raises(Gone):
        opened.model.sample([0], None, 0, DiffusionSampling(steps=1000))
    assert len(looked) == 5


def test_shared_work_is_not_broken_off(gallery, looked):
    opened = runs.open_model(jobs.find("shipped-digits-diffusion"))
    with slices.whole():
        opened.model.sample([0], None, 0, DiffusionSampling(steps=10))
    assert not looked
    slices.between()
    assert len(looked) == 1


def test_between_two_looks_passes_a_moment(looked, monkeypatch):
    monkeypatch.setattr(slices, "EVERY", 60.0)
    for _ in range(9):
        slices.between()
    assert len(looked) <= 1


# --- A home that may not be written -------------------------------------------------------------------------------


def test_a_read_only_home_is_a_sentence_on_the_command_line(read_only, capsys):
    assert main(["train", "--dataset", "digits", "--family", "vae", "--images", "100"]) == 2
    assert capsys.readouterr().err == (
        "error: This program may not write to /demo/home. Give it the permission, or set SIMULACRA_HOME to a folder "
        "that it may write.\n"
    )


# --- What a killed process leaves ---------------------------------------------------------------------------------

FILLING = """
import sys, time
from pathlib import Path
from core.ground import scratch
new = Path(sys.argv[1])
with scratch.temporary() as folder, scratch.owned(new):
    new.mkdir()
    (new / "x.npy").write_bytes(b"half")
    (folder / "upload.zip").write_bytes(b"half")
    print(folder, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_import_left_is_swept_and_what_another_fills_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    new, gone = tmp_path / "sets" / ".new-1", tmp_path / "sets" / ".gone-2"
    kept, young, old = (tmp_path / "sets" / name for name in ("birds", ".new-3", ".new-4"))
    for folder in (gone, kept, young, old):
        folder.mkdir(parents=True)
    past = time.time() - scratch.UNOWNED - 1
    os.utime(old, (past, past))  # of a version without locks
    with subprocess.Popen(
        [sys.executable, "-c", FILLING, str(new)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        upload = Path(process.stdout.readline().strip())
        scratch.sweep(tmp_path / "sets")
        left = (new / "x.npy").exists(), (upload / "upload.zip").exists()
        process.kill()
    assert left == (True, True)
    assert not gone.exists()
    assert not old.exists()
    scratch.sweep(tmp_path / "sets")
    assert not upload.exists()
    assert sorted(path.name for path in (tmp_path / "sets").iterdir()) == [".new-3", "birds"]
    assert [path.name for path in tmp_path.iterdir()] == ["sets"]


def test_a_folder_that_was_filled_leaves_no_lock(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch.temporary() as folder:
        assert folder.is_dir()
        assert len(list(tmp_path.iterdir())) == 2
    assert not list(tmp_path.iterdir())


# --- Damaged pictures ---------------------------------------------------------------------------------------------


def sheet(**facts: Any) -> bytes:
    return sheets.png(np.zeros((6, 1, 4, 4), np.uint8), 3, {"images": 100, **facts})


def test_a_sheet_is_whole_or_left_out():
    good = sheet()
    facts = sheets.whole(good)
    assert facts is not None
    assert facts["count"] == 6
    picture = io.BytesIO()
    Image.new("L", (4, 4)).save(picture, "PNG")
    data = good.index(b"IDAT")
    for damaged in (
        b"",
        good[: len(good) // 2],
        good[: data + 8] + b"\0\0\0\0" + good[data + 12 :],
        picture.getvalue(),
        b"\x89PNG\r\n\x1a\n" + b"x" * 50,
        sheet(count=7),
        sheet(count="6"),
        sheet(tile=[0, 4]),
        sheet(columns=0),
        sheet(images="many"),
    ):
        assert sheets.whole(damaged) is None
