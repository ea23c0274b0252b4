"""Near copies are told in colour, so that different items of one kind stay apart; and an opt-out is taken back."""

from __future__ import annotations

import io
import json

import numpy as np
from PIL import Image

from core import datasets
from core.__main__ import main
from core.datasets import optout


def of_pictures(x, name="drawn"):
    """Makes a set of pictures (N, 3, H, W)."""
    rows = np.arange(len(x))
    return datasets.assemble(
        x, None, (), {"train": rows, "valid": rows[:0], "test": rows[:0]}, name=name
    )


def jpeg(image):
    """Writes a picture (3, H, W) as JPEG and reads it."""
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file)).transpose(2, 0, 1)


def test_circles_of_other_colours_on_other_grounds_are_no_copies_of_each_other():
    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [220, 220, 60]], np.uint8)
    inside = np.hypot(*(np.mgrid[:32, :32] - 15.5)) < 9
    drawn = [
        np.where(inside[None], a[:, None, None], b[:, None, None])
        for i, a in enumerate(colours)
        for j, b in enumerate(colours)
        if i != j
    ]
    dataset = of_pictures(np.stack(drawn).astype(np.uint8))
    assert [optout.near_copies(dataset, row) for row in range(12)] == [[]] * 12


def test_faces_stay_apart_and_their_copies_are_found():
    x = np.asarray(datasets.load("faces", {"count": 600, "size": 32}).x)
    whole, some = of_pictures(x), list(range(0, 600, 30))
    assert sum(len(optout.near_copies(whole, row)) for row in some) <= 1
    for way in (jpeg, lambda p: p[..., ::-1], lambda p: (p * 0.8 + 38).astype(np.uint8)):
        pairs = [of_pictures(np.stack([x[row], way(x[row]), x[row + 1]])) for row in some]
        assert np.mean([1 in optout.near_copies(pair, 0) for pair in pairs]) >= 0.9


def test_an_opt_out_counts_for_its_pixels_alone_until_copies_are_confirmed_and_is_taken_back(
    capsys,
):
    x = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8)).astype(np.uint8)
    x[1] = x[0][..., ::-1]
    dataset = of_pictures(x)
    optout.forget(dataset, [0], "asked", near=False)
    assert list(optout.matches(dataset)) == [0]
    assert main(["forget", "drawn:0", "--undo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["taken_off"] == 1
    assert optout.matches(dataset) == {}
    optout.forget(dataset, [0], "asked")
    assert list(optout.matches(dataset)) == [0, 1]
    assert main(["forget", "drawn:5", "--undo"]) == 2
    assert "'drawn:5' is not on the list" in capsys.readouterr().err


def test_the_command_names_the_near_copies_that_count_or_takes_the_very_pixels_alone(
    monkeypatch, capsys
):
    x = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8)).astype(np.uint8)
    x[1] = x[0][..., ::-1]
    dataset = of_pictures(x)
    monkeypatch.setattr(datasets, "names", lambda: ["drawn"])
    monkeypatch.setattr(datasets, "load", lambda name: dataset)
    assert main(["forget", "drawn:0", "--reason", "asked", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["near_copies"] == {"drawn": [1]}
    assert main(["forget", "drawn:0", "--undo"]) == 0
    capsys.readouterr()
    assert main(["forget", "drawn:0", "--exact", "--reason", "asked"]) == 0
    assert "Near copies" not in capsys.readouterr().out
    assert list(optout.matches(dataset)) == [0]
