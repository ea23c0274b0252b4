"""Labels that are given elsewhere: tasks for Label Studio, and its answers as decisions with undo."""

from __future__ import annotations

import base64
import io
import json
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from core import datasets
from core.__main__ import main
from core.catalog import UserError
from core.quality import decisions, relabelling
from core.quality.check import Issue
from core.quality.relabelling import OUT


def answered(task: dict[str, Any], *choices: str) -> dict[str, Any]:
    """A task as it comes back: what each person chose."""
    results = [
        {"type": "choices", "from_name": "label", "to_name": "image", "value": {"choices": [name]}}
        for name in choices
    ]
    return task | {"annotations": [{"id": k, "result": [each]} for k, each in enumerate(results)]}


def bytes_of(tasks: list[dict[str, Any]]) -> bytes:
    return json.dumps(tasks).encode()


def test_tasks_go_out_by_the_command_and_come_back_as_decisions_a_version_and_undo(
    toy, here, tmp_path, capsys
):
    datasets.save("birds", toy(24))
    out = tmp_path / "tasks"
    assert main(["relabel", "birds", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tasks"] == 24 and told["files"] == ["labelling.xml", "tasks.json"]
    tasks = json.loads((out / "tasks.json").read_text())
    dataset = datasets.load("birds")
    for i in (0, 7):
        picture = base64.b64decode(tasks[i]["data"]["image"].partition(",")[2])
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture))), dataset.x[i, 0])
    names = [
        choice.get("value") for choice in ElementTree.parse(out / "labelling.xml").iter("Choice")
    ]
    assert names == ["class 0", "class 1", OUT]
    back = [answered(task, task["data"]["label"]) for task in tasks]
    back[3] = answered(tasks[3], "class 0")  # it was of class 1
    back[5] = answered(tasks[5], OUT)
    back[6] = tasks[6] | {"annotations": [{"was_cancelled": True, "result": []}]}
    back[8] = answered(tasks[8], "class 0", "class 1")
    export = tmp_path / "export.json"
    export.write_bytes(bytes_of(back))
    words = ["relabel", "birds", "--decisions", str(export), "--save", "birds-2", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["relabelled"], told["excluded"], told["confirmed"]) == (1, 1, 20)
    assert told["refused"] == [
        ["task 7", "was not answered"],
        ["task 9", "was answered in several ways: 'class 0' and 'class 1'"],
    ]
    version = datasets.load("birds-2")
    assert len(version) == 23 and version.parent == dataset.fingerprint
    assert version.y is not None and version.y[3] == 0
    book = decisions.open(dataset)
    assert decisions.reason(book.entries[0]) == "Label Studio, export.json"
    for id in told["decided"]:
        book = decisions.undo(dataset, id, seen=book.version)
    assert not book.state


def test_answers_are_about_pixels_and_never_about_a_number(toy):
    dataset = toy(24)
    tasks = relabelling.tasks(dataset, range(24))
    order = np.random.default_rng(0).permutation(24)
    splits = {"train": np.arange(20), "valid": np.arange(20, 22), "test": np.arange(22, 24)}
    moved = datasets.assemble(
        dataset.x[order], dataset.y[order], dataset.classes, splits, name="moved"
    )
    other = "class 0" if dataset.y[3] else "class 1"
    found = relabelling.read(moved, bytes_of([answered(tasks[3], other)]))
    (image,) = found.relabel
    np.testing.assert_array_equal(moved.x[image], dataset.x[3])
    assert found.other == 1 and "of another state of the dataset" in found.warning


def test_a_changed_image_is_told_and_a_set_of_others_is_refused(toy):
    dataset = toy(24)
    tasks = relabelling.tasks(dataset, [3, 4])
    x = np.array(dataset.x)
    x[3] ^= 1
    changed = datasets.assemble(x, dataset.y, dataset.classes, dataset.splits, name="changed")
    back = bytes_of([answered(task, "class 0") for task in tasks])
    assert relabelling.read(changed, back).refused == [
        ("task 4", "is about an image that this dataset does not have")
    ]
    x[4] ^= 1
    changed = datasets.assemble(x, dataset.y, dataset.classes, dataset.splits, name="changed")
    with pytest.raises(UserError, match="None of these 2 tasks is about an image of changed"):
        relabelling.read(changed, back)


def test_copies_of_an_image_are_told_apart_by_their_row(toy):
    dataset = toy(24)
    x = np.array(dataset.x)
    x[4] = x[2]
    twins = datasets.assemble(x, dataset.y, dataset.classes, dataset.splits, name="twins")
    (task,) = relabelling.tasks(twins, [4])
    assert relabelling.read(twins, bytes_of([answered(task, "class 1")])).relabel == {4: 1}
    del task["data"]["row"]
    assert relabelling.read(twins, bytes_of([answered(task, "class 1")])).relabel == {2: 1, 4: 1}
    task["data"]["row"] = 4.0  # no number of a row
    assert relabelling.read(twins, bytes_of([answered(task, "class 1")])).relabel == {2: 1, 4: 1}


def test_two_tasks_that_disagree_about_an_image_decide_nothing(toy):
    dataset = toy(24)
    (task,) = relabelling.tasks(dataset, [4])
    answers = [answered({**task, "id": 9}, "class 1"), answered({**task, "id": 8}, OUT)]
    found = relabelling.read(dataset, bytes_of(answers))
    assert not found.relabel and not found.exclude and not found.accept
    assert found.refused == [("task 8", f"says {OUT!r} of image 4, of which task 9 says 'class 1'")]


def test_classes_of_any_name_survive_the_way(toy):
    plain = toy(24)
    names = ('a "b" <c> & d', OUT)
    dataset = datasets.assemble(plain.x, plain.y, names, plain.splits, name="odd")
    listed = [
        c.get("value") for c in ElementTree.fromstring(relabelling.layout(dataset)).iter("Choice")
    ]
    assert listed == [*names, OUT + "!"]
    task, second = relabelling.tasks(dataset, [1, 2])
    found = relabelling.read(
        dataset, bytes_of([answered(task, names[0]), answered(second, OUT + "!")])
    )
    assert found.relabel == {1: 0} and found.exclude == [2]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{}", "must be an export of Label Studio"),
        (b"[1]", "must be an export of Label Studio"),
        (b"\xff", "it is no UTF-8 text"),
        (b"[" * 5000, "levels of lists and objects"),
        (b'[{"data": {"digest": NaN}}]', "finite numbers"),
        (b'[{"id": 1, "data": {}}, {"id": 1, "data": {}}]', "two tasks have the id 1"),
        (b'[{"id": 1, "data": {"digest": ["a"], "row": {}}}]', "is about an image of toy"),
    ],
)  # fmt: skip
def test_an_export_that_is_none_is_refused(toy, data, said):
    with pytest.raises(UserError) as refused:
        relabelling.read(toy(24), data)
    assert said in str(refused.value)


def test_a_choice_that_is_no_class_is_named(toy):
    dataset = toy(24)
    (task,) = relabelling.tasks(dataset, [3])
    found = relabelling.read(dataset, bytes_of([answered(task, "class 7")]))
    assert found.refused == [("task 4", "was answered 'class 7', which is no class")]
    assert found.sentence == "Nothing is decided. 1 task without an answer that can be used."


def test_only_the_images_in_doubt_go_out_once_they_are_known(
    toy, here, tmp_path, capsys, monkeypatch
):
    datasets.save("birds", toy(24))
    words = ["relabel", "birds", "--out", str(tmp_path / "tasks"), "--doubtful", "3"]
    assert main(words) == 2
    assert (
        "Inspect it first (What is wrong?, or python -m core inspect birds)"
        in capsys.readouterr().err
    )
    doubt = np.linspace(0, 1, 24).astype(np.float32)
    doubt[20] = np.nan
    job = type("Job", (), {"active": False, "result": lambda self: found})()
    listed = [(2, "doubt"), (9, "doubt"), (23, "label"), (22, "near")]
    issues = [Issue(i, 1.0, "", kind=kind) for i, kind in listed]
    found = type("Found", (), {"scores": {"doubt": doubt}, "issues": issues})()
    monkeypatch.setattr(relabelling, "newest", lambda dataset: job)
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == 3
    tasks = json.loads((tmp_path / "tasks/tasks.json").read_text())
    assert [task["data"]["row"] for task in tasks] == [23, 9, 2]
    assert relabelling.doubtful(datasets.load("birds"), 2) == [23, 9]
    issues.clear()
    assert relabelling.doubtful(datasets.load("birds"), 100) == []


def test_what_cannot_go_out_or_come_back_is_said(toy, here, tmp_path, capsys):
    datasets.save("birds", toy(24))
    datasets.save("blank", toy(24, classes=0))
    taken = tmp_path / "taken"
    taken.mkdir()
    for words, said in (
        (["birds"], "needs --out FOLDER"),
        (["birds", "--out", str(tmp_path / "a"), "--decisions", "b"], "needs --out FOLDER"),
        (["birds", "--out", str(taken)], "is there already"),
        (["birds", "--out", str(tmp_path / "a"), "--image", "99"], "There is no image 99"),
        (["birds", "--decisions", str(tmp_path / "none.json")], "must be a file that can be read"),
        (["blank", "--out", str(tmp_path / "a")], "has no classes"),
    ):
        assert main(["relabel", *words]) == 2
        assert said in capsys.readouterr().err
