"""The commands about data: inspect, augment, experiment, export; and training with a saved pipeline."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import augment, datasets, jobs, kinds, runs, worker
from core.__main__ import main
from core.building import card
from core.catalog import UserError
from core.ground import files, sheets


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, here: Any
) -> Callable[..., Any]:
    """Runs a command and its job in this process; with --json gives the object, refused ones their line."""
    monkeypatch.setattr(jobs, "spawn", lambda path: worker.work(path) and None)

    def command(*words: object, code: int = 0) -> Any:
        capsys.readouterr()
        assert main([str(word) for word in words]) == code, capsys.readouterr().err
        out, err = capsys.readouterr()
        return err if code else json.loads(out) if "--json" in words else out

    return command


@pytest.fixture
def faulty(toy: Callable[..., Any]) -> Any:
    """A saved dataset with a leak, a duplicate and a blank image."""
    base = toy(120)
    x = base.x.copy()
    x[110], x[111], x[112] = x[30], x[100], 5
    y = base.y.copy()
    y[110], y[111] = y[30], y[100]
    return datasets.save(
        "faulty", datasets.assemble(x, y, base.classes, base.splits, name="faulty")
    )


def test_a_dataset_is_inspected_mended_and_saved(run, faulty):
    facts = run("inspect", "faulty", "--list", "leak", "--json", "--set", "inspect.map=100")
    assert {"leak": 1, "exact": 1, "blank": 1}.items() <= facts["counts"].items()
    assert facts["issues"][0]["sentence"] == "Image 30 (test) has the same pixels."
    text = run("inspect", "faulty", "--exclude", "leak", "--exclude", "blank", "--save", "mended")
    assert "Decisions: 2 left out." in text
    assert "Saved mended with 118 images." in text
    assert datasets.load("mended").parent == faulty.fingerprint
    assert "There is no check 'leeks'. Did you mean 'leak'?" in run(
        "inspect", "faulty", "--list", "leeks", code=2
    )
    compared = run("inspect", "mended", "--against", "faulty", "--json")
    assert 0 <= compared["copying"] <= 1


@pytest.fixture
def contradicting() -> Any:
    """A saved dataset of noise, so that no label can be judged, with a pair of copies labelled Box and Ring."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (140, 1, 8, 8)).astype(np.uint8)
    y = np.arange(140) % 2
    x[41], x[43] = x[40], x[45]
    held = {"train": np.arange(20, 140), "valid": np.arange(10), "test": np.arange(10, 20)}
    return datasets.save(
        "pairs", datasets.assemble(x, y.astype(np.int64), ("Box", "Ring"), held, name="pairs")
    )


def test_labels_that_cannot_be_judged_are_not_changed_and_copies_are_decided_one_by_one(
    run, contradicting
):
    facts = run("inspect", "pairs", "--relabel", "--exclude", "exact", "--json")
    told = facts["labels"]
    assert {"judged", "reason", "accuracy", "precision", "suspects"} <= told.keys()
    assert (told["judged"], told["precision"], told["suspects"]) == (False, None, 0)
    assert 0.2 < told["accuracy"] < 0.8
    assert (facts["counts"]["contradiction"], facts["counts"]["exact"]) == (1, 1)
    assert facts["decisions"]["sentence"] == "1 left out."  # of equal label; of the pair, none
    copies = {row["name"]: row for row in facts["checks"]}
    assert "mirrored" in copies["near"]["cannot_see"]
    text = run("inspect", "pairs", "--relabel", "--list", "contradiction")
    assert "--relabel changed nothing: labels cannot be judged here." in text
    assert "The same pixels are labelled Box (image 40 (train)), Ring (image 41 (train))." in text
    assert "Exact duplicates (1 found), Leaks between splits (0 found): Compares the pixels" in text

    for words, said in (
        (("--exclude", "contradiction"), "there a person decides each one. See them with --list"),
        (("--exclude", "doubt"), "there a person decides each one"),
        (("--label", "40=box"), "--label must be IMAGE=CLASS with the number of an image and a"),
        (("--label", "140=Box"), "There is no image 140: pairs has images 0 to 139"),
        (("--drop", "-1"), "There is no image -1"),
    ):
        assert said in run("inspect", "pairs", *words, code=2)
    text = run("inspect", "pairs", "--label", "41=Box", "--drop", "40", "--save", "mended")
    assert "Decisions: 2 left out, 1 relabelled." in text
    mended = datasets.load("mended")
    assert len(mended) == 138
    assert mended.y is not None
    assert mended.classes[mended.y[40]] == "Box"  # image 41, with 40 before it gone


def test_single_images_are_decided_with_a_reason_and_taken_back_by_command(run, faulty):
    facts = run("inspect", "faulty", "--drop", 3, "--keep", 4, "--reason", "seen by Ada", "--json")
    assert [(row["action"], row["images"], row["reason"]) for row in facts["decided"]] == [
        ("exclude", [3], "seen by Ada"),
        ("accept", [4], "seen by Ada"),
    ]
    first, second = (row["id"] for row in facts["decided"])
    assert f"{second}  1 × kept: image 4. seen by Ada" in run("inspect", "faulty")
    left = run("inspect", "faulty", "--undo", "last", "--json")["decided"]
    assert [row["id"] for row in left] == [first]
    assert run("inspect", "faulty", "--undo", first, "--json")["decided"] == []
    assert "There is no decision 'last'" in run("inspect", "faulty", "--undo", "last", code=2)
    assert "There is no image 120" in run("inspect", "faulty", "--keep", 120, code=2)


def test_a_version_that_would_be_the_same_is_refused_with_the_reason(run, contradicting):
    said = run("inspect", "pairs", "--relabel", "--save", "mended", code=2)
    assert "Labels cannot be judged on this set, because the predictor behind it names" in said
    assert "So --relabel changes nothing, and a version would be the same." in said
    assert "mended" not in datasets.names()


def test_a_pipeline_is_shown_kept_applied_and_exported(run, tmp_path):
    listed = run("augment", "--json")
    assert {"digits", "photos"} <= {row["id"] for row in listed["pipelines"]}
    assert "rotate" in {row["name"] for row in listed["steps"]}
    out = tmp_path / "grid.png"
    run("augment", "digits", "-n", 4, "--draws", 3, "--out", out)
    assert sheets.metadata(out.read_bytes())["count"] == 16
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(run("augment", "digits", "--export", "yaml"))
    kept = run("augment", recipe, "--save", "mine", "--json")
    assert augment.load(kept["saved"]).hash == kept["hash"] == augment.load("digits").hash
    pictures = tmp_path / "in" / "cats"
    pictures.mkdir(parents=True)
    Image.fromarray(np.full((30, 20, 3), 200, np.uint8)).save(pictures / "a.png")
    (pictures / "b.txt").write_text("no picture")
    facts = run(
        "augment",
        "photos",
        "--folder",
        tmp_path / "in",
        "--to",
        tmp_path / "out",
        "--size",
        16,
        "--json",
    )
    assert facts["pictures"] == 1
    assert facts["refused"] == [
        ["cats/b.txt", "is not a PNG, JPEG, WebP, BMP, TIFF, AVIF or HEIC picture"]
    ]
    with Image.open(tmp_path / "out" / "cats" / "a.png") as made:
        assert made.size == (16, 16)
    for words, text in (
        (("augment", "nothing"), "There is no pipeline 'nothing'"),
        (("augment", "digits", "-n", 0), "-n must be at least 1 and at most 64, got 0"),
        (("augment", "digits", "--folder", "x"), "--folder and --to go together"),
        (("augment", tmp_path / "no.json"), "cannot be read"),
        (
            ("augment", "photos", "--folder", tmp_path / "in", "--to", tmp_path / "out"),
            "is not empty",
        ),
    ):
        assert text in run(*words, code=2)


def test_an_experiment_is_expected_done_and_told(run, toy):
    datasets.save("toy", toy(240))
    small = [
        word
        for value in ("steps=20", "width=4", "pairs=6", "trivial=false", "test_images=50")
        for word in ("--set", f"experiment.{value}")
    ]
    asked = ("experiment", "--dataset", "toy", "--per-class", "3", *small)
    assert run(*asked, "--expect", "--json")["seconds"] > 0
    facts = run(*asked, "--json")
    assert facts["done"]
    assert facts["verdict"].endswith(".")
    (placebo,) = (cell for cell in facts["cells"] if cell["arm"] == "placebo")
    assert placebo["low"] <= placebo["effect"] <= placebo["high"]
    assert placebo["p_holm"] >= placebo["p"]
    assert "experiment.per_class must be 1 to 8 whole numbers" in run(
        "experiment", "--dataset", "toy", "--per-class", "few", code=2
    )


def test_the_terms_of_a_saved_dataset_can_be_said_later(run, faulty, tmp_path):
    said = run("datasets", "faulty", "--licence", "CC-BY-4.0", "--consent", "given", "--json")
    assert (said["licence"], said["consent"]) == ("CC-BY-4.0", "given")
    assert datasets.load("faulty").terms == {"licence": "CC-BY-4.0", "consent": "given"}
    who = ("--creator", "Ada, paid by nobody", "--maintainer", "ada@example.org")
    assert run("datasets", "faulty", *who, "--json")["licence"] == "CC-BY-4.0"
    faulty = datasets.load("faulty")
    sheet = {said.question: said.text for said in card.of(faulty).answers}
    assert sheet["Who created it, and who paid for it?"] == (
        "Ada, paid by nobody, as its owner says."
    )
    assert "ada@example.org" in sheet["Who maintains it, and how are they reached?"]
    out = tmp_path / "who"
    held = ("--override", "test=tried", "--override", "near=tried", "--override", "consent=tried")
    run("export", "faulty", "--as", "croissant", *held, "--out", str(out))
    said = json.loads((out / "croissant" / "croissant.json").read_text())
    assert said["creator"]["name"] == "Ada, paid by nobody"
    back = run(
        "datasets", "folder", "--set", f"path={out / 'croissant'}", "--save", "back", "--json"
    )
    assert (back["creator"], back["maintainer"]) == (who[1], who[3])
    assert "consent must be one of" in run("datasets", "faulty", "--consent", "yes", code=2)
    assert "comes with the program" in run("datasets", "digits", "--licence", "MIT", code=2)


def test_a_dataset_is_built_and_exported(run, toy, tmp_path):
    datasets.save("toy", toy(60))
    datasets.state("toy", licence="", consent="not needed")
    out = tmp_path / "toy.zip"
    facts = run(
        "export", "toy", "--build", "larger", "--pipeline", "digits", "--out", out, "--json"
    )
    assert (facts["name"], facts["images"]) == ("larger", 100)
    with zipfile.ZipFile(out) as packed:
        table = packed.read("manifest.csv").decode().splitlines()
    assert table[0] == "file,label,split,origin,parent,run,seed,parameters"
    assert len(table) == 101
    assert "needs --as LAYOUTS and --out FOLDER, --out dataset.zip or --build NAME" in run(
        "export", "toy", code=2
    )
    assert "Add --build NAME" in run("export", "toy", "--pipeline", "digits", "--out", out, code=2)
    assert "--out must end in .zip" in run("export", "toy", "--out", tmp_path / "x.tar", code=2)


# --- Training with a pipeline --------------------------------------------------------------------------------------


def test_a_run_is_trained_with_a_pipeline_and_records_it(here, monkeypatch):
    plain = here()
    chained = here(**{"augment.pipeline": "digits"})
    assert chained.status == "finished", chained.message
    facts = runs.record(chained)
    assert [step["name"] for step in facts["augment"]["steps"]] == [
        "rotate",
        "translate",
        "scale",
        "shear",
    ]
    assert "augment" not in runs.record(plain)
    # the same seed, and yet other images: another model
    first, second = (files.Log(run.path).read()[0][-1] for run in (plain, chained))
    assert first["loss"] != second["loss"]
    classifier = here(None, **{"augment.pipeline": "digits"})
    assert classifier.status == "finished", classifier.message
    assert "augment" in runs.record(classifier)


def test_a_pipeline_stands_before_the_critic_where_there_is_one(here):
    plain = here("gan", **{"family.augment": "always"})
    chained, again = (
        here(
            "gan",
            **{"augment.pipeline": "digits", "augment.critic": True} | {"family.augment": "always"},
        )
        for _ in range(2)
    )
    assert chained.status == "finished", chained.message
    assert runs.record(chained)["augment"]["critic"] is True
    told = [
        [
            record["critic_loss"]
            for record in files.Log(run.path).read()[0]
            if "critic_loss" in record
        ]
        for run in (plain, chained, again)
    ]
    assert told[0] != told[1] == told[2]


@pytest.mark.parametrize(
    ("family", "values", "words"),
    [
        ("vae", {}, "before a GAN's critic, and a vae has none. Leave augment.critic out"),
        (None, {}, "before a GAN's critic, and a classifier has none"),
        ("gan", {"family.augment": "off"}, "a critic that sees augmented images, got .*'off'"),
        ("gan", {"augment.pipeline": ""}, "needs a pipeline"),
        ("gan", {"augment.pipeline": "scans"}, "no gradient passes Gamma. Switch it off"),
    ],
)
def test_a_critic_that_cannot_see_through_a_pipeline_is_refused(here, family, values, words):
    asked = {"augment.pipeline": "digits", "augment.critic": True} | values
    with pytest.raises(UserError, match=words):
        here(family, **asked)
    assert not jobs.listing()


def test_a_pipeline_that_cannot_train_is_refused_before_the_job(here):
    with pytest.raises(UserError, match=r"There is no pipeline .digit."):
        here(**{"augment.pipeline": "digit"})
    slow = augment.save(augment.Pipeline().with_step("jpeg"), "slow")
    with pytest.raises(UserError, match="JPEG works one image at a time, too slow for training"):
        kinds.configure("train", {"dataset": "digits", "family": "vae"}, {"augment.pipeline": slow})
    assert not jobs.listing()


# --- Imports -----------------------------------------------------------------------------------------------------------


def test_metadata_is_removed_and_counted_and_terms_travel(tmp_path, setting):

    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        picture = Image.fromarray(rng.integers(0, 256, (20 + number, 30, 3)).astype(np.uint8))
        exif = Image.Exif()
        if number < 3:
            exif[0x0110] = "camera"
        if number == 0:
            exif.get_ifd(0x8825)[1] = "N"
            exif.get_ifd(0x8825)[2] = (48.0, 8.0, 0.0)
        out = io.BytesIO()
        picture.save(out, "JPEG", exif=exif.tobytes() if number < 3 else b"")
        (folder / f"{number}.jpg").write_bytes(out.getvalue())
    values = {"path": str(folder), "size": 8, "licence": "CC BY 4.0", "consent": "given"}
    made = datasets.bring("trip", values)
    assert "Metadata was removed from 3 pictures; 1 of them held a position." in made.notes
    assert made.terms == {"licence": "CC BY 4.0", "consent": "given"}
    assert made.attributes is not None
    assert sorted(made.attributes["height"]) == list(range(20, 32))
    assert set(made.attributes["picture"]) == {f"{n}.jpg" for n in range(12)}
    again = datasets.state("trip", consent="not needed")
    assert again.terms == {"licence": "CC BY 4.0", "consent": "not needed"}
    from core.quality import decisions
    from core.quality.decisions import apply

    decisions.decide(again, "exclude", [0], seen=0)
    assert apply(again, "less").terms == again.terms
    with pytest.raises(
        UserError, match="consent must be one of unknown, given, not needed, withdrawn, got 'yes'"
    ):
        datasets.state("trip", consent="yes")
    setting(view_only=1)
    with pytest.raises(UserError, match="This server is for viewing only"):
        datasets.state("trip", licence="x")
