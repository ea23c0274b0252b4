"""The exported Albumentations program in both libraries of that name, each installed into a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETS = {  # what torch does not bring along
    "albumentations": ["albumentations==2.0.8", "albucore==0.0.24", "simsimd", "stringzilla"],
    "albumentationsx": ["albumentationsx==2.5.1", "albucore==0.2.21", "numkong", "stringzilla"],
}


@pytest.mark.parametrize("library", SETS)
def test_the_same_program_runs_and_does_the_same(library, tmp_path):
    wanted = [*SETS[library], "opencv-python-headless"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path)]
    made = subprocess.run([*pip, *wanted], capture_output=True, text=True, timeout=280)
    if made.returncode:
        pytest.skip(f"{library} cannot be installed here: {made.stderr.strip()[-200:]}")
    test = ["tests/core/test_exports.py", "-k", "albumentations_program", "-n", "0", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *test],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert "1 passed" in done.stdout, done.stdout[-3000:] + done.stderr[-1000:]
