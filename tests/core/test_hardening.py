"""A classifier trained on against attacks: what it learns from, what it costs, what comes of it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes
from torch import nn

from core import brought, datasets, jobs, kinds, runs, worker
from core.__main__ import main
from core.catalog import UserError
from core.ground import files
from core.kinds import train
from core.robustness import classifiers, hardening
from core.robustness.hardening import Hardened, HardeningConfig
from core.training import spec_of
from core.weights import Package

DIGITS = {"dataset": "digits"}
FEW = {"train.images": 256, "train.batch": 64, "harden.attack_steps": 2}


@pytest.fixture
def at_once(monkeypatch, setting, gallery):
    """Does a job in this process when it is submitted; batch statistics are taken of few images."""
    setting(nice=0, threads=1)
    monkeypatch.setattr(hardening, "FITTED", 128)
    monkeypatch.setattr(jobs, "spawn", lambda path: worker.work(path))


class Noted(nn.Module):
    """A linear classifier with dropout and batch statistics that keeps what it was asked."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)
        )
        self.asked: list[tuple[bool, torch.Tensor]] = []

    def forward(self, x):
        self.asked.append((self.training, x.detach()))
        return self.layers(x)


def test_it_learns_from_images_that_are_attacked_as_they_will_be_within_the_budget():
    torch.default_generator.manual_seed(0)
    net, spec = Noted(), spec_of(datasets.load("digits"))
    model = Hardened(net, HardeningConfig(eps=0.1, attack_steps=3), spec).train()
    x, y = torch.rand(16, 1, 8, 8), torch.arange(16) % 10
    losses = []
    for _ in range(2):  # what dropout leaves out follows from the generator alone
        net.asked.clear()
        before = torch.random.get_rng_state()
        generator = torch.Generator().manual_seed(5)
        (loss,) = model.losses(x, y, generator, 1.0)
        losses.append(float(loss.value.detach()))
        assert torch.equal(before, torch.random.get_rng_state())
    assert losses[0] == losses[1]
    assert [training for training, _ in net.asked] == [False, False, False, True]
    hard = net.asked[-1][1]
    assert 0.05 < float((hard - x).abs().max()) <= 0.1 + 1e-6 and 0 <= hard.min() <= hard.max() <= 1
    with torch.no_grad():  # the attack has raised the loss of the classifier that it met
        lost = [nn.functional.cross_entropy(net.eval()(images), y) for images in (x, hard)]
    assert lost[1] > lost[0] + 0.1
    net.train()
    (early,) = model.losses(x, y, generator, 0.03)  # a tenth of the strength
    assert float((net.asked[-1][1] - x).abs().max()) <= 0.01 + 1e-6
    assert early.value.requires_grad and model.groups()[0].lr == hardening.RATE


def test_a_hardening_is_a_classifier_with_its_price_and_its_gain(at_once, tmp_path, capsys):
    source = "shipped-digits-classifier"
    out = tmp_path / "hard.safetensors"
    line = ["harden", source, "--images", "2560", "--out", str(out), "--json"]
    line += ["--set", "harden.attack_steps=3", "--set", "harden.n=60", "--name", "Harder"]
    assert main(line) == 0
    found = json.loads(capsys.readouterr().out)
    job = jobs.get(found["run"])
    release = job.result().release
    assert job.message == hardening.told(release) and release.record()["robust"] == found["robust"]
    # both reports are of the same test images, which no training reads
    test = set(datasets.load("digits").splits["test"])
    assert {image.index for image in release.baseline.images} <= test
    assert release.baseline.model["run"] == source and release.report.model["run"] == job.id
    assert release.robust.better and release.robust.change.value > 0.1
    assert release.clean.change.value > -0.1
    # it is a classifier like any other
    choice = next(each for each in classifiers.available("digits") if each.id == job.id)
    assert (choice.title, choice.hardened) == ("Harder", True)
    assert classifiers.find("Harder") == job.id and job not in runs.generators()
    digits = datasets.load("digits")
    target = classifiers.target_of(job.id, digits)
    said = [image.clean for image in release.report.images]
    x = digits.items([image.index for image in release.report.images])
    assert [digits.classes[i] for i in target.predict(x)] == said
    # the file is the network's own, and the original stays as it is
    net = runs.open_model(jobs.get(source)).model
    weights = load_file(out)
    assert weights.keys() == net.state_dict().keys()
    assert any(not torch.equal(weights[name], value) for name, value in net.state_dict().items())
    assert hardening.described(job.id) == hardening.described(source)  # it can be hardened again


def test_brought_weights_are_hardened_and_can_be_taken_away_and_brought_again(at_once):
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        state = models.get_model("squeezenet1_1", weights=None, num_classes=10).state_dict()
    digits = datasets.load("digits")
    values = {"architecture": "squeezenet1_1", "resize": 32, "crop": -1}
    id = brought.keep("mine", Package.alone(as_bytes(state)), values, digits).id
    few = {"train.images": 16, "train.batch": 8, "harden.attack_steps": 1, "harden.n": 4}
    job = kinds.submit("harden", DIGITS, {"harden.classifier": id, **few})
    job = jobs.get(job.id)
    assert job.status == "finished", job.message
    brought.delete(id)  # the record is enough to open what came of it
    file = (job.path / "hardened.safetensors").read_bytes()
    assert load_file(job.path / "hardened.safetensors").keys() == state.keys()
    again = brought.keep("again", Package.alone(file), values, digits).id
    x = torch.rand(3, 1, 8, 8)
    both = [classifiers.target_of(each, digits).logits(x) for each in (job.id, again)]
    assert torch.allclose(*both, atol=1e-5)


@pytest.fixture
def unmeasured(monkeypatch):
    """Takes the report that ships for what is measured."""
    report = (jobs.SHIPPED / "shipped-digits-classifier-attacked" / "report.json").read_bytes()
    monkeypatch.setattr(
        "core.kinds.harden._measure",
        lambda task, opened, dataset, name: (task.path / name).write_bytes(report),
    )


@pytest.fixture
def stopping(monkeypatch):
    """Stops a training at its first record, while it is in use."""
    append = files.Log.append

    def stop_at_first(self: files.Log, record: dict) -> None:
        append(self, record)
        (self.file.parent / "STOP").touch()

    @contextmanager
    def use():
        with monkeypatch.context() as patch:
            patch.setattr(files.Log, "append", stop_at_first)
            yield

    return use


def test_a_stopped_hardening_goes_on_and_ends_as_if_it_had_never_stopped(
    at_once, unmeasured, stopping
):
    asked = {"harden.classifier": "shipped-digits-classifier", **FEW}
    whole = kinds.submit("harden", DIGITS, asked)
    with stopping():
        job = kinds.submit("harden", DIGITS, asked)
    assert jobs.get(job.id).status == "stopped" and job.result().release is None
    assert (job.path / "before.json").exists() and not (job.path / "after.json").exists()
    jobs.resume(job.id)
    assert jobs.get(job.id).status == "finished"
    ends = [load_file(each.path / "hardened.safetensors") for each in (whole, job)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_trained_longer_it_needs_no_source_and_shows_nothing_of_the_weights_before(
    at_once, unmeasured, stopping
):
    source = kinds.submit("harden", DIGITS, {"harden.classifier": "shipped-digits-robust", **FEW})
    job = kinds.submit("harden", DIGITS, {"harden.classifier": source.id, **FEW})
    assert job.result().release is not None
    jobs.delete(source.id)
    with stopping():
        train.extend(job.id, 2 * FEW["train.images"])
    assert jobs.get(job.id).status == "stopped", jobs.get(job.id).message
    assert job.result().before and job.result().release is None
    assert not (job.path / "hardened.safetensors").exists()
    jobs.resume(job.id)
    assert jobs.get(job.id).status == "finished" and job.result().release is not None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"harden.classifier": "os:getcwd"}, "A job cannot run the code 'os:getcwd'"),
        ({"harden.classifier": "nobody"}, "There is no run 'nobody'"),
        ({"train.parent": "shipped-digits-classifier"}, "train.parent has no meaning for a hardening"),
        ({"train.gpus": 2}, "train.gpus has no meaning for a hardening"),
    ],
)  # fmt: skip
def test_what_cannot_be_hardened_is_refused(gallery, values, text):
    with pytest.raises(UserError, match=text):
        kinds.submit("harden", DIGITS, values)
    assert not jobs.listing("harden")


def test_a_dataset_without_test_images_is_refused_in_a_sentence():
    digits = datasets.load("digits")
    parts = digits.splits
    none = {
        "train": np.sort(np.concatenate([parts["train"], parts["test"]])),
        "test": parts["test"][:0],
    }
    with pytest.raises(UserError, match="has no test images, so nothing would tell"):
        hardening.measured(HardeningConfig(), replace(digits, splits={**parts, **none}))
