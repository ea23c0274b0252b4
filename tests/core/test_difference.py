"""What differs between two versions of a dataset, and what a visitor sends as loose files."""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from core import building, datasets
from core.__main__ import main
from core.building import difference
from core.catalog import UserError
from core.ground.settings import settings


def png(seed: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 9, 3)).astype(np.uint8)).save(
        out, "PNG"
    )
    return out.getvalue()


def pictures(**changed: int | None) -> dict[str, bytes]:
    """Twelve files of two classes; some with other pixels, or left out."""
    files = {f"{'ab'[i % 2]}/{i:02}.png": i for i in range(12)}
    files |= {name.replace("_", "/") + ".png": seed for name, seed in changed.items()}
    return {name: png(seed) for name, seed in files.items() if seed is not None}


def bring(name: str, files: dict[str, bytes]) -> datasets.Dataset:
    with datasets.received(name, list(files.items())) as path:
        return datasets.bring(name, {"path": str(path), "size": 9})


# --- The difference of two versions -----------------------------------------------------------------------------------


def test_what_went_came_and_changed_is_told_image_by_image(capsys, tmp_path):
    bring("first", pictures())
    moved = pictures(a_00=None, b_01=None, a_02=99, c_50=50)
    moved["b/04.png"] = moved.pop("a/04.png")  # another class
    bring("second", moved)
    out = tmp_path / "changes.html"
    words = ["difference", "second", "--against", "first"]
    assert main([*words, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    of = Counter(row["what"] for row in told["images"])
    assert (of["gone"], of["came"], of["label"], of["pixels"]) == (2, 1, 1, 1)
    row = next(row for row in told["images"] if row["what"] == "label")
    assert (row["label_before"], row["label_after"]) == ("a", "b")
    assert row["file"] == "b/04.png"
    assert {row["file"] for row in told["images"] if row["what"] == "pixels"} == {"a/02.png"}
    counts = told["counts"]
    assert sum(counts.values()) - counts["came"] == 12  # every image of the first, once
    page = out.read_text("utf-8")
    assert page.count("<img") == 2 + 1 + 1 + 2 + counts["split"]
    assert "b/04.png: a → b" in page
    assert main(words) == 0
    assert "2 went, 1 came, 1 has another label, 1 has other pixels" in capsys.readouterr().out


def test_a_version_is_compared_with_what_it_was_made_from(toy, capsys):
    from core.quality import decisions

    base = datasets.save("base", toy(40))
    decisions.decide(base, "exclude", [3, 7], seen=0)
    decisions.decide(base, "relabel", [5], 0, seen=1)
    version = decisions.apply(base, "")
    assert difference.origin(version) == ("base", {})
    assert main(["difference", version.name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["before"] == "base"
    assert told["counts"] == {
        "gone": 2, "came": 0, "label": 1, "pixels": 0, "split": 0, "same": 37
    }  # fmt: skip
    assert [row["before"] for row in told["images"]] == [3, 7, 5]
    assert main(["difference", "base"]) == 2
    assert "base was made from no other dataset" in capsys.readouterr().err
    same = building.compare(base, base)
    assert same.sentence == "Nothing differs: 40 images with the same labels and splits."


def test_copies_are_counted_as_often_as_they_are_there(toy):
    base = toy(30, classes=0)
    x = base.x.copy()
    x[10:16] = x[10]  # six copies, then three
    first = datasets.assemble(x, None, (), base.splits)
    kept = np.delete(np.arange(30), [11, 12, 14])
    splits = {"train": np.arange(27), "valid": np.arange(0), "test": np.arange(0)}
    second = datasets.assemble(x[kept], None, (), splits)
    found = building.compare(first, second)
    was, now = (Counter(image.tobytes() for image in each.x) for each in (first, second))
    assert found.counts["gone"] == sum((was - now).values()) == 3
    assert found.counts["came"] == sum((now - was).values()) == 0
    assert all((first.x[i] == x[10]).all() for i, _ in found.pairs["gone"])
    train = set(base.splits["train"].tolist())
    stay = found.counts["same"]
    assert stay + found.counts["split"] == 27 and stay <= len(train)


def test_files_that_changed_their_names_are_compared_anew():
    bring("first", pictures())
    whole = datasets.load("first")
    other = bring("second", pictures(a_02=99))
    assert len(difference.compare(whole, other).pairs["pixels"]) == 1
    names = np.array([f"{i}.png" for i in range(12)])
    renamed = replace(other, attributes={**(other.attributes or {}), "picture": names})
    assert renamed.fingerprint == other.fingerprint
    assert len(difference.compare(whole, renamed).pairs["pixels"]) == 0


# --- What a visitor sends ---------------------------------------------------------------------------------------------


def test_a_folder_that_was_sent_is_read_as_its_zip_is():
    files = {f"birds/{name}": content for name, content in pictures().items()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    sent, zipped = bring("sent", files), bring("zipped", {"birds.zip": packed.getvalue()})
    assert sent.fingerprint == zipped.fingerprint
    names = [list((each.attributes or {})["picture"]) for each in (sent, zipped)]
    assert names[0] == names[1]


def test_loose_pictures_of_one_name_are_all_kept():
    files = [("photo.png", png(i)) for i in range(9)]
    with datasets.received("loose", files) as path:
        found = datasets.preview({"path": str(path)})
        assert found.pictures == 9
        names = {name for name, _ in found.samples}
    assert names == {"photo.png", *(f"photo ({i}).png" for i in range(2, 10))}
    assert not path.exists()


def test_a_name_without_a_dot_is_numbered_and_a_number_that_is_taken_is_passed_over():
    names = ["cup", "cup", "a.png", "a (2).png", "a.png", "a.png", "a (2).png"]
    with datasets.received("loose", [(name, b"") for name in names]) as path:
        kept = zipfile.ZipFile(path).namelist()
    assert kept == [
        "cup",
        "cup (2)",
        "a.png",
        "a (2).png",
        "a (3).png",
        "a (4).png",
        "a (2) (2).png",
    ]


def test_thousands_of_one_name_are_numbered_at_once():
    began = time.process_time()
    with datasets.received("loose", [("photo.png", b"")] * 8_000) as path:
        assert len(set(zipfile.ZipFile(path).namelist())) == 8_000
    assert time.process_time() - began < 4  # not quadratic, which takes 9


def test_what_is_sent_is_bounded_as_a_zip_is(setting, monkeypatch):
    setting(max_files=11)
    with pytest.raises(UserError, match="holds more than 11 files"):
        bring("many", pictures())
    setting(max_files=100, max_upload_mb=1)
    with pytest.raises(UserError, match="2 files have 2 MB, at most 1 MB"):
        bring("large", {"a.png": bytes(2**20), "b.png": bytes(2**20)})
    setting(max_upload_mb=10)
    with pytest.raises(UserError, match="leads out of"):
        bring("out", {"../../a.png": png(1), "b.png": png(2)})
    with pytest.raises(UserError, match=r"'a\.zip' came with 1 other file\."):
        bring("two", {"a.zip": b"", "b.zip": b""})


def test_what_was_understood_is_known_before_the_import():
    names = [f"{part}/{name}" for part in ("train", "test") for name in pictures()]
    files = {name: png(100 + i) for i, name in enumerate(names)}
    with datasets.received("birds", list(files.items())) as path:
        found = datasets.preview({"path": str(path)})
    reading = next(reading for reading in found.readings if reading["kind"] == found.taken)
    assert reading["classes"] == {"a": 12, "b": 12}
    assert reading["splits"] == {"train": 12, "test": 12}
    assert len(found.samples) == 24
    assert all(x.shape == (3, 64, 64) and x.dtype == np.uint8 for _, x in found.samples)
    (name, x), *_ = found.samples  # as Pillow decodes it
    there = Image.open(io.BytesIO(files[name])).resize((64, 64), Image.Resampling.BICUBIC)
    assert np.abs(x - np.asarray(there).transpose(2, 0, 1).astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("My birds (2)", "my-birds-2"),
        ("digits", "digits-2"),
        ("…", "pictures"),
        ("Ä" * 80, "ä" * 25),
        ("İstanbul", "istanbul"),
    ],
)
def test_a_name_is_suggested_that_can_be_used(file, name):
    assert datasets.suggest(file) == name
    assert datasets.free(name) == name


def test_whatever_a_file_is_called_its_name_can_be_used():
    rng = np.random.default_rng(0)
    signs = [sign for sign in map(chr, range(sys.maxunicode)) if sign.lower() != sign]
    signs += [
        "",
        "-",
        "_",
        " ",
        "/",
        "..",
        "\0",
        "\ud800",
        "\u0301",
        "\u1100",
        "\u1161",
        "ﬁ",
        "ß",
        "हिन्दी",
        "👩‍🚀",
        "digits",
    ]
    for text in signs + ["".join(rng.choice(signs, 9)) for _ in range(500)]:
        name = datasets.suggest(text)
        assert datasets.free(name) == name, ascii(text)
    (settings().datasets / "birds").parent.mkdir(parents=True, exist_ok=True)
    (settings().datasets / "birds").touch()  # no dataset, but in its way
    assert datasets.free(datasets.suggest("birds")) == "birds-2"
