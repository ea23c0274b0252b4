"""The card that travels with a dataset, and its table of groups."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import binomtest

from core import __main__, datasets
from core.building import bias, card, licences
from core.building.card import readme
from core.datasets import assemble
from core.ground import xmp

ODD = ("a: b", 'quo"te', "new\nline", "- x", "\\", "no", "7", "{y}", "\x07\u2028\x85", "ééé 🦉")


def named(toy: Any, classes: tuple[str, ...] = ODD, name: str = 'x: "y"\n---\n# z', **more: Any):
    base = toy(60, classes=len(classes))
    return assemble(
        base.x,
        base.y,
        classes,
        base.splits,
        name=name,
        attributes=more.pop("attributes", None),
        **more,
    )


def head(text: str) -> dict[str, Any]:
    first, yml, _ = text.split("---\n", 2)
    assert first == ""
    return yaml.safe_load(yml)


def test_the_head_is_yaml_whatever_names_hold(toy):
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(ODD), "_type": "ClassLabel"},
        "run: x": {"dtype": "string", "_type": "Value"},
    }
    dataset = named(toy, terms={"licence": 'my: "own"\n', "consent": "not needed"})
    text = readme(dataset, files={"train": "data/train-*.parquet"}, features=features)
    said = head(text)
    names = said["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert [names[str(i)] for i in range(10)] == list(ODD)
    assert said["dataset_info"]["features"][0] == {"name": "image", "dtype": "image"}
    assert said["dataset_info"]["features"][2] == {"name": "run: x", "dtype": "string"}
    assert said["pretty_name"] == dataset.name
    assert (said["license"], said["license_name"]) == ("other", 'my: "own"\n')
    assert said["size_categories"] == ["n<1K"]
    assert said["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert said["privacy"] == {"epsilon": None, "delta": None, "unit": None}
    assert said["fingerprint"] == dataset.fingerprint
    body = text.split("---\n", 2)[2]
    assert "\n# z" not in body  # a name makes no heading of its own
    assert max(line.count("|") for line in body.splitlines() if "quo" in line) == 6


def test_the_hub_and_the_page_are_told_of_what_is_not_real(toy):
    base = toy(60)
    origin = np.array(["real"] * 45 + ["synthetic"] * 10 + ["adversarial"] * 5)
    dataset = dataclasses.replace(
        base, attributes={"origin": origin}, terms={"licence": "cc by-sa 4.0", "consent": "given"}
    )
    text = readme(dataset, purpose="Research", overrides={"near": "they are meant | to be there"})
    assert head(text)["license"] == "cc-by-sa-4.0"
    assert head(text)["tags"] == ["simulacra", "synthetic", "adversarial"]
    assert "**15 of its 60 items are not real** (25 %)" in text
    assert "| synthetic | 10 | 16.7 % |" in text
    assert "| class 0 | 20 | 5 | 5 | 30 |" in text.replace("\\", "")
    assert "  - `near`: they are meant \\| to be there" in text
    assert "It leaves for: Research" in text
    about = card.of(dataset)
    people = next(a for a in about.answers if a.question == "Does it relate to people?")
    assert people.text == "Yes; its owner says that they agreed."
    assert not next(a for a in about.answers if a.question.startswith("Who maintains")).known
    assert about.record()["origins"] == {"real": 45, "synthetic": 10, "adversarial": 5}


def test_what_nobody_has_said_is_not_known(toy):
    text = readme(toy(24, classes=0))
    assert head(text)["license"] == "unknown"
    assert "- Licence: not known" in text
    assert "- Consent of the people shown: not known" in text
    assert "no finished experiment was made on this very content" in text
    assert "**Who created it, and who paid for it?** Not known" in text.replace("\\", "")


def test_groups_are_counted_with_wilsons_interval_and_small_ones_say_that_they_cannot_tell(toy):
    base = toy(240)
    rng = np.random.default_rng(0)
    site = rng.choice(["north", "south", "west"], 240, p=[0.7, 0.25, 0.05])
    right = np.where(rng.random(240) < 0.5, (site != "south").astype(float), np.nan)
    dataset = dataclasses.replace(base, attributes={"site": site, "picture": site.copy()})
    rows = bias.table(dataset, right)
    assert {row.column for row in rows} == {"class", "site"}
    for row in rows:
        items = [
            i
            for i in range(240)
            if row.value in (site[i] if row.column == "site" else base.classes[base.y[i]],)
        ]
        asked = [right[i] for i in items if right[i] == right[i]]
        sure = binomtest(len(items), 240).proportion_ci(method="wilson")
        assert row.n == len(items) == Counter(site)[row.value] or row.column == "class"
        assert row.share.interval == pytest.approx((sure.low, sure.high))
        assert row.accuracy is not None
        assert row.accuracy.n == len(asked)
        hits = binomtest(int(sum(asked)), len(asked)).proportion_ci(method="wilson")
        assert row.accuracy.interval == pytest.approx((hits.low, hits.high))
    west = next(row for row in rows if row.value == "west")
    assert west.verdict == f"cannot tell: {west.n} of 30 items"
    assert west.n < 30
    told = bias.sentences(rows, right)
    assert any(text.startswith("site west: ") for text in told)
    assert any(text.startswith("site south: right in 0 %") for text in told)


def test_the_values_of_drawn_faces_are_named_and_a_measured_number_makes_no_group():
    faces = datasets.load("faces", {"count": 64, "size": 16})
    rows = bias.table(faces)
    assert ("glasses", "none") in {(row.column, row.value) for row in rows}
    assert {row.column for row in rows} <= {"class", *(faces.attributes or {})}
    for column in {row.column for row in rows}:
        assert sum(row.n for row in rows if row.column == column) == 64


def test_licences_are_found_by_their_id_and_the_nearest_is_named():
    found = licences.find("cc by 4.0")
    assert found is not None
    assert (found.id, found.hub, found.commercial, found.share) == (
        "CC-BY-4.0",
        "cc-by-4.0",
        True,
        "",
    )
    assert licences.LICENCES["CC-BY-NC-SA-4.0"].commercial is False
    assert licences.find("mine") is None
    assert licences.find("Apache-2.0, drawn by this program") is licences.LICENCES["Apache-2.0"]
    assert "Did you mean 'CC-BY-SA-4.0'?" in licences.nearest("CC-BY-SA-4")
    assert licences.find("LicenseRef-hospital") == licences.Licence("LicenseRef-hospital", None)
    of = licences.LICENCES
    assert licences.allows(of["CC-BY-SA-4.0"], of["CC-BY-SA-3.0"])
    assert not licences.allows(of["CC-BY-SA-3.0"], of["CC-BY-SA-4.0"])
    assert not licences.allows(of["CC-BY-SA-4.0"], of["ODbL-1.0"])
    assert not licences.allows(of["GPL-3.0-only"], of["GPL-2.0-only"])
    assert licences.allows(of["MIT"], of["CC-BY-4.0"])


def test_a_sheet_of_each_class_is_drawn_and_its_name_is_a_plain_file(toy):
    drawn = card.figures(named(toy))
    assert len(drawn) == 10
    assert all(name.startswith(".figures/") and name.isascii() for name in drawn)
    assert ".figures/00-a-b.png" in drawn
    assert not any(xmp.read(sheet) for sheet in drawn.values())
    made = dataclasses.replace(named(toy), attributes={"origin": np.full(60, "synthetic")})
    assert all(xmp.read(sheet) for sheet in card.figures(made).values())
    text = readme(named(toy), figures=drawn)
    assert "](<.figures/00-a-b.png>)" in text


def test_drift_failures_and_the_plan_are_told_from_what_was_recorded(toy, monkeypatch):
    from core.building import failures, history

    base = toy(240)
    dataset = dataclasses.replace(
        base, source={"plan": {"overrides": {"seen": "as asked"}}, "plan_hash": "ab12"}
    )
    index, fell = np.arange(240), np.arange(240) % 2 == 0
    told = failures.Failure("job", "wrong by net under attack (8/255)", index, fell)
    monkeypatch.setattr(failures, "failures", lambda dataset: [told])

    class Ended:
        """A comparison that has ended."""

        def __init__(self, fingerprint: str) -> None:
            self.found = {"fingerprint": fingerprint, "sentence": f"b differs ({fingerprint[:4]})"}

        def result(self) -> dict[str, Any]:
            return self.found

    ended = [Ended(dataset.fingerprint), Ended("other")]
    monkeypatch.setattr(
        history.jobs, "listing", lambda *kinds: ended if "drift" in kinds or len(kinds) == 2 else []
    )
    monkeypatch.setattr(card.proof, "proofs", lambda dataset, **_: [])
    text = readme(dataset)
    plain = text.replace("\\", "")
    assert f"- b differs ({dataset.fingerprint[:4]})" in plain
    assert "b differs (othe)" not in plain
    assert (
        "50 % (43.7 to 56.3 %) of 240 images are wrong by net under attack (8/255); most of all class 0"
        in plain
    )
    assert "- Plan: `ab12`" in text
    assert "`seen`: as asked" in text


def test_the_card_of_a_dataset_is_a_command(tmp_path, capsys):
    out = tmp_path / "README.md"
    assert (
        __main__.main(["card", "digits", "--purpose", "commercial", "--out", str(out), "--json"])
        == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert said["door"] == []
    assert said["origins"] == {"real": 1797}
    assert said["privacy"] == {"epsilon": None, "delta": None, "unit": None}
    first = said["groups"][0]
    assert (first["column"], first["value"], first["n"]) == ("class", "0", 178)
    assert first["share"] == pytest.approx(178 / 1797)
    assert first["accuracy"] is None
    assert head(out.read_text("utf-8"))["license"] == "cc-by-4.0"
    assert "It leaves for: commercial" in out.read_text("utf-8")
    assert __main__.main(["card", "digits", "--who", "me"]) == 2
    assert "'digits' is a dataset, and --who is said of a run" in capsys.readouterr().err
