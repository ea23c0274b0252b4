"""Files and folders that are written in one piece or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from core.ground import files, scratch


def test_a_folder_stands_whole_or_not_at_all(tmp_path):
    place = tmp_path / "sets" / "birds"
    with files.new_folder(place) as new:
        (new / "x").write_bytes(b"1")
        assert not place.exists()
        scratch.sweep(place.parent)  # somebody owns it
        assert (new / "x").exists()
    assert [path.name for path in place.parent.iterdir()] == ["birds"]
    assert (place / "x").read_bytes() == b"1"


def test_what_was_half_filled_is_gone_after_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), files.new_folder(tmp_path / "birds") as new:
        (new / "x").write_bytes((tmp_path / "missing").read_bytes())
    assert list(tmp_path.iterdir()) == []


def test_an_older_folder_gives_way_only_when_it_is_to_be_replaced(tmp_path):
    place = tmp_path / "birds"
    place.mkdir()
    (place / "old").touch()
    with pytest.raises(FileExistsError, match="birds"), files.new_folder(place) as new:
        (new / "new").touch()
    assert [path.name for path in place.iterdir()] == ["old"]
    with files.new_folder(place, replace=True) as new:
        (new / "new").touch()
    assert [path.name for path in place.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["birds"]


def test_a_deleted_folder_is_out_of_the_list_before_the_rest_is_gone(tmp_path, monkeypatch):
    place = tmp_path / "birds"
    place.mkdir()
    monkeypatch.setattr(files.shutil, "rmtree", lambda *args, **more: None)
    files.delete_folder(place)
    assert [path.name[:6] for path in tmp_path.iterdir()] == [".gone-"]


def test_an_older_folder_makes_place_at_once_and_is_back_where_the_new_one_cannot_be(
    tmp_path, monkeypatch
):
    (place := tmp_path / "birds").mkdir()
    (place / "old").touch()
    rename = Path.rename

    def refused(path, to):
        if path.name.startswith(".new-"):
            raise OSError(errno.ENOSPC, "full")
        return rename(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        with pytest.raises(OSError, match="full"), files.new_folder(place, replace=True):
            pass
    assert [path.name for path in place.iterdir()] == ["old"]
    monkeypatch.setattr(files.shutil, "rmtree", lambda *args, **more: None)
    with files.new_folder(place, replace=True):  # however long the rest takes
        pass
    assert list(place.iterdir()) == []
