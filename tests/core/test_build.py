"""Building datasets: gates, lineage, leaks, and the ZIP."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from core import building, datasets, fitted, jobs, kinds, worker
from core.building import BuildConfig, archive, gate
from core.building.outgoing import folder_names
from core.catalog import UserError


def built(dataset, **values):
    """Builds what was asked for in the spelling of before there were plans."""
    plan = BuildConfig(**values).planned(dataset)
    return building.build(plan, dataset=dataset)


def test_a_gate_refuses_the_wrong_class_copies_and_repetitions():
    rng = np.random.default_rng(0)
    real = rng.standard_normal((200, 4))
    fresh = rng.standard_normal((40, 4)) * 1.5 + 3
    copies = real[:10] + 1e-4
    made = np.concatenate([fresh, copies, fresh[:5] + 1e-5])
    chances = np.full(55, 0.9)
    chances[:3] = 0.1
    passed = gate(made, real, chances=chances, confidence=0.5)
    assert passed.refused["confidence"] == 3
    assert passed.refused["authenticity"] >= 10
    assert not passed.keep[40:50].any()
    assert not passed.keep[53:].any()  # repeats of the fourth and fifth, which were kept
    assert passed.keep[:3].sum() == 0
    everything = gate(made, real, authentic=False, distinct=False)
    assert everything.keep.all()
    again = gate(fresh, real, authentic=False, earlier=fresh)
    assert again.refused["duplicates"] == 40


def test_augmented_copies_join_training_only_and_know_their_parent(toy):
    dataset = toy(60)
    made, facts, _ = built(dataset, name="more", pipeline="digits", copies=2)
    train = dataset.splits["train"]
    assert len(made) == 60 + 2 * len(train)
    assert facts["added"] == {"augmented": 80, "synthetic": 0, "adversarial": 0}
    for split in ("valid", "test"):
        assert np.array_equal(made.splits[split], dataset.splits[split])
    assert np.array_equal(made.x[:60], dataset.x)
    columns = made.attributes
    assert columns is not None
    assert set(columns["origin"][:60]) == {"real"}
    assert np.array_equal(columns["parent"][60:], np.tile(train, 2))
    assert made.y is not None
    assert dataset.y is not None
    assert np.array_equal(made.y[60:], dataset.y[columns["parent"][60:]])
    said = json.loads(columns["parameters"][60])
    assert [step["step"] for step in said] == ["rotate", "translate", "scale", "shear"]
    assert made.parent == dataset.fingerprint
    assert building.changes(made)["plan"]["sources"][0]["kind"] == "augmented"
    same, _, _ = built(dataset, name="more", pipeline="digits", copies=2)
    assert same.fingerprint == made.fingerprint
    assert building.origins(made) == {"real": 60, "augmented": 80, "synthetic": 0, "adversarial": 0}


@pytest.mark.parametrize(
    ("size", "channels", "classes", "levels"), [(8, 3, 0, 256), (16, 1, 2, 17)]
)
def test_a_zip_holds_class_folders_and_a_manifest_and_comes_back(
    toy, tmp_path, size, channels, classes, levels
):
    dataset = toy(60, size=size, channels=channels, classes=classes, levels=levels)
    made, _, _ = built(dataset, name="x", pipeline="scans")
    out = tmp_path / "set.zip"
    facts = archive(made, out)
    assert facts == {"images": 100, "bytes": out.stat().st_size}
    with zipfile.ZipFile(out) as packed:
        rows = list(csv.DictReader(io.TextIOWrapper(packed.open("manifest.csv"))))
        about = json.loads(packed.read("about.json"))
        first = np.asarray(Image.open(packed.open(rows[0]["file"])))
    assert list(rows[0]) == list(building.MANIFEST)
    assert len(rows) == 100
    assert rows[0]["split"] == "valid"
    assert rows[0]["file"] == ("valid/class 0/00.png" if classes else "valid/00.png")
    assert (rows[60]["origin"], rows[60]["parent"]) == ("augmented", rows[20]["file"])
    assert rows[60]["label"] == (rows[20]["label"] if classes else "")
    assert json.loads(rows[60]["parameters"])[0]["step"] == "rotate"
    assert about["origins"] == {"real": 60, "augmented": 40, "synthetic": 0, "adversarial": 0}
    plain = first[None] if channels == 1 else first.transpose(2, 0, 1)
    assert np.array_equal(plain, (made.x[0].astype(float) * 255 / (levels - 1)).round())
    again = io.BytesIO()
    archive(made, again)
    assert again.getvalue() == out.read_bytes()
    back = datasets.load("folder", {"path": str(out), "size": size})
    # what the ZIP calls train stays train; a duplicate of a held-out image would be left out
    assert len(back) == 100
    assert len(back.splits["test"]) == 10


def test_a_class_name_cannot_write_elsewhere_nor_run_in_a_spreadsheet(toy):
    base = toy(24)
    odd = datasets.assemble(
        base.x, base.y, ("../../etc", "=cmd()"), base.splits, levels=256, name="odd"
    )
    out = io.BytesIO()
    archive(odd, out)
    with zipfile.ZipFile(out) as packed:
        names = packed.namelist()
        text = packed.read("manifest.csv").decode()
    assert not any(".." in name.split("/") for name in names)
    assert {name.split("/")[1] for name in names if name.endswith(".png")} == {"_.._etc", "_cmd()"}
    assert ",'=cmd()," in text
    assert folder_names(("a/b", "a_b", "")) == ["a_b", "a_b 1", "class 2"]


def test_samples_of_a_run_join_as_a_job(trained, setting, here):
    setting(nice=0, threads=1)
    values = {
        "build.name": "mixed",
        "build.run": trained.runs["gan"],
        "build.per_class": 2,
        "build.confidence": 0.0,
        "build.distinct": False,
    }
    job = kinds.submit("build", {"dataset": "digits"}, values)
    assert job.result() is None
    worker.work(job.path)
    job = jobs.get(job.id)
    assert job.status == "finished", job.message
    facts = job.result()
    assert facts is not None
    assert facts["added"]["synthetic"] == 20
    made = datasets.load("mixed")
    assert made.attributes is not None
    assert set(made.attributes["run"][-20:]) == {trained.runs["gan"]}
    assert "id" in json.loads(made.attributes["parameters"][-1])
    assert np.isin(np.arange(len(made) - 20, len(made)), made.splits["train"]).all()
    with pytest.raises(UserError, match="There is a dataset 'mixed' already"):
        kinds.submit("build", {"dataset": "digits"}, values)


def test_a_run_that_has_seen_held_out_images_is_refused(trained):
    digits = datasets.load("digits")
    run = jobs.get(trained.runs["gan"])
    assert not fitted.clearance(run, digits).sentence
    swapped = datasets.assemble(
        np.asarray(digits.x),
        digits.y,
        digits.classes,
        {
            "train": digits.splits["test"],
            "valid": digits.splits["valid"],
            "test": digits.splits["train"],
        },
        levels=17,
        name="swapped",
    )
    with pytest.raises(
        UserError,
        match=r"has learned from [\d,]+ images that are held out here, so its samples would leak",
    ):
        built(swapped, name="x", run=run.id, per_class=1)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "A build adds copies by a pipeline, or samples of a run, and got neither"),
        ({"pipeline": "digit"}, "There is no pipeline 'digit'. Did you mean 'digits'?"),
        ({"run": "nobody"}, "There is no run 'nobody'"),
    ],
)
def test_a_build_of_nothing_is_refused(toy, values, text):
    with pytest.raises(UserError) as error:
        built(toy(60), name="x", **values)
    assert str(error.value).startswith(text)
