"""Settings: read once, checked, and what they forbid."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from core.catalog import UserError
from core.ground.settings import Settings, settings

Usage = namedtuple("Usage", "total used free")


def test_everything_lives_below_home_unless_told_otherwise(home, setting, tmp_path):
    assert settings().jobs == home / "jobs"
    assert settings().datasets == home / "datasets"
    assert settings().cache == home / "cache"
    setting(data_dir=tmp_path / "elsewhere")
    assert settings().data == tmp_path / "elsewhere"


def test_without_a_word_home_is_var_in_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("SIMULACRA_HOME")
    monkeypatch.delenv("SIMULACRA_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    assert settings().jobs == tmp_path / "var" / "jobs"
    assert settings().data == tmp_path / "var" / "data"
    assert settings().device == "auto"
    assert not settings().view_only


def test_settings_come_from_a_file_and_the_environment_wins(monkeypatch, tmp_path, setting):
    (tmp_path / ".env").write_text("SIMULACRA_SLOTS_TRAIN=3\nSIMULACRA_THREADS=5\nOTHER=1\n")
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    setting(threads=2)
    assert (settings().slots_train, settings().threads) == (3, 2)


def test_settings_are_read_once(monkeypatch):
    first = settings()
    monkeypatch.setenv("SIMULACRA_THREADS", "7")
    assert settings() is first


@pytest.mark.parametrize(
    ("name", "value"),
    [("slots_train", "0"), ("device", "tpu"), ("view_only", "perhaps"), ("max_images", "many")],
)
def test_a_variable_that_is_not_usable_is_named_with_its_value(setting, name, value):
    setting(**{name: value})
    with pytest.raises(
        UserError,
        match=rf"^SIMULACRA_{name.upper()} is not usable: .*, got '{value}'\. Correct or unset it\.$",
    ):
        settings()


def test_a_worker_leaves_one_core_to_the_pages(setting, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(4)), raising=False)
    assert settings().worker_threads == 3
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)
    assert settings().worker_threads == 1
    setting(threads=6)
    assert settings().worker_threads == 6


def test_a_view_only_server_refuses_changes_and_another_does_not(setting):
    settings().allow_change("start a job")
    setting(view_only=1)
    with pytest.raises(UserError) as caught:
        settings().allow_change("start a job")
    assert str(caught.value) == (
        "This server is for viewing only, so it cannot start a job. "
        "Run your own copy, or ask its owner to unset SIMULACRA_VIEW_ONLY."
    )


def test_a_nearly_full_disk_is_told_before_anything_is_written(home, monkeypatch):
    asked: list[Path] = []

    def usage(place: Path) -> Usage:
        asked.append(place)
        return Usage(0, 0, 600 * 2**20)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    settings().allow_disk()
    settings().allow_disk(100)
    with pytest.raises(UserError) as caught:
        settings().allow_disk(101)
    assert str(caught.value) == (
        f"The disk of {home} has 600 MB left, and 601 MB are needed. "
        "Delete old runs, or set SIMULACRA_HOME to a larger disk."
    )
    assert all(place.exists() for place in asked)
    assert not home.exists()
