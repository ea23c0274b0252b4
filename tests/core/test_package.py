"""What somebody brings as files: a folder, a ZIP or one file becomes bytes under names, or a refusal that says why."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from core import brought
from core.catalog import UserError
from core.weights import Package

CONFIG = json.dumps({"a": 1}).encode()


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as out:
        for path, content in files.items():
            out.writestr(path, content)
    return memory.getvalue()


def test_a_folder_a_zip_and_sent_files_give_the_same_package(tmp_path):
    files = {"net/config.json": CONFIG, "net/w.safetensors": b"numbers", "README.md": b"words"}
    folder = written(tmp_path / "mine", files)
    (tmp_path / "mine.zip").write_bytes(zipped({f"mine/{path}": c for path, c in files.items()}))
    ways = [
        Package.read(folder),
        Package.read(tmp_path / "mine.zip"),
        Package.sent([("mine.zip", (tmp_path / "mine.zip").read_bytes())]),
        Package.sent([(f"mine/{path}", content) for path, content in files.items()]),
    ]
    for package in ways:
        # the description is left out, and then the folder stands by itself
        assert dict(package.files) == {"config.json": CONFIG, "w.safetensors": b"numbers"}
        assert [path.rpartition("/")[2] for path in package.aside] == ["README.md"]
        assert package.json("config.json") == {"a": 1} and package.weights == b"numbers"
        assert package.digest == ways[0].digest and not package.lone
    (tmp_path / "kept").write_bytes(ways[0].packed())
    assert Package.kept(tmp_path / "kept").files == ways[0].files
    changed = Package("mine", {"config.json": CONFIG, "w.safetensors": b"numberz"})
    assert changed.digest != ways[0].digest


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("net/pytorch_model.bin", "may be a pickle, which can run any program"),
        ("net/Model.PKL", "may be a pickle"),
        ("weights.pt", "may be a pickle"),
        ("scheduler/my_scheduler.py", "is a program, and nothing that is brought is ever run"),
        ("net/fast.so", "is a program"),
        ("net/w.onnx_data", "is of a kind that is not read"),
    ],
)
def test_a_folder_with_a_pickle_or_a_program_is_refused_by_name_and_reason(tmp_path, path, why):
    files = {"net/config.json": CONFIG, path: b"\x80\x04"}
    for bring in (
        lambda: Package.read(written(tmp_path / "f", files), ["pt"]),
        lambda: Package.sent([("f.zip", zipped(files))], ["pt"]),
        lambda: Package.sent(list(files.items()), ["pt"]),
    ):
        with pytest.raises(UserError, match=f"{path}' {why}.*Take it out"):
            bring()


def test_one_state_dict_by_itself_is_read_where_an_origin_takes_it(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"PK")
    assert brought.read(tmp_path / "w.pt").weights == b"PK"
    assert brought.sent([("w.pt", b"PK")]).lone
    with pytest.raises(UserError, match=r"'w\.pkl' may be a pickle"):
        brought.sent([("w.pkl", b"")])


def test_bounds_of_size_number_depth_and_paths_hold(tmp_path, setting):
    def refused(text: str, files: dict[str, bytes]) -> None:
        with pytest.raises(UserError, match=text):
            Package.sent([("f.zip", zipped(files))])

    refused("holds 301 files, and at most 300", {f"{i}.json": b"{}" for i in range(301)})
    refused("leads out of it", {"../config.json": b"{}"})
    refused("is a text of more than 8 MB", {"a.json": b" " * (8 * 2**20 + 1)})
    refused("holds no weights and no description", {"README.md": b"words"})
    refused("must hold files of weights", {})
    deep = Package("f", {"config.json": b'{"a":' * 9 + b"1" + b"}" * 9})
    with pytest.raises(UserError, match="at most 8 levels of lists and objects, got 9"):
        deep.json("config.json")
    for content, text in ((b"[1]", "holds list, no object"), (b"{", "is no JSON in line 1")):
        with pytest.raises(UserError, match=text):
            Package("f", {"config.json": content}).json("config.json")
    with pytest.raises(UserError, match=r"'f' has no unet/config\.json\. It holds: config\.json"):
        deep.json("unet/config.json")
    for paths, text in (({}, "no weights"), (("a.onnx", "b.onnx"), "2 files of weights")):
        with pytest.raises(UserError, match=f"holds {text}"):
            _ = Package("f", dict.fromkeys(paths, b"")).weights
    setting(max_upload_mb=1)
    refused("Weights must be at most 1 MB", {f"{i}.safetensors": b"0" * 2**19 for i in range(3)})
    with pytest.raises(UserError, match=r"gone\.zip cannot be read \(No such file"):
        Package.read(tmp_path / "gone.zip")


def test_what_no_origin_knows_says_what_is_known():
    package = Package("f", {"config.json": CONFIG})
    with pytest.raises(
        UserError, match=r"'f' is none of the models that are known here.*torchvision"
    ):
        brought.origin_of(package)
    assert brought.origin_of(Package.alone(b"")).name == brought.USUAL
