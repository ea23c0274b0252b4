"""Pages show items of any medium: a second one that only a file of the tests knows, on every page."""

from __future__ import annotations

import importlib
import shutil
from typing import Any

import pytest

from core import datasets, jobs, worker
from core.media import media
from core.work import submit

importlib.import_module("tests.core.signals")  # registers a medium and a dataset
SECOND = [(media, media.get("signal")), (datasets.datasets, datasets.datasets.get("waves"))]
for registry, entry in SECOND:
    registry._entries.pop(entry.name)  # type: ignore[attr-defined]


@pytest.fixture
def waves(monkeypatch: pytest.MonkeyPatch, home: Any) -> str:
    for registry, entry in SECOND:
        monkeypatch.setitem(registry._entries, entry.name, entry)  # type: ignore[attr-defined]
    values = {"train.images": 256, "train.batch": 64}
    job = submit("train", {"dataset": "waves", "family": "vae"}, values)
    worker.work(job.path)
    assert jobs.get(job.id).status == "finished", jobs.get(job.id).message
    return job.id


@pytest.mark.parametrize(
    "page",
    ["", "data", "train", "race", "evaluate", "latent", "augment", "robustness", "about"],
)
def test_page(visit, waves, page):
    seen = visit(page, run=waves, data="waves")
    print(seen.errors, seen.keys())
    seen.calm()
