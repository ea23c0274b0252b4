"""What systems do differently."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

from core.ground import files, machine


def test_the_memory_taken_is_in_mb_whatever_the_system_counts_in(monkeypatch):
    taken = SimpleNamespace(ru_maxrss=300 * 2**20)
    monkeypatch.setattr(resource, "getrusage", lambda who: taken)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.peak_mb() == 300
    monkeypatch.setattr(sys, "platform", "linux")
    assert machine.peak_mb() == 300 * 2**10
    monkeypatch.setitem(sys.modules, "resource", None)
    assert machine.peak_mb() is None


def test_a_process_outlives_its_starter_in_the_way_of_the_system(monkeypatch):
    assert machine.apart(10) == {"start_new_session": True}
    monkeypatch.delattr(os, "setsid")
    for number, name in enumerate(
        ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW", "BELOW_NORMAL_PRIORITY_CLASS")
    ):
        monkeypatch.setattr(subprocess, name, 1 << number, raising=False)
    assert machine.apart(10) == {"creationflags": 0b111}
    assert machine.apart(0) == {"creationflags": 0b011}


def test_a_file_that_somebody_reads_is_replaced_a_moment_later_where_the_system_refuses(
    tmp_path, monkeypatch
):
    from pathlib import Path

    real, refusals = Path.replace, [PermissionError(13, "in use")] * 2

    def replace(self, target):
        if refusals:
            raise refusals.pop()
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(PermissionError):  # here it means what it says
        files.write_atomic(tmp_path / "state.json", b"1")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(machine, "HOLDS", True)
    files.write_atomic(tmp_path / "state.json", b"2")
    assert (tmp_path / "state.json").read_bytes() == b"2"
    assert refusals == []
    monkeypatch.setattr(machine, "PATIENCE", 0.05)
    refusals += [PermissionError(13, "in use")] * 1000
    with pytest.raises(PermissionError):
        files.write_atomic(tmp_path / "state.json", b"3")
