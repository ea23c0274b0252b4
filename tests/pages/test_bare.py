"""The app as its users get it: what requirements.txt brings, and nothing else.

`make test` names the interpreter of that environment. Where nobody does, this one hides what is not required.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("SIMULACRA_BARE_PYTHON")  # before the fixtures clear the settings

HIDING = """
from importlib.machinery import PathFinder

hidden, real = {hidden!r}, PathFinder.find_spec
PathFinder.find_spec = staticmethod(
    lambda name, *more: None if name.partition(".")[0] in hidden else real(name, *more)
)
"""


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
            wanted.marker and not any(wanted.marker.evaluate({"extra": e}) for e in ("", *wanted.extras))
        ):
            continue
        found.add(normal(wanted.name))
        try:
            todo += map(Requirement, distribution(wanted.name).requires or ())
        except PackageNotFoundError:
            continue  # of another system
    return found


def test_a_plain_installation_opens_every_page_and_reads_recipes(tmp_path, home):
    env = dict(os.environ)
    if PYTHON is None:
        needed = required()
        hidden = {
            module
            for module, owners in packages_distributions().items()
            if not any(normal(owner) in needed for owner in owners)
        }
        (tmp_path / "sitecustomize.py").write_text(HIDING.format(hidden=hidden))
        env["PYTHONPATH"] = str(tmp_path)
    (tmp_path / "chain.json").write_text(
        '{"format": "simulacra-pipeline", "version": 1, "steps": [{"name": "rotate", "parameters": {"degrees": 12}}]}'
    )
    (tmp_path / "chain.yaml").write_text(
        "format: simulacra-pipeline\nversion: 1\nsteps:\n- name: rotate\n  parameters:\n    degrees: 12\n"
    )
    env.pop("SIMULACRA_GALLERY", None)  # with the runs that ship with the code
    done = subprocess.run(
        [PYTHON or sys.executable, "tests/pages/bare_visit.py", str(tmp_path)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads(done.stdout)
    assert facts["development"] == []
    assert facts["codes"] == {"chain.json": 0, "chain.yaml": 0}, done.stderr[-3000:]
    assert len(facts["pages"]) >= 9
    assert {page: red for page, red in facts["pages"].items() if red} == {}, done.stderr[-3000:]
