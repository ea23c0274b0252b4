"""Runs in one file: they open elsewhere as they were, and nothing else opens."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from core import brought, datasets, fitted, jobs, packs, runs, worker
from core.__main__ import main
from core.catalog import Config, UserError
from core.models import Spec
from core.weights import Package


@pytest.fixture
def at_once(monkeypatch, gallery):
    monkeypatch.setattr(jobs, "spawn", worker.work)


@pytest.fixture
def packed(gallery) -> bytes:
    return packs.pack(jobs.get("shipped-digits-gan"))


def changed(packed: bytes, **values: object) -> Package:
    """A pack whose record says something else."""
    package = Package.sent([("pack.zip", packed)])
    record = package.json(packs.RECORD) | values
    return Package("pack", {**package.files, packs.RECORD: json.dumps(record).encode()})


def seen(package: Package) -> brought.Seen:
    see = brought.origins.get("packed").see
    assert see is not None
    return see(package)


def brought_back(package: Package, name: str = "again") -> jobs.Job:
    job = jobs.get(brought.keep(name, package, {}, datasets.load("digits")).id)
    assert job.status == "finished", job.message
    return job


@pytest.mark.parametrize(
    ("run", "count"),
    [
        ("digits-gan", 1000),
        ("digits-vae", 50),
        ("digits-vqvae", 20),
        ("digits-flow", 50),
        ("digits-diffusion", 20),
    ],
)
def test_a_packed_run_draws_the_same_samples_bit_for_bit_and_is_of_its_family(at_once, run, count):
    source = jobs.get(f"shipped-{run}")
    job = brought_back(Package.sent([("my pack.zip", packs.pack(source))]))
    before, after = runs.open_model(source), runs.open_model(job)
    ids = range(count)
    old = before.model.sample(ids, None, 3, before.usual)
    assert torch.equal(old, after.model.sample(ids, None, 3, after.usual))
    assert (after.family, after.age, after.classes) == (before.family, before.age, before.classes)
    assert job.kind == "bring" and runs.record(job)["package"]["name"] == "my pack.zip"
    assert runs.record(job)["package"]["seconds"] > 0
    learned, theirs = fitted.of(job), fitted.of(source)
    assert learned.known and learned.train is not None and theirs.train is not None
    assert np.array_equal(learned.train, theirs.train)
    assert np.array_equal(learned.valid, theirs.valid)
    assert fitted.clearance(job, datasets.load("digits")) == fitted.clearance(
        source, datasets.load("digits")
    )
    # once brought, it can be packed again, and nothing is lost
    again = packs.read(Package.sent([("p.zip", packs.pack(job))]))
    assert again.config == packs.read(Package.sent([("p.zip", packs.pack(source))])).config


def test_what_a_pack_of_elsewhere_says_of_its_images_is_a_claim(at_once, packed):
    digits = datasets.load("digits")
    claims = brought_back(changed(packed, run="20260101-000000-digits-gan-0000"))
    learned, cleared = fitted.of(claims), fitted.clearance(claims, digits)
    assert learned.train is not None and not learned.known
    assert not cleared.leaks and "only its pack says so" in cleared.unknown
    assert "override 'seen'" in cleared.sentence
    # another run's name does not make it true, nor does another checkpoint
    other = brought_back(changed(packed, run="shipped-digits-vae"), "other")
    assert not fitted.of(other).known
    for damaged in ({"levels": 10**30}, {"shape": [10**30]}, {"shape": ["1"]}):
        record = changed(packed).json(packs.RECORD)["learned"] | damaged
        with pytest.raises(UserError, match=r"damaged \(learned"):
            packs.learned(changed(packed, run="gone", learned=record))
    assert not seen(changed(packed, terms={"licence": "MIT", "consent": "perhaps"})).consent
    # what it admits counts
    held = packs.learned(changed(packed, run="gone")).train
    assert held is not None and len(held)


def test_the_commands_pack_and_bring_with_sampling_and_terms(at_once, tmp_path, capsys):
    file = tmp_path / "mine.zip"
    words = ["pack", "shipped-digits-diffusion", "--out", str(file), "--licence", "MIT", "--json"]
    assert main([*words, "--set", "steps=7", "--consent", "not needed"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sampling"] == {"steps": 7} and told["terms"]["licence"] == "MIT"
    assert main(["bring", str(file), "--name", "Mine", "--json"]) == 0
    run = jobs.get(json.loads(capsys.readouterr().out)["id"])
    opened = runs.open_model(run)
    assert opened.usual.record()["steps"] == 7 and opened.sampling is not None
    assert opened.sampling.knobs()["steps"].default == 7
    assert runs.record(run)["terms"] == {"licence": "MIT", "consent": "not needed"}
    assert main(["pack", "shipped-digits-classifier", "--out", str(file)]) == 2
    assert main(["pack", "Mine", "--out", str(file), "--consent", "perhaps"]) == 2
    assert "terms.consent must be one of unknown, given" in capsys.readouterr().err


def test_a_pack_of_a_later_version_and_a_damaged_one_say_so(packed, tmp_path):
    digits = datasets.load("digits")
    for values, text in (
        ({"format": 2}, r"packed by a later version of Simulacra \(format 2"),
        ({"format": True}, r"damaged \(format is missing or wrong\)"),
        ({"family": "orb"}, "holds a 'orb', which this version does not know"),
        ({"config": {"width": 10**9}}, "family.width must be a whole number"),
        ({"config": {"shape": 3}}, "There is no parameter of family 'shape'"),
        (
            {"spec": {"medium": "image", "shape": [1, 8, -8], "levels": 17, "shares": []}},
            r"damaged \(spec",
        ),
        ({"classes": ["one"]}, r"damaged \(classes"),
        ({"train": {"batch": 1, "images": 2}}, r"damaged \(train.seed"),
        ({"sampling": {"steps": "many"}}, "There is no parameter of sampling 'steps'"),
        ({"sha256": "0" * 64}, "is damaged or cut off: its digest"),
    ):
        package = changed(packed, **values)
        with pytest.raises(UserError, match=text):
            seen(package)
        with pytest.raises(UserError, match=text):
            brought.keep("x", package, {}, digits)
    (tmp_path / "cut.zip").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match=r"'cut\.zip' is no ZIP that can be read, or is cut off"):
        Package.read(tmp_path / "cut.zip")
    whole = Package.sent([("pack.zip", packed)])
    half = whole[packs.MODEL][:-1000]
    record = whole.json(packs.RECORD) | {"sha256": hashlib.sha256(half).hexdigest()}
    lying = Package("p", {packs.RECORD: json.dumps(record).encode(), packs.MODEL: half})
    with pytest.raises(UserError, match="holds no weights that can be read"):
        seen(lying)


def test_weights_that_do_not_fit_a_pack_and_another_dataset_fail_with_a_sentence(at_once, packed):
    other = packs.pack(jobs.get("shipped-digits-vae"))
    mixed = dict(Package.sent([("a.zip", packed)]).files)
    model = Package.sent([("b.zip", other)])[packs.MODEL]
    mixed[packs.MODEL] = model
    record = json.loads(mixed[packs.RECORD]) | {"sha256": hashlib.sha256(model).hexdigest()}
    mixed[packs.RECORD] = json.dumps(record).encode()
    job = jobs.get(brought.keep("mixed", Package("mixed", mixed), {}, datasets.load("digits")).id)
    assert job.status == "failed" and "The weights do not fit the gan of this pack" in job.message
    faces = Spec("image", (3, 32, 32), 256)
    make = brought.origins.get("packed").make
    with pytest.raises(
        UserError, match="Choose the dataset that it belongs to, or import its images"
    ):
        make(Config(), Package.sent([("a.zip", packed)]), faces, ("a",), None)
    names = tuple("0123456798")  # two of them have changed their places
    digits = brought.spec_of(datasets.load("digits"))
    with pytest.raises(UserError, match="with the same classes in the same order"):
        make(Config(), Package.sent([("a.zip", packed)]), digits, names, None)


def test_a_pack_holds_no_pickle_and_the_same_run_gives_the_same_bytes(packed, tmp_path):
    (tmp_path / "p.zip").write_bytes(packed)
    with zipfile.ZipFile(tmp_path / "p.zip") as file:
        assert {Path(name).suffix for name in file.namelist()} == {".json", ".safetensors"}
    assert packs.pack(jobs.get("shipped-digits-gan")) == packed


def test_the_terms_of_a_model_are_asked_at_the_door_and_can_be_stated_later(
    at_once, packed, setting
):
    from core.building.door.leaving import DoorConfig, Leaving
    from core.building.door.memory import KeptMemory
    from core.building.door.rights import licence

    digits = datasets.load("digits")
    package = changed(packed, terms={})
    run = jobs.get(brought.keep("mine", package, {}, digits).id)
    own = {"run": np.full(len(digits), run.id), "origin": np.full(len(digits), "synthetic")}
    made = dataclasses.replace(digits, attributes={**(digits.attributes or {}), **own})

    def leaving() -> Leaving:
        return Leaving(made, DoorConfig(near=False), KeptMemory())

    assert [part.what for part in leaving().parts][
        -1
    ] == f"The model of the run {run.id}, which was brought,"
    (refused,) = licence(leaving())
    assert "The model of the run" in refused.sentence and "on the page Train" in refused.sentence
    brought.state(run, licence=" MIT ", consent="given")
    assert not list(licence(leaving())) and leaving().parts[-1].licence == "MIT"
    with pytest.raises(UserError, match="ships with Simulacra"):
        brought.state(jobs.get("shipped-digits-gan"), licence="MIT")
    setting(view_only=1)
    for change in (
        lambda: brought.state(run, licence="MIT"),
        lambda: brought.keep("mine", package, {}, digits),
    ):
        with pytest.raises(UserError, match="This server is for viewing only"):
            change()
