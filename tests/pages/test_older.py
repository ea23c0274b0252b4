"""What an older version has written opens: its runs, evaluation, report, decisions and recipe.

`older-home.zip` is a home of 2026-11-25 with one tiny thing of each kind. Beside it lie what that version drew from its
model, and the weights with which it went on from its checkpoint.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from core import datasets, jobs, worker
from core.__main__ import main
from core.quality import decisions

ZIP = Path(__file__).resolve().parent / "older-home.zip"


@pytest.fixture
def kept(home, setting):
    """The older home as this test's own; gives the other files."""
    setting(device="cpu", threads=1, nice=0)
    with zipfile.ZipFile(ZIP) as held:
        for name in held.namelist():
            if name.startswith("home/"):
                held.extract(name, home.parent)
        return {name: held.read(name) for name in held.namelist() if not name.startswith("home/")}


@pytest.fixture
def ask(capsys):
    """Runs a command; gives its answer."""

    def do(*words):
        capsys.readouterr()
        assert main([*map(str, words), "--json"]) in (0, None)
        return json.loads(capsys.readouterr().out)

    return do


def test_an_older_run_is_listed_drawn_from_and_goes_on_as_it_did(kept, ask, home, tmp_path):
    rows = {row["name"]: row for row in ask("runs")["runs"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "older": "finished",
        "older classifier": "finished",
    }
    assert (rows["older"]["family"], rows["older"]["dataset"]) == ("vae", "digits")
    ask("sample", "older", "-n", 6, "--seed", 3, "--out", tmp_path / "x.npz")
    then, now = np.load(io.BytesIO(kept["samples.npz"])), np.load(tmp_path / "x.npz")
    np.testing.assert_allclose(now["x"], then["x"], atol=1e-5)  # another processor rounds otherwise
    id = rows["older"]["run"]
    ask("resume", "older", "--images", 256)
    assert worker.work(home / "jobs" / id) == 0
    assert jobs.get(id).status == "finished", jobs.get(id).message
    then = load(kept["resumed.safetensors"])
    now = load((home / "jobs" / id / "checkpoints" / "4" / "model.safetensors").read_bytes())
    assert now.keys() == then.keys()
    for name, value in then.items():
        np.testing.assert_allclose(now[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_an_older_evaluation_is_compared(kept, ask):
    (one,) = ask("evaluate", "older", "--compare")["evaluations"]
    assert one["finished"] and one["metrics"].keys() == {"kid", "frechet", "precision"}
    assert one["metrics"]["kid"]["value"] == 13.6459403766942
    assert one["metrics"]["frechet"]["note"].startswith("A Fréchet distance of 64 features needs")


def test_older_decisions_and_recipes_stand_and_make_what_they_made(kept, ask, home, tmp_path):
    facts = ask("datasets", "digits")
    assert facts["fingerprint"].startswith("18de3a0b367fd87f")
    assert decisions.open(datasets.load("digits")).summary["excluded"] == 1
    assert len(decisions.apply(datasets.load("digits"), "mended", "somebody")) == 1796
    assert ask("export", "mended", "--out", tmp_path / "mended.zip")["images"] == 1796
    assert ask("augment", "kept-ca54a279")["steps"] == 5
    assert (home / "cache" / "datasets" / "4932d2d73eb0dc219592022dda5c9812").is_dir()


def test_an_older_report_and_evaluation_are_shown(kept, visit):
    ids = {job.kind: job.id for job in jobs.listing()}
    seen = visit("robustness", **{"robust.model": ids["classifier"]})
    assert "Measured as jobs (1)" in [each.label for each in seen.at.expander]
    assert "**Not robust.** 0 % of 5 images withstand" in seen.errors[0]
    seen = visit("evaluate", run=ids["train"], evaluation=ids["evaluate"]).calm()
    assert "Kernel distance (KID)" in seen.measures and "13.6" in seen.measures
    visit("train", run=ids["train"]).calm()
