"""Fixtures of the core's tests: settings, tiny datasets, and jobs done in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes settings: `setting(view_only=1)`."""
    from core.ground.settings import settings

    def change(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"SIMULACRA_{name.upper()}", str(value))
        settings.cache_clear()

    return change


@pytest.fixture(scope="session")
def toy() -> Callable[..., Any]:
    """Makes datasets of noise around one mean image per class: `toy(60, size=8, classes=2)`."""
    from core.datasets import assemble

    def make(
        n: int = 60, *, size: int = 8, channels: int = 1, classes: int = 2, levels: int = 256
    ) -> Any:
        rng = np.random.default_rng(0)
        y = np.arange(n) % max(1, classes)
        means = rng.integers(
            levels // 8, levels - levels // 8, (max(1, classes), channels, size, size)
        )
        x = means[y] + rng.integers(-(levels // 10), levels // 10 + 1, (n, channels, size, size))
        held = n // 6
        splits = {
            "train": np.arange(2 * held, n),
            "valid": np.arange(held),
            "test": np.arange(held, 2 * held),
        }
        return assemble(
            x.clip(0, levels - 1).astype(np.uint8),
            y.astype(np.int64) if classes else None,
            tuple(f"class {k}" for k in range(classes)),
            splits,
            levels=levels,
            name="toy",
        )

    return make


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Computes on one thread: bit by bit repeatable, and quick for what is tiny."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, setting: Callable[..., None]) -> Callable[..., Any]:
    """Does jobs in this process: `here(images=256, family="vae")` gives the job when it has ended.

    `work=False` leaves it waiting; nothing starts a process.
    """
    from core import jobs, worker
    from core.kinds import submit

    setting(nice=0, threads=1)
    monkeypatch.setattr(jobs, "spawn", lambda path: None)

    def do(
        family: str | None = "vae", *, name: str = "", work: bool = True, **values: object
    ) -> jobs.Job:
        choice = {"dataset": "digits"} | ({"family": family} if family else {})
        given = {"train.images": 256, "train.batch": 64} | values
        job = submit("train" if family else "classifier", choice, given, name=name)
        if work:
            worker.work(job.path)
        return jobs.get(job.id)

    return do
