"""Classifiers that somebody brings: what is let in, and what is not."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save as as_bytes
from torch import nn

from core import brought, datasets
from core.catalog import Config, Registry, UserError, knob
from core.models import Spec
from core.robustness import classifiers
from core.runs import Opened
from core.target import Target, laid_out
from core.tensors import fingerprint
from core.weights import Package, load, look


@pytest.fixture
def weights():
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        return models.get_model("squeezenet1_1", weights=None, num_classes=10).state_dict()


def saved(value) -> bytes:
    memory = io.BytesIO()
    torch.save(value, memory)
    return memory.getvalue()


@pytest.mark.parametrize("kind", ["safetensors", "state dict"])
def test_weights_for_a_known_architecture_become_a_classifier(weights, kind):
    digits = datasets.load("digits")
    file = as_bytes(weights) if kind == "safetensors" else saved({"state_dict": weights})
    found = look(file)
    assert (found.kind, len(found.parts), found.classes) == (kind, len(weights), 10)
    values = {"architecture": "squeezenet1_1", "resize": 64, "crop": -1}
    id = brought.keep("My net", Package.alone(file), values, digits).id
    assert id == "own/my-net" and id in [each.id for each in classifiers.available("digits")]
    target = classifiers.target_of(id, digits)
    assert target.card["preprocessing"]["mean"] == [0.485, 0.456, 0.406]  # read from torchvision
    assert target.logits(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(
        UserError, match=r"There is a classifier 'my-net' already. Choose another name"
    ):
        brought.keep("my net", Package.alone(file), values, digits)
    brought.delete(id)
    with pytest.raises(UserError, match="There is no classifier 'my-net'"):
        classifiers.target_of(id, digits)


@pytest.mark.parametrize("size", [8, 32])
def test_the_layout_of_weights_changes_neither_answers_nor_the_fingerprint(size):
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)).eval()
    x = torch.rand(5, 3, size, size)
    with torch.no_grad():
        before, mark = net(x), fingerprint(net)
        laid_out(Opened("", 0, 0, "classifier", net, Spec("image", (3, size, size), 256), (), None))
        assert torch.allclose(net(x), before, atol=1e-5)
    assert fingerprint(net) == mark
    lasting = net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert lasting == (size == 32)


def test_bombs_pickles_and_programs_stay_outside(weights, setting):
    plain = saved({"w": torch.zeros(10)})
    deflated = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(plain)) as old,
        zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    endless = saved({"w": torch.zeros(1).expand(100, 100)})
    script = io.BytesIO()
    with zipfile.ZipFile(script, "w") as archive:
        archive.writestr("net/constants.pkl", b"")
    for file, text in (
        (deflated.getvalue(), "This file has compressed parts"),
        (endless, "The tensor 'w' claims 10000 numbers and holds fewer"),
        (script.getvalue(), "This file is TorchScript, which is a program"),
        (b"\x80\x02}q\x00.", "This file is a pickle, which can run any program"),
        (
            saved(torch.nn.Linear(2, 2)),
            "This file holds more than weights: 'torch.nn.modules.linear.Linear'",
        ),
        (saved([1, 2]), "This file holds no state dict but list"),
        (saved({"w": 3}), "The entry 'w' of this file is no plain tensor"),
        (b"nothing at all", "This file holds no weights that can be read"),
        (b"PK\x03\x04broken", "This file is damaged"),
    ):
        with pytest.raises(UserError, match=text):
            look(file)
    setting(max_upload_mb=1)
    with pytest.raises(UserError, match="Weights must be at most 1 MB on this server, got 3 MB"):
        look(as_bytes(weights))


def test_weights_that_do_not_fit_name_the_first_key(weights, setting):
    digits = datasets.load("digits")
    config = {"architecture": "squeezenet1_1"}
    first = next(iter(weights))
    for change, text in (
        ({first: None}, f"'{first}' is missing"),
        ({first: torch.zeros(2)}, f"'{first}' must have the shape"),
        ({"more": torch.zeros(2)}, "'more' belongs to no part of it"),
    ):
        file = as_bytes({k: v for k, v in (weights | change).items() if v is not None})
        with pytest.raises(UserError, match=text):
            brought.keep("net", Package.alone(file), config, digits)
    for values, text in (
        (
            {"architecture": "squeezenet1_2"},
            "There is no architecture 'squeezenet1_2'. Did you mean 'squeezenet1_1'",
        ),
        (
            {"architecture": "squeezenet1_1", "mean": "1,2"},
            "mean must be one or three numbers with commas, got '1,2'",
        ),
        ({"architecture": "squeezenet1_1", "std": "0"}, "std must be above 0, got '0'"),
    ):
        with pytest.raises(UserError, match=text):
            brought.keep("net", Package.alone(as_bytes(weights)), values, digits)
    with pytest.raises(UserError, match="A classifier's name must be 1 to 60 letters"):
        brought.keep("../net", Package.alone(as_bytes(weights)), config, digits)
    setting(view_only=1)
    with pytest.raises(
        UserError, match="This server is for viewing only, so it cannot bring a classifier"
    ):
        brought.keep("net", Package.alone(as_bytes(weights)), config, digits)


def test_what_comes_from_outside_comes_out_as_what_a_run_comes_out_as(weights, gallery):
    digits = datasets.load("digits")
    values = {"architecture": "squeezenet1_1", "resize": 32}
    kept = brought.keep("alike", Package.alone(as_bytes(weights)), values, digits)
    run, own = (
        classifiers.open_model(classifiers.find(id), digits)
        for id in ("shipped-digits-classifier", kept.id)
    )
    x = torch.rand(2, 1, 8, 8)
    for opened in (run, own):
        assert opened.family == "classifier" and opened.sampling is None and opened.run
        spec = opened.spec
        assert opened.classes == digits.classes and (spec.channels, spec.size) == (1, 8)
        assert len(opened.card["hash"]) == 16 and opened.name
        assert not any(part.training for part in opened.model.modules())
        assert not any(part.requires_grad for part in opened.model.parameters())
        target = Target.of(opened)
        assert torch.equal(target.logits(x), opened.model(x)) and target.notes == []
    other = replace(digits, classes=(*digits.classes, "more"))
    for id in (run.run, own.run):
        with pytest.raises(
            UserError, match=r"tells 10 classes apart .* Choose the dataset that it"
        ):
            classifiers.open_model(id, other)


def test_another_origin_is_one_file_and_what_it_gives_is_kept_and_opened(weights, monkeypatch):
    """A line through all pixels, whose only parameter is its scale."""

    class ScaleConfig(Config):
        scale: float = knob(1.0, "What its answers are multiplied by.", ge=0)

    class Scaled(nn.Module):
        def __init__(self, net: nn.Module, scale: float) -> None:
            super().__init__()
            self.net, self.scale = net, scale

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x) * self.scale

    monkeypatch.setattr(brought, "origins", Registry("origin", brought.Origin))

    @brought.origins.add(
        "line", "A line", ScaleConfig, files=("safetensors",), note=lambda r: "A line."
    )
    def line(config, package, spec, classes, record):
        """A line through all pixels."""
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        file = package.weights
        found = look(file)
        net.load_state_dict(load(file, found, {name: name for name in found.parts}))
        facts = {"kind": "brought", "preprocessing": {}, "hash": fingerprint(net)}
        return brought.opened(Scaled(net, config.scale), spec, classes, facts)

    digits, net = datasets.load("digits"), nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    kept = brought.keep(
        "line", Package.alone(as_bytes(net.state_dict())), {"scale": "3"}, digits, "line"
    )
    assert [each.note for each in classifiers.available("digits") if each.id == kept.id] == [
        "Brought: A line."
    ]
    x = torch.rand(2, 1, 8, 8)
    assert torch.allclose(classifiers.target_of("own/line", digits).logits(x), net(x) * 3)
    weights = kept.path / "model.safetensors"
    weights.rename(kept.path / "away")
    with pytest.raises(UserError, match=r"weights of line cannot be read.*bring it again"):
        classifiers.target_of("own/line", digits)
    (kept.path / "away").rename(weights)
    brought.origins._entries.clear()  # the file is gone, and the list of classifiers still opens
    (found,) = brought.listing("digits")
    assert found.note == "Brought from line, which this version does not know."
    with pytest.raises(UserError, match=r"There is no origin 'line'"):
        classifiers.target_of("own/line", digits)
    (kept.path / "classifier.json").write_text('{"dataset": "digits", "classes": []}')
    with pytest.raises(UserError, match=r"json is damaged \(config is missing or wrong\)"):
        brought.find(kept.id)


def test_what_enters_by_code_is_never_kept():
    values = {"place": "antigravity:make"}
    with pytest.raises(UserError, match=r"never kept.*from: .*torchvision\."):
        brought.keep("net", Package.alone(b""), values, datasets.load("digits"), "factory")
    assert brought.listing("digits") == []
