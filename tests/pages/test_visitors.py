"""A view-only server, and one that may not write: everything can be seen, nothing is written, nobody works for nobody."""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.ground import slices
from pages.parts import shell


@pytest.fixture
def read_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the home a volume that may only be read, at the calls that all writing goes through."""

    def guarded(real: Any, writes: Callable[..., bool]) -> Any:
        def call(path: Any, *args: Any, **more: Any) -> Any:
            below = isinstance(path, str | os.PathLike) and os.fspath(path).startswith(str(home))
            if below and writes(*args, **more):
                raise OSError(errno.EROFS, "Read-only file system", os.fspath(path))
            return real(path, *args, **more)

        return call

    def mode(mode: str = "r", *_: Any, **__: Any) -> bool:
        return bool(set(mode) & set("wax+"))

    def flags(flags: int, *_: Any, **__: Any) -> bool:
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

    def seal() -> None:
        for module in (io, builtins):
            monkeypatch.setattr(module, "open", guarded(module.open, mode))
        monkeypatch.setattr(os, "open", guarded(os.open, flags))
        for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "utime", "link"):
            monkeypatch.setattr(os, name, guarded(getattr(os, name), lambda *_, **__: True))

    return seal


def files(home: Path) -> list[tuple[Path, int]]:
    return sorted((path, path.stat().st_mtime_ns) for path in home.rglob("*"))


@pytest.mark.parametrize("view_only", [0, 1])
def test_every_page_opens_on_a_volume_that_may_only_be_read(
    visit, trained, setting, read_only, view_only
):
    shutil.rmtree(trained.home / "cache")  # nothing is prepared
    setting(view_only=view_only)
    read_only()
    there = files(trained.home)
    seen = visit(run=trained.runs["vae"])
    for page in shell.pages():
        seen.open(page.name).calm()
        assert len(seen.at.title) == 1
    assert files(trained.home) == there


def test_a_press_on_a_read_only_home_is_a_sentence(visit, trained, read_only):
    read_only()
    (words,) = visit("train").press("train.start").errors
    assert words.startswith(f"This program may not write to {trained.home}")


def test_a_visitor_prepares_nothing_and_is_told_what_is_there(visit, trained, setting):
    setting(view_only=1, memory_mb=1)
    there = files(trained.home)
    seen = visit("data", data="faces")
    (words,) = seen.errors
    assert "it prepares no faces, which would take 29 MB: at most 1 MB are made in memory" in words
    assert "Prepared are: digits." in words
    seen.set(data__faces__size=16, data__faces__count=1000).calm()
    assert seen.shown("data.wall")
    assert files(trained.home) == there


@pytest.mark.parametrize(("asked", "capped"), [(50, False), (51, True)])
def test_the_steps_of_a_link_are_capped_in_view_only(
    visit, gallery, setting, monkeypatch, asked, capped
):
    from core.models.diffusion import Diffusion

    steps: list[int] = []
    real = Diffusion.sample

    def sample(self: Any, ids: Any, y: Any, seed: int, sampling: Any) -> Any:
        steps.append(sampling.steps)
        return real(self, ids, y, seed, sampling.model_copy(update={"steps": 1}))

    monkeypatch.setattr(Diffusion, "sample", sample)
    setting(view_only=1, gallery=1)
    link = {"latent.diffusion.steps": str(asked), "run": "shipped-digits-diffusion"}
    seen = visit("latent", **link).calm()
    assert set(steps) == {50}
    assert ("Steps: 51, capped at 50 in view-only." in seen.texts("caption")) == capped


def test_without_view_only_nothing_is_capped():
    from core.models.diffusion import DiffusionSampling

    asked = DiffusionSampling(steps=1000)
    assert shell.capped(asked) is asked


def test_work_ends_when_the_visitor_is_gone(monkeypatch):
    """A run whose visitor has left is asked to stop; the work notices between two slices."""
    import streamlit.testing.v1.app_test as app_test
    from streamlit.testing.v1 import AppTest
    from streamlit.testing.v1.local_script_runner import LocalScriptRunner

    runners: list[Any] = []

    class Runner(LocalScriptRunner):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            runners.append(self)

    monkeypatch.setattr(app_test, "LocalScriptRunner", Runner)
    monkeypatch.setattr(slices, "EVERY", 0.0)
    slices.watch(shell._left)

    def leave() -> None:
        while not runners:
            time.sleep(0.01)
        time.sleep(0.1)
        runners[0].request_stop()

    def work() -> None:
        import time

        import streamlit as st

        from core.ground import slices

        done = st.session_state["done"]
        for _ in range(400):
            time.sleep(0.01)
            done.append(1)
            slices.between()

    try:
        visitor = threading.Thread(target=leave)
        visitor.start()
        app = AppTest.from_function(work, default_timeout=30)
        done = app.session_state["done"] = []
        app.run()
        visitor.join()
        assert 0 < len(done) < 400
        slices.between()  # and where no visitor is, nothing happens
    finally:
        slices.watch(lambda: None)


def test_the_server_takes_small_uploads_only_in_view_only(setting):
    from streamlit import config

    before = config.get_option("server.maxUploadSize")
    try:
        shell._bound_uploads()
        assert config.get_option("server.maxUploadSize") == before
        setting(view_only=1)
        shell._bound_uploads()
        assert config.get_option("server.maxUploadSize") == 20
        setting(max_upload_mb=5)
        shell._bound_uploads()
        assert config.get_option("server.maxUploadSize") == 5
    finally:
        config.set_option("server.maxUploadSize", before)


def test_a_start_sweeps_what_a_killed_server_left_but_not_in_view_only(home, setting):
    left = [
        home / place / ".gone-1" for place in ("jobs", "datasets", "cache/datasets", "classifiers")
    ]
    for folder in left:
        folder.mkdir(parents=True)
    setting(view_only=1)
    shell._sweep()
    assert all(folder.exists() for folder in left)
    setting(view_only=0)
    shell._sweep()
    assert not any(folder.exists() for folder in left)


# --- What is damaged ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["cut", "empty", "rubbish"])
def test_a_damaged_picture_of_a_training_is_left_out_and_told(visit, trained, damage):
    samples = trained.home / "jobs" / trained.runs["vae"] / "samples"
    count = len(list(samples.glob("*.png")))
    last = max(samples.glob("*.png"), key=lambda file: int(file.stem))
    content = last.read_bytes()
    last.unlink()  # a link to the one of all tests
    last.write_bytes(
        {"cut": content[: len(content) * 2 // 3], "empty": b"", "rubbish": b"\0" * 99}[damage]
    )
    seen = visit(run=trained.runs["vae"]).calm()
    seen.open("train").calm()
    film = f"train.film.{trained.runs['vae']}"
    assert len(seen.pictures(film)["frames"]) == count - 1
    assert f"1 damaged picture(s) of its training were left out, in {samples}" in seen.texts(
        "caption"
    )
    seen.open("about").calm()
