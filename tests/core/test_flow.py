"""The truth about flows: the density is the Jacobian's, the inverse is exact, and every level is counted."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.models import Spec, flow
from core.models.flow import Flow, FlowConfig, FlowSampling, FlowStep
from core.tensors import all_mean
from core.training import TrainConfig, Trainer, spec_of

SHARES = (0.5, 0.3, 0.2)
both = pytest.mark.parametrize("network", ["dense", "conv"])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(spec: Spec, *, spread: float = 0.3, **values: Any) -> Flow:
    """A flow of two steps a scale, whose weights are anything but zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Flow(FlowConfig(**({"steps": 2, "width": 16, "channels": 4} | values)), spec)
    with torch.no_grad():
        for k, param in enumerate(model.parameters()):
            param += (
                spread
                * torch.randn(param.shape, generator=rng(k))
                / max(1, param[0].numel()) ** 0.5
            )
        for k, step in enumerate(m for m in model.modules() if isinstance(m, FlowStep)):
            step.centre += torch.randn(step.centre.shape, generator=rng(k))
            step.spread += torch.rand(step.spread.shape, generator=rng(k))
    return model.eval()


def pictures(spec: Spec, count: int = 8) -> tuple[Tensor, Tensor]:
    """Images that lie on the levels, and their labels."""
    shape = (count, spec.channels, spec.size, spec.size)
    x = torch.randint(spec.levels, shape, generator=rng(5))
    return x / (spec.levels - 1), torch.arange(count) % 3


# --- Density ------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_log_probability_is_that_of_the_full_jacobian(network, size, channels):
    spec = Spec("image", (channels, size, size), 17, SHARES)
    model = made(spec, network=network).double()
    x, y = pictures(spec, 2)
    value = model.log_prob(x.double(), y, rng(3))
    generator = rng(3)
    v = (x * 16 + torch.rand(x.shape, generator=generator)).double() / 17
    v = model._framed(v, generator)
    assert model.inner == (size if network == "dense" else 2 * math.ceil(size / 2))
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(
            lambda part, i=i: model(part[None], y[i : i + 1])[0][0], v[i]
        )
        assert isinstance(jacobian, Tensor)
        count = v[i].numel()
        log_det = torch.linalg.slogdet(jacobian.reshape(count, count)).logabsdet
        z, claimed = model(v[i : i + 1], y[i : i + 1])
        assert claimed.item() == pytest.approx(log_det.item(), abs=1e-6)
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
        expected = normal + log_det - x[i].numel() * math.log(17)
        assert value[i].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("network", ["dense", "conv"])
def test_the_probabilities_of_all_images_sum_to_the_share_of_the_noise_that_makes_one(network):
    spec = Spec("image", (1, 2, 2), 3, SHARES)
    model = made(spec, network=network, spread=0.5).double()
    with torch.no_grad():
        for step in (m for m in model.modules() if isinstance(m, FlowStep)):
            step.centre.zero_()  # most of the noise makes an image
            step.spread.fill_(1.0)
        every = torch.cartesian_prod(*[torch.arange(3)] * 4).view(81, 1, 2, 2).double() / 2
        n = 2000
        total = []
        for k in range(n // 100):
            x = every.repeat(100, 1, 1, 1)
            total.append(model.log_prob(x, torch.ones(8100, dtype=torch.int64), rng(k)).exp())
        sums = torch.stack(total).view(-1, 100, 81).sum(2).flatten()
        z = torch.randn(20_000, 4, generator=rng(), dtype=torch.float64)
        v = model.inverse(z, torch.ones(len(z), dtype=torch.int64)).flatten(1)
        inside = ((v >= 0) & (v < 1)).all(1).double().mean()
    error = float(sums.std()) / n**0.5
    assert error < 0.02
    assert float(sums.mean()) == pytest.approx(float(inside), abs=4 * error)
    assert float(inside) > 0.5


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_model_that_knows_nothing_needs_the_bits_of_a_level(levels, monkeypatch):
    spec = Spec("image", (3, 9, 9), levels)  # in a frame of 10 px, which must cost nothing
    model = made(spec, network="conv")

    def even(self: Flow, v: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        z = v.flatten(1)
        return z, 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)  # density 1 everywhere

    monkeypatch.setattr(Flow, "forward", even)
    x, _ = pictures(spec)
    value = model.held_out(x, None, rng())
    assert list(value) == ["valid_bits_per_dim"]
    assert value["valid_bits_per_dim"].item() == pytest.approx(math.log2(levels), rel=1e-5)
    bits = -model.log_prob(x, None, rng()) / (3 * 81 * math.log(2))
    assert torch.allclose(bits, torch.full_like(bits, math.log2(levels)))


def test_the_noise_of_dequantisation_fills_exactly_one_level(monkeypatch):
    spec = Spec("image", (1, 8, 8), 5)
    model = made(spec)
    seen: list[Tensor] = []

    def look(self: Flow, v: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        seen.append(v)
        return v.flatten(1), torch.zeros(len(v))

    monkeypatch.setattr(Flow, "forward", look)
    x, _ = pictures(spec, 200)
    model.log_prob(x, None, rng())
    model.encode(x, None, FlowSampling())
    noisy, middle = seen
    assert float(noisy.min()) >= 0
    assert float(noisy.max()) < 1
    assert torch.equal((noisy * 5).floor(), (x * 4).round())
    inside = noisy * 5 % 1
    assert float(inside.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(inside.std()) == pytest.approx(12**-0.5, abs=0.01)
    assert torch.allclose(middle * 5, x * 4 + 0.5)


# --- Inverse and sampling -----------------------------------------------------------------------


@both
@pytest.mark.parametrize("size", [8, 13, 30, 32])
def test_the_inverse_is_exact(network, size):
    spec = Spec("image", (3 if size < 16 else 1, size, size), 256, SHARES)
    model = made(spec, network=network, spread=0.1)
    x, y = pictures(spec, 64)
    next(model.losses(x, y, rng(), 0.0))  # sets the scales
    noise = model.latent(range(64), 0, FlowSampling(temperature=0.5))
    with torch.no_grad():
        v = torch.rand(64, spec.channels, model.inner, model.inner, generator=rng())
        z, _ = model(v, y)
        assert z.shape == noise.shape
        assert torch.allclose(model.inverse(z, y), v, atol=1e-5)
        usual = FlowSampling()
        back = model.decode(model.encode(x, y, usual), y, usual)
        assert torch.allclose(back, x, atol=1e-5)
        assert not torch.allclose(model.inverse(z, (y + 1) % 3), v, atol=1e-2)  # it listens
        model.double()
        v = model.inverse(noise.double(), y)
        inside = (v > -0.004).flatten(1).all(1) & (v < 1.004).flatten(1).all(1)
        assert inside.any()
        again, _ = model(v[inside], y[inside])
        assert torch.allclose(again, noise[inside].double(), atol=1e-8)


def test_the_temperature_scales_the_noise():
    spec = Spec("image", (1, 8, 8), 17, SHARES)
    model = made(spec)
    one, half, none = (
        model.latent(range(5), 3, FlowSampling(temperature=t)) for t in (1.0, 0.5, 0.0)
    )
    assert torch.allclose(half, one / 2)
    assert not none.any()
    usual = FlowSampling().temperature
    y = torch.arange(5) % 3
    assert torch.equal(
        model.sample(range(5), y, 3, FlowSampling()), model.decode(usual * one, y, FlowSampling())
    )


@both
def test_samples_stay_finite_when_the_scales_saturate(network):
    model = made(Spec("image", (1, 16, 16), 256), network=network, steps=8)
    with torch.no_grad():
        for step in (m for m in model.modules() if isinstance(m, FlowStep)):
            step.net.last.bias.fill_(1e4)
    h = torch.randn(4, *model.shapes[0], generator=rng())
    first: Any = model.scales[0]
    log_scale, _ = first[0]._coupling(h[:, : first[0].known], None, None)
    assert log_scale.abs().max().item() == pytest.approx(2)
    assert model.sample(range(4), None, 0, FlowSampling(temperature=1.5)).isfinite().all()


# --- Training -----------------------------------------------------------------------------------


@both
def test_the_first_batch_makes_every_step_normal(network):
    spec = Spec("image", (1, 16, 16), 256, SHARES)
    torch_state = torch.random.get_rng_state()
    model = Flow(FlowConfig(network=network, steps=3, width=16, channels=4), spec).train()
    torch.random.set_rng_state(torch_state)
    x, y = pictures(spec, 64)
    next(model.losses(x, y, rng(1), 0.0))
    normal: list[Tensor] = []
    for step in (m for m in model.modules() if isinstance(m, FlowStep)):
        step.register_forward_pre_hook(
            lambda s, args: normal.append((args[0] - s.centre) / s.spread)
        )
    model._log_prob(x, y, rng(1))  # the same noise
    assert len(normal) == (6 if network == "conv" else 3)
    for h in normal:
        h = h.transpose(0, 1).flatten(1)
        assert torch.allclose(h.mean(1), torch.zeros(len(h)), atol=1e-3)
        assert torch.allclose(h.var(1, unbiased=False), torch.ones(len(h)), atol=1e-2)
    assert all(
        not p.any() for n, p in model.named_parameters() if n.endswith(("log_scale", "shift"))
    )


def test_the_scales_are_set_once_and_travel_with_the_state():
    spec = Spec("image", (1, 8, 8), 17, SHARES)
    model, other = (made(spec).train() for _ in range(2))
    x, y = pictures(spec, 32)
    next(model.losses(x, y, rng(), 0.0))
    set_once = {name: value.clone() for name, value in model.named_buffers()}
    other.load_state_dict(model.state_dict())
    for each in (model, copy.deepcopy(model), other):
        next(each.losses(1 - x, y, rng(1), 0.5))
        for name, value in each.named_buffers():
            assert torch.equal(value, set_once[name]), name


def test_two_processes_agree_on_the_scales(monkeypatch):
    whole, half = (made(Spec("image", (1, 8, 8), 17)).scales[0][0] for _ in range(2))  # type: ignore[index]
    h = torch.randn(64, 64, generator=rng()) * 3 + 1
    whole.fit(h)
    mean = h.mean(0)
    others = iter([h[32:].mean(0), (h[32:] - mean).square().mean(0)])  # what the other process has
    monkeypatch.setattr(flow, "all_mean", lambda value: (all_mean(value) + next(others)) / 2)
    half.fit(h[:32])
    assert torch.allclose(half.centre, whole.centre, atol=1e-5)
    assert torch.allclose(half.spread, whole.spread, atol=1e-5)


def test_the_trained_and_the_averaged_weights_share_their_scales_and_the_bits_fall(toy):
    dataset = toy(120, levels=17)
    config = TrainConfig(images=60 * 32, batch=32)
    model = Flow(FlowConfig(steps=2, width=32), spec_of(dataset))
    trainer = Trainer(model, dataset, config, torch.device("cpu"))
    untrained = trainer.held_out(trainer.published())["valid_bits_per_dim"]
    records = list(trainer)
    for (name, mine), theirs in zip(trainer.averaged.named_buffers(), model.buffers(), strict=True):
        assert torch.equal(mine, theirs), name
    held_out = trainer.held_out(trainer.published())
    assert list(held_out) == ["valid_bits_per_dim"]
    assert held_out["valid_bits_per_dim"] < min(untrained, math.log2(17))
    last = records[-1].values
    assert last["loss"] == pytest.approx(last["bits_per_dim"] * 64 * math.log(2), rel=1e-5)


def test_units_are_silenced_in_training_only():
    spec = Spec("image", (1, 8, 8), 17, SHARES)
    model, plain = (made(spec).train() for _ in range(2))
    model.silenced.fill_(64)
    x, y = pictures(spec)
    for each in (model, plain):
        each.ready.fill_(True)
    values = [next(each.losses(x, y, rng(1), 0.5)).value.item() for each in (model, plain)]
    assert values[0] != pytest.approx(values[1], rel=1e-3)
    assert torch.equal(model.log_prob(x, y, rng(1)), plain.log_prob(x, y, rng(1)))
    assert values[1] == pytest.approx(-plain.log_prob(x, y, rng(1)).mean().item())
    inner, outer, scale = model._silence(rng())((1000, 10))
    assert not torch.equal(inner, outer)
    kept = inner * scale
    assert torch.allclose(kept.unique(), torch.tensor([0, 4 / 3]))
    assert float((kept == 0).float().mean()) == pytest.approx(0.25, abs=0.02)


def test_a_gap_to_held_out_images_silences_units_until_it_is_allowed():
    spec = Spec("image", (1, 8, 8), 17, SHARES)
    model = made(spec, gap=0.0)
    with torch.no_grad():
        x, y = pictures(spec, 64)
        flat = torch.full_like(x, 0.5)  # far more probable, or far less
        nats = (model.log_prob(flat, y, rng()) - model.log_prob(x, y, rng())).mean().item()
        common, rare = (flat, x) if nats > 0 else (x, flat)
        for count in range(1, 4):
            values = model.adapt(common, y, rare, y, rng())
            assert values["dropout"].item() == pytest.approx(count * 4 / 256)
            assert values["gap"].item() == pytest.approx(abs(nats) / (64 * math.log(2)), abs=0.1)
        for count in (2, 1, 0, 0):
            assert model.adapt(rare, y, common, y, rng())["dropout"].item() == count * 4 / 256
        for _ in range(100):
            model.adapt(common, y, rare, y, rng())
        assert model.silenced.item() == flow.MOST_SILENCED
        generous = made(spec, gap=10.0)
        assert generous.adapt(common, y, rare, y, rng())["dropout"].item() == 0


@both
def test_in_half_precision_the_likelihood_stays_a_float32(network):
    spec = Spec("image", (1, 16, 16), 256, SHARES)
    model = made(spec, network=network, spread=0.1)
    x, y = pictures(spec)
    full = model.log_prob(x, y, rng())
    fast: set[torch.dtype] = set()
    exact: set[torch.dtype] = set()
    for step in (m for m in model.modules() if isinstance(m, FlowStep)):
        step.net.first.register_forward_hook(lambda _, __, out: fast.add(out.dtype))
        step.net.last.register_forward_hook(lambda _, __, out: exact.add(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        half = model.log_prob(x, y, rng())
    assert fast == {torch.bfloat16}
    assert exact == {torch.float32}  # what enters the determinant
    assert half.dtype == torch.float32
    assert torch.allclose(half, full, rtol=1e-2)


@pytest.mark.parametrize(
    ("size", "shapes"),
    [
        (8, [(64,)]),
        (16, [(256,)]),
        (28, [(4, 14, 14), (8, 7, 7), (196,)]),
        (30, [(4, 16, 16), (8, 8, 8), (256,)]),
    ],
)
def test_the_network_fits_the_size(size, shapes):
    model = Flow(FlowConfig(steps=1), Spec("image", (1, size, size), 256))
    assert model.shapes == shapes
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 4 * (len(shapes) - 1)
