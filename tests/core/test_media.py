"""Media: what images are, and a second medium that one file adds to everything."""

from __future__ import annotations

import copy
import json
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from core import augment, brought, building, datasets, jobs, latent, measure, runs, worker
from core.__main__ import main
from core.building.door import DoorConfig
from core.catalog import UserError
from core.classifier import Classifier, ClassifierConfig
from core.datasets import split_by_content
from core.datasets.dataset import together
from core.ground import sheets
from core.kinds import submit
from core.media import EVERY, media
from core.models import Spec, families
from core.norms import L1, L2, LINF, Budget
from core.robustness.attacks import attacks, run
from core.robustness.config import fitting
from core.target import Target
from core.training import TrainConfig, Trainer, spec_of
from tests.core.signals import SECOND, second


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    second(monkeypatch)


def test_an_image_is_what_a_model_sees_of_it():
    image = media.get("image")
    x = torch.rand(2, 3, 8, 8)
    assert image.to_model(x) is x and image.from_model(x) is x
    assert pickle.loads(pickle.dumps(image)) is image and copy.deepcopy(image) is image
    assert image.item == image.model == "picture"
    assert image.describe(3, (1, 8, 8)) == "3 grey images of 8×8 px"


@pytest.mark.parametrize("entry", [*media, SECOND[0][1]], ids=lambda entry: entry.name)
def test_a_medium_keeps_its_promises(entry):
    assert {entry.item, entry.model} <= set(EVERY) and entry.caption and entry.suffix[0] == "."


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

    def train(family: str, **more: Any) -> jobs.Job:
        values = {"train.images": 256, "train.batch": 64} | more
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
    assert [file.suffix for _, file in runs.samples(run)][-1:] == [".png"]
    opened = runs.open_model(run)
    space = latent.open_space(opened)
    way = latent.walk(space, space.draw([0, 1], None, 0), 5, "lerp", False)
    assert space.items(way).shape == (5, 1, 16) and space.images(way).shape == (5, 1, 12, 16)
    assert main(["sample", run.id, "-n", "3", "--out", str(tmp_path / "x.npz")]) == 0
    assert np.load(tmp_path / "x.npz")["x"].shape == (3, 1, 16)
    assert main(["sample", run.id, "-n", "1", "--out", str(tmp_path / "x.csv")]) == 0
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 17
    assert main(["interpolate", run.id, "--frames", "5", "--out", str(tmp_path / "way.png")]) == 0
    drawn = sheets.tiles((tmp_path / "way.png").read_bytes())
    assert (drawn == space.images(latent.walk(space, space.draw([0, 1, 2], None, 0), 5))).all()
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
    building.archive(data, tmp_path / "waves.zip")
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


@pytest.fixture
def classifier(here: Any) -> Any:
    """Trains a classifier of the waves: `classifier(defence="pgd")` gives the run."""

    def train(**values: Any) -> jobs.Job:
        asked = {"train.images": 4000, "train.batch": 64, "classifier.width": 8}
        asked |= {f"classifier.{name}": value for name, value in values.items()}
        job = submit("classifier", {"dataset": "waves"}, asked)
        worker.work(job.path)
        assert jobs.get(job.id).status == "finished", jobs.get(job.id).message
        return jobs.get(job.id)

    return train


def heard(net: nn.Module, x: np.ndarray) -> np.ndarray:
    """What a network of companded signals says of signals (N, 1, 16), by numpy."""
    loud = np.log(1 + 15 * np.abs(2 * x[:, 0] - 1)) / np.log(16)
    with torch.no_grad():
        seen = torch.as_tensor((np.sign(2 * x[:, 0] - 1) * loud + 1) / 2, dtype=torch.float32)
        return net(seen).argmax(1).numpy()


def test_every_attack_changes_the_signal_within_its_budget(classifier):
    data, net = datasets.load("waves"), runs.open_model(classifier()).model
    rows = data.splits["test"][:24]
    y = torch.as_tensor(data.y[rows])  # type: ignore[index]
    x = data.items(rows)
    opened = brought.opened(net, brought.spec_of(data), data.classes, {})
    target = Target.of(opened)
    assert float((target.predict(x) == y).float().mean()) > 0.9
    fooled = {}
    for norm, eps in ((LINF, 0.3), (L2, 1.0)):
        length = {
            "linf": lambda v: np.abs(v).max((1, 2)),
            "l2": lambda v: np.sqrt((v**2).sum((1, 2))),
        }
        for entry in attacks:
            if entry.missing or "sequence" not in entry.takes or norm not in entry.norms:
                continue
            values = {"queries": 100} if entry.name == "square" else {}
            out = run(
                entry.name, target, x, y, None if entry.smallest else eps, norm=norm, config=values
            )
            moved, hit = out.adversarial.numpy(), out.fooled.numpy()
            assert moved.shape == x.shape and moved.min() >= 0 and moved.max() <= 1
            assert (heard(net, moved)[hit] != y.numpy()[hit]).all()
            size = length[norm.name](moved - x.numpy())[hit]
            assert (size <= (np.inf if entry.smallest else eps + 1e-6)).all()
            assert np.allclose(size, out.distance.numpy()[hit], atol=1e-5)
            fooled[entry.name, norm.name] = hit.mean()
    weak = ("noise", "fgsm", "square")
    strong = [share for (name, _), share in fooled.items() if name not in weak]
    assert len(fooled) == 20 and min(strong) > 0.5, fooled


@pytest.mark.parametrize("defence", ["pgd", "trades"])
def test_training_against_attacks_changes_signals_by_what_suits_them(defence):
    data = datasets.load("waves")
    judge = Classifier(ClassifierConfig(width=4, defence=defence, smoothing=0.1), spec_of(data))
    x, y = data.images(slice(40)), torch.as_tensor(data.y[:40])  # type: ignore[index]
    hard = judge.eval()._hardened(x, y, torch.Generator().manual_seed(0), 1.0)
    centred = 2 * hard.detach().numpy() - 1
    moved = (np.sign(centred) * (16 ** np.abs(centred) - 1) / 15 + 1) / 2  # the mu-law undone
    size = np.abs(moved - data.items(slice(40))[:, 0].numpy()).max(1)
    assert hard.shape == x.shape and size.max() <= 0.05 + 1e-5 and np.median(size) > 0.049


def test_a_classifier_of_signals_is_attacked_by_job_and_command(
    classifier, monkeypatch, capsys, tmp_path
):
    run = classifier()
    monkeypatch.setattr(jobs, "spawn", worker.work)
    asked = ["attack", "--dataset", "waves", "--classifier", run.id, "--n", "40", "--norm", "l2"]
    asked += ["--attacks", "quick,square", "--json", "--out", str(tmp_path)]
    assert main([*asked, "--set", "attack.certify=0.1", "--set", "attack.certified=2"]) == 0
    report = json.loads(capsys.readouterr().out)
    model = report["model"]
    assert (model["medium"], model["shape"], "size" in model) == ("signal", [1, 16], False)
    assert report["verdict"]["colour"] in ("amber", "green") and len(report["checks"]) > 10
    eps = [row["eps"] for row in report["results"]]
    assert 0.058 in eps and eps[-1] == 4  # 0.29 of 0.05 of the diagonal; the diagonal
    robust = [row["robust"] for row in report["results"]]
    assert robust[0] > 0.9 and robust[-1] < 0.1 and sorted(robust, reverse=True) == robust
    assert "no other change of the sequence" in " ".join(report["limits"])
    arrays = np.load(tmp_path / "adversarial.npz")
    assert arrays["adversarial"].shape == (40, 1, 16)
    assert "<h1" in (tmp_path / "report.html").read_text()
    assert (
        len(json.loads((jobs.get(report["job"]).path / "certified.json").read_text())["images"])
        == 2
    )


def test_a_step_changes_the_signal_and_the_model_sees_that(trained):
    data = datasets.load("waves")
    model = families.get("vae").make(families.get("vae").config(), spec_of(data))

    trainer = Trainer(
        model,
        data,
        TrainConfig(batch=8),
        torch.device("cpu"),
        lambda x, _: torch.full_like(x, 0.75),
    )
    seen, _ = trainer._draw(trainer.train, 8, torch.Generator().manual_seed(0))
    assert torch.allclose(seen, torch.full((8, 16), (np.log(8.5) / np.log(16) + 1) / 2).float())
    louder = augment.Pipeline.of([{"name": "gain", "parameters": {"amount": 0.5}}])
    x = data.items(slice(60))
    moved = augment.Chain(louder)(x, 0, range(60))
    gain = (moved - 0.5).norm(dim=2) / (x - 0.5).norm(dim=2)
    assert 0.5 <= gain.min() < 0.6 and 1.2 < gain.max() <= 1.5
    with pytest.raises(
        UserError,
        match=r"Mirror left and right takes pictures, and this is a sequence.*: sample, neighbour, gain\.",
    ):
        augment.Chain(augment.Pipeline.of([{"name": "flip"}]))(x, 0, range(60))
    id = augment.save(louder, "Louder")
    assert id in augment.trainable("sequence") and "photos" not in augment.trainable("sequence")
    assert runs.record(trained("vae", **{"augment.pipeline": id}))["augment"]["name"] == "Louder"
    with pytest.raises(UserError, match=r"takes pictures, and this is a sequence"):
        trained("vae", **{"augment.pipeline": "photos"})


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
    digits = datasets.load("digits")
    with pytest.raises(UserError, match=r"takes signals of 1 × 16, these have 1 × 8\."):
        fitting(Target.of(opened), digits.items(slice(9))[:, :, 0], np.zeros(9, int))
    for asked, said in {
        "autoattack": r"takes pictures, and this is a sequence\. Choose from: adaptive, cw, ",
        "pgd": r"not measured in L1\. Choose from: linf, l2",
        "corruptions": "Corruptions: not available for signals yet, only for images",
    }.items():
        values: dict[str, Any] = {"attack.attacks": asked, "attack.norm": "l1"}
        if asked == "corruptions":
            values = {"attack.corruptions": True}
        with pytest.raises(UserError, match=said):
            submit("attack", {"dataset": "waves"}, values)
    with pytest.raises(UserError, match="must be auto or dense for a vector, got 'conv'"):
        families.get("vae").make(
            families.get("vae").config.of({"network": "conv"}, "family"), Spec("signal", (16,), 256)
        )
    with pytest.raises(UserError, match=r"not measured in L1. Choose from: linf, l2\."):
        Budget(L1, (1, 16), "signal")
    assert Budget(LINF, (1, 16), "signal").usual == 0.05


def test_signals_leave_as_files_of_their_own_and_other_layouts_say_why_not(tmp_path):
    data = datasets.load("waves")
    why = {"licence": "drawn for a test", "consent": "nobody is on it"}
    quick = DoorConfig(near=False)
    out = tmp_path / "out"
    (row,) = building.export(data, ["folder"], out, config=quick, overrides=why)["layouts"]
    assert (row["rows"], row["differences"]) == (600, [])
    first = next((out / "folder" / "train").glob("*/*.csv"))
    values = [int(value) for value in first.read_text("utf-8").split()[1:]]
    assert values == data.x[int(first.stem), 0].tolist()
    with pytest.raises(
        UserError, match=r"Parquet takes pictures only, no signals: .* Choose from: folder\."
    ):
        building.export(data, ["parquet"], tmp_path / "other", config=quick)
