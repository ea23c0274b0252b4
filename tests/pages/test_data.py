"""The Data page: looking at images, and bringing one's own."""

from __future__ import annotations

import base64
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from core import datasets, jobs


def picture(number, kind="PNG", size=(20, 14)):
    rng = np.random.default_rng(number)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)).save(out, kind)
    return out.getvalue()


def pack(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


BIRDS = pack(
    {
        f"birds/{kind}/{i}.png": picture(100 * len(kind) + i)
        for kind in ("owl", "robin")
        for i in range(8)
    }
    | {"birds/owl/broken.jpg": picture(999, "JPEG", (64, 64))[:700]}
)


def bring(seen, content, name="", file="My birds.zip"):
    if not seen.all("data.upload"):
        seen.press("data.bring")
    seen.widget("data.upload").upload(file, content)
    seen.run()
    if name:
        seen.set(data__name=name)
    # what cannot be imported is said before
    return seen if seen.widget("data.import").disabled else seen.press("data.import")


# --- Looking ------------------------------------------------------------------------------------


def test_the_digits_at_a_glance(visit):
    seen = visit("data")
    assert "**1,797 grey images of 8×8 px**, 17 levels, **10** classes" in seen.texts("markdown")
    wall = seen.pictures("data.wall")
    assert wall["count"] == len(wall["titles"]) == 60
    assert wall["alt"] == "60 images of digits, page 1 of 30"
    assert seen.at.get("plotly_chart")


def test_the_class_filter_shows_that_class_only(visit):
    y = datasets.load("digits").y
    wall = visit("data").set(data__class__digits=3).pictures("data.wall")
    assert {title.partition(": ")[2] for title in wall["titles"]} == {"3"}
    assert [int(title.split()[1].rstrip(":")) for title in wall["titles"]] == np.flatnonzero(
        y == 3
    )[:60].tolist()


@pytest.mark.parametrize("split", datasets.SPLITS)
def test_the_split_filter_shows_that_split_only(visit, split):
    loaded = datasets.load("digits")
    seen = visit("data").set(data__split=split)
    numbers = [int(title.split()[1].rstrip(":")) for title in seen.pictures("data.wall")["titles"]]
    assert numbers == loaded.splits[split][:60].tolist()
    label = int(loaded.y[numbers[0]])
    seen.set(data__class__digits=label)
    both = [i for i in loaded.splits[split] if loaded.y[i] == label][:60]
    assert [
        int(title.split()[1].rstrip(":")) for title in seen.pictures("data.wall")["titles"]
    ] == both


def test_pages_turn_and_every_filter_begins_at_its_first(visit):
    seen = visit("data")
    assert seen.at.pagination[0].proto.num_pages == 30
    first = seen.pictures("data.wall")["frames"]
    seen.set(**{"data.page.digits.all.None": 30})
    assert "57 images of digits, page 30 of 30" in seen.pictures("data.wall")["alt"]
    assert seen.pictures("data.wall")["count"] == 57
    assert seen.pictures("data.wall")["frames"] != first
    assert ", page 1 of " in seen.set(data__split="valid").pictures("data.wall")["alt"]
    assert ", page 1 of " in seen.set(data__split="all").pictures("data.wall")["alt"]


def test_pixels_on_the_wall_are_those_of_the_dataset(visit):
    import base64

    from core.ground import sheets

    frame = visit("data").pictures("data.wall")["frames"][0]
    shown = sheets.tiles(base64.b64decode(frame.partition(",")[2]))
    x = datasets.load("digits").x[:60].astype(float)
    assert shown.max() == 255
    assert np.abs(shown - x * 255 / 16).max() <= 0.5


def numbers(seen):
    titles = seen.pictures("data.wall")["titles"]
    return [int(title.split()[1].rstrip(":")) for title in titles]


def test_the_wall_is_sorted_searched_and_sized(visit):
    digits = datasets.load("digits")
    assert digits.y is not None
    brightness = digits.x.mean((1, 2, 3), dtype=np.float64)
    seen = visit("data").set(data__sort="bright").calm()
    shown = brightness[numbers(seen)]
    assert shown[0] == brightness.max()
    assert (np.diff(shown) <= 1e-9).all()
    assert digits.y[numbers(seen.set(data__sort="label"))].tolist() == [0] * 60
    assert "Most doubtful label first" not in seen.widget("data.sort").options  # not inspected
    assert "File name" not in seen.widget("data.sort").options  # digits have none
    seen.set(data__sort="", data__find="17").calm()
    assert numbers(seen) == [17]
    assert "No image fits this choice" in seen.set(data__find="no such").texts("markdown")
    seen.set(data__find="", data__side=128).calm()
    assert (seen.pictures("data.wall")["count"], seen.pictures("data.wall")["side"]) == (24, 128)


def test_pictures_are_found_by_the_name_of_their_file(visit):
    seen = bring(visit("data"), BIRDS).calm().set(data__find="OWL/3").calm()
    (number,) = numbers(seen)
    names = (datasets.load("my-birds").attributes or {})["picture"]
    assert names[number].endswith("owl/3.png")
    assert numbers(seen.set(data__find="", data__sort="name")) == np.argsort(names).tolist()


def test_many_are_selected_over_pages_decided_at_once_and_taken_back(visit):
    from core.quality import decisions

    digits = datasets.load("digits")
    seen = visit("data")

    def select(*indices):
        of = seen.pictures("data.wall")["of"]
        seen.told("data.wall", {"picked": {"of": of, "indices": list(indices)}}).calm()

    select(1, 2)
    seen.set(**{"data.page.digits.all.None": 2})
    select(0)
    assert "**3 selected**" in seen.texts("markdown")
    assert seen.set(**{"data.page.digits.all.None": 1}).pictures("data.wall")["picked"] == [1, 2]
    seen.set(data__selected__relabel=5).calm()
    assert decisions.open(digits).state == dict.fromkeys((1, 2, 60), ("relabel", 5))
    assert "3 images: label set to 5." in seen.texts("markdown")
    assert seen.pictures("mend.pictures")["count"] == 3
    assert seen.pictures("data.wall")["marks"] == {"1": "✎", "2": "✎"}
    assert seen.pictures("data.wall")["picked"] == []  # let go of
    seen.press("mend.undo").calm()
    assert decisions.open(digits).state == {}
    assert "Taken back." in seen.texts("toast")
    assert not seen.shown("mend.pictures")

    select(7)
    seen.press("data.selected.all").calm()
    assert "**1,797 selected**" in seen.texts("markdown")
    seen.set(data__split="test").calm()  # what is not seen any more is not selected
    assert "data.selected.exclude" not in seen.keys()


def test_a_selection_that_is_refused_stays(visit):
    from core.quality import decisions

    digits = datasets.load("digits")
    seen = visit("data")
    of = seen.pictures("data.wall")["of"]
    seen.told("data.wall", {"picked": {"of": of, "indices": [1, 2]}}).calm()
    decisions.decide(digits, "accept", [2], who="somebody else", seen=0)
    seen.press("data.selected.exclude")
    assert "nothing is lost" in "".join(seen.errors)
    assert "**2 selected**" in seen.texts("markdown")
    seen.press("data.selected.exclude").calm()  # it was looked at again
    assert decisions.open(digits).state == {1: ("exclude", None), 2: ("exclude", None)}
    assert "selected**" not in seen.texts("markdown")


def test_what_is_selected_never_becomes_other_pictures(visit, monkeypatch):
    from pages.parts.data import mending

    doubt = np.zeros(1797)
    doubt[[5, 7]] = 2, 1
    monkeypatch.setattr(mending, "scores", lambda dataset: {"doubt": doubt})
    seen = visit("data").set(data__sort="doubt").calm()
    assert numbers(seen)[:2] == [5, 7]
    of = seen.pictures("data.wall")["of"]
    doubt[[7, 9]] = 0, 1  # another inspection
    seen.told("data.wall", {"picked": {"of": of, "indices": [1]}}).calm()
    assert numbers(seen)[:2] == [5, 9]
    assert seen.pictures("data.wall")["of"] != of
    assert "selected**" not in seen.texts("markdown")

    seen.at.session_state["data.like"] = (datasets.load("digits").fingerprint, 3)
    of = seen.run().set(data__sort="like").calm().pictures("data.wall")["of"]
    seen.at.session_state["data.like"] = (datasets.load("digits").fingerprint, 4)
    again = seen.run().calm().pictures("data.wall")["of"]
    assert of.split(".")[3] != again.split(".")[3]


def test_a_number_that_no_image_can_have_finds_nothing(visit):
    seen = visit("data").set(data__find="9" * 5_000).calm()
    assert "No image fits this choice" in seen.texts("markdown")


def test_one_picture_at_large_is_gone_through_and_decided_about(visit):
    from core.datasets import optout
    from core.quality import decisions

    digits = datasets.load("digits")
    seen = visit("data").set(data__class__digits=3)
    three = np.flatnonzero(digits.y == 3)
    seen.told("data.wall", {"clicked": {"number": 1, "index": 1}}).calm()
    assert "**Label** 3" in seen.texts("markdown")
    assert f"**Image** {three[1]} of digits" in seen.texts("markdown")
    assert "**Origin** real" in seen.texts("markdown")
    assert seen.pictures("data.item.near")["count"] == 8
    assert (seen.images("data.item.of")[0] == digits.pictures(three[1:2])[0]).all()

    def go(key):
        seen.widget(key).click()
        return seen.again("_dialog").calm()

    go("data.item.after")
    assert f"3 of {len(three)}" in seen.texts("caption")
    seen.widget(f"data.item.why.{three[2]}").set_value("a smudge")
    go("data.item.exclude")
    (entry,) = decisions.open(digits).entries
    assert (entry.images, entry.reason) == ((int(three[2]),), "a smudge")
    assert "Left out. a smudge" in seen.texts("markdown")
    assert seen.widget("data.item.exclude").disabled
    seen.widget(f"data.item.label.{three[2]}").set_value(8)
    seen.again("_dialog").calm()
    assert decisions.open(digits).state == {int(three[2]): ("relabel", 8)}
    assert "Label set to 8. a smudge" in seen.texts("markdown")
    go("data.item.undo")
    go("data.item.undo")
    assert decisions.open(digits).state == {}
    go("data.item.before")
    go("data.item.before")
    assert seen.widget("data.item.before").disabled
    seen.widget(f"data.item.forget.why.{three[0]}").set_value("asked by mail")
    go(f"data.item.forget.{three[0]}")
    assert "Must not be used any more: asked by mail" in seen.texts("caption")
    assert optout.listed()[0].source == f"digits:{three[0]}"
    seen.widget("data.item.like").click()
    seen.run().calm()
    order = numbers(seen)
    assert order[0] == three[0]
    assert set(order) <= set(three)  # of the class that was chosen
    assert seen.widget("data.sort").value == "like"


def test_faces_with_their_true_attributes(visit):
    seen = visit("data")
    seen.at.session_state["data.faces.size"] = 16
    seen.at.session_state["data.faces.count"] = 64
    seen.set(data="faces").calm()
    assert "**64 colour images of 16×16 px**" in seen.texts("markdown")
    names = set(seen.at.dataframe[0].value.columns)
    assert "expression" in names
    assert seen.pictures("data.wall")["tile"] == [16, 16]


def test_a_value_that_is_refused_is_a_sentence(visit):
    seen = bring(visit("data", **{"data.view": "bring"}).set(data__folder__count=3), BIRDS)
    assert seen.errors == [
        "dataset.count must be 0, for all images, or at least 8, got 3. Leave it out to use all of them."
    ]


def test_a_dataset_that_cannot_be_had_is_a_sentence(visit, monkeypatch):
    from core.catalog import UserError

    def offline(name, values=None, watch=None):
        raise UserError("MNIST could not be downloaded. Try again later.")

    monkeypatch.setattr(datasets, "load", offline)
    seen = visit("data", data="mnist")
    assert seen.errors == ["MNIST could not be downloaded. Try again later."]
    assert seen.all("data.view")  # the rest of the page stands


def test_a_set_without_labels(visit, trained):
    seen = visit("data", data="plain").calm()
    assert "without labels" in seen.texts("markdown")
    assert not any(key.startswith("data.class") for key in seen.keys())
    assert not seen.at.get("plotly_chart")


# --- Bringing one's own -------------------------------------------------------------------------


def test_import_a_zip(visit):
    seen = bring(visit("data"), BIRDS).calm()
    assert datasets.names()[-1] == "my-birds"
    assert seen.widget("data").value == "my-birds"  # chosen at once
    assert seen.widget("data.view").value == "look"
    assert seen.pictures("data.wall")["count"] == 16  # and seen at once
    assert "data.view" not in seen.at.query_params
    assert seen.at.query_params["data"] == "my-birds"
    assert "**16 colour images of 32×32 px**, 256 levels, **2** classes" in seen.texts("markdown")
    assert seen.widget("data.class.my-birds").options == ["owl", "robin"]
    (table,) = [frame.value for frame in seen.at.dataframe if "reason" in frame.value.columns]
    assert list(table["file"]) == ["birds/owl/broken.jpg"]
    assert "Files left out" in " ".join(box.label for box in seen.at.expander)


BOX = {
    f"box/{kind}/{i}.png": picture(70 * len(kind) + i)
    for kind in ("cup", "plate")
    for i in range(6)
}


def brought(visit, way):
    """Opens the dialog at one of its tabs."""
    seen = visit("data", **{"data.view": "bring"}).calm()
    seen.at.session_state["data.way"] = way
    return seen.run().calm()


def test_a_folder_is_understood_before_it_is_imported(visit):
    seen = brought(visit, "A folder")
    assert "data.view" not in seen.at.query_params  # the link has opened the dialog
    assert "one folder per class" in seen.texts("markdown")
    seen.widget("data.upload.folder").set_value([(name, x, "") for name, x in BOX.items()])
    seen.run().calm()
    said = seen.texts("markdown")
    assert "**12** pictures" in said and "**Classes** 2: cup 6, plate 6" in said
    assert "**Splits** drawn from all of them" in said and "**Labels** by the folders" in said
    assert "**Bits** 8 per channel" in said
    assert seen.pictures("data.samples")["titles"][:2] == ["box/cup/0.png", "box/plate/0.png"]
    assert datasets.names() == [*datasets.datasets.names()]  # nothing is kept yet
    assert seen.widget("data.name").value == "box"
    seen.press("data.import").calm()
    assert not seen.all("data.upload.folder")  # at the top of the new dataset
    assert seen.widget("data").value == "box"
    made = datasets.load("box")
    assert (len(made), made.classes) == (12, ("cup", "plate"))
    seen.press("data.bring")
    assert not seen.widget("data.upload.folder.").value and seen.widget("data.name").value == ""


def test_a_wrong_value_or_name_loses_nothing(visit):
    seen = brought(visit, "A folder")
    seen.widget("data.upload.folder").set_value([(name, x, "") for name, x in BOX.items()])
    seen.run().set(data__name="a/b", data__folder__count=3)
    assert "must be 1 to 60 letters" in seen.errors[0]
    assert "**12** pictures" in seen.texts("markdown")  # still
    seen.set(data__name="Tea").press("data.import")
    assert "dataset.count must be 0, for all images, or at least 8, got 3" in seen.errors[0]
    assert len(seen.widget("data.upload.folder").value) == 12
    seen.set(data__folder__count=8).press("data.import").calm()
    assert len(datasets.load("tea")) == 8


def test_loose_pictures_are_one_set_and_two_zips_are_refused(visit):
    seen = visit("data", **{"data.view": "bring"})
    seen.widget("data.upload").set_value([(f"{i}.png", picture(i), "") for i in range(9)])
    seen.run().calm().press("data.import").calm()
    made = datasets.load("pictures")
    assert (len(made), made.labelled) == (9, False)
    seen.press("data.bring").widget("data.upload.").set_value(
        [("a.zip", BIRDS, ""), ("b.zip", BIRDS, "")]
    )
    assert "'a.zip' came with 1 other file." in seen.run().errors[0]
    seen.press("data.close").calm()
    assert not seen.all("data.close")


def jpeg(number):
    content = picture(number, "JPEG", (256, 256))
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def shots(first, label, count=5):
    return [{"number": first + i, "label": label, "jpeg": jpeg(first + i)} for i in range(count)]


def test_the_camera_makes_a_dataset_class_by_class(visit):
    seen = brought(visit, "Camera")
    assert seen.pictures("data.camera")["counts"] == []
    seen.told("data.camera", {"burst": {"shots": shots(10, "cup")}}).calm()
    assert "**Classes** 1: cup 5" in seen.texts("markdown")
    again = shots(13, "cup", 2) + shots(20, "test\t")  # two of them were not confirmed in time
    seen.told("data.camera", {"burst": {"shots": again}}).calm()
    drawn = seen.pictures("data.camera")
    assert (drawn["counts"], drawn["has"]) == ([["cup", 5], ["test", 5]], 24)
    assert "**Classes** 2: cup 5, test 5" in seen.texts("markdown")  # a class of any name
    seen.told("data.camera", {"burst": {"shots": [], "gone": [24]}}).press("data.import").calm()
    made = datasets.load("camera")
    assert {name: sum(splits.values()) for name, splits in made.counts().items()} == {
        "cup": 5,
        "test": 4,
    }
    assert seen.press("data.bring").pictures("data.camera")["counts"] == []


@pytest.mark.parametrize(
    "burst",
    [
        {"shots": 7, "gone": 7},
        {"shots": [None, 7, {}, {"number": True}, {"number": 1, "label": 2, "jpeg": 3}]},
        {
            "shots": [{"number": 1, "label": "a", "jpeg": "data:image/png;base64,AAAA"}],
            "gone": ["x"],
        },
        {"shots": [{"number": 1, "label": "a", "jpeg": "data:image/jpeg;base64,%%"}]},
        {"shots": [{"number": 1, "label": "a", "jpeg": "data:image/jpeg;base64," + "A" * 90_000}]},
    ],
)
def test_what_is_no_picture_of_a_camera_is_left_out(visit, burst):
    seen = visit("data", **{"data.view": "bring"}).told("data.camera", {"burst": burst}).calm()
    assert seen.pictures("data.camera")["counts"] == []


def test_the_camera_takes_a_bounded_number(visit, monkeypatch):
    from pages.parts import camera

    monkeypatch.setattr(camera, "MOST", 7)
    seen = visit("data", **{"data.view": "bring"})
    seen.told("data.camera", {"burst": {"shots": shots(1, "a", 9)}}).calm()
    drawn = seen.pictures("data.camera")
    assert (drawn["counts"], drawn["room"], drawn["has"]) == ([["a", 7]], 0, 9)


def test_import_follows_the_settings_and_the_name(visit):
    seen = visit("data", **{"data.view": "bring"}).set(
        data__folder__size=16, data__folder__channels="grey", data__folder__fit="pad"
    )
    bring(seen, BIRDS, name="Night birds").calm()
    made = datasets.load("night-birds")
    assert (made.size, made.channels) == (16, 1)


SPLITS = pack(
    {
        f"{part}/{kind}/{i}.png": picture(1000 * len(part) + 100 * len(kind) + i)
        for part in ("Training", "Testing")
        for kind in ("owl", "robin")
        for i in range(4)
    }
    | {"cover.png": picture(7)}
)


def radio(seen):
    (key,) = [key for key in seen.keys() if key.startswith("data.reading.")]
    return seen.widget(key)


def test_every_reading_of_the_folders_is_shown_before_the_import(visit):
    seen = visit("data", **{"data.view": "bring"})
    seen.widget("data.upload").upload("birds.zip", SPLITS)
    seen.run().calm()
    assert "**17** pictures" in seen.texts("markdown")
    assert seen.widget("data.name").value == "birds"  # until a person writes another
    assert radio(seen).options == ["As splits (found)", "As classes", "Without classes"]
    assert radio(seen).value == "splits"
    sentences = list(radio(seen).proto.captions)
    assert sentences[0].startswith(
        "Splits: 'Training' as train, 'Testing' as test (8 train, 8 test)"
    )
    assert sentences[1].startswith("2 classes (Testing, Training), one for each folder")
    bring_it = seen.press("data.import").calm()
    made = datasets.load("birds")
    assert made.classes == ("owl", "robin")
    assert len(made.splits["test"]) == 8
    assert bring_it.shown("data.wall")


def folder_key(seen, name):
    """The key of a control that each upload has for itself."""
    (key,) = [k for k in seen.keys() if k.startswith("data.upload.") and k.endswith(f".{name}")]
    return key


def test_a_wrong_folder_for_training_is_told_beside_its_field_and_another_file_begins_anew(visit):
    seen = visit("data", **{"data.view": "bring"})
    seen.widget("data.upload").upload("birds.zip", SPLITS)
    seen.run().widget(folder_key(seen, "training")).set_value("soon")
    seen.run()
    assert "dataset.training names the folder 'soon', which is none" in seen.texts("error")
    assert seen.widget("data.import").disabled
    seen.widget(folder_key(seen, "training")).set_value("Testing")
    seen.run().calm().press("data.import").calm()
    seen.press("data.bring")
    others = {
        f"{part}/{kind}/{i}.png": picture(sum(map(ord, part + kind)) + 1000 * i)
        for part in ("fit", "later")
        for kind in ("owl", "robin")
        for i in range(4)
    }
    seen.widget("data.upload.").upload("others.zip", pack(others))
    seen.run().calm()
    assert seen.widget(folder_key(seen, "training")).value == ""
    assert "The name of 'fit' says no split, so it is taken as test" in seen.texts("caption")


def test_splits_that_have_files_of_labels_can_be_named_for_training(visit):
    members = {
        f"{part}/{i}.png": picture(50 * len(part) + i)
        for part in ("fit", "later")
        for i in range(6)
    }
    rows = b"\n".join([b"file_name,label", *(f"{i}.png,{'ab'[i % 2]}".encode() for i in range(6))])
    members |= {f"{part}/metadata.csv": rows for part in ("fit", "later")}
    seen = visit("data", **{"data.view": "bring"})
    seen.widget("data.upload").upload("birds.zip", pack(members))
    seen.run().widget(folder_key(seen, "training")).set_value("fit")
    seen.run().calm().press("data.import").calm()
    made = datasets.load("birds")
    assert made.classes == ("a", "b")
    assert len(made.splits["test"]) == 6


def test_another_reading_is_chosen_on_the_page(visit):
    seen = visit("data", **{"data.view": "bring"})
    seen.widget("data.upload").upload("birds.zip", SPLITS)
    seen.run()
    radio(seen).set_value("classes")
    seen.run().press("data.import").calm()
    assert datasets.load("birds").classes == ("Testing", "Training")
    again = visit("data", **{"data.view": "bring"})
    again.widget("data.upload").upload("others.zip", SPLITS)
    again.run()
    again.widget(folder_key(again, "training")).set_value("Testing")
    again.run().press("data.import").calm()
    assert len(datasets.load("others").splits["test"]) == 8
    assert datasets.load("others").imported("folders") == [
        ["Testing", "train"],
        ["Training", "test"],
    ]


def test_a_malformed_file_of_labels_is_told_and_the_folders_can_be_read(visit):
    seen = visit("data", **{"data.view": "bring"})
    files = {
        f"{kind}/{i}.png": picture(10 * len(kind) + i) for kind in ("a", "bb") for i in range(5)
    }
    seen.widget("data.upload").upload("odd.zip", pack(files | {"dataset.json": b"{"}))
    seen.run().calm()
    assert "The file of labels 'dataset.json' cannot be read: it is no JSON" in seen.texts(
        "warning"
    )
    assert radio(seen).value == "classes"
    seen.press("data.import").calm()
    assert datasets.load("odd").classes == ("a", "bb")


def test_the_largest_value_of_deep_pictures_is_shown_and_can_be_changed(visit):
    def deep(number):
        out = io.BytesIO()
        values = np.random.default_rng(number).integers(0, 4096, (12, 12)).astype(np.uint16)
        values[0, 0] = 4095
        Image.fromarray(values).save(out, "PNG")
        return out.getvalue()

    content = pack({f"{i}.png": deep(i) for i in range(9)})
    for name, asked, brightest in (("scans", 0.0, 255), ("darker", 8190.0, 128)):
        seen = visit("data", **{"data.view": "bring"})
        seen.widget("data.upload").upload(f"{name}.zip", content)
        seen.run().calm()
        assert "9 of them hold more than 8 bits; their largest value is 4095." in seen.texts(
            "caption"
        )
        seen.widget(folder_key(seen, "range")).set_value(asked)
        seen.set(data__folder__size=12).press("data.import").calm()
        assert datasets.load(name).x.max() == brightest


def test_a_zip_without_pictures_gives_its_sentence(visit):
    seen = bring(visit("data"), pack({f"{i}.bin": b"no picture" for i in range(9)}))
    (words,) = seen.errors
    assert words.startswith("No picture in 'my-birds.zip' could be read")
    assert words.endswith("Add PNG, JPEG, WebP, BMP, TIFF, AVIF or HEIC pictures.")
    assert datasets.names() == [*datasets.datasets.names()]
    assert not seen.widget("data.upload.").value  # another one, so that the next file comes alone
    seen.widget("data.upload.").upload("birds.zip", BIRDS)
    assert not seen.run().calm().widget("data.import").disabled


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 and nothing more", pack({}), pack({"one.png": picture(1)})]
)
def test_what_is_no_set_of_pictures_gives_a_sentence(visit, content):
    seen = bring(visit("data"), content)
    (words,) = seen.errors
    assert words.endswith(".")
    assert "your fault" not in words
    assert not any(datasets.describe(name).saved for name in datasets.names())


def test_names_are_used_once(visit):
    bring(visit("data"), BIRDS, name="owls").calm()
    (words,) = bring(visit("data"), BIRDS, name="Owls").errors
    assert words.startswith("There is a dataset 'owls' already.")
    (words,) = bring(visit("data"), BIRDS, name="digits").errors
    assert "belongs to a dataset that comes with the program" in words


@pytest.mark.parametrize("name", ["../../etc", "a/b", "...", "<b>"])
def test_a_name_that_is_no_name_gives_a_sentence(visit, home, name):
    (words,) = bring(visit("data"), BIRDS, name=name).errors
    assert "must be 1 to 60 letters" in words
    assert not (home / "datasets").exists() or not list((home / "datasets").iterdir())


def test_a_file_over_the_limit_is_refused(visit, setting):
    setting(max_upload_mb=1)
    (words,) = bring(visit("data"), BIRDS + bytes(2 * 2**20)).errors
    assert "at most 1 MB" in words


def test_files_that_are_too_large_together_are_let_go_of(visit, setting, monkeypatch):
    from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager as Kept

    gone = []
    remove = Kept.remove_file
    monkeypatch.setattr(Kept, "remove_file", lambda *args: (gone.append(args[-1]), remove(*args)))
    setting(max_upload_mb=1)
    seen = brought(visit, "A folder")
    seen.widget("data.upload").set_value([("loose.png", picture(0), "")])
    large = [(f"box/{i}.png", bytes(600_000), "") for i in range(2)]
    seen.widget("data.upload.folder").set_value(large)
    (words,) = seen.run().errors
    assert "The 2 files have 1.1 MB, at most 1 MB are allowed." in words
    assert len(gone) == 2
    assert not seen.widget("data.upload.folder.").value  # another one, empty
    assert len(seen.widget("data.upload").value) == 1  # of the other tab
    assert seen.widget("data.import").disabled
    seen.widget("data.upload.folder.").set_value([(name, x, "") for name, x in BOX.items()])
    assert "**12** pictures" in seen.run().calm().texts("markdown")


def test_delete_asks_first(visit, trained):
    seen = visit("data", data="plain").press("data.delete").calm()
    assert "imported dataset **plain** for good" in seen.texts("markdown")
    seen.run()
    assert "plain" in datasets.names()
    seen.press("data.delete").press("data.delete.yes", "data.delete").calm()
    assert "plain" not in datasets.names()
    assert seen.widget("data").value == "digits"


def test_what_comes_with_the_program_cannot_be_deleted(visit):
    assert not visit("data").all("data.delete")


# --- View only ----------------------------------------------------------------------------------


def test_view_only_takes_nothing_in(visit, trained, setting):
    early = visit("data", data="plain", **{"data.view": "bring"})
    early.widget("data.upload").upload("Birds.zip", BIRDS)
    early.run()
    setting(view_only=1)
    early.press("data.import")
    late = visit("data", data="plain")
    assert late.widget("data.delete").disabled
    late.force("data.delete")
    late.press("data.bring")
    assert late.widget("data.import").disabled
    late.force("data.import")
    assert late.widget("data.upload").disabled
    assert datasets.names() == [*datasets.datasets.names(), "plain"]


def test_view_only_refuses_an_open_dialog(visit, trained, setting):
    seen = visit("data", data="plain").press("data.delete")
    setting(view_only=1)
    seen.widget("data.delete.yes").click()
    seen.again("delete")
    assert "This server is for viewing only" in seen.texts("error")
    assert "plain" in datasets.names()


# --- What is wrong, and mending it ----------------------------------------------------------------


@pytest.fixture
def doubles():
    """Imports a dataset with an image that is there twice, and inspects it in this process."""
    from core import kinds, worker

    rng = np.random.default_rng(0)
    files = {}
    for i in range(40):
        x = rng.integers(0, 80, (12, 12)).astype(np.uint8)
        x[2:10, 4:8] += np.uint8(90 * (i % 2))
        out = io.BytesIO()
        Image.fromarray(x).save(out, "PNG")
        files[f"{'ab'[i % 2]}/{i}.png"] = out.getvalue()
    files["a/again.png"] = files["a/0.png"]

    def made(place, other=False):
        if other:  # and one more, with the other label
            files["b/contradicting.png"] = files["a/2.png"]
        (place / "in.zip").write_bytes(pack(files))
        dataset = datasets.bring("doubles", {"path": str(place / "in.zip"), "size": 12})
        assert worker.work(kinds.submit("inspect", {"dataset": "doubles"}, {}).path) == 0
        return dataset

    return made


def test_an_inspection_is_asked_for_as_a_job(visit, spawned, asked):
    seen = visit("data", **{"data.view": "issues"}).set(data__inspect__strictness=1.5)
    seen.press("data.inspect").calm()
    job = asked(spawned[0])
    assert (job["kind"], job["config"]["inspect"]["strictness"]) == ("inspect", 1.5)


def test_an_issue_is_left_out_taken_back_and_made_a_version(visit, tmp_path, doubles):
    dataset = doubles(tmp_path)
    (state,) = [job.path / "state.json" for job in jobs.listing("inspect")]
    timed = {"started": 1000.0, "since": 1020.0, "begun": 0}
    state.write_text(json.dumps(json.loads(state.read_text()) | timed))
    seen = visit("data", data="doubles", **{"data.view": "issues", "data.kind": "exact"}).calm()
    assert "**about 20 s** at the pace of an inspection of it before." in seen.texts("caption")
    assert seen.pictures("data.evidence.exact")["count"] == 2  # the image, and the one it repeats
    seen.press("data.exclude").calm()
    assert "1 image: left out." in seen.texts("markdown")
    assert seen.at.dataframe[0].value["decided"].tolist() == ["left out"]
    seen.set(data__view="version").calm()
    (undo,) = [key for key in seen.keys() if key.startswith("data.undo.")]
    seen.press(undo).calm()
    assert "Nothing is decided yet" in seen.texts("caption")
    assert seen.widget("data.version").disabled

    seen.set(data__view="issues").press("data.exclude").set(data__view="version")
    seen.set(data__version__name="clean").press("data.version").calm()
    assert seen.widget("data").value == "clean"
    made = datasets.load("clean", {})
    assert (len(made), made.parent) == (len(dataset) - 1, dataset.fingerprint)


def test_pressed_twice_it_is_one_decision_and_the_log_names_the_image(visit, tmp_path, doubles):
    from core.quality import decisions

    dataset = doubles(tmp_path)
    seen = visit("data", data="doubles", **{"data.view": "issues", "data.kind": "exact"}).calm()
    seen.press("data.exclude").calm()
    seen.press("data.exclude").calm()
    (entry,) = decisions.open(dataset).entries
    again = f"Nothing is new: image {entry.images[0]} was already left out."
    assert again in seen.texts("toast")
    seen.set(data__view="version").calm()
    assert f"1 × left out: image {entry.images[0]}" in seen.texts("caption")
    assert seen.widget("data.version.name").placeholder == "doubles-2"
    seen.press("data.version").calm()
    assert seen.widget("data").value == "doubles-2"
    assert len(datasets.load("doubles-2", {})) == len(dataset) - 1


def test_of_contradicting_copies_a_person_says_which_label_is_right(visit, tmp_path, doubles):
    from core.quality import decisions

    dataset = doubles(tmp_path, other=True)
    where = {"data.view": "issues", "data.kind": "contradiction"}
    seen = visit("data", data="doubles", **where).calm()
    assert "The same pixels are labelled a (image " in seen.texts("caption")
    assert not {"data.exclude", "data.relabel"} & set(seen.keys())
    assert {seen.pictures(f"data.side.{k}")["count"] for k in (0, 1)} == {1}
    assert "the three that are nearest" in seen.texts("markdown")  # what was looked for
    assert "Dark (0 found)" in seen.texts("markdown")
    seen.press("data.right.0").calm()
    assert "a is right, all 2 copies have it." in seen.texts("markdown")
    state = decisions.open(dataset).state
    assert sorted(state.values()) == [("accept", None), ("relabel", 0)]
    seen.press("data.keep.1").calm()
    state = decisions.open(dataset).state
    assert sorted(action for action, _ in state.values()) == ["accept", "exclude"]
    (out,) = [image for image, (action, _) in state.items() if action == "exclude"]
    assert dataset.y is not None
    assert dataset.y[out] == 0
    seen.set(data__view="map").set(data__mark="contradiction").calm()
    assert "data.lasso.exclude" not in seen.keys()
    assert "decided one by one" in seen.texts("caption")


def test_labels_that_cannot_be_judged_are_told_and_nothing_is_offered_for_all(visit, home):
    from core import kinds, worker

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 200, (120, 1, 8, 8)), np.arange(120) % 2
    x = (x + 12 * y[:, None, None, None]).astype(np.uint8)  # a weak sign of the class
    none = np.arange(0)
    splits = {"train": np.arange(120), "valid": none, "test": none}
    noise = datasets.assemble(x, y.astype(np.int64), ("a", "b"), splits, name="noise")
    datasets.save("noise", noise)
    assert worker.work(kinds.submit("inspect", {"dataset": "noise"}, {}).path) == 0
    seen = visit("data", data="noise", **{"data.view": "issues", "data.kind": "doubt"}).calm()
    (told,) = [info.value for info in seen.at.info]
    assert told.startswith("Labels cannot be judged on this set, because the predictor behind it")
    assert "n = 1" in told
    assert seen.widget("data.relabel").label == "Relabel this one"
    assert seen.widget("data.exclude").label == "Leave out this one"
    seen.press("data.accept").calm()
    assert "1 image: kept." in seen.texts("markdown")


def test_a_decision_after_somebody_elses_is_told_and_nothing_is_lost(visit, tmp_path, doubles):
    from core.quality import decisions

    dataset = doubles(tmp_path)
    first = visit("data", data="doubles", **{"data.view": "issues", "data.kind": "exact"})
    second = visit("data", data="doubles", **{"data.view": "issues", "data.kind": "exact"})
    first.press("data.exclude").calm()
    second.press("data.accept")
    assert "nothing is lost" in "".join(second.errors)
    (entry,) = decisions.open(dataset).entries
    assert entry.action == "exclude"


def test_the_map_marks_a_kind_and_shows_its_images(visit, tmp_path, doubles):
    doubles(tmp_path)
    seen = visit("data", data="doubles", **{"data.view": "map"}).calm()
    assert "Draw a lasso" in seen.texts("caption")
    data = seen.pictures("data.map.None")
    assert [trait["title"] for trait in data["traits"]] == ["Class"]
    seen.told("data.map.None", {"picked": {"of": data["id"], "indices": [0, 3, 5]}}).calm()
    assert seen.pictures("data.lasso")["titles"][1].startswith(data["titles"][3])
    assert "3 images in the lasso" in seen.texts("caption")
    seen.set(data__mark="exact").calm()
    assert seen.pictures("data.map.exact")["traits"][0]["title"] == "Marked"
    assert seen.pictures("data.lasso")["count"] == 1
    seen.press("data.lasso.exclude").calm()
    assert "1 image: left out." in seen.texts("markdown")
    seen.set(data__view="look").set(data__sort="distance").calm()  # as the inspection says
    assert len(numbers(seen)) == len(set(numbers(seen))) == 41
    assert "✕" in seen.pictures("data.wall")["marks"].values()


def test_what_changed_since_another_version_is_shown_as_pictures(visit):
    from core.quality import decisions

    with datasets.received("birds", [("birds.zip", BIRDS)]) as path:
        base = datasets.bring("birds", {"path": str(path)})
    decisions.decide(base, "exclude", [4, 6, 8], seen=0)
    decisions.decide(base, "relabel", [5], 1 - int(base.y[5]), seen=1)
    decisions.apply(base, "mended")
    seen = visit("data", data="mended", **{"data.view": "version"}).calm()
    assert seen.widget("data.against.mended").value == "birds"  # what it was made from
    assert "3 went, 1 has another label; 12 images are the same." in seen.texts("markdown")
    kinds = seen.widget("data.change.mended.birds")
    assert kinds.options == ["Went (3)", "Another label (1)"]
    assert (seen.images("data.changed.before") == base.pictures([4, 6, 8])).all()
    kinds.set_value("label")
    seen.run().calm()
    assert seen.pictures("data.changed.after")["count"] == 1
    first = visit("data", data="birds", **{"data.view": "version"}).calm()
    assert first.widget("data.against.birds").value is None
    first.set(data__against__birds="mended").calm()
    assert first.widget("data.change.birds.mended").options == ["Came (3)", "Another label (1)"]


def test_a_view_only_server_decides_nothing(visit, tmp_path, doubles, setting):
    from core.quality import decisions

    dataset = doubles(tmp_path)
    setting(view_only=1)
    seen = visit("data", data="doubles", **{"data.view": "issues", "data.kind": "exact"})
    seen.force("data.exclude")
    assert not decisions.open(dataset).entries


def grouped(*columns):
    """Forty pictures in two classes, and what a table says of each: the patient of every four."""
    rows = [f"{i:02}.png,{'ab'[i % 2]},p{i // 4}" for i in range(40)]
    head = ",".join(["file_name", "label", *columns])
    lines = [head, *rows] if columns else ["file_name,label", *(r.rpartition(",")[0] for r in rows)]
    members = {f"{i:02}.png": picture(i) for i in range(40)}
    return pack(members | {"labels.csv": "\n".join(lines).encode()})


def test_pictures_are_kept_together_by_a_column_of_the_table_that_was_uploaded(visit):
    seen = visit("data", **{"data.view": "bring"})
    assert not [key for key in seen.keys() if key.endswith(".group")]  # no column is known yet
    seen.widget("data.upload").upload("plain.zip", grouped())
    seen.run().calm()
    assert not [key for key in seen.keys() if key.endswith(".group")]
    seen.widget("data.upload").upload("ward.zip", grouped("patient"))
    seen.run().calm()
    choice = seen.widget(folder_key(seen, "group"))
    assert (choice.options, choice.value) == (["none", "patient"], "")
    choice.set_value("patient")
    seen.run().calm().press("data.import").calm()
    made = datasets.load("ward")
    assert (made.group, made.classes) == ("patient", ("a", "b"))
    of = {
        name: {int(made.attributes["picture"][i][:2]) // 4 for i in index}
        for name, index in made.splits.items()
    }
    assert (
        of["train"] and of["test"] and not of["train"] & of["test"] and not of["valid"] & of["test"]
    )
    assert "kept together by **patient**" in seen.texts("markdown")
    assert "Kept together by patient: 10 groups." in seen.texts("caption")


def test_a_table_of_patients_beside_class_folders_can_be_the_group_and_not_the_label(visit):
    members = {f"{'ab'[i % 2]}/{i:02}.png": picture(i) for i in range(40)}
    rows = [f"{name},p{i // 4}" for i, name in enumerate(members)]
    members["metadata.csv"] = "\n".join(["file_name,patient", *rows]).encode()
    seen = visit("data", **{"data.view": "bring"})
    seen.widget("data.upload").upload("ward.zip", pack(members))
    seen.run().calm()
    assert radio(seen).value == "file"
    seen.widget(folder_key(seen, "group")).set_value("patient")
    seen.run().calm()
    assert radio(seen).value == "classes"
    seen.press("data.import").calm()
    made = datasets.load("ward")
    assert (made.group, made.classes) == ("patient", ("a", "b"))
