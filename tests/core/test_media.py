"""Media: what images are, and a second medium that one file adds to everything."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from core import brought, build, datasets, jobs, latent, measure, runs, worker
from core.__main__ import main
from core.catalog import UserError
from core.classifier import Classifier, ClassifierConfig
from core.datasets import split_by_content
from core.datasets.dataset import together
from core.kinds import submit
from core.media import FORMS, media
from core.models import Spec, families
from core.norms import L1, LINF, Budget
from core.target import Target
from core.training import spec_of

importlib.import_module("tests.core.signals")  # registers a medium and a dataset
# which are known here alone, so that no other test meets them
SECOND = [
    (registry, registry._entries.pop(name))  # type: ignore[attr-defined]
    for registry, name in ((media, "signal"), (datasets.datasets, "waves"))
]


@pytest.fixture(autouse=True)
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry, entry in SECOND:
        monkeypatch.setitem(registry._entries, entry.name, entry)


def test_an_image_is_what_a_model_sees_of_it():
    image = media.get("image")
    x = torch.rand(2, 3, 8, 8)
    assert image.to_model(x) is x and image.from_model(x) is x
    assert pickle.loads(pickle.dumps(image)) is image and copy.deepcopy(image) is image
    assert image.item == image.model == "picture"
    assert image.told(3, (1, 8, 8)) == "3 grey images of 8×8 px"


@pytest.mark.parametrize("entry", [*media, SECOND[0][1]], ids=lambda entry: entry.name)
def test_a_medium_keeps_its_promises(entry):
    assert {entry.item, entry.model} <= set(FORMS) and entry.caption and entry.suffix[0] == "."


def test_the_spec_of_images_is_recorded_as_it_always_was():
    spec = Spec("image", (3, 8, 8), 17, (0.5, 0.5))
    assert spec.record() == {"channels": 3, "size": 8, "levels": 17, "shares": [0.5, 0.5]}
    other = Spec("signal", (16,), 256)
    assert [Spec.of(json.loads(json.dumps(each.record()))) for each in (spec, other)] == [
        spec,
        other,
    ]


def test_a_group_is_never_divided_and_content_neither():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**63, 300, np.uint64)
    keys[7] = keys[250]
    who = np.repeat(np.arange(60), 5)
    parts = split_by_content(together(keys, who))
    of = [{int(k) for k in who[index]} for index in parts.values()]
    assert not (of[0] & of[1] or of[0] & of[2] or of[1] & of[2]) and all(of)
    assert together(keys, who)[7] == together(keys, who)[250]
    more = together(np.append(keys, np.uint64(5)), np.append(who, 3))
    assert np.array_equal(more[:300], together(keys, who)) and more[-1] == more[15]


# --- One more medium: everything below works on waves, which only tests/core/signals.py knows ---------------------


@pytest.fixture
def trained(here: Any) -> Any:
    """Trains a family on the waves: `trained("vae")` gives the run."""

    def train(family: str) -> jobs.Job:
        values = {"train.images": 256, "train.batch": 64}
        job = submit("train", {"dataset": "waves", "family": family}, values)
        worker.work(job.path)
        assert jobs.get(job.id).status == "finished", jobs.get(job.id).message
        return jobs.get(job.id)

    return train


def test_a_model_sees_signals_companded_and_gives_signals_back():
    data = datasets.load("waves")
    seen, items = data.images(slice(9)), data.items(slice(9))
    assert (seen.shape, items.shape) == ((9, 16), (9, 1, 16))
    assert not torch.allclose(seen, items[:, 0], atol=0.05)
    assert np.array_equal(data.medium.kept(seen), np.asarray(data.x[:9]))
    speaker = data.attributes["speaker"]  # type: ignore[index]
    assert not set(speaker[data.splits["train"]]) & set(speaker[data.splits["test"]])


@pytest.mark.parametrize("family", ["vae", "diffusion"])
def test_signals_are_trained_on_evaluated_and_walked_through(trained, family, tmp_path, capsys):
    run = trained(family)
    facts = runs.record(run)["spec"]
    assert (facts["medium"], facts["shape"], facts["levels"]) == ("signal", [16], 256)
    assert [file.suffix for _, file in runs.samples(run)][-1:] == [".csv"]
    opened = runs.open_model(run)
    space = latent.open_space(opened)
    way = latent.walk(space, space.draw([0, 1], None, 0), 5, "lerp", False)
    assert space.images(way).shape == (5, 1, 16)
    assert main(["sample", run.id, "-n", "3", "--out", str(tmp_path / "x.npz")]) == 0
    assert np.load(tmp_path / "x.npz")["x"].shape == (3, 1, 16)
    assert main(["interpolate", run.id, "--frames", "5", "--out", str(tmp_path / "way.csv")]) == 0
    assert len((tmp_path / "way.csv").read_text().splitlines()) == 6
    asked = {
        "samples": 100,
        "map": False,
        "extractor": "pca",
        "metrics": "frechet,nearer,disguised",
    }
    job = submit("evaluate", {"sampling": family}, asked, target=run.id)
    worker.work(job.path)
    assert jobs.get(job.id).status == "finished", jobs.get(job.id).message
    found = measure.read(jobs.get(job.id))
    values = {m.metric: m for m in found.measurements}
    assert values["frechet"].known and values["nearer"].known
    assert (
        "takes pictures, and this is a vector" in values["disguised"].note
        and not values["disguised"].known
    )


def test_signals_are_exported(tmp_path):
    data = datasets.load("waves")
    build.archive(data, tmp_path / "waves.zip")
    with zipfile.ZipFile(tmp_path / "waves.zip") as packed:
        names = [name for name in packed.namelist() if name.endswith(".csv") and "/" in name]
        assert len(names) == 600
        first = next(name for name in names if name.endswith("/000.csv"))
        rows = packed.read(first).decode().splitlines()[1:]
    assert [int(row) for row in rows] == data.x[0, 0].tolist()
    kept = datasets.save("kept waves", data)
    assert (kept.medium.name, kept.fingerprint) == ("signal", data.fingerprint)
    assert "600 signals of 16 values" in datasets.describe("kept-waves").caption


def test_a_judge_of_signals_has_the_body_that_they_say():
    judge = Classifier(ClassifierConfig(width=4), spec_of(datasets.load("waves")))
    x = datasets.load("waves").images(slice(5))
    assert isinstance(next(judge.body.children()), nn.Linear) and judge(x).shape == (5, 2)


def test_what_does_not_take_signals_says_so():
    with pytest.raises(
        UserError,
        match=r"GAN .*takes pictures, and this is a vector\. Choose from: diffusion, vae\.",
    ):
        submit("train", {"dataset": "waves", "family": "gan"})
    data = datasets.load("waves")
    judge = Classifier(ClassifierConfig(width=4), spec_of(data))
    opened = brought.opened(judge, brought.spec_of(data), data.classes, {})
    assert opened.spec.shape == (16,)
    with pytest.raises(
        UserError, match="This classifier sees a vector, and only classifiers of pictures can be"
    ):
        Target.of(opened)
    with pytest.raises(UserError, match="must be auto or dense for a vector, got 'conv'"):
        families.get("vae").make(
            families.get("vae").config.of({"network": "conv"}, "family"), Spec("signal", (16,), 256)
        )
    with pytest.raises(UserError, match=r"not measured in L1. Choose from: linf, l2\."):
        Budget(L1, (1, 16), "signal")
    assert Budget(LINF, (1, 16), "signal").usual == 0.05
