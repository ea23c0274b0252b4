"""Families of generative models: the contract for each of them, and the truth about their losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.catalog import Config, Entry, UserError
from core.models import (
    Adapts,
    Decodes,
    Encodes,
    Fits,
    GenerativeModel,
    Spec,
    Validates,
    build,
    families,
)
from core.nets import LabelEmbedding, crop, pad, plan, refresh_batch_statistics

SHARES = (0.5, 0.3, 0.2)


def number(value: Tensor) -> float:
    return float(value.detach())


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


PICTURES = [
    entry for entry in families if "picture" in entry.takes
]  # tests/core/test_text.py has the other


def made(entry: Entry, spec: Spec, seed: int = 0, **values: Any) -> Any:
    """A model with weights from its own seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(entry.name, values, spec)


def images(spec: Spec, count: int = 16) -> tuple[Tensor, Tensor | None]:
    """Smooth pictures and their labels."""
    grid = torch.linspace(0, 1, spec.size)
    phase = torch.rand(count, spec.channels, 1, 1, generator=rng())
    x = 0.5 + 0.5 * torch.sin(6 * (grid[:, None] + grid) + 6 * phase)
    return x.contiguous(), torch.arange(count) % spec.classes if spec.classes else None


def variants(entry: Entry) -> Iterator[dict[str, Any]]:
    """The defaults, and every other choice of every Literal and switch, one at a time."""
    yield {}
    for name, knob in entry.config.knobs().items():
        for option in knob.options or ((True, False) if knob.type is bool else ()):
            if option != knob.default:
                yield {name: option}


def named(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{k}={v}" for k, v in value.items()) or "default"
    return getattr(value, "name", str(value))


@cache
def examples() -> list[tuple[Entry, dict[str, Any], Any]]:
    """One small model of each family and variant, to ask what it can; each is built once, while tests are collected."""
    spec = Spec("image", (1, 8, 8), 17, SHARES)
    return [(e, v, made(e, spec, **v)) for e in PICTURES for v in variants(e)]


def able(protocol: type) -> list[tuple[Entry, dict[str, Any]]]:
    """The families and variants whose models have a capability."""
    return [(entry, values) for entry, values, model in examples() if isinstance(model, protocol)]


every = pytest.mark.parametrize("entry", PICTURES, ids=named)
every_variant = pytest.mark.parametrize(
    ("entry", "values"), [(e, v) for e in PICTURES for v in variants(e)], ids=named
)


def train(model: Any, count: int = 4, seed: int = 0) -> dict[str, list[float]]:
    """A few steps over the whole span, as the trainer takes them; gives the losses by group."""
    x, y = images(model.spec)
    groups = {group.name: group for group in model.groups()}
    adams = {name: torch.optim.Adam(group.params, 1e-3) for name, group in groups.items()}
    values: dict[str, list[float]] = {name: [] for name in groups}
    for step in range(count):
        for loss in model.losses(x, y, rng(seed + step), (step + 0.5) / count):
            params = groups[loss.group].params
            grads = torch.autograd.grad(loss.value, params, allow_unused=True)
            for param, grad in zip(params, grads, strict=True):
                param.grad = grad
            adams[loss.group].step()
            values[loss.group].append(number(loss.value))
    return values


# --- The contract, for every family -------------------------------------------------------------


@every
@pytest.mark.parametrize("classes", [0, 3], ids=["unlabelled", "labelled"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 16, 28, 30, 32, 64])
def test_images_of_every_size_are_in_range(entry, size, channels, classes):
    spec = Spec("image", (channels, size, size), 256, SHARES[:classes])
    model = made(entry, spec).eval()
    assert isinstance(model, nn.Module)
    assert isinstance(model, GenerativeModel)
    sampling = entry.sampling()
    x = model.sample(range(3), None, 0, sampling)
    assert x.shape == (3, channels, size, size)
    assert x.dtype == torch.float32
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1
    real, y = images(spec, 4)
    model.train()
    reached = set()
    for progress in (0.0, 0.5, 1.0):  # each group has its span
        for loss in model.losses(real, y, rng(), progress):
            assert loss.value.shape == ()
            assert loss.value.isfinite()
            reached.add(loss.group)
    assert reached == {group.name for group in model.groups()}


@every_variant
def test_the_same_seed_gives_the_same_sample_whatever_the_batch(entry, values):
    model = made(entry, Spec("image", (1, 8, 8), 17, SHARES), **values)
    train(model)
    model.eval()
    sampling = entry.sampling()
    whole = model.sample(range(12), None, 5, sampling)
    assert torch.equal(model.sample(range(12), None, 5, sampling), whole)
    assert torch.allclose(model.sample([7], None, 5, sampling)[0], whole[7], atol=1 / 255)
    assert torch.allclose(
        model.sample([11, 2, 7], None, 5, sampling), whole[[11, 2, 7]], atol=1 / 255
    )
    assert not torch.allclose(model.sample(range(12), None, 6, sampling), whole, atol=1 / 255)
    assert not torch.allclose(whole[0], whole[1], atol=1 / 255)
    assert not whole.requires_grad


@every_variant
def test_the_groups_are_disjoint_and_hold_every_parameter(entry, values):
    model = made(entry, Spec("image", (3, 16, 16), 256, SHARES), **values)
    groups = model.groups()
    ids = [id(param) for group in groups for param in group.params]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(param) for param in model.parameters()}
    assert len({group.name for group in groups}) == len(groups)
    for group in groups:
        assert 0 <= group.start < group.stop <= 1
        assert group.lr > 0
        assert 0 <= group.beta1 < group.beta2 < 1


@every_variant
def test_every_parameter_receives_a_gradient(entry, values):
    model = made(entry, Spec("image", (1, 16, 16), 256, SHARES), **values)
    train(model)  # layers that start at zero move first
    x, y = images(model.spec)
    names = {id(param): name for name, param in model.named_parameters()}
    spans = {group.name: group for group in model.groups()}
    groups = {name: group.params for name, group in spans.items()}
    seen = set()
    for progress in (0.05, 0.5, 0.95):
        for loss in model.losses(x, y, rng(1), progress):
            group = spans[loss.group]
            assert group.start <= progress <= group.stop
            params = groups[loss.group]
            grads = torch.autograd.grad(loss.value, params, allow_unused=True)
            for param, grad in zip(params, grads, strict=True):
                assert grad is not None, f"{names[id(param)]} has no part in the {loss.group} loss"
                assert grad.isfinite().all()
                # a single number may cancel: a critic that compares pairs does not feel its last bias
                if grad.any() or param.numel() == 1:
                    seen.add(names[id(param)])
            assert not any(part.requires_grad for part in loss.parts.values())
    assert set(names.values()) - seen == set()


PER_IMAGE = [
    (entry, values)
    for entry in families
    if entry.name in ("vae", "flow", "diffusion")
    for values in variants(entry)
]


@pytest.mark.parametrize(
    ("entry", "values"), [*PER_IMAGE, (families.get("vae"), {"free_bits": 0.2})], ids=named
)
def test_losses_of_single_images_have_the_loss_for_a_mean_and_so_have_their_gradients(
    entry, values
):
    model = made(entry, Spec("image", (1, 8, 8), 17, SHARES), **values)
    train(model)
    x, y = images(model.spec, 6)
    (loss,) = model.losses(x, y, rng(1), 0.7)
    assert loss.each is not None
    each = loss.each()
    assert each.shape == (6,)
    assert each.detach().unique().numel() == 6
    assert torch.allclose(each.mean(), loss.value, rtol=1e-5)
    params = list(model.parameters())
    whole = torch.autograd.grad(loss.value, params, retain_graph=True)
    mean = torch.autograd.grad(each.mean(), params)
    for one, other in zip(whole, mean, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


@every_variant
def test_what_a_family_logs_it_says_how_to_read(entry, values):
    model = made(entry, Spec("image", (1, 8, 8), 17, SHARES), **values)
    x, y = images(model.spec)
    logged: set[str] = set()
    for progress in (0.0, 0.5, 1.0):
        logged |= {name for loss in model.losses(x, y, rng(), progress) for name in loss.parts}
    if isinstance(model, Adapts):
        logged |= model.adapt(x, y, x, y, rng()).keys()
    if isinstance(model, Validates):
        logged |= model.eval().held_out(x, y, rng()).keys()
    assert logged == {name for curve in entry.curves for name in curve.drawn(logged)}
    titles = [curve.title for curve in entry.curves]
    assert len(titles) == len(set(titles))
    assert all(curve.reading.endswith(".") for curve in entry.curves)


@every_variant
def test_the_losses_depend_on_weights_batch_and_generator_alone(entry, values):
    first = made(entry, Spec("image", (1, 8, 8), 17, SHARES), **values)
    second = copy.deepcopy(first)
    torch.manual_seed(99)
    a, b = train(first), train(second)
    assert a == b
    assert all(len(part) for part in a.values())
    for one, two in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, two)


@every_variant
def test_the_state_survives_safetensors(entry, values, tmp_path):
    spec = Spec("image", (1, 12, 12), 256, SHARES)
    model = made(entry, spec, **values)
    train(model, 2)
    x, y = images(spec, 64)
    if isinstance(model, Fits):
        model.fit(x, y)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        tmp_path / "model.safetensors",
    )
    other = made(entry, spec, seed=1, **values)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    sampling = entry.sampling()
    drawn = [each.eval().sample(range(8), None, 0, sampling) for each in (model, other)]
    assert torch.equal(*drawn)


@pytest.mark.parametrize(("entry", "values"), able(Decodes), ids=named)
def test_decoding_a_latent_is_sampling(entry, values):
    model = made(entry, Spec("image", (1, 8, 8), 17, SHARES), **values).eval()
    sampling = entry.sampling()
    y = torch.arange(6) % 3
    z = model.latent(range(6), 2, sampling)
    assert z.ndim == 2
    assert torch.equal(
        model.decode(z, y, sampling).detach(), model.sample(range(6), y, 2, sampling)
    )
    assert torch.allclose(model.latent([4], 2, sampling)[0], z[4], atol=1e-6)
    if isinstance(model, Encodes):
        x, labels = images(model.spec, 6)
        assert model.encode(x, labels, sampling).shape == z.shape


@every_variant
def test_shares_of_classes_are_blended_labels(entry, values):
    model = made(entry, Spec("image", (1, 8, 8), 17, SHARES), **values)
    train(model)
    model.eval()
    sampling = entry.sampling()
    y = torch.arange(6) % 3
    shares = nn.functional.one_hot(y, 3).float()
    x = model.sample(range(6), y, 0, sampling)
    assert torch.allclose(model.sample(range(6), shares, 0, sampling), x, atol=1e-6)
    blend = model.sample(range(6), (shares + shares.roll(1, 1)) / 2, 0, sampling)
    other = model.sample(range(6), (y + 1) % 3, 0, sampling)
    listens = not torch.equal(x, other)
    assert listens == (not torch.equal(blend, x))
    assert listens == (model.classes > 0)


@every
def test_every_choice_of_the_sampling_changes_the_samples(entry):
    spec = Spec("image", (1, 8, 8), 17, SHARES)
    model = made(entry, spec)
    train(model, 10)
    if isinstance(model, Fits):
        model.fit(*images(spec, 100))
    model.eval()
    sampling: type[Config] = entry.sampling
    usual = model.sample(range(8), None, 0, sampling())
    for name, knob in sampling.knobs().items():
        values = knob.options or ((True, False) if knob.type is bool else (knob.low,))
        for value in values:
            x = model.sample(range(8), None, 0, sampling.of({name: value}))
            assert float(x.min()) >= 0
            assert float(x.max()) <= 1
            assert torch.equal(x, usual) == (value == knob.default), f"{name}={value}"


@pytest.mark.parametrize(("entry", "values"), able(Fits), ids=named)
@pytest.mark.parametrize("count", [2, 257])
def test_fitting_is_deterministic_and_changes_nothing_trainable(entry, values, count):
    spec = Spec("image", (1, 12, 12), 256, SHARES)
    model = made(entry, spec, **values)
    train(model, 2)
    model.eval()
    before = copy.deepcopy(model)
    x, y = images(spec, count)
    x = (x + 0.05 * torch.rand(x.shape, generator=rng(3))).clamp(0, 1)
    other = copy.deepcopy(model)
    model.fit(x, y)
    torch.manual_seed(7)
    other.fit(x, y)
    assert not model.training
    buffers = dict(model.named_buffers())
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
        assert value.isfinite().all(), name
        if name not in buffers:
            assert torch.equal(value, before.state_dict()[name]), name
    model.fit(x, y)  # once more on the fitted model
    for name, value in model.state_dict().items():
        assert torch.allclose(value.float(), other.state_dict()[name].float(), atol=1e-4), name


@pytest.mark.parametrize(("entry", "values"), able(Validates), ids=named)
def test_held_out_values_are_numbers_that_the_generator_repeats(entry, values):
    model = made(entry, Spec("image", (1, 8, 8), 17, SHARES), **values).eval()
    with torch.no_grad():
        first, again = (model.held_out(*images(model.spec), rng(1)) for _ in range(2))
    assert {name: float(value) for name, value in first.items()} == {
        name: float(value) for name, value in again.items()
    }
    assert all(math.isfinite(float(value)) for value in first.values())


def test_a_family_that_does_not_exist_is_told():
    with pytest.raises(UserError, match=r"^There is no family 'gam'\. Did you mean 'gan'\?$"):
        build("gam", {}, Spec("image", (1, 8, 8), 17))
    with pytest.raises(UserError) as caught:
        build("gan", {"latent_dim": 0}, Spec("image", (1, 8, 8), 17))
    assert str(caught.value) == (
        "family.latent_dim must be a whole number at least 1 and at most 1024, got 0. Leave it out to use 64."
    )


def test_a_latent_of_no_dimension_is_refused():
    for family in ("gan", "vae"):
        with pytest.raises(
            UserError, match=r"family\.latent_dim must be a whole number at least 1 "
        ):
            build(family, {"latent_dim": 0}, Spec("image", (1, 8, 8), 17))


# --- Blocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(8, 129, 5))
def test_the_smallest_grid_doubles_to_at_least_the_size(size):
    base, doublings = plan(size)
    assert 4 <= base <= 8
    assert size <= base * 2**doublings < size + 2**doublings
    x = torch.rand(1, 1, size, size, generator=rng())
    assert torch.equal(crop(pad(x, base * 2**doublings), size), x)


def test_labels_and_shares_are_embedded_alike():
    embed = LabelEmbedding(4, 3)
    y = torch.tensor([2, 0, 3])
    assert torch.allclose(embed(y), embed(nn.functional.one_hot(y, 4).float()))


def test_batch_statistics_become_the_plain_average_of_the_given_batches():
    net = nn.Sequential(nn.BatchNorm1d(2))
    batches = [torch.randn(50, 2, generator=rng(k)) * 3 + k for k in range(4)]
    net(batches[0] * 100)  # a past that must be forgotten
    net.eval()
    refresh_batch_statistics(net, ((lambda b=b: net(b)) for b in batches))
    assert not net.training
    assert net[0].momentum == 0.1
    assert torch.allclose(
        net[0].running_mean, torch.stack([b.mean(0) for b in batches]).mean(0), atol=1e-5
    )
    assert torch.allclose(
        net[0].running_var, torch.stack([b.var(0) for b in batches]).mean(0), atol=1e-4
    )
