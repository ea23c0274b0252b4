"""Pictures with files of annotations beside them: COCO, Label Studio, and tables of any name."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.catalog import UserError
from core.datasets import Dataset, annotations
from core.datasets.formats import coco, labelstudio, table
from tests.core.test_imports import load, png, put, some, tree

SIDE = 24


def scene(number: int) -> np.ndarray:
    """A picture whose four quarters have a grey each, so that a part says where it was cut."""
    quarters = np.array([[10, 70], [130, 190]]) + number
    return np.kron(quarters, np.ones((SIDE // 2, SIDE // 2))).astype(np.uint8)


def pictures(count: int = 12) -> dict[str, bytes]:
    return {f"images/{i:02}.png": png(scene(i)) for i in range(count)}


def coco_of(count: int = 12, **changed: Any) -> dict[str, Any]:
    """A picture has a box of a cat at the top left, and every third one of a dog at the bottom right as well."""
    half = SIDE // 2
    boxes = [(i, 3, [0, 0, half, half]) for i in range(count)]
    boxes += [(i, 7, [half, half, half, half]) for i in range(0, count, 3)]
    return {
        "images": [
            {"id": i, "file_name": f"{i:02}.png", "width": SIDE, "height": SIDE}
            for i in range(count)
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": k + 1, "image_id": i, "category_id": c, "bbox": box}
            for k, (i, c, box) in enumerate(boxes)
        ],
    } | changed


def with_json(tmp_path: Path, content: Any, name: str = "annotations.json", **more: bytes) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    return put(tmp_path / "set.zip", {**pictures(), name: text.encode(), **more})


def named(found: Dataset) -> list[str]:
    assert found.attributes is not None
    return found.attributes["picture"].tolist()


def labels(found: Dataset) -> list[str]:
    assert found.y is not None
    return [found.classes[k] for k in found.y]


# --- COCO -----------------------------------------------------------------------------------------


def test_a_picture_takes_the_only_class_of_its_boxes_and_another_is_named(tmp_path):
    found = load(with_json(tmp_path, coco_of()))
    assert found.classes == ("cat",)
    assert sorted(named(found)) == [f"images/{i:02}.png" for i in range(12) if i % 3]
    assert ("images/00.png", "has 2 classes (cat, dog), and a picture has one") in found.refused


def test_each_box_becomes_the_pixels_that_it_holds(tmp_path):
    found = load(with_json(tmp_path, coco_of()), boxes="a picture per box")
    assert len(found) == 16 and found.classes == ("cat", "dog")  # in the order of their ids
    assert found.members is not None
    for x, label, whole in zip(found.x, labels(found), found.members, strict=True):
        grey = (10 if label == "cat" else 190) + int(whole[-6:-4])
        assert (x == grey).all()


def test_boxes_of_one_picture_stay_in_one_split(tmp_path):
    found = load(with_json(tmp_path, coco_of()), boxes="a picture per box")
    assert found.group == "cut_from"
    of = found.members
    assert of is not None
    parts = [set(of[index]) for index in found.splits.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12


def test_a_box_is_clipped_or_left_out_by_how_much_of_it_lies_inside(tmp_path):
    content = coco_of()
    content["annotations"][0]["bbox"] = [-2, -2, 12, 12]
    content["annotations"][1]["bbox"] = [20, 20, 12, 12]
    content["annotations"][2]["bbox"] = [0, 0, 12, 3]
    found = load(with_json(tmp_path, content), boxes="a picture per box")
    assert len(found) == 14
    assert "1 box reaches beyond the picture, and was cut there." in found.notes
    assert ("images/01.png, box 1", "lies mostly outside of its picture") in found.refused
    assert ("images/02.png, box 1", "is smaller than 8 pixels") in found.refused


def test_outlines_masks_and_crowds_are_told(tmp_path):
    content = coco_of()
    first, second, third, fourth = content["annotations"][:4]
    del first["bbox"]
    first["segmentation"] = [[0, 0, 12, 0, 12, 12, 6, 11, 0, 12]]
    second["segmentation"] = {"counts": "abc", "size": [24, 24]}
    third["iscrowd"] = 1
    content["annotations"][4]["segmentation"] = [[0, 0, 12, 0, 12, 12, 0, 12]]  # only its corners
    del fourth["bbox"]
    fourth["segmentation"] = {"counts": "abc", "size": [24, 24]}
    found = load(with_json(tmp_path, content), boxes="a picture per box")
    assert len(found) == 14
    told = " ".join(found.notes)
    assert "1 outline: only the box around it is used." in told
    assert "2 annotations with a mask (RLE): only the box is used." in told
    reasons = dict(found.refused)
    assert reasons["annotation 4"] == "has a mask (RLE) without a box, and masks are not read"
    assert reasons["1 annotation"].startswith("of crowds")


def test_pictures_of_one_name_are_told_apart_from_the_folder_around_the_annotations(tmp_path):
    members: dict[str, bytes] = {}
    for part in ("train", "val"):
        content = coco_of()
        for image in content["images"]:
            image["file_name"] = f"{part}/{image['file_name']}"
        members[f"set/annotations/{part}.json"] = json.dumps(content).encode()
        members |= {
            f"set/{part}/{i:02}.png": png(scene(i + 30 * (part == "val"))) for i in range(12)
        }
    found = load(put(tmp_path / "x.zip", members), boxes="a picture per box")
    assert len(found.splits["valid"]) == 16 and len(found) == 32


def test_several_files_say_the_splits_by_their_names(tmp_path):
    def part(name: str, begin: int, end: int) -> tuple[str, bytes]:
        content = coco_of()
        content["images"] = content["images"][begin:end]
        listed = {image["id"] for image in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in listed]
        return name, json.dumps(content).encode()

    files = dict(
        [
            part("annotations/instances_train2017.json", 0, 9),
            part("annotations/instances_val2017.json", 9, 12),
        ]
    )
    found = load(put(tmp_path / "set.zip", {**pictures(), **files}), boxes="a picture per box")
    assert found.members is not None
    held = {whole[-6:-4] for whole in found.members[found.splits["valid"]]}
    assert held == {"09", "10", "11"}


def change(**keys: Any) -> Any:
    """Changes the first annotation."""

    def changed(content: dict[str, Any]) -> None:
        content["annotations"][1] |= keys

    return changed


def listed_twice(content: dict[str, Any]) -> None:
    content["images"][1]["id"] = 0


def category_twice(content: dict[str, Any]) -> None:
    content["categories"][1]["id"] = 7


def nameless(content: dict[str, Any]) -> None:
    content["categories"][0]["name"] = None


def no_list(content: dict[str, Any]) -> None:
    content["images"] = {"id": 1}


def deep(content: dict[str, Any]) -> None:
    inner: list[Any] = []
    for _ in range(40):
        inner = [inner]
    content["annotations"][0]["segmentation"] = inner


def many_values(content: dict[str, Any]) -> None:
    content["annotations"][0]["segmentation"] = [list(range(10)) for _ in range(20_000)]


def huge(content: dict[str, Any]) -> None:
    content["annotations"][0]["id"] = 10**60


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (listed_twice, "two pictures have the id 0"),
        (category_twice, "two categories have the id 7: 'dog' and 'cat'"),
        (nameless, "category 0 must have an id and a name"),
        (no_list, "'images' must be a list, got an object"),
        (deep, "a file of annotations has at most 16 levels of lists and objects"),
        (many_values, "a file of annotations has at most 62,000 values"),
        (huge, "a file of annotations has at most 40 characters in one number"),
        (change(bbox=[0, 0, float("nan"), 4]), "it is no JSON of texts and finite numbers"),
    ],
)  # fmt: skip
def test_annotations_that_cannot_be_trusted_are_refused_as_a_whole(tmp_path, spoil, said):
    content = coco_of()
    spoil(content)
    with pytest.raises(
        UserError, match=r"The annotations 'annotations\.json' of COCO cannot be read"
    ) as refused:
        load(with_json(tmp_path, content))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (change(image_id=99), "is about the picture 99, which is not listed"),
        (change(image_id=True), "is about the picture True, which is not listed"),
        (change(category_id=[3]), "has the category [3], which is not listed"),
        (change(id=1), "has an id that another one has"),
        (change(bbox=["0", 0, 4, 4]), "and a box is four finite numbers"),
        (change(bbox=[0, 0, 4]), "and a box is four finite numbers"),
        (change(bbox=[0, 0, -4, 4]), "has a box of -4 × 4 pixels"),
        (change(bbox=[10**30, 0, 10**30, 4]), "lies mostly outside of its picture"),
    ],
)
def test_an_annotation_that_cannot_be_used_is_named_and_the_others_go_on(tmp_path, spoil, said):
    content = coco_of()
    spoil(content)
    found = load(with_json(tmp_path, content), boxes="a picture per box")
    assert len(found) == 15
    assert any(said in why for _, why in found.refused), found.refused


def test_no_path_of_a_file_is_opened_and_missing_pictures_are_named(tmp_path):
    content = coco_of()
    content["images"][1]["file_name"] = "/etc/passwd"
    content["images"][2]["file_name"] = "..\\..\\images\\02.png"
    found = load(with_json(tmp_path, content), boxes="a picture per box")
    assert ("/etc/passwd", "is named by the annotations, and is not here") in found.refused
    assert any(name.startswith("images/02.png#") for name in named(found))


def test_annotations_without_their_pictures_say_so(tmp_path):
    file = tmp_path / "alone.json"
    file.write_text(json.dumps(coco_of()))
    with pytest.raises(
        UserError, match=r"not with them: 00\.png is named by the annotations, and is not here"
    ):
        load(file)


def test_a_picture_of_another_size_than_its_annotations_is_refused(tmp_path):
    content = coco_of()
    content["images"][1] |= {"width": 48, "height": 48}
    found = load(with_json(tmp_path, content), boxes="a picture per box")
    assert (
        "images/01.png",
        "has 24 × 24 pixels, and its annotations are about 48 × 48",
    ) in found.refused


@pytest.mark.parametrize("seen", [True, False])
def test_a_box_of_a_picture_that_a_camera_turned_is_cut_as_its_annotations_mean_it(tmp_path, seen):
    wide, members = np.arange(40 * 20, dtype=np.uint16).reshape(20, 40) % 251, {}
    for i in range(9):
        out, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = 6  # to be looked at turned by a quarter
        Image.fromarray((wide + i).astype(np.uint8)).save(out, "PNG", exif=exif)
        members[f"{i:02}.png"] = out.getvalue()
    content = coco_of(9)
    for image in content["images"]:
        image |= {"width": 20, "height": 40} if seen else {"width": 40, "height": 20}
    content["annotations"] = [
        {"id": i + 1, "image_id": i, "category_id": 3, "bbox": [2, 4, 8, 8]} for i in range(9)
    ]
    members["annotations.json"] = json.dumps(content).encode()
    found = load(put(tmp_path / "x.zip", members), boxes="a picture per box")
    turned = np.rot90(wide, -1) if seen else wide
    expected = {(turned[4:12, 2:10] + i).astype(np.uint8).tobytes() for i in range(9)}
    assert {x.tobytes() for x in found.x} == expected


# --- Label Studio ---------------------------------------------------------------------------------


def task(number: int, *results: Mapping[str, Any], image: str = "", **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "data": {"image": image or f"/data/upload/1/4f3a2b1c-{number:02}.png"},
        "annotations": [{"id": number, "result": list(results)}],
    } | more


def choice(name: str) -> dict[str, Any]:
    return {"type": "choices", "from_name": "a", "to_name": "b", "value": {"choices": [name]}}


def rectangle(
    name: str, x: float = 50, y: float = 50, wide: float = 50, turn: float = 0
) -> dict[str, Any]:
    value = {
        "x": x,
        "y": y,
        "width": wide,
        "height": wide,
        "rotation": turn,
        "rectanglelabels": [name],
    }
    return {
        "type": "rectanglelabels",
        "value": value,
        "original_width": SIDE,
        "original_height": SIDE,
    }


def test_choices_of_label_studio_are_classes_found_by_the_end_of_an_address(tmp_path):
    listed = [task(i, choice("cat" if i % 2 else "dog")) for i in range(10)]
    listed[3] = task(3, choice("cat"), image="/data/local-files/?d=images/03.png")
    listed[4] = task(4, choice("dog"), image="s3://bucket/somewhere/04.png")
    listed[5]["annotations"].append({"result": [choice("dog")]})
    listed[6]["annotations"][0]["was_cancelled"] = True
    found = load(with_json(tmp_path, listed))
    said = dict(zip(named(found), labels(found), strict=True))
    assert said == {
        f"images/{i:02}.png": "cat" if i % 2 else "dog" for i in range(10) if i not in (5, 6)
    }
    reasons = dict(found.refused)
    assert reasons["images/05.png"] == "has 2 classes (cat, dog), and a picture has one"
    assert reasons["images/06.png"] == "has no class"
    assert reasons["images/11.png"] == "has no annotation"


def test_rectangles_of_label_studio_are_cut_by_percent(tmp_path):
    listed = [task(i, rectangle("spot"), rectangle("edge", 0, 0)) for i in range(10)]
    found = load(with_json(tmp_path, listed), boxes="a picture per box")
    assert len(found) == 20
    assert found.members is not None
    for x, label, whole in zip(found.x, labels(found), found.members, strict=True):
        assert (x == (190 if label == "spot" else 10) + int(whole[-6:-4])).all()


def test_a_turned_rectangle_keeps_the_upright_box_around_it():
    # 10 × 20 pixels turned by a quarter about its corner at (30, 10) reach over x 10 … 30 and y 10 … 20
    value = {"x": 30, "y": 20, "width": 10, "height": 40, "rotation": 90, "rectanglelabels": ["a"]}
    part = {"type": "rectanglelabels", "value": value, "original_width": 100, "original_height": 50}
    sheet = labelstudio.parse(json.dumps([task(1, part)]).encode(), 1)
    assert sheet is not None
    (box,) = sheet.pictures[0].boxes
    pixels = np.array([100, 50, 100, 50]) * box[1:5]
    np.testing.assert_allclose(pixels, [10, 10, 20, 10], atol=1e-9)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([task(1, choice("a")), task(1, choice("b"))], "two tasks have the id 1"),
        ([task(1, choice("a")), 7], "entry 1 is no task: it has no data"),
        ([{"id": 1, "image": "x.png", "annotator": 1, "annotation_id": 2}], "Export it as JSON"),
        ("[" * 3000 + '"annotations""data"', "levels of lists and objects"),
        ('[{"data": {"image": 1e999}, "annotations": []}]', "finite numbers"),
        ([{"data": {"image": 5}, "annotations": [5]}], "task number 0 names no file"),
    ],
)  # fmt: skip
def test_an_export_of_label_studio_that_is_none_is_refused(tmp_path, content, said):
    with pytest.raises(UserError) as refused:
        load(with_json(tmp_path, content))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (rectangle("a", wide=-3), "that is no four finite numbers with an area"),
        ({"type": "rectanglelabels", "value": {"rectanglelabels": []}}, "has a box without a class"),
        ({"type": "brushlabels", "value": {"rle": [1]}}, "has an answer of the type brushlabels"),
        ({"type": 5, "value": {}}, "has an answer without a type or a value"),
        ({"type": "polygonlabels", "value": {"points": [[1, 2], [3]], "polygonlabels": ["a"]}}, "no four finite"),
    ],
)  # fmt: skip
def test_a_part_of_an_answer_that_cannot_be_used_is_named(part, said):
    sheet = labelstudio.parse(json.dumps([task(1, part)]).encode(), 1)
    assert sheet is not None and not sheet.pictures[0].boxes
    assert said in sheet.refused[0][1]


# --- Tables ---------------------------------------------------------------------------------------


def lesions(names: list[str], head: str = "lesion;image_id;dx;age") -> bytes:
    rows = [
        f"L{i};{name.partition('.')[0]};{'mel' if i % 2 else 'nv'};{30 + i}"
        for i, name in enumerate(names)
    ]
    return "\n".join(filter(None, [head, *rows])).encode()


def test_a_table_of_any_name_is_found_by_a_column_of_names_that_are_here(tmp_path):
    names = [f"{i:02}.png" for i in range(12)]
    found = load(
        put(
            tmp_path / "x.zip",
            {**tree(*names), "HAM10000_metadata.csv": lesions([*names, "99.png"])},
        )
    )
    assert found.classes == ("mel", "nv")
    assert labels(found) == [("nv", "mel")[int(name[:2]) % 2] for name in named(found)]
    assert found.attributes is not None
    assert found.attributes["age"].tolist() == [30 + int(name[:2]) for name in named(found)]
    assert ("99", "is named in 'HAM10000_metadata.csv', and is not here") in found.refused


def test_a_table_without_a_head_and_with_tabs_is_read(tmp_path):
    names = [f"{i:02}.png" for i in range(12)]
    rows = "\n".join(f"{name}\t{'ab'[i % 2]}" for i, name in enumerate(names))
    found = load(put(tmp_path / "x.zip", {**tree(*names), "list.tsv": rows.encode()}))
    assert found.classes == ("a", "b") and len(found) == 12


def test_a_table_for_each_picture_costs_one_look_at_their_names(tmp_path, monkeypatch):
    names, looks = some("hen owl", 6), []
    find = annotations.finder(names)
    monkeypatch.setattr(table, "finder", lambda names: looks.append(1) or find)
    points = {f"{name}.csv": b"x,y\n7.5,2.5\n3.5,4.5" for name in names}
    assert load(put(tmp_path / "x.zip", {**tree(*names), **points})).classes == ("hen", "owl")
    assert len(looks) <= 2  # the look before, and the import


def test_labels_with_semicolons_are_read(tmp_path):
    names = [f"{i:02}.png" for i in range(12)]
    rows = "\n".join(["file;label", *(f"{name};{'ab'[i % 2]}" for i, name in enumerate(names))])
    found = load(put(tmp_path / "x.zip", {**tree(*names), "labels.csv": rows.encode()}))
    assert found.classes == ("a", "b") and len(found) == 12


def test_columns_that_are_only_called_like_lineage_tell_nothing_of_it_and_are_kept(tmp_path):
    names = [f"{i:02}.png" for i in range(24)]
    rows = [
        f"{name},{'ab'[i % 2]},{('usa', 'japan')[i % 2]},{i},g{i}" for i, name in enumerate(names)
    ]
    table = "\n".join(["file,label,origin,parent,group", *rows]).encode()
    found = load(put(tmp_path / "x.zip", {**tree(*names), "labels.csv": table}))
    assert all(map(len, found.splits.values()))  # none of them was made of another
    assert found.attributes is not None and not {"origin", "parent"} & set(found.attributes)
    assert set(found.attributes["origin_before"]) == {"usa", "japan"}
    assert {"parent_before", "group_before"} <= set(found.attributes)
    assert any("'origin' is kept as 'origin_before'" in note for note in found.notes)


def test_a_table_that_says_no_class_leaves_it_to_the_folders_and_its_columns_can_be_chosen(
    tmp_path,
):
    names = some("hen owl", 6)
    rows = "\n".join(
        [
            "picture,site,weather",
            *(f"{name},{'xy'[i % 2]},{'rs'[i // 6]}" for i, name in enumerate(names)),
        ]
    )
    file = put(tmp_path / "x.zip", {**tree(*names), "notes.csv": rows.encode()})
    found = load(file)
    assert found.classes == ("hen", "owl")
    assert found.attributes is not None and set(found.attributes["site"]) == {"x", "y"}
    assert any(
        "is not clear (site, weather): choose one (dataset.label)" in note for note in found.notes
    )
    assert load(file, label="weather").classes == ("r", "s")
    with pytest.raises(
        UserError, match=r"dataset\.label='whether' must be a column of 'notes\.csv': site, weather"
    ):
        load(file, label="whether")


@pytest.mark.parametrize(
    "table",
    [
        b"\xff\xfea,b\n00.png,x\n01.png,y",
        b"file,label\n00.png,x\n01.png,y,z",
        b"file,label\n00.png,\0",
        b'file,label\n00.png,"x\n01.png,y',
        b"file,label\nno.png,x\nnot.png,y",
        b"file,label\n" + b"00.png,x\n" * 5000,
        b"file," + b"a," * 300 + b"\n00.png," + b"x," * 300,
    ],
)
def test_what_is_no_table_of_these_pictures_changes_nothing(tmp_path, table):
    names = some("hen owl", 6)
    found = load(put(tmp_path / "x.zip", {**tree(*names), "things.csv": table}))
    assert found.classes == ("hen", "owl") and len(found) == 12
    assert any(name == "things.csv" for name, _ in found.refused)


def test_a_table_of_pictures_that_are_named_twice_with_two_classes_names_them(tmp_path):
    names = [f"{i:02}.png" for i in range(12)]
    rows = "\n".join(
        ["file,label", *(f"{name},{'ab'[i % 2]}" for i, name in enumerate(names)), "03.png,a"]
    )
    found = load(put(tmp_path / "x.zip", {**tree(*names), "things.csv": rows.encode()}))
    assert ("03.png", "is named with two classes in 'things.csv'") in found.refused and len(
        found
    ) == 11


def test_a_million_annotations_are_refused_before_they_are_built():
    data = b'{"images": [], "categories": [], "annotations": [' + b"{}," * 10**6 + b"{}]}"
    with pytest.raises(annotations.Malformed, match="at most"):
        coco.parse(data, 10)


def test_what_is_left_out_of_a_long_file_is_counted():
    content = coco_of(0)
    content["categories"] = [{"id": 1, "name": "a"}]
    content["annotations"] = [{"id": i, "image_id": i, "category_id": 1} for i in range(300)]
    sheet = coco.parse(json.dumps(content).encode(), 300)
    assert sheet is not None and len(sheet.refused) == annotations.NAMED
    assert (
        sum(int(what.partition(" ")[0]) for what, _ in sheet.all_refused()[annotations.NAMED :])
        == 100
    )


def test_a_look_says_how_many_pictures_a_crop_would_cut_into(tmp_path):
    from core import datasets

    wide = {f"images/{i:02}.png": png(np.zeros((16, 24), np.uint8) + i) for i in range(10)}
    boxes = [[0, 0, 8, 8]] * 3 + [[4, 0, 16, 16]] * 7  # a crop keeps columns 4 to 20
    content = {
        "images": [
            {"id": i, "file_name": f"{i:02}.png", "width": 24, "height": 16} for i in range(10)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 3, "bbox": box} for i, box in enumerate(boxes)
        ]
        + [{"id": 20, "image_id": 9, "category_id": 7, "bbox": [8, 2, 8, 8]}],
    }
    text = json.dumps(content).encode()
    path = put(tmp_path / "wide.zip", {**wide, "annotations.json": text, "readme.txt": b"a"})
    seen = datasets.preview({"path": str(path)})
    assert (seen.oblong, seen.reach) == (9, 3)
    assert seen.beside == "left out: 1 picture with several classes and 1 other file"
