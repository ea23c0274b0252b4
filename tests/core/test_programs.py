"""Generators by code: what is asked of them at the door, what they become, and who may open them."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core import brought, datasets, jobs, runs, worker
from core.catalog import UserError
from core.models import Decodes, Encodes, Purifies, Scores, Spec, Traces
from core.models.diffusion import DiffusionSampling
from core.weights import Package
from core.wrapped import program
from core.wrapped.velocity import VelocityModel

PROGRAM = '''
import random

import numpy as np
import torch
from torch import nn


def drawn(seed, id):
    return torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1000 * seed + id))


class Decoder(nn.Module):
    """A line from latents to pixels."""

    latent_dim, classes = 5, 10

    def __init__(self):
        super().__init__()
        self.line, self.of = nn.Linear(5, 64), nn.Linear(10, 64, bias=False)

    def decode(self, z, y):
        moved = self.line(z) + (0 if y is None else self.of(y))
        return moved.sigmoid().view(-1, 1, 8, 8)


class Both(Decoder):
    def encode(self, x, y):
        return x.flatten(1)[:, :5] * 2 - 1


class Velocity(nn.Module):
    """The exact way to one image: all data is its middle."""

    def __init__(self):
        super().__init__()
        self.middle = nn.Parameter(torch.full((1, 8, 8), 0.5))

    def velocity(self, x, t, y):
        return (self.middle - x) / (1 - t).clamp_min(1e-3).view(-1, 1, 1, 1)


class Sampler(nn.Module):
    def sample(self, ids, y, seed, sampling):
        return torch.stack([drawn(seed, id) for id in ids])


class Wide(Sampler):
    def sample(self, ids, y, seed, sampling):
        return super().sample(ids, y, seed, sampling) * 2 - 1


class Shared(Sampler):
    def sample(self, ids, y, seed, sampling):
        return torch.rand(len(ids), 1, 8, 8)


class Numbers(Sampler):
    def sample(self, ids, y, seed, sampling):
        np.random.rand(), random.random()
        return super().sample(ids, y, seed, sampling)


class Company(Sampler):
    def sample(self, ids, y, seed, sampling):
        x = super().sample(ids, y, seed, sampling)
        return x / x.max()


class Small(Sampler):
    def sample(self, ids, y, seed, sampling):
        return super().sample(ids, y, seed, sampling)[..., :4]


class Broken(Sampler):
    def sample(self, ids, y, seed, sampling):
        return super().sample(ids, y, seed, sampling) / 0


class Raises(Sampler):
    def sample(self, ids, y, seed, sampling):
        raise KeyError("weights")


class Cut(Velocity):
    def velocity(self, x, t, y):
        return super().velocity(x, t, y).detach()


class Forgetful(Decoder):
    """Its scale is in no state dict."""

    count = 0

    def __init__(self):
        super().__init__()
        Forgetful.count += 1
        self.scale = Forgetful.count

    def decode(self, z, y):
        return super().decode(z * self.scale, y)


class Strange(nn.Module):
    pass


class Three(Sampler):
    classes = 3


class Sized(Decoder):
    """Of other sizes where it has its file."""

    def __init__(self, weights=None):
        super().__init__()
        if weights:
            self.more = nn.Linear(2, 2)


def weighed(weights=None):
    from safetensors.torch import load_file

    net = Decoder()
    if weights is not None:
        net.load_state_dict(load_file(weights))
    return net
'''


@pytest.fixture
def mine(tmp_path, monkeypatch, setting):
    """A program of this machine, whose generators the owner allows."""
    (tmp_path / "mine.py").write_text(PROGRAM, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(jobs, "spawn", lambda path: None)
    names = [line.split("(")[0].removeprefix("class ") for line in PROGRAM.splitlines()]
    places = ",".join(f"mine:{name}" for name in names if name.isalpha()) + ",mine:weighed"
    setting(code=places, nice=0, threads=1)
    yield tmp_path
    sys.modules.pop("mine", None)


def bring(name: str, kind: str, **values: Any) -> jobs.Job:
    """Brings a generator by code for the digits, in this process."""
    values = {"place": f"mine:{name}", **values}
    job = brought.keep(name, Package("", {}), values, datasets.load("digits"), kind)
    worker.work(job.path)
    return jobs.get(job.id)


@pytest.mark.parametrize(
    ("name", "kind", "can"),
    [
        ("Sampler", "sampler", []),
        ("Decoder", "decoder", [Decodes]),
        ("Both", "decoder", [Decodes, Encodes]),
        ("Velocity", "velocity", [Decodes, Encodes, Scores, Traces, Purifies]),
    ],
)
def test_what_a_network_offers_decides_what_its_run_can_do(mine, name, kind, can):
    run = bring(name, kind)
    assert run.status == "finished", run.message
    opened = runs.open_model(run)
    assert opened.family == kind and opened.model.spec.shape == (1, 8, 8)
    assert [each for each in (Decodes, Encodes, Scores, Traces, Purifies) if isinstance(opened.model, each)] == can  # fmt: skip
    assert opened.classes == (datasets.load("digits").classes if opened.model.classes else ())
    x = opened.model.sample(range(6), None, 3, opened.usual)
    assert x.shape == (6, 1, 8, 8) and 0 <= float(x.min()) <= float(x.max()) <= 1
    assert torch.allclose(opened.model.sample([4], None, 3, opened.usual)[0], x[4], atol=1e-5)
    record = runs.record(run)
    assert record["brought"]["config"]["place"] == f"mine:{name}" and len(record["brought"]["facts"]["source"]) == 64  # fmt: skip
    assert record["notes"][0].startswith("It draws an image in ")
    with torch.random.fork_rng(devices=[]):  # another process draws other weights at first
        torch.manual_seed(99)
        runs._opened.clear()
        again = runs.open_model(run)
    assert torch.equal(again.model.sample(range(6), None, 3, again.usual), x)


def test_a_velocity_is_sampled_as_its_own_equation_says(mine):
    """The path of a single image is a straight line, which Euler follows exactly from any noise."""
    net, _ = program.made("mine:Velocity", None)
    model = VelocityModel(net, Spec("image", (1, 8, 8), 17, ()), 0).eval()
    sampling = DiffusionSampling(steps=7, sampler="euler")
    x = model.sample(range(3), None, 0, sampling)
    assert torch.allclose(x, torch.full_like(x, 0.75), atol=1e-4)  # 0.5 from -1 to 1
    states = [t for t, *_ in model.states([0], None, 0, sampling)]
    assert states == pytest.approx([k / 7 for k in range(8)])


def test_a_velocity_gets_the_class_and_any_class_by_image(mine):
    class Told(torch.nn.Module):
        classes = 3

        def velocity(self, x, t, y):
            value = x.new_full((len(x),), -1.0) if y is None else y @ x.new_tensor([1.0, 2, 3])
            return value.view(-1, 1, 1, 1).expand_as(x)

    model = VelocityModel(Told(), Spec("image", (1, 2, 2), 17, (0.2, 0.3, 0.5)), 3)
    x, t, y = torch.zeros(4, 1, 2, 2), torch.zeros(4), torch.tensor([0, 1, 2, 0])
    keep = torch.tensor([True, False, True, False])
    v = model.velocity(x, t, y, keep)[:, 0, 0, 0]
    assert v.tolist() == [1.0, -1.0, 3.0, -1.0]
    blend = torch.tensor([[0.5, 0.5, 0.0]] * 4)
    assert model.velocity(x, t, blend)[:, 0, 0, 0].tolist() == [1.5] * 4


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("Wide", "sampler", r"gives images from -\S+ to \S+\. They must lie from 0 to 1.*let it give \(x \+ 1\) / 2"),
        ("Shared", "sampler", "draws from the random state of torch, which others share. It must leave it"),
        ("Numbers", "sampler", "draws from the random state of numpy and random, which"),
        ("Company", "sampler", r"draws another image 2 of seed 0 alone than beside others.*noise\(seed, ids"),
        ("Small", "sampler", r"must give images as a tensor of floats \(4, 1, 8, 8\), got float32 \(4, 1, 8, 4\)"),
        ("Broken", "sampler", "gives images with nan or infinity. All numbers must be finite"),
        ("Raises", "sampler", "broke off when it was tried .KeyError: 'weights'"),
        ("Cut", "velocity", "The velocity of mine:Cut has no derivative: its network cuts the graph"),
        ("Forgetful", "decoder", "draws other images when it is made again and given the same weights"),
        ("Strange", "sampler", r"gave a Strange that cannot draw. It must have velocity\(x, t, y\), or"),
        ("Three", "sampler", "listens to 3 classes, and the dataset has 10"),
        ("Sampler", "decoder", "gave a sampler, where a decoder is wanted"),
    ],
)  # fmt: skip
def test_what_does_not_keep_the_contract_stays_outside_with_a_reason(mine, name, kind, said):
    torch.manual_seed(5)
    np.random.seed(5)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    with pytest.raises(UserError, match=said):
        brought.generator(
            {"name": kind, "config": {"place": f"mine:{name}"}},
            Package("", {}),
            digits_spec(),
            CLASSES,
        )
    assert torch.equal(torch.get_rng_state(), state[0]) or name == "Forgetful"  # its first weights
    assert np.array_equal(np.random.get_state()[1], state[1])


def test_weights_come_by_their_file_and_go_with_the_run(mine):
    from safetensors.torch import save_file

    net, _ = program.made("mine:weighed", None)
    save_file({n: v + 0.5 for n, v in net.state_dict().items()}, mine / "w.safetensors")
    run = bring("weighed", "decoder", weights=str(mine / "w.safetensors"))
    assert run.status == "finished", run.message
    (mine / "w.safetensors").unlink()  # the checkpoint holds them
    opened = runs.open_model(run)
    assert len(runs.record(run)["brought"]["facts"]["weights"]) == 64
    z, y = torch.zeros(1, 5), torch.zeros(1, 10)
    bias = opened.model.net.line.bias
    assert torch.allclose(opened.model.decode(z, y, opened.usual).flatten(), bias.sigmoid())
    values = {"place": "mine:Sized", "weights": __file__}
    with pytest.raises(UserError, match="network of other tensors without its weights than with"):
        brought.generator(
            {"name": "decoder", "config": values}, Package("", {}), digits_spec(), CLASSES
        )


def test_a_record_alone_imports_nothing(mine, setting, monkeypatch):
    run = bring("Sampler", "sampler")
    setting(code="")
    sys.modules.pop("mine")
    runs._opened.clear()
    with pytest.raises(UserError) as refused:
        runs.open_model(run)
    assert str(refused.value) == (
        "This model is made by mine:Sampler, a program of the machine that it was brought on. This server runs no "
        "programs. Its owner allows it with SIMULACRA_CODE=mine:Sampler."
    )
    assert "mine" not in sys.modules
    assert run.id in [each.id for each in runs.generators("digits")]  # the list still opens
    setting(code="mine:Sampler")
    (mine / "mine.py").write_text(PROGRAM + "\n# changed\n", encoding="utf-8")
    with pytest.raises(UserError, match="The program of mine:Sampler has changed since it was brought"):  # fmt: skip
        runs.open_model(run)


CLASSES = [str(digit) for digit in range(10)]


def digits_spec() -> Spec:
    return Spec("image", (1, 8, 8), 17, (0.1,) * 10)


def test_a_decoder_draws_what_its_latents_decode_to(mine):
    """Computed by hand: the sigmoid of a line, of the same noise that every family takes."""
    from core.tensors import noise

    opened = brought.generator(
        {"name": "decoder", "config": {"place": "mine:Decoder"}},
        Package("", {}),
        digits_spec(),
        CLASSES,
    )
    net, y = opened.model.net, torch.tensor([3, 4])
    z = 0.5 * noise(7, [8, 9], (5,), "latent")
    logits = z @ net.line.weight.T + net.line.bias + net.of.weight[:, [3, 4]].T
    x = opened.model.sample([8, 9], y, 7, opened.sampling(temperature=0.5))
    assert torch.allclose(x.flatten(1), 1 / (1 + (-logits).exp()), atol=1e-6)
    assert math.prod(x.shape) == 128


def test_the_example_of_the_documentation_comes_in(tmp_path, monkeypatch, setting):
    text = (Path(__file__).parents[2] / "docs/bring.md").read_text(encoding="utf-8")
    code = text.partition("`mymodels.py`:\n\n```python\n")[2].partition("```")[0]
    (tmp_path / "mymodels.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    setting(code="mymodels:make")
    record = {"name": "decoder", "config": {"place": "mymodels:make"}}
    opened = brought.generator(record, Package("", {}), digits_spec(), CLASSES)
    x = opened.model.sample(range(3), None, 0, opened.usual)
    assert x.shape == (3, 1, 8, 8) and float(x.std()) > 0.01
