"""What goes out of the door: long texts in NPZ, one gate for every ZIP, and the improvement that ships."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from core import building, datasets, jobs
from core.building import detect
from core.building.adaptive import AdaptConfig
from core.building.door import DoorConfig
from core.building.experiment import Experiment, ExperimentConfig, TrialConfig
from core.building.improve.config import Beat
from core.building.layouts import npz
from core.catalog import UserError
from core.datasets import assemble, plan
from core.ground import files, sheets
from core.ground.watch import Stopped, Watch

N = 24


def made(consent: str = "not needed", **columns: np.ndarray) -> datasets.Dataset:
    """Gives noise in two classes, half of it for training."""
    x = np.random.default_rng(0).integers(0, 256, (N, 1, 8, 8)).astype(np.uint8)
    rows = np.arange(N)
    return assemble(
        x,
        rows % 2,
        ("a", "b"),
        {"train": rows[12:], "valid": rows[:6], "test": rows[6:12]},
        attributes=columns or None,
        name="noise",
        terms={"licence": "CC-BY-4.0", "consent": consent},
    )


# --- Long texts -------------------------------------------------------------------------------------------------------


def test_a_column_with_one_long_text_leaves_npz_as_bytes_and_comes_back(tmp_path, monkeypatch):
    texts = np.array([f"§{i}" for i in range(N)], dtype="U3000")
    texts[20] = "é" * 3000
    lineage = {
        "origin": np.array(["augmented"] * N),
        "parent": np.full(N, -1),
        "run": np.full(N, ""),
        "seed": np.full(N, 1),
        "parameters": texts,
    }
    dataset, quick = made(**lineage), DoorConfig(near=False)
    monkeypatch.setattr(npz, "_WIDE", N * 3000)  # a quarter of what the texts would take
    record = building.export(dataset, ["npz"], tmp_path / "out", config=quick, overrides={})
    assert "parameters are equal" in record["layouts"][0]["checked"]
    with np.load(tmp_path / "out/npz/dataset.npz", allow_pickle=False) as arrays:
        assert "train_parameters" not in arrays.files and arrays["train_origin"][0] == "augmented"
        ends = arrays["train_parameters_ends"]
        packed = arrays["train_parameters_utf8"].tobytes()
    assert len(packed) == sum(len(str(text).encode()) for text in texts[12:])
    assert packed[ends[7] : ends[8]].decode() == "é" * 3000  # the ninth of the training items
    again = datasets.load("folder", {"path": str(tmp_path / "out/npz")})
    assert again.attributes is not None
    assert sorted(again.attributes["parameters"]) == sorted(texts)


@pytest.mark.parametrize(
    ("packed", "ends", "said"),
    [
        (b"abc", [1, 2], "do not end where"),
        (b"abc", [2, 1, 3], "do not end where"),
        (b"abc", [-1, 3], "do not end where"),
        (b"abc", [1.0, 3.0], "do not end where"),
        (b"a\xff", [1, 2], "are no UTF-8"),
    ],
)
def test_texts_that_do_not_fit_their_ends_are_a_sentence(tmp_path, packed, ends, said):
    x = np.zeros((2, 8, 8), np.uint8)
    file = tmp_path / "x.npz"
    np.savez(file, x=x, note_utf8=np.frombuffer(packed, np.uint8), note_ends=np.array(ends))
    with pytest.raises(UserError, match=f"'note_utf8' that {said}"):
        plan.plan(plan.FolderConfig(path=str(file)))


def test_where_a_picture_comes_from_is_read_of_bytes_too(tmp_path):
    origins = [b"real", b"synthetic", b"synthetic"]
    np.savez(
        tmp_path / "x.npz",
        train_origin_utf8=np.frombuffer(b"".join(origins), np.uint8),
        train_origin_ends=np.cumsum([len(text) for text in origins]),
    )
    assert detect.file(tmp_path / "x.npz").not_real == 2


# --- One gate for every ZIP -------------------------------------------------------------------------------------------


def test_a_zip_of_people_of_unknown_consent_is_held_until_somebody_says_why(tmp_path):
    out = tmp_path / "set.zip"
    with pytest.raises(
        UserError, match=r"not let out at the door. \(consent\) This dataset says"
    ) as held:
        building.pack(made(consent="unknown"), out)
    assert "--override consent=" in str(held.value)
    assert not list(tmp_path.iterdir())
    facts = building.pack(made(consent="unknown"), out, overrides={"consent": "all have signed"})
    assert [told["check"] for told in facts["door"]] == ["consent"]
    with zipfile.ZipFile(out) as packed:
        assert "all have signed" in packed.read("README.md").decode()


def test_a_zip_that_shows_nobody_is_not_held(tmp_path):
    facts = building.pack(made(), tmp_path / "set.zip")
    assert (facts["images"], facts["door"], facts["left_out"]) == (N, [], 0)


# --- One definition of what a referee is asked ------------------------------------------------------------------------


def test_what_a_comparison_by_a_referee_takes_is_written_once():
    shared = TrialConfig.knobs()
    for config in (AdaptConfig, ExperimentConfig):
        assert {name: config.knobs()[name] for name in shared} == shared
    asked = AdaptConfig(steps=55, confidence=0.25, distinct=False, seed=9)
    whole = asked.experiment()
    assert whole.trial() == asked.trial()
    assert (whole.steps, whole.seed, whole.chain, whole.gate) == (55, 9, False, asked.gate)
    assert (asked.gate.confidence, asked.gate.distinct, asked.gate.manifold) == (0.25, False, 0)


def test_a_job_of_before_is_read_as_it_was_asked():
    before = {
        "source": "augmented", "budget": 100, "rounds": 2, "pairs": 6, "by": "class", "pipeline": "digits",
        "family": "gan", "model_images": 500, "confidence": 0.1, "authentic": False, "distinct": True,
        "steps": 40, "batch": 32, "width": 8, "test_images": 60, "seed": 3,
    }  # fmt: skip
    assert AdaptConfig.of(before, "adapt").record() == before


def test_a_training_of_a_referee_lets_the_clock_be_told_and_can_be_ended(toy):
    ticks: list[int] = []
    config = ExperimentConfig(
        per_class="10", chain=False, trivial=False, steps=20, width=4, batch=8
    )
    trial = Experiment(toy(120), config, watch=Beat(Watch(), lambda: ticks.append(1)))
    data = trial.subset(0, 10)
    trial.fit(data, 0)
    assert ticks

    class Over(Watch):
        def stopped(self) -> str:
            return "Its time was over."

    trial.watch = Beat(Over(), lambda: ticks.append(1))
    with pytest.raises(Stopped, match="Its time was over"):
        trial.fit(data, 0)


# --- An improvement to look at ----------------------------------------------------------------------------------------


def test_two_classes_of_the_digits_can_be_rare_and_nothing_else_changes():
    whole, rare = datasets.load("digits"), datasets.load("digits", {"rare": True})
    counts, before = rare.counts(), whole.counts()
    for name in whole.classes:
        kept = {split: before[name][split] for split in ("valid", "test")}
        assert counts[name] == {"train": 5 if name in "38" else before[name]["train"], **kept}
    for split in ("valid", "test"):
        assert np.array_equal(rare.part(split)[0], whole.part(split)[0])
    assert "5 training images are left of 3 and of 8" in rare.notes[-1]


def test_the_improvement_that_ships_is_of_the_digits_with_two_rare_classes(gallery):
    job = jobs.get("shipped-digits-improved")
    result = job.result()
    assert result["fingerprint"] == datasets.load("digits", {"rare": True}).fingerprint
    assert result["done"] and result["verdict"] and result["seconds"] <= 1.2 * result["limit"]
    for origin in result["added"]:
        sheet = (job.path / "joined" / f"{origin}.png").read_bytes()
        assert len(sheets.tiles(sheet)) == 24
    size = sum(file.stat().st_size for file in job.path.rglob("*") if file.is_file())
    assert size <= 300_000
    log, _ = files.Log(job.path).read()
    assert log[-1] == {**log[-1], "verdict": result["verdict"]}
    assert json.loads((job.path / "job.json").read_text("utf-8"))["config"]["dataset"]["config"][
        "rare"
    ]
