"""Datasets that leave: every layout is read back, and nothing half-written, altered or misplaced is ever kept."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from core import building, datasets
from core.__main__ import main
from core.building import outgoing, readback
from core.building.door import DoorConfig
from core.building.layouts import layouts, npz, parquet, webdataset
from core.building.outgoing import Outgoing, folder_names
from core.catalog import UserError
from core.datasets import annotations, assemble
from core.ground.watch import Stopped, Watch

ALL = ["folder", "parquet", "webdataset", "croissant", "npz", "coco"]
ODD = ("train", "a/b", "new\nline", "x=1")  # names of classes that are no names of folders


def made(n=40, *, channels=1, classes=ODD, levels=256, held=(8, 8), lineage=True):
    """Gives noise of 8 px with lineage, groups and columns of every type; the last quarter are children."""
    rng = np.random.default_rng(n)
    x = rng.integers(0, levels, (n, channels, 8, 8)).astype(np.uint8)
    valid, test = held
    splits = {
        "train": np.arange(valid + test, n),
        "valid": np.arange(valid),
        "test": np.arange(valid, valid + test),
    }
    y = (np.arange(n) % max(1, len(classes))).astype(np.int64) if classes else None
    child = np.arange(n) >= n - n // 4
    attributes = {
        "origin": np.where(child, np.array(["augmented", "synthetic"])[np.arange(n) % 2], "real"),
        "parent": np.where(child & (np.arange(n) % 2 == 0), valid + test, -1),
        "run": np.where(child & (np.arange(n) % 2 == 1), "20261201-digits-gan-1a2b", ""),
        "seed": np.where(child, 3, -1),
        "parameters": np.where(child, json.dumps([{"step": "rotate", "angle": 7.5}]), ""),
        "brightness": np.where(child, np.nan, np.linspace(0, 1, n)),
        "sex": np.where(np.arange(n) % 3 == 0, "f", "m"),
        "age": np.arange(n) + 20,
        "glasses": np.arange(n) % 5 == 0,
        "group": np.char.add("patient ", (np.arange(n) % 7).astype(str)),
    }
    return assemble(
        x, y, classes, splits, levels=levels, name="odd set", group="patient" if lineage else "",
        attributes=attributes if lineage else None,
        terms={"licence": "CC-BY-4.0", "consent": "not needed"},
    )  # fmt: skip


MANY = tuple(f"class {i}" for i in range(500))
CASES = {
    "odd names": made(),
    "colour": made(channels=3, classes=("b", "a")),
    "no labels": made(classes=()),
    "17 levels": made(levels=17),
    "one image of a class": made(33, classes=("x", "y"), held=(0, 4)),  # and nothing to validate
    "500 classes": made(500, classes=MANY, held=(50, 50), lineage=False),
}


def export(dataset, names, out, *rest):
    """Exports with the reasons that these datasets need at the door, and without the long look for near copies."""
    why = {"group": "a test", "seen": "a test", "licence": "a test", "consent": "a test"}
    quick = DoorConfig(near=False)
    return building.export(dataset, names, out, *rest, config=quick, overrides=why)


def contents(folder):
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("name", CASES)
def test_every_layout_of_every_dataset_reads_back_as_it_was(name, tmp_path):
    dataset = CASES[name]
    assert sorted(ALL) == layouts.names()
    able = ALL if dataset.classes else ALL[:-1]
    able = able if len(dataset) < 100 else ["folder", "parquet"]  # the others take no other way
    record = export(dataset, able, tmp_path / "out")
    assert [row["layout"] for row in record["layouts"]] == able
    x = np.asarray(dataset.x, np.float64) * 255 / (dataset.levels - 1)
    x = x.round().astype(np.uint8).transpose(0, 2, 3, 1)
    wanted = hashlib.sha256(b"".join(hashlib.sha256(i.tobytes()).digest() for i in x)).hexdigest()
    for row in record["layouts"]:
        assert (row["rows"], row["differences"], row["pixels"]) == (len(dataset), [], wanted)
        assert (tmp_path / "out" / row["layout"] / "README.md").exists()
        if dataset.attributes:
            lineage = "origin, parent, run, seed, parameters, brightness, sex, age, glasses, group"
            assert lineage in row["checked"]


def test_the_same_dataset_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        export(made(), ALL, tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) > 100


def test_shards_are_of_bounded_size_and_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(outgoing, "_AT_ONCE", 5)
    going = Outgoing(made())
    parquet.write(going, tmp_path, most=1500)
    names = sorted(file.name for file in (tmp_path / "data").iterdir())
    trains = [name for name in names if name.startswith("train")]
    assert len(trains) > 2 and trains[1] == f"train-00001-of-{len(trains):05d}.parquet"
    assert readback.compare(going, tmp_path).differences == []
    (tmp_path / "tars").mkdir()
    webdataset.write(going, tmp_path / "tars", most=1500)
    tars = sorted((tmp_path / "tars").glob("train-*.tar"))
    assert len(tars) == len(trains) and tars[1].name == "train-000001.tar"
    with tarfile.open(tars[0]) as tar:
        members = tar.getmembers()
    assert {member.mtime for member in members} == {0}
    assert all(member.name.count(".") == 1 for member in members)


@pytest.mark.parametrize("wrong", ["a pixel", "a parent", "a split", "a class"])
def test_a_difference_blocks_the_export_and_is_named(wrong, tmp_path, monkeypatch):
    """Each is brought in where it is written, so that only the reading back can see it."""
    if wrong == "a pixel":
        shown = npz.shown
        monkeypatch.setattr(npz, "shown", lambda x, levels: shown(x ^ (x > 250), levels))
        name, said = "npz", "The pixels of "
    else:
        columns = Outgoing.columns

        def altered(self, rows, named=False):
            found = columns(self, rows, named)
            if wrong == "a parent" and len(rows):
                found["parent"] = np.where(found["parent"] == "16", "17", found["parent"])
            if wrong == "a class" and "label" in found and len(rows):
                found["label"] = found["label"][::-1]
            return found

        splits = Outgoing.splits

        def moved(self):
            (_, train), *held = splits(self)
            yield "train", np.concatenate([train, [0]])
            yield from ((name, rows[rows > 0]) for name, rows in held)

        if wrong == "a split":
            monkeypatch.setattr(Outgoing, "splits", moved)
        else:
            checked = readback.compare

            def compare(going, *rest):
                monkeypatch.setattr(Outgoing, "columns", columns)
                return checked(going, *rest)

            monkeypatch.setattr(Outgoing, "columns", altered)
            monkeypatch.setattr(readback, "compare", compare)
        name = "parquet"
        said = {
            "a parent": "parent differs in ",
            "a split": "1 item lies in a file of another split than its own: 00 in train.",
            "a class": "class differs in ",
        }[wrong]
    with pytest.raises(UserError, match="so nothing was kept") as refused:
        export(made(), [name], tmp_path / "out")
    assert said in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_the_door_holds_a_dataset_until_somebody_says_why_and_the_card_keeps_the_reason(tmp_path):
    dataset, quick = made(), DoorConfig(near=False)
    with pytest.raises(
        UserError, match=r"\(group\) 7 groups by patient .* --override group="
    ) as held:
        building.export(dataset, ["npz"], tmp_path / "out", config=quick)
    assert "(seen) 5 items" in str(held.value) and list(tmp_path.iterdir()) == []
    why = {"group": "drawn for a test", "seen": "made up"}
    record = building.export(dataset, ["npz"], tmp_path / "out", config=quick, overrides=why)
    assert [said["check"] for said in record["door"]] == ["group", "seen"]
    assert "drawn for a test" in (tmp_path / "out" / "npz" / "README.md").read_text("utf-8")


def test_what_cannot_be_exported_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"There is no layout 'parket'\. Did you mean 'parquet'\?"):
        export(made(), ["folder", "parket"], tmp_path / "out")
    with pytest.raises(UserError, match=r"An export needs a layout\. Choose from: coco, croissant"):
        export(made(), [], tmp_path / "out")
    with pytest.raises(
        UserError, match="COCO takes no set without classes: each of its boxes has one"
    ):
        export(CASES["no labels"], ["coco"], tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="is there already, and an export never writes into"):
        export(made(), ["npz"], tmp_path / "out")
    with pytest.raises(UserError, match="cannot be the name of a folder"):
        export(made(), ["npz"], tmp_path / ("n" * 300))
    with pytest.raises(UserError, match=r"does not exist\. Make it"):
        export(made(), ["npz"], tmp_path / "none" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_that_is_stopped_or_meets_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    class Stops(Watch):
        said = ""

        def say(self, text, done=None, total=1.0):
            self.said = text

        def stopped(self):
            return "Enough." if "COCO" in self.said else ""

    with pytest.raises(Stopped):
        export(made(), ["parquet", "coco"], tmp_path / "out", Stops())
    assert list(tmp_path.iterdir()) == []
    real = Path.write_bytes

    def full(self, data):
        if self.suffix == ".png":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="is full, so nothing was kept there"):
        export(made(), ["folder"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_is_cleared_away_by_the_next(tmp_path):
    (tmp_path / ".new-1f").mkdir()
    (tmp_path / ".new-1f" / "half.png").write_bytes(b"")
    (tmp_path / ".new-1f.lock").touch()
    (tmp_path / ".new-mine").mkdir()  # not ours: nothing locks it
    export(made(), ["npz"], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new-mine", "out"]


def test_folders_never_look_like_splits():
    assert folder_names(ODD) == ["class 0", "a_b", "new_line", "x_1"]
    assert folder_names(("Test tube", "dev", "contest", "")) == [
        "class 0", "class 1", "contest", "class 3",
    ]  # fmt: skip
    assert folder_names(("a/b", "a_b", "A.B")) == ["a_b", "a_b 1", "A.B"]
    assert folder_names(("A 2", "a", "A")) == ["A 2", "a", "A 2 2"]
    assert folder_names(("con", "thumbs.db", "x" * 59 + " y")) == ["class 0", "class 1", "x" * 59]


@pytest.mark.parametrize("classes", [("1.0", "2.0"), ()])
def test_columns_that_are_called_like_those_of_readers_leave_and_come_back(classes, tmp_path):
    dataset = made(classes=classes, lineage=False)
    called = ("labels", "images", "category", "target", "subset", "name", "file", "two\nlines")
    of = {name: np.array([f"{name} {i % 3}" for i in range(len(dataset))]) for name in called}
    able = ALL if classes else ALL[:-1]
    export(dataclasses.replace(dataset, attributes=of), able, tmp_path / "out")
    for layout in able:
        found = datasets.load("folder", {"path": str(tmp_path / "out" / layout), "size": 8})
        assert found.classes == classes and found.attributes is not None
        kept = {"file", "name", "two lines"} if not classes else {*called[2:-1], "two lines"}
        assert kept <= set(found.attributes) and set(found.attributes["name"]) == set(of["name"])


def test_classes_that_a_reader_takes_for_one_block_the_export(tmp_path):
    with pytest.raises(UserError, match="class differs in 20 rows"):
        export(made(classes=("a b", "a\nb"), lineage=False), ["folder"], tmp_path / "out")


def test_the_zip_has_one_table_that_others_look_for_and_it_names_training_items_only(tmp_path):
    import io

    import pyarrow.parquet as pq

    dataset = made()
    building.archive(dataset, tmp_path / "set.zip")
    with zipfile.ZipFile(tmp_path / "set.zip") as packed:
        names = packed.namelist()
        tables = [name for name in names if name.endswith(("metadata.parquet", "metadata.csv"))]
        assert tables == ["train/metadata.parquet"]
        table = pq.read_table(io.BytesIO(packed.read(tables[0]))).to_pylist()
        card = packed.read("README.md").decode()
    assert {f"train/{row['file_name']}" for row in table} == {
        name for name in names if name.startswith("train/") and name.endswith(".png")
    }
    assert {row["label"] for row in table} == set(ODD) and table[-1]["origin"] == "synthetic"
    assert "metadata_filenames:\n  - metadata.parquet\n  - labels.parquet" in card
    back = datasets.load("folder", {"path": str(tmp_path / "set.zip"), "size": 8})
    assert len(back.splits["test"]) == 8 and set(back.classes) == {" ".join(c.split()) for c in ODD}


def test_the_command_writes_every_layout_it_is_asked_for(tmp_path, capsys):
    out = tmp_path / "out"
    datasets.save("odd", made())
    words = [
        "export",
        "odd",
        "--as",
        "parquet, npz",
        "--out",
        str(out),
        "--set",
        "export.near=false",
    ]
    assert main(words) == 2
    assert "It is not let out at the door. (group)" in capsys.readouterr().err
    words += ["--override", "group=a test", "--override", "seen=a test", "--json"]
    assert main(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["layout"] for row in record["layouts"]] == ["parquet", "npz"]
    assert sorted(path.name for path in out.iterdir()) == ["npz", "parquet"]
    assert main(["export", "odd", "--as", "coko", "--out", str(tmp_path / "x")]) == 2
    assert "There is no layout 'coko'. Did you mean 'coco'?" in capsys.readouterr().err
    assert main(["export", "odd", "--as", "coco"]) == 2
    assert "Add --out FOLDER." in capsys.readouterr().err


def test_an_export_is_a_job_whose_result_says_what_was_compared(here):
    from core import jobs, kinds, worker

    datasets.save("odd", made())
    with pytest.raises(UserError, match="There is no layout 'parqet'"):
        kinds.submit("export", {"dataset": "odd"}, {"export.layouts": "parqet"})
    values = {"export.near": False, "export.overrides": "group=a test\nseen=a test"}
    job = kinds.submit("export", {"dataset": "odd"}, values | {"export.layouts": "npz,folder"})
    worker.work(job.path)
    job = jobs.get(job.id)
    assert job.status == "finished", job.message
    assert [row["rows"] for row in job.result()["layouts"]] == [40, 40]
    assert (job.path / "export" / "npz" / "dataset.npz").exists()


@pytest.mark.parametrize("name", ALL)
def test_infinite_numbers_and_those_beyond_63_bits_leave_as_text(name, tmp_path):
    dataset = made()
    odd = {
        "ratio": np.where(np.arange(40) == 3, np.inf, np.where(np.arange(40) == 4, np.nan, 0.5)),
        "hash": np.full(40, 2**63 + 5, np.uint64),
        "count": np.arange(40, dtype=np.uint8),
    }
    dataset = dataclasses.replace(dataset, attributes={**(dataset.attributes or {}), **odd})

    report = export(dataset, [name], tmp_path / "out")

    further = Outgoing(dataset).further
    assert further["ratio"].tolist()[3:6] == ["inf", "", "0.5"]
    assert further["hash"][0] == str(2**63 + 5) and further["count"].dtype == np.int64
    for text in [*tmp_path.glob("out/**/*.json"), *tmp_path.glob("out/**/*.jsonl")]:
        json.loads(text.read_text().splitlines()[0] if text.suffix == ".jsonl" else text.read_text(),
                   parse_constant=pytest.fail)  # fmt: skip
    assert report


def test_more_columns_than_are_read_again_are_refused_before_anything_is_written(tmp_path):
    many = {f"column {i}": np.arange(40) for i in range(190)}
    dataset = made()
    dataset = dataclasses.replace(dataset, attributes={**(dataset.attributes or {}), **many})
    with pytest.raises(
        UserError, match=r"A set of 200 columns would not come back whole: at most 196"
    ):
        export(dataset, ["parquet"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_coco_stops_before_a_split_outgrows_what_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(annotations, "_BYTES", 4000)
    with pytest.raises(
        UserError, match="COCO keeps a split in one file of JSON, of at most 0 MB here"
    ):
        export(made(), ["coco"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
