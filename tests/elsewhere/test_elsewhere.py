"""The app elsewhere: with what requirements.txt brings and nothing else, and without what only Linux has.

`make test` names the interpreter of the bare environment; where nobody does, this one hides what is not required. What
Windows lacks is taken away by `sitecustomize.py`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
PYTHON = os.environ.get("SIMULACRA_BARE_PYTHON")  # before the fixtures clear the settings


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required() -> set[str]:
    """The packages of requirements.txt, and all that they require, by their normal names."""
    found: set[str] = set()
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    todo = [Requirement(line) for line in lines if line and line[0] != "#"]
    while todo:
        wanted = todo.pop()
        if normal(wanted.name) in found or (
            wanted.marker
            and not any(wanted.marker.evaluate({"extra": e}) for e in ("", *wanted.extras))
        ):
            continue
        found.add(normal(wanted.name))
        try:
            todo += map(Requirement, distribution(wanted.name).requires or ())
        except PackageNotFoundError:
            continue  # of another system
    return found


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a visit of the app finds, in one process, because what takes its time is to import torch."""
    folder = tmp_path_factory.mktemp("elsewhere")
    env = {name: value for name, value in os.environ.items() if not name.startswith("SIMULACRA_")}
    env |= {
        "PYTHONPATH": str(FOLDER),
        "SIMULACRA_HOME": str(folder / "home"),
        "SIMULACRA_SLOTS_TRAIN": "2",
        "SIMULACRA_THREADS": "1",
    }
    if PYTHON is None:
        needed = required()
        env["HIDDEN"] = " ".join(
            module
            for module, owners in packages_distributions().items()
            if not any(normal(owner) in needed for owner in owners)
        )
    (folder / "chain.json").write_text(
        '{"format": "simulacra-pipeline", "version": 1, "steps": [{"name": "rotate", "parameters": {"degrees": 12}}]}'
    )
    (folder / "chain.yaml").write_text(
        "format: simulacra-pipeline\nversion: 1\nsteps:\n- name: rotate\n  parameters:\n    degrees: 12\n"
    )
    done = subprocess.run(
        [PYTHON or sys.executable, str(FOLDER / "visit.py"), str(folder)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout) | {"log": done.stderr[-3000:]}


def test_a_plain_installation_opens_every_page_and_reads_recipes(visited):
    assert visited["development"] == []
    assert visited["recipes"] == {"chain.json": 0, "chain.yaml": 0}, visited["log"]
    assert len(visited["pages"]) >= 9
    assert {page: red for page, red in visited["pages"].items() if red} == {}, visited["log"]


def test_every_kind_of_job_runs_without_what_windows_lacks(visited):
    ended = {kind: status for kind, (status, _) in visited["kinds"].items()}
    assert set(ended.values()) == {"finished"}, f"{visited['kinds']}\n{visited['log']}"
    assert len(ended) >= 10  # one of them in a process apart


def test_nothing_is_moved_or_removed_while_it_is_open(visited):
    assert visited["datasets"] == ["kept", "brought", "brought"]
