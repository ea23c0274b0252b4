"""A ZIP passes the same door as every layout; only an unstated licence is told and lets it go."""

from __future__ import annotations

import json
import zipfile

import numpy as np

from core import datasets
from core.__main__ import main
from core.building import card, door
from core.building.outgoing import Outgoing
from core.datasets import optout
from core.quality import decisions


def saved(toy, **terms):
    """Saves a set under some terms."""
    plain = toy(60)
    x = np.random.default_rng(1).integers(0, 256, plain.x.shape).astype(np.uint8)
    datasets.save("mine", datasets.assemble(x, plain.y, plain.classes, plain.splits, name="mine"))
    datasets.state("mine", **terms)
    return datasets.load("mine")


def test_a_zip_of_withdrawn_consent_is_refused_until_a_reason_is_given(toy, tmp_path, capsys):
    saved(toy, licence="CC0-1.0", consent="withdrawn")
    words = ["export", "mine", "--out", str(tmp_path / "x.zip")]
    assert main(words) == 2
    assert "(withdrawn)" in capsys.readouterr().err
    assert not (tmp_path / "x.zip").exists()
    assert main([*words, "--override", "withdrawn=asked again", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["door"][0]["reason"] == "asked again"
    with zipfile.ZipFile(tmp_path / "x.zip") as packed:
        assert "asked again" in packed.read("README.md").decode()


def test_a_zip_whose_licence_nobody_stated_goes_with_a_warning(toy, tmp_path, capsys):
    saved(toy, licence="", consent="not needed")
    assert main(["export", "mine", "--out", str(tmp_path / "x.zip")]) == 0
    assert "At the door (licence)" in capsys.readouterr().out


def test_what_was_opted_out_of_stays_out_of_exports_and_versions_and_holds_nothing(
    toy, tmp_path, capsys
):
    mine = saved(toy, licence="CC0-1.0", consent="not needed")
    optout.forget(mine, [3, 7], "asked")
    assert door.check(mine, door.DoorConfig(near=False)) == []
    assert main(["export", "mine", "--out", str(tmp_path / "x.zip"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == 2
    book = decisions.open(mine)
    decisions.decide(mine, "exclude", [9], seen=book.version)
    version = decisions.apply(mine, "next")
    assert len(version) == 57
    assert "2 images of these on the list of what must not be used" in " ".join(version.notes)


def test_sizes_before_the_import_are_called_so_and_empty_where_there_was_none(toy):
    plain = toy(60)
    own = {
        "picture": np.array(["a.png"] * 60),
        "width": np.where(np.arange(60) < 50, 64, 0),
        "height": np.full(60, 64),
    }
    dataset = datasets.assemble(
        plain.x, plain.y, plain.classes, plain.splits, attributes=own, name="x"
    )
    further = Outgoing(dataset).further
    assert "width" not in further and "height" not in further
    assert further["height_before"].tolist() == [64] * 60
    assert (
        np.isnan(further["width_before"][50:]).all() and (further["width_before"][:50] == 64).all()
    )


def test_a_card_says_what_was_mended_and_a_licence_that_nobody_knows_has_no_green_ticks(toy):
    mine = saved(toy, licence="", consent="not needed")
    book = decisions.open(mine)
    decisions.decide(mine, "exclude", [9], seen=book.version)
    version = decisions.apply(mine, "next")
    text = card.readme(version)
    assert "Mended: Made from mine: 1 images left out" in text
    unlooked: dict[str, str] = {}
    door.check(version, door.DoorConfig(near=False), unlooked=unlooked)
    assert {"spdx", "commercial"} <= unlooked.keys()
