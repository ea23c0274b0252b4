"""The import dialog: what only boxes, tables and scans leave open is asked beside what was understood."""

from __future__ import annotations

import json

import numpy as np
import pytest

from core import datasets
from tests.core.test_annotated_pictures import coco_of, pictures
from tests.core.test_imports import png, put


def opened(visit, content, name):
    seen = visit("data").press("data.bring")
    seen.widget("data.upload").upload(name, content)
    return seen.run().calm()


def control(seen, name):
    (found,) = [key for key in seen.keys() if key.startswith("data.upload.") and key.endswith(name)]
    return found


def test_boxes_are_asked_for_and_the_pictures_follow(visit, tmp_path):
    content = coco_of()
    content["annotations"] += [  # so that each has two classes
        {"id": 100 + i, "image_id": i, "category_id": 7, "bbox": [12, 12, 12, 12]}
        for i in range(12)
        if i % 3
    ]
    members = {**pictures(), "annotations.json": json.dumps(content).encode()}
    file = put(tmp_path / "marked.zip", members).read_bytes()
    seen = opened(visit, file, "marked.zip")
    assert "**0** pictures" in seen.texts("markdown")
    assert "00.png has 2 classes (cat, dog), and a picture has one" in seen.texts("caption")
    assert not [key for key in seen.keys() if key.endswith(".smallest")]
    seen.widget(control(seen, ".boxes")).set_value("a picture per box")
    seen.run().calm()
    assert "**24** pictures" in seen.texts("markdown")
    assert "cat 12, dog 12" in seen.texts("markdown")
    assert seen.widget(control(seen, ".group")).value == "cut_from"
    seen.widget(control(seen, ".smallest")).set_value(20)
    assert "**0** pictures" in seen.run().calm().texts("markdown")
    seen.widget(control(seen, ".smallest")).set_value(8)
    seen.run().press("data.import").calm()
    made = datasets.load("marked")
    assert len(made) == 24 and made.group == "cut_from"


def test_a_window_is_asked_for_and_the_pictures_follow(visit, tmp_path):
    pytest.importorskip("pydicom")
    from core.datasets import phantom

    phantom.write(tmp_path / "scans", patients=8, slices=2, size=16)
    files = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*.dcm")}
    seen = opened(visit, put(tmp_path / "scans.zip", files).read_bytes(), "scans.zip")
    assert "0.5 to 99.5 % of all values" in seen.texts("caption")
    assert seen.widget(control(seen, ".group")).value == "patient"
    before = seen.images("data.samples")
    seen.widget(control(seen, ".window")).set_value("as given")
    seen.run().calm()
    seen.widget(control(seen, ".centre")).set_value(5000.0)
    seen.run().calm()
    assert "window of centre 5000, width 400: as given" in seen.texts("caption")
    after = seen.images("data.samples")
    assert after.max() == 0 < np.ptp(before)
    seen.widget(control(seen, ".centre")).set_value(-600.0)
    seen.run().press("data.import").calm()
    made = datasets.load("scans")
    assert made.group == "patient" and len(np.unique(made.x)) > 2


def test_a_column_of_a_table_can_be_chosen_and_a_wrong_one_is_told_beside_it(visit, tmp_path):
    names = [f"images/{i:02}.png" for i in range(12)]
    rows = [
        "picture,site,weather",
        *(f"{name},{'xy'[i % 2]},{'rs'[i // 6]}" for i, name in enumerate(names)),
    ]
    members = {**pictures(), "things.csv": "\n".join(rows).encode()}
    seen = opened(visit, put(tmp_path / "x.zip", members).read_bytes(), "x.zip")
    assert "is not clear (site, weather)" in seen.texts("caption")
    seen.widget(control(seen, ".label")).set_value("weather")
    assert "r 6, s 6" in seen.run().calm().texts("markdown")
    seen.widget(control(seen, ".label")).set_value("wether")
    assert "must be a column of 'things.csv': site, weather" in seen.run().errors[0]
    assert seen.widget("data.import").disabled


def test_the_size_is_told_before_and_pad_is_a_choice_where_most_pictures_are_oblong(
    visit, tmp_path
):
    wide = {f"{i}.png": png(np.full((8, 20), 9 * i, np.uint8)) for i in range(10)}
    seen = opened(visit, put(tmp_path / "wide.zip", wide).read_bytes(), "wide.zip")
    assert "scaled to 32 × 32 pixels (at most 128)" in seen.texts("caption")
    assert "10 of them are not square: crop cuts their edges off" in seen.texts("caption")
    seen.set(data__folder__size=16, data__folder__fit="pad").calm()
    seen.press("data.import").calm()
    made = datasets.load("wide")
    assert made.size == 16 and made.x[:, :, 0].min() == 255  # the white that was added
