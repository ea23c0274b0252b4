"""Groups, such as patients: never divided among the splits, kept with every version, and told where others divided them."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from core import building, datasets, quality
from core.__main__ import main
from core.catalog import UserError
from core.datasets import Dataset, Preview, assemble, digests, labels, split_by_content
from core.ground.writing import percent
from core.media import media
from core.quality import decisions, measures, sets
from core.quality import labels as quality_labels
from tests.core.test_imports import KINDS, load, put, some, tree

PLAIN = [f"{i:03}.png" for i in range(60)]


def owner(number: int) -> str:
    return f"p{number // 4:02}"


def table(names: list[str]) -> bytes:
    """A class for each picture, and four pictures of each patient."""
    rows = [f"{name},{KINDS[i % 3]},{owner(i)}" for i, name in enumerate(names)]
    return "\n".join(["file_name,label,patient", *rows]).encode()


def whose(found: Dataset) -> list[set[str]]:
    """The patients of each split, by the names of the pictures: the dataset's own column is not asked."""
    assert found.attributes is not None
    files = found.attributes["picture"]
    return [{owner(int(files[i][:3])) for i in index} for index in found.splits.values()]


def ward(tmp_path: Path) -> Path:
    return put(tmp_path / "ward.zip", {**tree(*PLAIN), "labels.csv": table(PLAIN)})


def test_a_zip_is_imported_by_patient_from_the_command_line(tmp_path, here, capsys):
    file = ward(tmp_path)
    words = ["datasets", "folder", "--set", f"path={file}", "--set", "size=8"]
    assert main([*words, "--look", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["columns"] == ["patient"]
    assert main([*words, "--set", "group=patient", "--save", "ward", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    found = datasets.load("ward")
    assert facts["group"] == found.group == "patient"
    train, valid, test = whose(found)
    assert train and valid and test
    assert not (train & valid or train & test or valid & test)
    assert found.classes == ("hen", "jay", "owl")
    assert "Kept together by patient: 15 groups." in found.notes
    assert datasets.describe("ward").caption.endswith("3 classes, kept together by patient.")
    alone = whose(load(file))
    assert alone[0] & alone[2]  # by content alone they are divided


def test_a_column_that_is_not_there_is_refused_before_the_job(tmp_path, here, capsys):
    words = ["train", "--dataset", "folder", "--set", f"path={ward(tmp_path)}"]
    assert main([*words, "--set", "dataset.group=patent"]) == 2
    said = capsys.readouterr().err
    assert "dataset.group='patent' must be a column of a table beside the pictures" in said
    assert "Columns: patient. Choose one of them, or leave it out." in said
    bare = put(tmp_path / "bare.zip", tree(*some("a b")))
    with pytest.raises(UserError, match="Columns: none"):
        load(bare, group="patient")


def test_without_a_group_nothing_changes(tmp_path):
    rows = [line.rpartition(b",")[0] for line in table(PLAIN).split(b"\n")]
    plain = put(tmp_path / "plain.zip", {**tree(*PLAIN), "labels.csv": b"\n".join(rows)})
    found = load(ward(tmp_path))
    assert found.fingerprint == load(plain).fingerprint
    assert (found.group, found.members) == ("", None)
    assert set(found.attributes or ()) == {"picture", "width", "height", "patient"}


@pytest.mark.parametrize("file", ["labels.csv", "metadata.jsonl"])
def test_a_table_without_labels_keeps_the_pictures_of_class_folders_together(tmp_path, file):
    names = [f"{'ab'[i % 2]}/{i:03}.png" for i in range(60)]
    said = [f"{name},{owner(i)}" for i, name in enumerate(names)]
    content = "\n".join(["file_name,patient", *said])
    if file == "metadata.jsonl":
        pairs = [line.split(",") for line in said]
        content = "\n".join(json.dumps({"file_name": n, "patient": p, "age": 7}) for n, p in pairs)
    path = put(tmp_path / "x.zip", {**tree(*names), file: content.encode()})
    found = load(path, group="patient")
    assert found.classes == ("a", "b")
    assert found.attributes is not None
    members = found.attributes["group"]
    assert members.tolist() == [owner(int(name[2:5])) for name in found.attributes["picture"]]
    train, valid, test = (set(members[index]) for index in found.splits.values())
    assert train and test and not (train & valid or train & test or valid & test)


def test_a_picture_without_a_value_stands_alone(tmp_path):
    names = [f"{i:03}.png" for i in range(120)]
    rows = [f"{n},{KINDS[i % 3]},{owner(i) if i < 8 else ''}" for i, n in enumerate(names)]
    content = "\n".join(["file_name,label,patient", *rows]).encode()
    found = load(put(tmp_path / "x.zip", {**tree(*names), "labels.csv": content}), group="patient")
    assert 10 < len(found.splits["test"]) < 40  # as a group they would all be in one split
    assert "Kept together by patient: 2 groups; 112 pictures without one." in found.notes


def test_three_groups_cannot_have_the_shares_and_that_is_told(tmp_path):
    names = [f"{i:03}.png" for i in range(60)]
    rows = [f"{name},{KINDS[i % 3]},speaker{i // 20}" for i, name in enumerate(names)]
    content = "\n".join(["file_name,label,speaker", *rows]).encode()
    path = put(tmp_path / "x.zip", {**tree(*names), "labels.csv": content})
    found = load(path, group="speaker")
    assert [len(index) for index in found.splits.values()] == [20, 20, 20]
    (note,) = (note for note in found.notes if note.startswith("Too few or too unequal groups"))
    assert note.endswith(
        f"valid has {percent(1 / 3, 0)} instead of {percent(0.1, 0)}, "
        f"test has {percent(1 / 3, 0)} instead of {percent(0.2, 0)}."
    )
    assert not any("Too few" in note for note in load(path).notes)


def test_a_picture_under_two_patients_is_left_out_and_told(tmp_path):
    content = table(PLAIN) + f"\n000.png,{KINDS[0]},p09\n001.png,{KINDS[1]},p00".encode()
    path = put(tmp_path / "x.zip", {**tree(*PLAIN), "labels.csv": content})
    found = load(path, group="patient")
    assert found.refused == (("000.png", "is named with two values of 'patient'"),)
    assert len(found) == 59 and not any("cannot be found" in note for note in found.notes)
    assert len(load(path)) == 60  # without a group it is one picture of one class


def test_captions_in_many_lines_are_still_no_labels(tmp_path):
    lines = ["file_name,caption,x", *(["a/0.png,an owl,3"] * 3000), "ragged"]
    members = {**tree(*some("a b", 5)), "metadata.csv": "\n".join(lines).encode()}
    assert load(put(tmp_path / "x.zip", members)).classes == ("a", "b")
    assert len(labels.parse("metadata.csv", members["metadata.csv"], 10).rows) == 1021


# --- Divided by who gave the splits ---------------------------------------------------------------


@pytest.fixture
def torn(tmp_path: Path) -> Dataset:
    """Sixty pictures in given splits; of p01 three are for training and one for testing, of p12 two and two."""
    names = [
        f"{'test' if i >= 50 or i == 7 else 'train'}/{KINDS[i % 3]}/{i:03}.png" for i in range(60)
    ]
    rows = [f"{name},{owner(i)}" for i, name in enumerate(names)]
    content = "\n".join(["file_name,patient", *rows]).encode()
    values = {
        "path": str(put(tmp_path / "x.zip", {**tree(*names), "metadata.csv": content})),
        "size": 8,
        "group": "patient",
    }
    return datasets.bring("torn", values)


def test_given_splits_are_kept_and_what_they_divide_is_told_and_found(torn):
    assert len(torn.splits["test"]) == 11
    (note,) = (note for note in torn.notes if note.startswith("Kept together"))
    assert (
        "with members of 2 groups in more than one of them (such as 'p01'), and were kept" in note
    )
    found = list(quality.inspect(torn, quality.InspectConfig(labels=False, near=False, map=100)))[
        -1
    ]
    assert isinstance(found, quality.Inspection)
    issues = found.by_kind()["group"]
    assert torn.attributes is not None
    files = torn.attributes["picture"]
    said = {files[issue.image][-7:-4]: issue.sentence for issue in issues}
    assert set(said) == {"007", "048", "049"}  # of equal halves the one that is held out stays
    assert said["007"] == "It is in test; of patient 'p01' there are 3 in train, 1 in test."
    decisions.decide(torn, "exclude", [issue.image for issue in issues], kind="group", seen=0)
    made = decisions.apply(torn, "whole")
    assert (made.group, len(made)) == ("patient", 57)
    parts = [set(made.members[index]) for index in made.splits.values()]  # type: ignore[index]
    assert not (parts[0] & parts[2] or parts[1] & parts[2] or parts[0] & parts[1])


def test_labels_are_judged_by_the_pictures_of_others(torn, monkeypatch):
    seen = []
    judge = quality_labels.judge
    monkeypatch.setattr(
        quality_labels, "judge", lambda *given: seen.append(given[3]) or judge(*given)
    )
    list(quality.inspect(torn, quality.InspectConfig(near=False, map=100)))
    (keys,) = seen
    assert len(np.unique(keys)) == 15
    assert all(len(np.unique(keys[torn.members == name])) == 1 for name in np.unique(torn.members))


def test_halves_of_the_training_images_are_compared_as_strangers():
    rng = np.random.default_rng(0)
    base = np.repeat(rng.integers(0, 250, (60, 1, 8, 8)), 4, 0)
    x = (base + rng.integers(0, 6, base.shape)).astype(np.uint8)  # four of each look the same
    splits = {"train": np.arange(160), "valid": np.arange(160, 200), "test": np.arange(200, 240)}
    owners = {"group": np.repeat(np.arange(60), 4).astype(str)}
    floors = []
    for options in ({}, {"group": "patient", "attributes": owners}):
        dataset = assemble(x, None, (), splits, **options)
        facts = sets.coverage(dataset, measures.measure(dataset))
        assert facts is not None
        floors.append(facts["floor"])
    assert floors[0] > floors[1] + 0.2


# --- Versions and what is taken away --------------------------------------------------------------


def test_copies_belong_to_whom_their_parent_does_and_the_zip_says_so(torn, tmp_path):
    plan = building.BuildConfig(name="more", pipeline="digits").planned(torn)
    made, _, _ = building.build(plan, dataset=torn)
    kept = datasets.save("more", made)
    assert kept.group == "patient" and kept.members is not None and torn.members is not None
    train = torn.splits["train"]
    assert kept.members[60:].tolist() == torn.members[train].tolist()
    building.archive(kept, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as packed:
        rows = list(csv.DictReader(io.TextIOWrapper(packed.open("manifest.csv"))))
        about = json.loads(packed.read("about.json"))
    assert [row["group"] for row in rows] == kept.members.tolist()
    assert about["group"] == "patient"


def test_a_set_that_an_older_revision_saved_has_no_group(torn):
    file = datasets.settings().datasets / "torn" / "meta.json"
    record = json.loads(file.read_text("utf-8"))
    assert record.pop("group") == "patient"
    file.write_text(json.dumps(record), "utf-8")
    old = datasets.load("torn")
    assert (old.group, old.fingerprint) == ("", torn.fingerprint)
    assert "kept together" not in datasets.describe("torn").caption


def test_a_group_needs_its_members():
    x = np.zeros((8, 1, 8, 8), np.uint8)
    splits = split_by_content(digests(x))
    with pytest.raises(ValueError, match="'group' must say which items belong together"):
        assemble(x, None, (), splits, group="patient")


def test_faces_can_be_kept_together_by_what_is_true_of_them():
    values = {"count": 300, "size": 16}
    found = datasets.load("faces", values | {"group": "hair_style"})
    assert found.attributes is not None
    style = found.attributes["hair_style"]
    train, valid, test = (set(style[index]) for index in found.splits.values())
    assert train and test and not (train & valid or train & test or valid & test)
    assert datasets.load("faces", values).group == ""
    with pytest.raises(UserError, match=r"dataset\.group must be one of '', hair_style"):
        datasets.load("faces", values | {"group": "hair"})


# --- Importers ------------------------------------------------------------------------------------


def test_the_content_tells_the_importer(tmp_path, monkeypatch):
    from core.catalog import Config, knob

    class NotesConfig(Config):
        """A file."""

        path: str = knob("", "A file.", path=True)

    def preview(config: NotesConfig) -> Preview:
        with zipfile.ZipFile(config.path) as packed:
            notes = sum(name.endswith(".note") for name in packed.namelist())
        return Preview(pictures=notes, refused=(), readings=(), taken="none")

    def notes(config, folder, watch) -> Dataset:
        """Notes of eight by eight levels."""
        with zipfile.ZipFile(config.path) as packed:
            found = [packed.read(name) for name in packed.namelist() if name.endswith(".note")]
        x = np.array([list(each) for each in found], np.uint8).reshape(-1, 1, 8, 8)
        return assemble(x, None, (), split_by_content(digests(x)))

    registry = datasets.datasets
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(media, "_entries", dict(media._entries))
    registry.add("notes", "Notes", NotesConfig, preview=preview)(notes)
    image = media.get("image")
    fields = {
        name: getattr(image, name)
        for name in image.__dataclass_fields__
        if name not in ("make", "source", "name", "presets")
    }
    media.add("note", **fields, source="notes")(image.make)
    pictures = {"path": str(put(tmp_path / "a.zip", tree(*some("a b"))))}
    sounds = {
        "path": str(put(tmp_path / "b.zip", {f"{i}.note": bytes([i] * 64) for i in range(9)}))
    }
    assert [datasets.preview(values).source for values in (pictures, sounds)] == ["folder", "notes"]
    assert len(datasets.bring("mine", sounds)) == 9
    assert datasets.load("mine").source["origin"]["name"] == "notes"
