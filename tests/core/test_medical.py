"""The way of medical pictures in docs/medical.md, from its first command to its last."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from core import datasets, jobs, worker
from core.__main__ import main
from core.datasets import phantom

pytest.importorskip("pydicom")
DOCS = (Path(__file__).resolve().parents[2] / "docs/medical.md").read_text("utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", DOCS, re.S) for line in block.splitlines()
]
# what makes the long ones short
SHORT = {
    "inspect": "inspect.labels=false inspect.near=false",
    "experiment": "experiment.pairs=6 experiment.steps=20 experiment.width=4 experiment.batch=8 "
    "experiment.test_images=50 experiment.robust=false experiment.trivial=false experiment.placebo=false",
}


def test_the_commands_of_the_page_lead_from_a_scanner_to_an_export(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIMULACRA_NICE", "0")
    monkeypatch.setattr(jobs, "spawn", lambda path: worker.work(path) and None)
    done = []
    for line in COMMANDS:
        words = shlex.split(line)
        if words[:2] == ["pip", "install"]:
            assert (Path(phantom.__file__).parents[2] / words[-1]).exists()
        elif words[:3] == ["python", "-m", "core.datasets.phantom"]:
            monkeypatch.setattr(sys, "argv", ["phantom", *words[3:]])
            phantom.main()
        else:
            assert words[:3] == ["python", "-m", "core"]
            more = [part for value in SHORT.get(words[3], "").split() for part in ("--set", value)]
            assert not main([*words[3:], *more]), capsys.readouterr().err
        done.append(words[3] if len(words) > 3 else "")
    assert {"datasets", "inspect", "relabel", "experiment", "export"} <= set(done)
    found = datasets.load("phantom")
    assert len(found) == 180 and found.group == "patient"
    assert min(found.counts()[name]["test"] for name in found.classes) > 0
    assert datasets.describe("phantom").chain == found.chain == "scans"  # which mirrors nothing
    assert datasets.load("digits").chain == "digits"
    files = [file for file in Path("phantom-export").rglob("*") if file.is_file()]
    for secret in ("PHANTOM-0", "Phantom^Number", "19000101"):
        assert not any(secret.encode() in file.read_bytes() for file in files)
        assert not any(secret in str(file) for file in files)
    card = Path("phantom-export/folder/README.md").read_text("utf-8")
    assert "license: cc0-1.0" in card
    assert "The chain" in card.partition("## Does it help?")[2].partition("\n## ")[0]
    assert json.loads(Path("tasks/tasks.json").read_text())[1]["data"]["row"] == 7
