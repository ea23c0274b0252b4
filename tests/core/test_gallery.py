"""The runs that ship with the code: there at once, like any other to look at, and never changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core import datasets, jobs, kinds, measure, runs
from core.catalog import UserError
from core.gallery import __main__ as making
from core.gallery.__main__ import LARGEST_MB, MODELS, RECIPES, pack
from core.ground import files
from core.robustness import StudyConfig, classifiers, images_of

THERE = [id for id in RECIPES if (jobs.SHIPPED / id).is_dir()]


def refused(call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def print_of(folder: Path) -> str:
    """One hash of all files of a folder, with their names."""
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            found.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return found.hexdigest()


# --- Looking ------------------------------------------------------------------------------------


def test_every_recipe_ships_within_its_budget():
    assert list(RECIPES) == THERE
    files = [f for id in RECIPES for f in (jobs.SHIPPED / id).rglob("*") if f.is_file()]
    assert sum(file.stat().st_size for file in files) <= LARGEST_MB * 1e6
    assert {file.suffix for file in files} == {
        ".json", ".jsonl", ".npy", ".npz", ".png", ".safetensors",
    }  # fmt: skip
    for id, recipe in RECIPES.items():
        job = jobs.read(jobs.SHIPPED / id)
        choice, values = kinds.flat(job.config)
        assert (job.kind, job.name, choice) == (recipe.kind, recipe.name, dict(recipe.choice))
        assert dict(recipe.values).items() <= values.items()
        assert not {"pid", "node"} & job.state.keys()


def test_in_an_empty_home_the_shipped_runs_are_there_in_their_order(gallery):
    assert [run.id for run in runs.listing()] == [
        id for id, recipe in RECIPES.items() if recipe.kind in ("train", "classifier")
    ]
    assert all(run.shipped and run.status == "finished" for run in runs.listing())
    assert jobs.damaged() == []


def test_ones_own_runs_come_first(gallery, here, setting):
    mine = here(name="Digits, GAN")
    assert not mine.shipped
    assert [run.id for run in runs.listing()][:2] == [mine.id, "shipped-digits-gan"]
    # the same name: the one that was made here; the id names the other
    assert jobs.find("Digits, GAN").id == mine.id
    assert jobs.find("Digits, VAE").id == "shipped-digits-vae"
    assert jobs.find("shipped-digits-gan").shipped
    setting(gallery=0)
    assert [run.id for run in runs.listing()] == [mine.id]
    assert refused(jobs.get, "shipped-digits-gan").startswith(
        "There is no job or run 'shipped-digits-gan'."
    )


def test_a_home_is_not_searched_for_code(gallery):
    for name in ("__pycache__", "__main__.py", "..", "."):
        assert refused(jobs.get, name).startswith("There is no job or run")


@pytest.mark.parametrize("id", [id for id in THERE if RECIPES[id].kind == "train"])
def test_a_shipped_model_makes_images_and_looking_writes_nothing(gallery, id):
    before = print_of(gallery / id)
    run = jobs.get(id)
    opened = runs.open_model(run)
    assert opened.sampling is not None
    x = opened.model.sample(range(8), None, 0, opened.sampling())
    assert (x.min() >= 0, x.max() <= 1, x.std() > 0.1) == (True, True, True)
    assert next(opened.model.parameters()).dtype == torch.float32
    assert runs.samples(run)
    records, damaged = files.Log(run.path).read()
    assert records[-1]["images"] == RECIPES[id].values["train.images"]
    assert damaged == 0
    assert any("copying" in record for record in records)
    assert print_of(gallery / id) == before


@pytest.mark.parametrize("id", [id for id in THERE if id in MODELS])
def test_every_shipped_model_is_measured_and_finds_its_images(gallery, id):
    run = jobs.get(id)
    found = measure.latest(run)
    assert found is not None
    assert (found.job, found.run, found.finished) == (f"{id}-measured", id, True)
    assert found.step == runs.preferred(run)
    assert found.conditions["fingerprint"] == runs.record(run)["dataset"]["fingerprint"]
    arrays = found.arrays()
    assert arrays is not None
    assert all(measure.sentences(found))
    assert measure.projection(found, "pca").shape == measure.projection(found, "tsne").shape
    if found.dataset == "digits":
        assert len(measure.reference_images(found)) == len(arrays.real)  # the dataset is the same
    opened = runs.open_model(run)
    again = opened.model.sample(
        range(4), torch.as_tensor(arrays.made_y[:4]).long(), 0, opened.sampling()
    )
    assert np.abs(again.numpy() * 255 - arrays.made[:4]).max() < 3  # other batch, other machine


def test_the_measures_of_one_dataset_may_be_ranked(gallery):
    found = [measure.latest(id) for id in THERE if id in MODELS]
    for dataset in ("digits", "faces"):
        (board,) = measure.boards([one for one in found if one.dataset == dataset])
        assert board.leading is not None


@pytest.mark.parametrize("id", [id for id in THERE if RECIPES[id].kind == "attack"])
def test_a_shipped_attack_is_of_the_shipped_weights_and_images(gallery, id):
    job = jobs.get(id)
    report = files.read_json(job.path / "report.json")
    digits = datasets.load("digits")
    assert report["complete"] and report["verdict"]["colour"] == "green"
    assert report["data"]["fingerprint"] == digits.fingerprint
    target = classifiers.target_of(job.target, digits)
    assert report["model"]["hash"] == target.card["hash"]
    x, y, *_ = images_of(digits, StudyConfig(n=1000))
    right = (target.predict(x) == y).tolist()
    assert right == [row["right"] for row in report["images"]]


# --- Not changing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "done"),
    [
        (jobs.stop, "stopped"),
        (jobs.resume, "resumed"),
        (jobs.delete, "deleted"),
        (lambda id: jobs.describe(id, name="Mine"), "renamed or annotated"),
        (lambda id: jobs.describe(id, note="Mine"), "renamed or annotated"),
    ],
)
def test_a_shipped_run_is_never_changed(gallery, act, done):
    before = print_of(gallery)
    assert refused(act, "shipped-digits-gan") == (
        f"Digits, GAN ships with Simulacra and is for looking only, so it cannot be {done}. "
        "Runs that were trained here can be. Train a copy with its settings, and change that one."
    )
    assert print_of(gallery) == before


def test_it_is_cloned_instead(gallery, monkeypatch):
    monkeypatch.setattr(jobs, "spawn", lambda path: None)
    shipped = jobs.get("shipped-digits-gan")
    choice, values = kinds.flat(shipped.config)
    copy = kinds.submit("train", choice, values, name="Mine")
    assert copy.config == kinds.configure("train", choice, values)
    assert not copy.shipped
    assert jobs.describe(copy.id, name="Mine too").name == "Mine too"


# --- Making -------------------------------------------------------------------------------------


def test_packing_keeps_what_looking_needs(here, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "RECORDS", 2)
    monkeypatch.setattr(making, "LEVELS", 255.0)  # after 4 steps, the smallest change is seen
    job = here("vae", name="As it was")
    with files.Log(job.path).file.open("a") as log:
        for step in range(5, 25):
            log.write(json.dumps({"step": step, "images": 64 * step, "loss": 0.123456789}) + "\n")
        log.write(json.dumps({"step": 25, "images": 1600, "warning": "odd"}) + "\n")
    recipe = making.Recipe("train", {"dataset": "digits", "family": "vae"}, "As it ships", "Note.")
    place = tmp_path / "gallery"
    packed = jobs.read(pack(job, "shipped-x", recipe, place))
    assert (packed.name, packed.note, packed.who) == ("As it ships", "Note.", "Simulacra")
    assert packed.config == job.config
    assert runs.record(packed) == runs.record(job)
    assert runs.checkpoints(packed) == [runs.preferred(job)]
    names = {file.name for file in place.rglob("*") if file.is_file() and file.suffix != ".png"}
    assert names == {
        "job.json", "state.json", "run.json", "log.jsonl", "facts.json", "model.safetensors",
    }  # fmt: skip
    assert [step for step, _ in runs.samples(packed)] == [1, 2, 3, 4]
    records, _ = files.Log(packed.path).read()
    assert len(records) < 10
    assert records[-1]["warning"] == "odd"
    assert {0.12346} <= {record.get("loss") for record in records}
    old, new = (runs.open_model(run).model.state_dict() for run in (job, packed))
    assert all(torch.allclose(old[name], new[name], rtol=1e-3, atol=1e-4) for name in old)
    weights = f"checkpoints/{runs.preferred(job)}/model.safetensors"
    assert (packed.path / weights).stat().st_size < 0.6 * (job.path / weights).stat().st_size


def test_an_evaluation_ships_with_its_first_samples_and_all_its_numbers(
    gallery, tmp_path, monkeypatch
):
    monkeypatch.setattr(making, "PIXELS", 20 * 64 + 63)
    job = jobs.get("shipped-digits-gan-measured")
    packed = measure.read(jobs.read(pack(job, "shipped-x", RECIPES[job.id], tmp_path)))
    whole = measure.read(job)
    old, new = whole.arrays(), packed.arrays()
    assert (packed.measurements, packed.classes) == (whole.measurements, whole.classes)
    assert (len(new.made), len(new.near_rank), len(new.realistic)) == (20, 20, 20)
    assert (len(new.real), len(new.gap)) == (len(old.real), len(old.gap))
    assert new.suspects.tolist() == [i for i in old.suspects if i < 20]
    assert sorted(new.unreal) == list(range(20))
    laid = measure.projection(packed, "tsne")
    assert len(laid) == 20 + len(old.real)
    assert np.array_equal(laid[20:], measure.projection(whole, "tsne")[len(old.made) :])


def test_only_what_finished_ships(here, tmp_path):
    job = here(work=False, name="Waiting")
    recipe = making.Recipe("train", {"dataset": "digits", "family": "vae"}, "Name")
    assert refused(pack, job, "shipped-x", recipe, tmp_path) == (
        f"{job.id} is queued, and only a finished job ships.  Resume it, or start again."
    )
    assert list(tmp_path.glob("shipped-*")) == []


def test_samples_that_do_not_survive_16_bits_are_told(here, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "LEVELS", -1.0)
    recipe = making.Recipe("train", {"dataset": "digits", "family": "vae"}, "Name")
    assert "at most -1.0 are allowed. Store its weights with 32 bits." in refused(
        pack, here(), "shipped-x", recipe, tmp_path
    )
