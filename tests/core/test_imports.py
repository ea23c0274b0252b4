"""Imports: which folders are splits, which file says the labels, and what becomes white."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import datasets, jobs
from core.__main__ import main
from core.catalog import UserError
from core.datasets import Dataset, decoding, files, folder, labels, layout, pictures
from core.datasets.pictures import Span, decode
from core.ground.files import read_json


def png(array: np.ndarray) -> bytes:
    """A picture with exactly these values."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def tiff(array: np.ndarray, **options: Any) -> bytes:
    """The same as TIFF."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, "TIFF", **options)
    return out.getvalue()


def deep_png(array: np.ndarray) -> bytes:
    """A PNG of 16 bits with 1 to 4 channels, which Pillow cannot write; array is uint16 (H, W, C)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        mark = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + mark

    height, width, channels = array.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = struct.pack(">2I5B", width, height, 16, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def noise(seed: int, high: int = 256, kind: type = np.uint8) -> np.ndarray:
    """Noise of 8 by 8 pixels below a value."""
    return np.random.default_rng(seed).integers(0, high, (8, 8)).astype(kind)


def tree(*names: str) -> dict[str, bytes]:
    """A different picture under each name."""
    return {name: png(noise(number)) for number, name in enumerate(names)}


def some(folders: str, each: int = 5) -> list[str]:
    """Names of pictures in folders: `some("train/a train/b")`."""
    return [f"{folder}/{i}.png" for folder in folders.split() for i in range(each)]


def put(place: Path, members: Mapping[str, bytes]) -> Path:
    """Writes a ZIP."""
    with zipfile.ZipFile(place, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name  # as it is, backslashes too
            archive.writestr(info, content)
    return place


def spread(root: Path, members: Mapping[str, bytes]) -> Path:
    """Writes a directory."""
    for name, content in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def load(path: Path, **values: object) -> Dataset:
    """Imports it at 8 pixels."""
    return datasets.load("folder", {"path": str(path), "size": 8, **values})


def given(found: Dataset) -> dict[str, set[str]]:
    """The names of the pictures in each split; valid counts as training, out of which it is drawn."""
    assert found.attributes is not None
    names = {
        split: set(found.attributes["picture"][index]) for split, index in found.splits.items()
    }
    return {"train": names["train"] | names["valid"], "test": names["test"]}


def folders(found: Dataset) -> dict[str, str]:
    return dict(found.imported("folders"))


# --- Folders --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Training", "train"), ("train", "train"), ("TRAIN_SET", "train"), ("trainset", "train"), ("TrainSet", "train"),
        ("train2017", "train"), ("seg_train", "train"), ("my-training-data", "train"),
        ("Testing", "test"), ("test_set", "test"), ("eval", "test"), ("evaluation", "test"), ("holdout", "test"),
        ("hold-out", "test"), ("held out", "test"), ("test.1", "test"),
        ("val", "valid"), ("valid", "valid"), ("validation_set", "valid"), ("dev", "valid"), ("devset", "valid"),
        ("train_test", None), ("trainer", None), ("latest", None), ("contest", None), ("device", None), ("fold1", None),
    ],
)  # fmt: skip
def test_a_folder_name_says_its_split(name, said):
    assert layout.role(name) == said


@pytest.mark.parametrize(
    ("paths", "taken"),
    [
        ("Training/a Training/b Testing/a Testing/b", {"Training": "train", "Testing": "test"}),
        ("trainset/a trainset/b dev/a dev/b", {"trainset": "train", "dev": "valid"}),
        # a split that lacks a class, and one of a name that says nothing
        ("train/a train/b train/c test/a", {"train": "train", "test": "test"}),
        ("train/a train/b train/c extra/a extra/b", {"train": "train", "extra": "test"}),
        # folders around and inside
        ("x/y/train/a x/y/train/b x/y/test/a x/y/test/b", {"train": "train", "test": "test"}),
        (
            "seg_train/seg_train/a seg_train/seg_train/b seg_test/seg_test/a seg_test/seg_test/b",
            {"seg_train": "train", "seg_test": "test"},
        ),
        # what lies flat beside a folder of training classes is no class
        ("train/a train/b later", {"train": "train", "later": "left out"}),
        ("train/a train/b test", {"train": "train", "test": "left out"}),
        # a class that is called like its split
        ("train/train train/a test/train test/a", {"train": "train", "test": "test"}),
        (
            "train/images/a train/images/b val/images/a val/images/b",
            {"train": "train", "val": "valid"},
        ),
    ],
)
def test_folders_with_the_same_classes_are_splits(tmp_path, paths, taken):
    found = load(put(tmp_path / "x.zip", tree(*some(paths, 9))))
    assert folders(found) == taken
    assert set(found.classes) <= {*"abc", "train"}
    assert len(found.classes) >= 2
    held = {
        name
        for name in tree(*some(paths, 9))
        for top in taken
        if taken[top] == "test" and f"{top}/" in name
    }
    assert held <= given(found)["test"]
    if held:
        assert given(found)["test"] == held  # none of them trains, and no other is held out


def test_more_flat_test_pictures_than_labelled_ones_leave_the_labels(tmp_path):
    names = some("train/a train/b", 5) + some("test", 30)
    found = load(put(tmp_path / "x.zip", tree(*names)))
    assert (found.classes, len(found)) == (("a", "b"), 10)
    assert folders(found) == {"train": "train", "test": "left out"}
    assert "Left out, because none of the classes lies there: 'test'." in found.notes


def test_an_unknown_split_is_told_and_never_trains(tmp_path):
    found = load(put(tmp_path / "x.zip", tree(*some("train/a train/b later/a later/b", 8))))
    assert {name.partition("/")[0] for name in given(found)["test"]} == {"later"}
    assert (
        "The name of 'later' says no split, so it is taken as test, never as training. If it is for training, name "
        "it under Folders for training (dataset.training)."
    ) in found.notes
    other = load(tmp_path / "x.zip", training="later")
    assert folders(other) == {"later": "train", "train": "test"}
    with pytest.raises(
        UserError, match=r"names the folder 'soon', which is none of .*: train, later"
    ):
        load(tmp_path / "x.zip", training="soon")


def test_splits_of_which_none_trains_are_told(tmp_path):
    found = load(put(tmp_path / "x.zip", tree(*some("alpha/a alpha/b beta/a beta/b", 6))))
    assert set(folders(found).values()) == {"test"}
    assert len(found.splits["test"]) == 24
    assert any(note.startswith("No folder is for training, so") for note in found.notes)
    assert load(tmp_path / "x.zip", training="beta").counts()["a"]["train"] > 0


@pytest.mark.parametrize(
    ("paths", "classes"),
    [
        ("exam test quiz", ("exam", "quiz", "test")),  # pictures directly inside
        ("train plane car", ("car", "plane", "train")),
        ("mammals/cat mammals/dog birds/owl", ("birds", "mammals")),  # other folders inside
        ("owl/images robin/images", ("owl", "robin")),  # the same single folder inside
    ],
)
def test_folders_that_are_classes_stay_classes(tmp_path, paths, classes):
    found = load(put(tmp_path / "x.zip", tree(*some(paths, 8))))
    assert found.classes == classes
    assert set(folders(found).values()) == {"class"}


def test_splits_inside_each_class_and_beside_the_classes(tmp_path):
    inside = some("cat/train cat/test dog/train dog/test", 8)
    found = load(put(tmp_path / "in.zip", tree(*inside)))
    assert found.classes == ("cat", "dog")
    assert given(found)["test"] == {name for name in inside if "/test/" in name}
    beside = some("cat dog test/cat test/dog", 8)
    found = load(put(tmp_path / "be.zip", tree(*beside)))
    assert found.classes == ("cat", "dog")
    assert given(found)["test"] == {name for name in beside if name.startswith("test/")}


@pytest.mark.parametrize(
    "stray",
    [
        "cover.png", "train/cover.png", "test/cover.png", "docs/figure.png", "README.md", ".DS_Store", "Thumbs.db",
        "__MACOSX/train/a/._0.png", "@eaDir/0.png/SYNOPHOTO_THUMB_M.png", "train/a/@eaDir/1.png", ".thumbnails/0.png",
        "train/.thumb/0.png", "_thumbs/0.png", "thumbs.db",
    ],
)  # fmt: skip
@pytest.mark.parametrize("around", ["", "birds/"])
def test_a_stray_file_never_changes_the_meaning(tmp_path, stray, around):
    names = [around + name for name in some("train/a train/b test/a test/b", 6)]
    plain = load(put(tmp_path / "plain.zip", tree(*names)))
    stray = around + stray if stray.startswith("t") else stray
    found = load(put(tmp_path / "x.zip", tree(*names, stray)))
    assert found.fingerprint == plain.fingerprint
    assert found.classes == ("a", "b")
    listed = stray in {name for name, _ in found.refused}
    assert listed == stray.endswith(("cover.png", "figure.png", "README.md"))


@pytest.mark.parametrize("stray", ["docs/figure.png", "docs/more/figure.png"])
@pytest.mark.parametrize(
    ("paths", "taken"),
    [
        ("x/train/a x/train/b x/test/a x/test/b", ("splits", {"a", "b"})),
        ("x/y/train/a x/y/train/b x/y/test/a x/y/test/b", ("splits", {"a", "b"})),
        ("a/train a/test b/train b/test", ("splits", {"a", "b"})),
        ("train/a train/b test/1 test/2 test/3", ("splits", {"a", "b"})),
        ("train/a train/b test/c test/d", ("splits", set("abcd"))),
        ("test/a test/b", ("classes", {"a", "b"})),
    ],
)
def test_a_stray_folder_never_changes_the_meaning(paths, taken, stray):
    names = [name.replace("/1/", "/1").replace("/2/", "/2") for name in some(paths, 20)]
    names = [name.replace("test/3/", "test/3") for name in names]  # flat
    found, kind = layout.readings([*names, stray])
    assert (kind, {label for _, label, _ in found[kind].placed}) == taken
    plain, _ = layout.readings(names)
    assert sorted(found[kind].placed) == sorted(plain[kind].placed)


def test_a_stray_picture_beside_a_folder_around_classes(tmp_path):
    names = [f"birds/{name}" for name in some("owl robin", 6)]
    found = load(put(tmp_path / "x.zip", tree(*names, "cover.png")))
    assert found.classes == ("owl", "robin")
    flat = load(put(tmp_path / "y.zip", tree(*some("birds", 12), "cover.png")))
    assert flat.classes == ()
    assert flat.refused == (("cover.png", "lies beside the folder of all other pictures"),)


def test_a_folder_around_everything_that_is_called_like_a_split_is_told(tmp_path):
    found = load(put(tmp_path / "x.zip", tree(*some("test/owl test/robin", 6))))
    assert found.classes == ("owl", "robin")
    assert (
        "All pictures lie in 'test', so its name says no split: splits are drawn from all of them."
        in found.notes
    )


def test_every_reading_is_shown_and_another_can_be_chosen(tmp_path):
    path = put(tmp_path / "x.zip", tree(*some("Training/a Training/b Testing/a Testing/b", 6)))
    shown = datasets.preview({"path": str(path)})
    assert [reading["kind"] for reading in shown.readings] == ["splits", "classes", "none"]
    assert (shown.taken, shown.pictures) == ("splits", 24)
    sentences = [reading["sentence"] for reading in shown.readings]
    assert (
        sentences[0]
        == "Splits: 'Training' as train, 'Testing' as test (12 train, 12 test). 2 classes (a, b)."
    )
    assert sentences[1].startswith("2 classes (Testing, Training), one for each folder at the top")
    assert load(path, reading="classes").classes == ("Testing", "Training")
    assert load(path, reading="none").classes == ()
    with pytest.raises(
        UserError,
        match=r"dataset\.reading=file does not fit 'x.zip', which can be read as splits, cl",
    ):
        load(path, reading="file")


def test_class_names_are_composed_and_told_when_they_differ_by_case_only(tmp_path):
    names = some("Cafe\u0301 owl Owl", 4)
    found = load(put(tmp_path / "x.zip", tree(*names)))
    assert set(found.classes) == {"Caf\u00e9", "owl", "Owl"}
    words = "The classes 'Owl' and 'owl' differ by capital letters only, and are kept apart."
    shown = datasets.preview({"path": str(tmp_path / "x.zip")})
    for notes in (found.notes, shown.readings[0]["notes"]):
        assert [note.startswith(words) for note in notes].count(True) == 1
    both = some("e\u0301te winter", 4) + some("\u00e9te", 4)  # two spellings of one name
    assert set(load(put(tmp_path / "y.zip", tree(*both))).classes) == {"\u00e9te", "winter"}


def test_a_zip_with_backslashes_is_read_with_the_same_checks(tmp_path):
    names = some("train/a train/b test/a test/b", 4)
    plain = load(put(tmp_path / "plain.zip", tree(*names)))
    back = {name.replace("/", "\\"): content for name, content in tree(*names).items()}
    assert load(put(tmp_path / "x.zip", back)).fingerprint == plain.fingerprint
    for bad in (
        "..\\evil.png",
        "a\\..\\..\\evil.png",
        "\\evil.png",
        "\\\\host\\evil.png",
        "C:\\evil.png",
        "c:evil.png",
    ):
        with pytest.raises(UserError, match="whose path leads out of it"):
            load(put(tmp_path / "bad.zip", {**back, bad: png(noise(99))}))


def test_the_answer_of_the_command_says_what_each_folder_was(tmp_path, capsys):
    path = put(tmp_path / "x.zip", tree(*some("Training/a Training/b later/a later/b", 6)))
    words = ["datasets", "folder", "--set", f"path={path}"]
    assert main([*words, "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert [note for note in notes if isinstance(note, dict)] == [
        {"folder": "Training", "taken_as": "train"},
        {"folder": "later", "taken_as": "test"},
    ]
    assert main([*words, "--look"]) == 0
    out = capsys.readouterr().out
    assert "taken splits" in out
    assert "or    classes" in out
    assert main([*words, "--set", "reading=classes", "--save", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["later", "Training"]
    assert main(["datasets", "digits", "--look"]) == 2


# --- Labels in a file -----------------------------------------------------------------------------

SHARDS = [f"{i // 6:05d}/img{i:08d}.png" for i in range(12)]
KINDS = ["owl", "jay", "hen"]


def pairs(names: list[str]) -> bytes:
    return json.dumps({"labels": [[name, i % 3] for i, name in enumerate(names)]}).encode()


def lines(names: list[str], **more: object) -> bytes:
    rows = [{"file_name": name, "label": KINDS[i % 3], **more} for i, name in enumerate(names)]
    return "\n".join(map(json.dumps, rows)).encode()


def cells(names: list[str], head: str = "file_name,label") -> bytes:
    rows = [f"{name},{KINDS[i % 3]}" for i, name in enumerate(names)]
    return "\n".join([*([head] if head else []), *rows]).encode()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("dataset.json", pairs(SHARDS)),
        ("dataset.json", json.dumps({"labels": {n: i % 3 for i, n in enumerate(SHARDS)}}).encode()),
        ("metadata.jsonl", lines(SHARDS)),
        ("metadata.csv", cells(SHARDS)),
        ("metadata.csv", b"\xef\xbb\xbf" + cells(SHARDS).replace(b"\n", b"\r\n")),
        ("Labels.csv", cells(SHARDS, "id,breed")),
        ("labels.csv", cells(SHARDS, "")),
        ("labels.csv", cells([name[:-4] for name in SHARDS], "id,label")),  # without endings
        ("labels.csv", cells([name.rpartition("/")[2] for name in SHARDS])),  # without folders
        ("labels.csv", cells([name.replace("/", "\\") for name in SHARDS])),
    ],
)
def test_labels_are_read_from_a_file(tmp_path, file, content):
    found = load(put(tmp_path / "x.zip", {**tree(*SHARDS), file: content}))
    assert found.classes == (
        ("0", "1", "2") if "json" in file and file[-1] != "l" else ("hen", "jay", "owl")
    )
    assert found.attributes is not None
    assert found.y is not None
    names = ["0", "1", "2"] if found.classes[0] == "0" else KINDS
    for name, label in zip(found.attributes["picture"], found.y, strict=True):
        assert found.classes[label] == names[SHARDS.index(name) % 3]
    assert folders(found)[file] == "labels"
    assert load(tmp_path / "x.zip", reading="classes").classes == ("00000", "00001")


def test_labels_of_each_split_folder(tmp_path):
    members: dict[str, bytes] = {}
    for part in ("train", "test"):
        names = [f"{part[:2]}{i}.png" for i in range(9)]
        members |= tree(*(f"{part}/{name}" for name in names))
        members[f"{part}/metadata.csv"] = cells(names)
    members = {
        name: png(noise(i)) if name.endswith("png") else c
        for i, (name, c) in enumerate(members.items())
    }
    found = load(spread(tmp_path / "x", members))
    assert found.classes == ("hen", "jay", "owl")
    assert {name.partition("/")[0] for name in given(found)["test"]} == {"test"}
    root = {n: c for n, c in members.items() if n.endswith("png")}
    root["metadata.csv"] = cells(sorted(root))
    again = load(spread(tmp_path / "y", root))
    assert {name.partition("/")[0] for name in given(again)["test"]} == {"test"}
    column = {f"{i}.png": png(noise(i)) for i in range(12)}
    rows = [f"{i}.png,{'ab'[i % 2]},{'train' if i < 8 else 'later'}" for i in range(12)]
    column["metadata.csv"] = "\n".join(["file_name,label,split", *rows]).encode()
    third = load(spread(tmp_path / "z", column))
    assert given(third)["test"] == {f"{i}.png" for i in range(8, 12)}


def test_what_a_file_of_labels_leaves_open_is_told(tmp_path):
    names = [f"{i}.png" for i in range(12)]
    content = cells([*names[:10], "gone.png", "9.png"])
    found = load(put(tmp_path / "x.zip", {**tree(*names), "labels.csv": content}))
    assert len(found) == 9
    assert dict(found.refused) == {
        "9.png": "is named with two labels in 'labels.csv'",
        "10.png": "has no label in 'labels.csv'",
        "11.png": "has no label in 'labels.csv'",
    }
    assert "1 file that is named in 'labels.csv' cannot be found: 'gone.png'." in found.notes
    assert "2 pictures have no label in 'labels.csv': left out." in found.notes
    assert "1 picture is named with two labels in 'labels.csv': left out." in found.notes


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("dataset.json", b"{", "it is no JSON (line 1)"),
        ("dataset.json", b"[1]", 'it must be an object with the key "labels"'),
        ("dataset.json", b'{"labels": 3}', '"labels" must be a list of pairs'),
        ("dataset.json", b'{"labels": [["0.png"]]}', "entry 1 of its labels must be a file and its class"),
        ("dataset.json", b'{"labels": [["0.png", {}]]}', "entry 1 of its labels: a label must be"),
        ("metadata.jsonl", b'{"file_name": "0.png", "label": 1}\nno', "line 2 is no JSON"),
        ("metadata.jsonl", b'{"label": 1}', "line 1 names no file"),
        ("metadata.jsonl", b'{"file_name": 5, "label": 1}', "line 1 names no file"),
        ("metadata.csv", b"file_name,label\n0.png,a,b", "line 2 has 3 cells, and its first line has 2"),
        ("metadata.csv", b'file_name,label\n"0.png,a', "is no CSV"),
        ("metadata.csv", b"\xff\xfe", "it is no UTF-8 text"),
        ("metadata.csv", b"", "must name at least two columns"),
        ("labels.csv", b"left,top,right\n1,2,3", "its first line must name the columns"),
        ("labels.csv", b"file,label\nx.png,a", "names none of the 9 pictures that are here (its first is 'x.png')"),
    ],
)  # fmt: skip
def test_a_malformed_file_of_labels_is_a_sentence(tmp_path, file, content, why):
    path = put(tmp_path / "x.zip", {**tree(*some("a b c", 3)), file: content})
    with pytest.raises(UserError) as caught:
        load(path)
    assert why in str(caught.value)
    assert str(caught.value).startswith(f"The file of labels '{file}' ")
    assert why in datasets.preview({"path": str(path)}).problem
    assert load(path, reading="classes").classes == ("a", "b", "c")


@pytest.mark.parametrize("said", ["null", "[]", json.dumps([[name, None] for name in SHARDS])])
def test_folders_of_a_set_that_says_that_it_has_no_labels_are_no_classes(tmp_path, said):
    members = {**tree(*SHARDS), "dataset.json": f'{{"labels": {said}}}'.encode()}
    found = load(put(tmp_path / "x.zip", members))
    assert (found.classes, len(found)) == ((), len(SHARDS))
    words = "'dataset.json' says that no picture has a label, so the folders are no classes."
    assert words in found.notes
    other = {**members, "dataset.json": b'{"title": "birds"}'}
    assert load(put(tmp_path / "y.zip", other)).classes == ("00000", "00001")


def test_a_file_that_labels_less_than_half_of_what_the_folders_do_is_not_taken_by_itself(tmp_path):
    names = some("train/a train/b test/a test/b", 6)
    folders = tree(*names)
    for count, taken in ((11, ("a", "b")), (12, ("hen", "jay", "owl"))):
        path = put(tmp_path / f"{count}.zip", {**folders, "metadata.csv": cells(names[:count])})
        found = load(path)
        assert found.classes == taken
        words = f"'metadata.csv' says the label of only {count} pictures, and the folders of 24: "
        assert any(note.startswith(words) for note in found.notes) == (count == 11)
        assert load(path, reading="file").classes == ("hen", "jay", "owl")


def test_whole_numbers_with_a_point_name_the_same_class(tmp_path):
    names = [f"{part}/{i}.png" for part in ("train", "test") for i in range(6)]
    members = tree(*names)
    for part, said in (("train", "012"), ("test", ("0.0", "1.0", "2.0"))):
        rows = [f"{i}.png,{said[i % 3]}" for i in range(6)]
        members[f"{part}/metadata.csv"] = "\n".join(["file_name,label", *rows]).encode()
    assert load(put(tmp_path / "x.zip", members)).classes == ("0", "1", "2")
    members["test/metadata.csv"] = members["test/metadata.csv"].replace(b"2.0", b"2.5")
    assert "1.0" in load(put(tmp_path / "y.zip", members)).classes


def test_a_file_of_captions_is_no_file_of_labels(tmp_path):
    members = tree(*some("a b", 5))
    members["metadata.jsonl"] = b'{"file_name": "a/0.png", "text": "an owl"}'
    assert load(put(tmp_path / "x.zip", members)).classes == ("a", "b")


def test_what_a_file_of_labels_may_build_is_bounded_by_the_pictures(monkeypatch):
    most = 2 * 10 + 1000 - 3  # the object, the list and the pair count as well
    rest = ",".join(["[]"] * most)
    good = '{"labels": [["0.png", 1]]' + f', "rest": [{rest[: 3 * (most - 1) - 1]}]}}'
    assert good.count("[") + good.count("{") == 2 * 10 + 1000
    assert len(labels.parse("dataset.json", good.encode(), 10).rows) == 1
    rows = ["file,label", *(["0.png,a"] * (2 * 10 + 1000))]
    assert len(labels.parse("labels.csv", "\n".join(rows).encode(), 10).rows) == 2 * 10 + 1000
    with pytest.raises(labels.Malformed, match="it has more than 1,020 rows, the most for 10 pict"):
        labels.parse("labels.csv", "\n".join([*rows, "0.png,a"]).encode(), 10)
    bad = good.replace('"rest": [', '"rest": [[],')
    long = b"x" * (labels.most_bytes(10) + 1)

    def never(text: str) -> None:
        pytest.fail("the parser was called")

    monkeypatch.setattr(labels.json, "loads", never)
    with pytest.raises(labels.Malformed, match="it holds more lists than 10 pictures can have"):
        labels.parse("dataset.json", bad.encode(), 10)
    with pytest.raises(
        labels.Malformed, match=r"it is larger than 1\.0 MB, the most for 10 pictures"
    ):
        labels.parse("metadata.jsonl", long, 10)


# --- What becomes white ---------------------------------------------------------------------------


def twelve(seed: int, high: int = 4095) -> np.ndarray:
    """Twelve bits in sixteen, up to a largest value."""
    values = noise(seed, high, np.uint16)
    values[0, 0] = high
    return values


def test_the_largest_value_of_the_whole_set_becomes_white(tmp_path, capsys):
    members = {f"{'ab'[i % 2]}/{i}.png": png(twelve(i, 400 * (i + 1))) for i in range(10)}
    path = put(tmp_path / "x.zip", members)
    found = load(path)
    assert found.attributes is not None
    assert found.imported("range") == {"largest": 4000.0, "ones": False}
    for name, x in zip(found.attributes["picture"], found.x, strict=True):
        i = int(Path(name).stem)  # never picture by picture
        expected = (twelve(i, 400 * (i + 1)) / 4000 * 255).round()
        assert np.array_equal(x[0], expected)
    assert (
        "All pictures hold more than 8 bits: their values 0 … 4000 were taken as black to white, where the largest "
        "value of all of them is white."
    ) in found.notes
    shown = datasets.preview({"path": str(path)})
    assert (shown.deep, shown.largest, shown.ones) == (10, 4000.0, False)
    asked = load(path, range=8000)
    assert asked.x.max() == 128
    assert any("as asked; their largest value is 4000." in note for note in asked.notes)
    full = {
        f"{i}.png": png(noise(i, 65536, np.uint16) | np.uint16(i == 0) * 65535) for i in range(8)
    }
    wide = load(put(tmp_path / "full.zip", full))
    assert wide.imported("range")["largest"] == 65535
    assert len(np.unique(wide.x)) > 150


def test_pictures_of_8_bits_are_not_stretched_unless_they_are_masks(tmp_path):
    dark = {f"{i}.png": png(noise(i, 3)) for i in range(8)}
    found = load(put(tmp_path / "dark.zip", dark))
    assert found.x.max() == 2
    assert found.imported("range") is None
    refused = load(tmp_path / "dark.zip", range=2)
    assert any("The largest value 2 was not used" in note for note in refused.notes)
    masks = {f"{i}.png": png(noise(i, 2)) for i in range(8)}
    white = load(put(tmp_path / "masks.zip", masks))
    assert set(np.unique(white.x)) == {0, 255}
    assert white.imported("range") == {"largest": 1.0, "ones": True}
    assert any("hold only the values 0 and 1" in note for note in white.notes)
    assert load(tmp_path / "masks.zip", range=255).x.max() == 1
    mixed = load(put(tmp_path / "mixed.zip", masks | {"8.png": png(noise(8, 3))}))
    assert mixed.x.max() == 2  # one value more, and nothing is stretched


def test_a_later_picture_is_read_with_the_range_of_its_set(tmp_path):

    members = {f"{i}.png": png(twelve(i)) for i in range(10)}
    saved = datasets.bring("scans", {"path": str(put(tmp_path / "x.zip", members)), "size": 8})
    again = datasets.load("scans")
    assert again.imported("range") == saved.imported("range") == {"largest": 4095.0, "ones": False}
    half = datasets.prepare(png(np.full((8, 8), 2048, np.uint16)), again)
    assert set(np.unique(half.x)) == {128}
    assert "Its values 0 … 4095 were taken as black to white, as in its set." in half.notes
    above = datasets.prepare(png(np.full((8, 8), 8190, np.uint16)), again)
    assert set(np.unique(above.x)) == {255}
    assert "100 % of its values lie above and are white as well." in above.notes
    plain = datasets.prepare(png(np.full((8, 8), 100, np.uint8)), again)
    assert set(np.unique(plain.x)) == {100}
    child = datasets.assemble(
        np.asarray(again.x), None, (), again.splits, source={**again.source, "changes": 1}
    )
    assert datasets.save("derived", child).imported("range") == {"largest": 4095.0, "ones": False}


def test_pictures_of_a_folder_that_are_only_changed_share_one_range(tmp_path):
    members = {
        "a.png": png(twelve(0, 1000)),
        "b.tif": tiff(twelve(1, 3000)),
        "c.png": png(noise(2)),
    }
    with files.Directory(spread(tmp_path / "x", members | {"d.txt": b"text"})) as source:
        assert decoding.span_of_files(source, source.files) == Span(3000.0)
        eight = [file for file in source.files if file.name[0] in "cd"]
        assert decoding.span_of_files(source, eight) is None


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_keep_their_levels_in_every_colour_mode(channels):
    values = np.random.default_rng(0).integers(0, 4096, (16, 16, channels)).astype(np.uint16)
    if channels in (2, 4):
        values[..., -1] = 65535
    found = decode(deep_png(values), 16, span=Span(4095.0))
    light = values[..., : 3 if channels > 2 else 1].transpose(2, 0, 1)
    assert np.array_equal(found.pixels, (light / 4095 * 255).round())
    if channels in (2, 4):
        values[..., -1] = 0
        assert (decode(deep_png(values), 16, span=Span(4095.0)).pixels == 255).all()


@pytest.mark.parametrize("packed", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_tiff_of_more_than_8_bits(packed, kind):
    values = twelve(3).astype(kind) / (kind(4095) if kind is np.float32 else 1)
    values = values.astype(kind)
    span = Span(1.0 if kind is np.float32 else 4095.0)
    expected = (twelve(3) / 4095 * 255).round()
    assert np.array_equal(
        decode(tiff(values, compression=packed), 8, span=span).pixels[0], expected
    )


def chunk(kind: bytes, content: bytes) -> bytes:
    """A piece of a PNG."""
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3), (8, 8, 3)])
def test_a_plain_png_is_decoded_the_short_way_as_the_usual_one_does(monkeypatch, shape):
    data = png(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))
    said = data[:-12] + chunk(b"tEXt", b"Comment\0hello") + data[-12:]
    placed = data[:-12] + chunk(b"tEXt", b"Comment\0exif:GPSLatitude=1") + data[-12:]
    clear = data[:33] + chunk(b"tRNS", bytes(2 if len(shape) == 2 else 6)) + data[33:]
    broken = data[:45] + bytes([data[45] ^ 255]) + data[46:]
    short = [
        pictures._plain(each, 16) is not None
        for each in (data, said, placed, clear, broken, data[:-20])
    ]
    assert short == [True, True, False, False, False, False]
    found = [decode(each, 8) for each in (data, said)]
    monkeypatch.setattr(pictures, "_plain", lambda data, most: None)
    for each, usual in zip(found, [decode(data, 8), decode(said, 8)], strict=True):
        assert not isinstance(each, str) and not isinstance(usual, str)
        assert np.array_equal(each.pixels, usual.pixels)
        assert (each.was, each.metadata) == (usual.was, usual.metadata)


def test_tiff_where_zero_is_white_is_turned():
    turned = decode(tiff(twelve(1), tiffinfo={262: 0}), 8, span=Span(4095.0))
    assert np.array_equal(turned.pixels[0], 255 - (twelve(1) / 4095 * 255).round())
    eight = decode(tiff(noise(1), tiffinfo={262: 0}), 8)  # Pillow turns these, both ways
    assert np.array_equal(eight.pixels[0], noise(1))


def test_tiff_that_is_not_read_is_a_sentence():
    pages = tiff(twelve(1), save_all=True, append_images=[Image.fromarray(twelve(2))])
    assert decode(pages, 8) == "has 2 pages, and only a TIFF of one page is read"
    broken = twelve(1).astype(np.float32)
    broken[0, 0] = np.nan
    assert decode(tiff(broken), 8) == "holds numbers that are not finite"
    unsigned = bytearray(tiff(twelve(1).astype(np.int32)))
    at = unsigned.index(struct.pack("<HHI", 339, 3, 1))
    unsigned[at + 8] = 1  # the sample format: without a sign
    assert (
        decode(bytes(unsigned), 8)
        == "holds whole numbers of 32 bits without a sign, which are not read"
    )
    assert str(decode(b"II*\0" + bytes(40), 8)).startswith("is a TIFF of a form that is not read")
    assert str(decode(tiff(noise(1), compression="jpeg"), 8)).startswith(
        "is a TIFF packed as jpeg;"
    )


def test_heic_is_named_where_its_reader_is_missing(monkeypatch):
    monkeypatch.setattr(pictures, "installed", lambda name: False)
    head = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic"
    assert decode(head, 8) == (
        "is a HEIC picture, which is read only where the package pi-heif is installed "
        "(make extras, or: pip install -r requirements-heic.txt); save it as JPEG or PNG"
    )


def test_a_size_is_refused_before_any_reader_opens_the_file(monkeypatch):
    out = io.BytesIO()
    Image.fromarray(noise(1).repeat(4, 0).repeat(5, 1)).save(out, "WEBP", lossless=True)
    assert pictures.look(out.getvalue(), 40 * 32 / 1e6) == (40, 32, False)
    monkeypatch.setattr(Image, "open", lambda *args, **more: pytest.fail("it was opened"))
    reason = "has 40 × 32 pixels, and at most 0.001279 megapixels are allowed"
    assert decode(out.getvalue(), 8, megapixels=(40 * 32 - 1) / 1e6) == reason


# --- Bounds ---------------------------------------------------------------------------------------


def test_all_pixels_of_an_import_are_bounded_before_one_is_decoded(tmp_path, setting, monkeypatch):
    path = put(tmp_path / "x.zip", tree(*some("a b", 5)))  # 10 pictures of 64 pixels
    setting(max_gigapixels=640e-9)
    assert len(load(path)) == 10
    assert folder.check(folder.FolderConfig(path=str(path))).path == str(path)
    setting(max_gigapixels=639e-9)
    with pytest.raises(UserError, match=r"unpack to 6\.4e-07 gigapixels in all"):  # before a job
        folder.check(folder.FolderConfig(path=str(path)))
    monkeypatch.setattr(decoding, "decode", lambda *args: pytest.fail("a picture was decoded"))
    monkeypatch.setattr(decoding, "extent", lambda *args: pytest.fail("a picture was decoded"))
    with pytest.raises(UserError) as caught:
        load(path, fit="pad")
    assert str(caught.value) == (
        "The pictures in 'x.zip' unpack to 6.4e-07 gigapixels in all, and at most 6.39e-07 are allowed on this server. "
        "Take fewer or smaller pictures, or raise SIMULACRA_MAX_GIGAPIXELS."
    )


@pytest.mark.parametrize(("times", "passes"), [(files.RATIO - 1, True), (files.RATIO + 1, False)])
def test_a_zip_may_unpack_to_a_stated_multiple_of_its_size(tmp_path, times, passes):
    assert (files.RATIO, files.SMALL) == (250, 64 * 2**20)
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", np.random.default_rng(0).bytes(300_000))
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\1\2") + 24  # where the directory says how large it becomes
    content[at : at + 4] = struct.pack("<I", times * len(content))
    path.write_bytes(content)
    if passes:
        with files.Archive(path) as archive:
            assert [file.size for file in archive.files] == [249 * len(content)]
        return
    with pytest.raises(
        UserError, match="unpacks to 251 times its size, and at most 250 times is allowed"
    ):
        files.Archive(path)


# --- Jobs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--dataset", "folder"),
        ("train", "--classifier", "--dataset", "folder"),
        ("race", "--dataset", "folder"),
        ("attack", "--dataset", "folder"),
        ("experiment", "--dataset", "folder", "--pipeline", "digits"),
        ("inspect", "folder"),
        ("export", "folder", "--build", "more", "--pipeline", "digits"),
    ],
)
def test_a_folder_that_cannot_be_read_starts_no_job(tmp_path, capsys, monkeypatch, words):
    monkeypatch.setattr(jobs, "spawn", lambda path: pytest.fail("a job was started"))
    (tmp_path / "text.zip").write_bytes(b"no ZIP")
    (tmp_path / "empty").mkdir()
    spread(tmp_path / "few", tree("a.png", "b.png"))
    for place, said in (
        ("gone", "There is no file or folder"),
        ("text.zip", "must be a directory, a ZIP or a file of a format that is read"),
        ("empty", "No picture in 'empty' could be read, and at least 8 are needed."),
        ("few", "Only 2 pictures in 'few' could be read, and at least 8 are needed."),
    ):
        assert main([*words, "--set", f"dataset.path={tmp_path / place}"]) == 2
        assert said in capsys.readouterr().err
    assert not jobs.listing()
    assert not jobs.damaged()


def test_a_job_finds_a_folder_that_was_named_from_elsewhere(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(jobs, "spawn", lambda path: asked.append(read_json(path / "job.json")))
    spread(tmp_path / "birds", tree(*some("a b", 5)))
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--dataset", "folder", "--set", "path=birds"]) == 0
    assert asked[0]["config"]["dataset"]["config"]["path"] == str(tmp_path / "birds")


def test_a_run_whose_folder_is_gone_is_refused_at_once_and_stays_as_it_is(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(jobs, "spawn", lambda path: None)
    spread(tmp_path / "birds", tree(*some("a b", 5)))
    assert main(["train", "--dataset", "folder", "--set", f"path={tmp_path / 'birds'}"]) == 0
    (job,) = jobs.listing()[:1]
    jobs.set_state(job.path, status="stopped", done=0)
    (tmp_path / "birds").rename(tmp_path / "gone")
    capsys.readouterr()
    for more in ([], ["--images", "900000"]):
        assert main(["resume", job.id, *more]) == 2
        assert f"There is no file or folder '{tmp_path / 'birds'}'" in capsys.readouterr().err
        assert (jobs.get(job.id).status, jobs.get(job.id).config) == ("stopped", job.config)
    (tmp_path / "gone").rename(tmp_path / "birds")
    assert main(["resume", job.id]) == 0


@pytest.mark.parametrize("id", ["\udcff", "a\0b", "a\nb"])
@pytest.mark.parametrize("words", [("runs",), ("resume",), ("stop",), ("train", "--like")])
def test_an_id_that_is_no_text_is_a_sentence(capsys, id, words):
    assert main([*words, id]) == 2
    assert capsys.readouterr().err.startswith("error: There is no ")


def test_a_class_with_few_held_out_images_is_told_before_and_after(tmp_path):
    sizes = {"round": 60, "triangle": 12}
    names = [f"{name}/{i}.png" for name, n in sizes.items() for i in range(n)]
    path = put(tmp_path / "shapes.zip", tree(*names))
    seen = datasets.preview({"path": str(path)})
    (before,) = [note for note in seen.readings[0]["notes"] if "by the shares" in note]
    assert "'triangle' has 12 pictures: by the shares about 1.2 for validation and 2.4" in before
    found = load(path)
    assert found.y is not None
    y = found.y == found.classes.index("triangle")
    counts = {name: int(y[rows].sum()) for name, rows in found.splits.items()}
    (after,) = [note for note in found.notes if "too few to judge" in note]
    assert (
        f"Class 'triangle' has {counts['train']} training, {counts['valid']} validation and "
        f"{counts['test']} test images of 12: " in after
    )
    assert "'round'" not in before + after


def test_splits_that_the_folders_give_are_no_matter_of_shares(tmp_path):
    path = put(tmp_path / "a.zip", tree(*some("train/a train/b valid/a valid/b test/a test/b", 2)))
    assert not [note for note in load(path).notes if "too few" in note]
    seen = datasets.preview({"path": str(path)})
    (read,) = [reading for reading in seen.readings if reading["kind"] == seen.taken]
    assert read["splits"] and "by the shares" not in str(read)
