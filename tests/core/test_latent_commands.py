"""The commands interpolate, encode and directions."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from core import jobs, runs
from core.__main__ import main
from core.catalog import UserError
from core.commands import named_class
from core.ground import sheets
from core.latent import regression
from core.measure.features import reading


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]):
    """Runs a command: gives its JSON, or with ``wrong`` the one line that refuses it."""

    def run(*words: object, wrong: bool = False) -> Any:
        capsys.readouterr()
        code = main([str(word) for word in words] + ([] if wrong else ["--json"]))
        out, err = capsys.readouterr()
        assert code == (2 if wrong else 0), err
        return err.strip() if wrong else json.loads(out)

    return run


def test_interpolate_writes_films_and_strips(trained, command, tmp_path, monkeypatch):
    run = trained.runs["gan"]
    film = tmp_path / "film.gif"
    said = command(
        "interpolate", run, "--through", 3, 5, "--label", 7, 2, "--frames", 8, "--out", film
    )
    assert said["frames"] == 8
    assert said["labels"] == [7, 2]
    picture = Image.open(io.BytesIO(film.read_bytes()))
    assert len(list(ImageSequence.Iterator(picture))) == 8
    assert json.loads(picture.info["comment"])["run"] == run
    strip = tmp_path / "strip.png"
    command(
        "interpolate", run, "--through", 3, 5, "--open", "--frames", 5, "--out", strip, "--label", 7
    )
    x = sheets.tiles(strip.read_bytes())
    opened = runs.open_model(jobs.get(run))
    import torch

    from core.tensors import to_bytes

    assert opened.sampling is not None
    sample = to_bytes(opened.model.sample([3, 5], torch.tensor([7, 7]), 0, opened.sampling()))
    assert np.abs(x[[0, -1]].astype(int) - sample).max() <= 1
    for words, wanted in (
        (("--out", tmp_path / "film.avi"), "--out must end in .gif, .webp, .mp4, .png or .wav"),
        (("--out", film, "--frames", 1), "The frames must be from 3"),
        (("--out", film, "--label", 1, 2), "--label takes 1 class or 3"),
        (("--out", film, "--fps", 0), "1 to 50 frames per second, got 0"),
        (("--out", film, "--through", 4), "at least 2 keyframes, got 1"),
        (("--out", film, "--through", -1, 2), "from 0, got -1"),
    ):
        assert wanted in command("interpolate", run, *words, wrong=True)
    moving = tmp_path / "film.webp"
    command("interpolate", run, "--frames", 4, "--out", moving)
    assert Image.open(io.BytesIO(moving.read_bytes())).n_frames == 4
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        words = command("interpolate", run, "--out", tmp_path / "film.mp4", wrong=True)
    assert words.startswith("error: An MP4 needs the program ffmpeg, which this computer does not")
    plain = command("interpolate", trained.runs["plain"], "--label", 1, "--out", film, wrong=True)
    assert "does not listen to labels" in plain
    classifier = command("interpolate", trained.runs["classifier"], "--out", film, wrong=True)
    assert "A classifier has no latent space" in classifier


def test_encode_by_the_encoder_and_by_search(trained, command, tmp_path):
    drawing = np.full((60, 60), 255, np.uint8)
    drawing[10:50, 25:33] = 0
    picture = tmp_path / "one.png"
    Image.fromarray(drawing).save(picture)
    sheet = tmp_path / "sheet.png"
    said = command("encode", trained.runs["vae"], picture, "--test", 0, 4, "--out", sheet)
    assert said["by"] == "mean"
    assert [row["image"] for row in said["images"]] == [str(picture), "test 0", "test 4"]
    x = sheets.tiles(sheet.read_bytes()).astype(int)
    assert len(x) == 9
    assert (np.abs(x[:3] - x[3:6]) == x[6:]).all()
    error = ((x[0] - x[3]) ** 2).mean() / 255**2
    assert said["images"][0]["error"] == pytest.approx(error, rel=0.1)
    points = tmp_path / "points.npz"
    said = command("encode", trained.runs["gan"], "--test", 1, "--label", 3, "--out", points)
    assert said["by"] == "search"
    assert said["images"][0]["class"] == "3"
    found = np.load(points)
    assert found["points"].shape == (1, 16 + 10)
    assert found["points"][0, 16:].argmax() == 3
    for words, wanted in (
        ((), "There is nothing to encode"),
        (("--test", 0, "--label", 3), "does not listen to labels, so --label has no meaning"),
        (("--test", 9999), "--test takes 0 to"),
        ((tmp_path / "none.png",), "cannot be read"),
        (("--test", 0, "--out", "x.bmp"), "--out must end in .png or .npz"),
    ):
        assert wanted in command("encode", trained.runs["vae"], *words, wrong=True)


def test_directions_of_every_kind(trained, command, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "IMAGES", 1500)
    monkeypatch.setattr(regression, "POINTS", 500)
    run, out = trained.runs["vae"], tmp_path / "strips.png"
    for kind in ("principal", "factors", "local"):
        said = command("directions", run, "--kind", kind, "--count", 2, "--out", out)
        assert len(said["directions"]) == 2
        assert sheets.tiles(out.read_bytes()).shape == (14, 1, 8, 8)
    said = command("directions", run, "--kind", "labels", "--only", 3, 4)
    assert [each["name"] for each in said["directions"]] == ["3", "4"]
    assert all(0 <= each["accuracy"] <= 1 for each in said["directions"])
    assert main(["directions", run, "--kind", "labels", "--only", "3"]) == 0
    for words, wanted in (
        (("--kind", "attributes"), "has no directions of the kind attributes"),
        (("--kind", "labels", "--only", "smile"), "There is no label or attribute 'smile'"),
        (("--count", 0), "--count must be from 1 to 100"),
        (("--label", 3), "does not listen to labels"),
        (("--out", "x.gif"), "--out must end in .png"),
    ):
        assert wanted in command("directions", run, *words, wrong=True)


def test_directions_are_named_listed_and_forgotten(trained, command, capsys):
    run = trained.runs["vae"]
    said = command("directions", run, "--name", 2, "rounder")
    assert [each["called"] for each in said["directions"]][:3] == ["", "rounder", ""]
    assert main(["directions", run, "--kind", "named"]) == 0
    assert "1. rounder: It was Main direction 2 of step" in capsys.readouterr().out
    assert main(["directions", run]) == 0
    assert "2. Main direction 2, called rounder:" in capsys.readouterr().out
    for number in ("0", "7", "x"):
        wanted = f"--name takes the number of a direction, 1 to 6 here, got {number!r}"
        assert wanted in command("directions", run, "--name", number, "a", wrong=True)
    assert command("directions", run, "--kind", "named", "--name", 1, "")["directions"] == []
    assert "has no directions of the kind named" in command(
        "directions", run, "--kind", "named", wrong=True
    )


@pytest.fixture
def numbered(trained) -> str:
    """The tiny GAN as if its ten classes were called 0, 1, 4, 8, 9, 10 …: the numbers are names, no places."""
    run = trained.runs["gan"]
    file = jobs.get(run).path / "run.json"
    facts = json.loads(file.read_text())
    facts["dataset"]["classes"] = ["0", "1", "4", "8", "9", "10", "11", "12", "13", "014"]
    file.write_text(json.dumps(facts))
    return run


def test_a_number_is_the_name_of_a_class_where_classes_have_such_names(
    numbered, command, capsys, tmp_path
):
    import torch

    out = tmp_path / "fours.npz"
    said = command("sample", numbered, "--label", 4, "-n", 3, "--out", out)
    assert (said["class"], said["label"]) == ("4", 2)
    with np.load(out) as found:
        assert found["classes"][found["y"]].tolist() == ["4", "4", "4"]
        x = torch.as_tensor(found["x"])
    opened = runs.open_model(jobs.get(numbered))
    assert opened.sampling is not None
    third = opened.model.sample(range(3), torch.full((3,), 2), 0, opened.sampling())
    assert torch.allclose(x, third.cpu())
    assert main(["sample", numbered, "--label", "4", "-n", "3", "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("Wrote 3 images of class '4' of ")
    every = command("sample", numbered, "-n", 3, "--out", out)
    assert "class" not in every
    film, strips = tmp_path / "film.gif", tmp_path / "strips.png"
    ways = ("interpolate", numbered, "--through", 1, 2, "--frames", 4, "--out", film)
    assert command(*ways, "--label", 4, 14)["classes"] == ["4", "014"]
    assert command("encode", numbered, "--test", 0, "--label", 4)["images"][0]["class"] == "4"
    turns = ("directions", numbered, "--count", 1, "--out", strips)
    assert command(*turns, "--label", 4)["class"] == "4"
    for words in (
        ("sample", numbered, "--out", out),
        ways,
        ("encode", numbered, "--test", 0),
        turns,
    ):
        assert command(*words, "--label", 2, wrong=True) == (
            "error: There is no class '2'. The classes have numbers as names: 0, 1, 4, 8, 9, 10, 11, 12, 13, 014. "
            "Choose one of them."
        )


@pytest.mark.parametrize(
    ("text", "classes", "found"),
    [
        ("1", ["owl", "jay"], 1),  # a place, where no name is a number
        ("jay", ["owl", "jay"], 1),
        ("4", ["0", "1", "4"], 2),
        ("04", ["0", "1", "4"], 2),
        ("-1", ["-1", "1"], 0),
        ("0.5", ["0.25", "0.5"], 1),
        ("e\u0301te\u0301", ["\u00e9t\u00e9", "winter"], 0),
        ("2", ["2", "02"], 0),
    ],
)
def test_a_class_is_found_by_its_name(text, classes, found):
    assert named_class(text, classes) == found


@pytest.mark.parametrize(
    ("text", "classes"),
    [("2", ["0", "1", "4"]), ("2", ["owl", "jay"]), ("0", ["1", "owl"]), ("002", ["2", "02"])],
)
def test_a_number_that_is_no_name_is_refused(text, classes):
    with pytest.raises(UserError, match=f"There is no class '{text}'"):
        named_class(text, classes)
