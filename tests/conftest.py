"""Fixtures of all tests: a home of their own, a running app, and a browser to look at it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import annotations

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent
# The machine's own settings must not reach a test; these two say where test material is.
KEPT = {"SIMULACRA_DATA_DIR", "SIMULACRA_BROWSER"}

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests run side by side already; two threads in each would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# The files that take longest, which begin first: whoever takes the last one makes the others wait.
LONG = (
    "core/test_robustness", "browser/", "pages/test_robustness", "elsewhere/", "core/test_several", "core/test_jobs",
    "core/test_evaluation", "core/test_accelerators", "core/test_experiment", "core/test_longer", "core/test_race",
    "core/test_attacks", "core/test_cli", "pages/",
)  # fmt: skip

annotations.install()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test that looks through a browser, so that `-m "not browser"` leaves it out; long files come first."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """Gives the place of a test's file among :data:`LONG`; the order within a file stays."""
    file = item.nodeid.removeprefix("tests/")
    return next((turn for turn, start in enumerate(LONG) if file.startswith(start)), len(LONG))


# --- Settings -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Gives each test an empty SIMULACRA_HOME without the gallery and default settings, and ends its workers."""
    from core.ground.settings import Settings, settings

    for name in os.environ.keys() - KEPT:
        if name.startswith("SIMULACRA_"):
            monkeypatch.delenv(name)
    place = tmp_path / "home"
    monkeypatch.setenv("SIMULACRA_HOME", str(place))
    monkeypatch.setenv("SIMULACRA_GALLERY", "0")
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    settings.cache_clear()
    yield place
    settings.cache_clear()
    end_workers(place)


@pytest.fixture
def gallery(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shows the runs that ship with the code beside those of this test's home; gives their folder."""
    from core import jobs
    from core.ground.settings import settings

    monkeypatch.delenv("SIMULACRA_GALLERY")
    settings.cache_clear()
    return jobs.SHIPPED


def end_workers(place: Path) -> None:
    """Ends the workers of one home, which outlive the process that started them by design."""
    if not (place / "jobs").is_dir() or not Path("/proc").is_dir():
        return
    mark = f"SIMULACRA_HOME={place}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mine = mark in (process / "environ").read_bytes().split(b"\0")
            if mine and b"core.worker" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:  # ended meanwhile, or another user's
            continue


# --- Something to look at -----------------------------------------------------------------------


@dataclass
class Trained:
    """A home with finished tiny runs, made once; copy it where a test changes something."""

    home: Path
    runs: dict[str, str]  # ids by what was trained

    def copy(self, place: Path) -> Trained:
        """Copies the home; what is written once and never changed is linked, not copied."""

        def take(source: str, target: str) -> str:
            fixed = source.endswith((".safetensors", ".pt", ".npy", ".png"))
            (os.link if fixed else shutil.copyfile)(source, target)
            return target

        shutil.copytree(self.home, place, copy_function=take, dirs_exist_ok=True)
        return Trained(place, dict(self.runs))


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trains a GAN, a VAE and a classifier on digits, and a GAN without labels, for a few steps each.

    In this process, and once for all the processes that share the tests.
    """
    from filelock import FileLock

    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with FileLock(shared / "trained.lock"):
        if not (shared / "trained.json").exists():
            runs = _train_tiny(shared / "trained")
            (shared / "trained.json").write_text(json.dumps(runs))
    return Trained(shared / "trained", json.loads((shared / "trained.json").read_text()))


def _train_tiny(place: Path) -> dict[str, str]:
    import numpy as np

    from core import datasets, jobs, kinds, worker
    from core.ground.settings import settings

    small = {"train.images": 320, "train.batch": 64, "family.width": 32}
    wanted = {
        "classifier": (
            "classifier",
            {"dataset": "digits"},
            {"train.images": 320, "train.batch": 64},
        ),
        "plain": ("train", {"dataset": "plain", "family": "gan"}, small),
        "vae": ("train", {"dataset": "digits", "family": "vae"}, small | {"family.components": 3}),
        "gan": ("train", {"dataset": "digits", "family": "gan"}, small | {"family.latent_dim": 16}),
    }
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMULACRA_HOME", str(place))
        patch.setenv("SIMULACRA_NICE", "0")
        patch.setenv("SIMULACRA_THREADS", "1")
        patch.setattr(jobs, "spawn", lambda path: None)
        settings.cache_clear()
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)
        splits = {"train": np.arange(40), "valid": np.arange(40, 50), "test": np.arange(50, 60)}
        datasets.save("plain", datasets.assemble(x, None, (), splits, name="plain"))
        for name, (kind, choice, values) in wanted.items():
            job = kinds.submit(kind, choice, values, name=f"Tiny {name}")
            assert worker.work(job.path) == 0
            assert jobs.get(job.id).status == "finished", jobs.get(job.id).message
            made[name] = job.id
    settings.cache_clear()
    return made


@pytest.fixture
def trained(tiny_runs: Trained, home: Path) -> Trained:
    """A copy of the tiny runs as this test's home."""
    return tiny_runs.copy(home)


@pytest.fixture(scope="session")
def tiny_evaluations(tiny_runs: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Evaluates the tiny GAN and the tiny VAE, with a judge that was trained for a moment.

    Their ids are `runs["gan evaluation"]` and `runs["vae evaluation"]`.
    """
    from filelock import FileLock

    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with FileLock(shared / "evaluated.lock"):
        if not (shared / "evaluated.json").exists():
            made = _evaluate_tiny(tiny_runs.copy(shared / "evaluated"))
            (shared / "evaluated.json").write_text(json.dumps(made))
    return Trained(shared / "evaluated", json.loads((shared / "evaluated.json").read_text()))


def _evaluate_tiny(trained: Trained) -> dict[str, str]:
    from core import jobs, worker
    from core.ground.settings import settings
    from core.kinds import evaluate
    from core.measure import features

    made = dict(trained.runs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMULACRA_HOME", str(trained.home))
        patch.setenv("SIMULACRA_NICE", "0")
        patch.setenv("SIMULACRA_THREADS", "1")
        patch.setattr(jobs, "spawn", lambda path: None)
        patch.setitem(features.LENGTHS, "digits", 12_000)
        settings.cache_clear()
        for name in ("vae", "gan"):
            job = evaluate.start(jobs.get(made[name]), {"samples": 300})
            assert worker.work(job.path) == 0
            assert jobs.get(job.id).status == "finished", jobs.get(job.id).message
            made[f"{name} evaluation"] = job.id
    settings.cache_clear()
    return made


@pytest.fixture
def evaluated(tiny_evaluations: Trained, home: Path) -> Trained:
    """A copy of the tiny runs and their evaluations as this test's home."""
    return tiny_evaluations.copy(home)


# --- A running app ------------------------------------------------------------------------------


@dataclass
class Server:
    """One app in a process of its own, with its own home."""

    url: str
    home: Path
    log: Path
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """Ends the server; its jobs go on, and it may be called twice."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts apps: `server()`; `server(home=path)` again on a home; `server(view_only="1")`; `server(gallery="1")`.

    Their output goes to a file, because a full pipe would stop it.
    """
    started: list[Server] = []

    def start(home: Path | None = None, **settings: str) -> Server:
        folder = tmp_path_factory.mktemp("server")
        home, log = home or folder / "home", folder / "log.txt"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = {k: v for k, v in os.environ.items() if k in KEPT or not k.startswith("SIMULACRA_")}
        env |= {"SIMULACRA_HOME": str(home), "SIMULACRA_GALLERY": "0"}
        env |= {f"SIMULACRA_{name.upper()}": value for name, value in settings.items()}
        options = {
            "server.address": "127.0.0.1",
            "server.port": str(port),
            "server.headless": "true",
            "server.fileWatcherType": "none",
        }
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "streamlit", "run", "app.py"]
                + [part for name, value in options.items() for part in (f"--{name}", value)],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        started.append(Server(f"http://127.0.0.1:{port}", home, log, process))
        wait_until_healthy(started[-1])
        return started[-1]

    yield start
    for each in started:
        each.stop()
        end_workers(each.home)


def wait_until_healthy(server: Server, seconds: float = 60) -> None:
    """Waits until the server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=5) as answer:
                if answer.read() == b"ok":
                    return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"The app did not start:\n{server.log.read_text(errors='replace')[-3000:]}")


# --- A browser ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def chromium() -> str:
    """The installed browser; without one the test is skipped, or fails where it is required."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.environ.get("SIMULACRA_BROWSER") == "required":
        pytest.fail(
            "SIMULACRA_BROWSER=required, and there is no Chromium. Install the package `chromium`."
        )
    pytest.skip("There is no Chromium. Install the package `chromium` to run the browser tests.")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless browser that talks to nobody but the app."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # pages wait for torch, and tests share two cores
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            headless=True,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--use-fake-device-for-media-stream",  # a camera
                "--use-fake-ui-for-media-stream",  # that may be used
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """An empty tab of a visitor who has never been here, 1280 by 800."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()
