"""The diffusion family against Gaussians, whose velocity, samples and likelihood are known in closed form."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from core.models import Encodes, Scores, Spec, Traces, build
from core.models.diffusion import (
    DROP,
    SIGMA_DATA,
    Diffusion,
    DiffusionSampling,
    churn,
    log_density,
    precondition,
    solve,
)
from core.tensors import noise

MEAN, STD = 0.1, 0.2  # of centred pixels; what lies beyond 0 and 1 is 4 deviations away


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(
    size: int = 8, classes: int = 0, channels: int = 1, levels: int = 256, **values: Any
) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(
            "diffusion", values, Spec("image", (channels, size, size), levels, (1 / 3,) * classes)
        )


def taught(steps: int = 20, **values: Any) -> Any:
    """A model that has learned a little, so that no layer is at zero."""
    model = made(**values)
    adam = torch.optim.Adam(model.parameters(), 2e-3)
    x, y = pictures(model.spec, 32)
    for step in range(steps):
        (loss,) = model.losses(x, y, rng(step), 0.5)
        adam.zero_grad()
        loss.value.backward()
        adam.step()
    return model.eval()


def pictures(spec: Spec, count: int) -> tuple[Tensor, Tensor | None]:
    grid = torch.linspace(0, 1, spec.size)
    phase = torch.rand(count, spec.channels, 1, 1, generator=rng(5))
    x = 0.5 + 0.5 * torch.sin(6 * (grid[:, None] + grid) + 6 * phase)
    return x, torch.arange(count) % spec.classes if spec.classes else None


def exact(x: Tensor, t: Any, mean: Any = MEAN, std: Any = STD) -> Tensor:
    """The velocity E[data - noise | x_t] when data is N(mean, std^2): regression of one Gaussian on another."""
    return mean + (t * std**2 - (1 - t)) / ((1 - t) ** 2 + (t * std) ** 2) * (x - t * mean)


def gaussian(**values: Any) -> Any:
    """A model whose network is replaced by the truth about Gaussian pixels."""
    model = made(**values)
    model.velocity = lambda x, t, y=None, keep=None: exact(x, t.view(-1, 1, 1, 1))
    return model


def end(*arguments: Any) -> Tensor:
    *_, (x, _) = solve(*arguments)
    return x


# --- Samplers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("heun", "order"), [(False, 1), (True, 2)], ids=["euler", "heun"])
@pytest.mark.parametrize("backwards", [False, True])
def test_halving_the_steps_shows_the_order_of_convergence(heun, order, backwards):
    z = torch.randn(50, generator=rng(), dtype=torch.float64)
    x = MEAN + STD * z  # where the path from z ends: it keeps every quantile
    start, goal = (x, z) if backwards else (z, x)
    errors = []
    for steps in (64, 128, 256):
        times = torch.linspace(*((1, 0) if backwards else (0, 1)), steps + 1).double().tolist()
        errors.append(float((end(exact, start, times, heun) - goal).abs().max()))
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert rates == pytest.approx([order, order], abs=0.15)
    assert errors[-1] < (0.05, 0.002)[heun]


@pytest.mark.parametrize("sampler", ["heun", "stochastic"])
def test_samples_have_the_mean_and_the_variance_of_the_data(sampler):
    model = gaussian()
    sampling = DiffusionSampling(steps=60, sampler=sampler)
    x = model.sample(range(2000), None, 3, sampling) * 2 - 1
    assert float(x.mean()) == pytest.approx(MEAN, abs=4 * STD / x.numel() ** 0.5 + 1e-3)
    assert float(x.var()) == pytest.approx(STD**2, rel=0.02)
    kept = torch.corrcoef(
        torch.stack([x.flatten(), model.latent(range(2000), 3, sampling).flatten()])
    )[0, 1]
    if sampler == "heun":
        assert float(kept) > 0.999
    else:
        assert abs(float(kept)) < 0.05  # the noise has been renewed
        kurtosis = ((x - x.mean()) / x.std()).pow(4).mean()
        assert float(kurtosis) == pytest.approx(3, abs=0.1)


def test_fresh_noise_keeps_the_distribution_of_its_new_time():
    t, z = 0.6, torch.randn(100_000, generator=rng())
    x = (1 - t) * torch.randn(100_000, generator=rng(1)) + t * (MEAN + STD * z)
    moved, earlier = churn(x, t, torch.randn(100_000, generator=rng(2)), steps=10)
    assert 0 < earlier < t
    assert float(moved.mean()) == pytest.approx(earlier * MEAN, abs=0.01)
    assert float(moved.var()) == pytest.approx((1 - earlier) ** 2 + (earlier * STD) ** 2, rel=0.02)
    nearly = churn(x, t, torch.randn(100_000, generator=rng(2)), steps=100_000)
    assert torch.allclose(nearly[0], x, atol=0.1)  # many steps renew little each
    assert nearly[1] == pytest.approx(t, abs=1e-3)


@pytest.mark.parametrize("sampler", ["euler", "heun", "stochastic"])
def test_a_sample_does_not_depend_on_its_batch(sampler):
    model = taught(classes=3)
    sampling = DiffusionSampling(sampler=sampler, steps=7)
    whole = model.sample(range(9), None, 5, sampling)
    assert torch.allclose(model.sample([7, 2], None, 5, sampling), whole[[7, 2]], atol=1e-5)
    steps = [noise(5, [7], (4,), f"step {k}") for k in (1, 2)]
    assert not torch.equal(*steps)  # each step has a stream of its own


@pytest.mark.parametrize("sampler", ["euler", "heun", "stochastic"])
def test_the_trace_shows_what_is_expected_and_ends_at_the_sample(sampler):
    model = taught(classes=3)
    assert isinstance(model, Traces)
    sampling = DiffusionSampling(sampler=sampler, steps=6)
    views = list(model.trace(range(4), None, 1, sampling))
    assert len(views) == 6
    assert torch.equal(views[-1], model.sample(range(4), None, 1, sampling))
    assert all(view.shape == (4, 1, 8, 8) and not view.requires_grad for view in views)
    assert all(float(view.min()) >= 0 and float(view.max()) <= 1 for view in views)


def test_what_the_trace_expects_is_the_posterior_mean():
    z = torch.randn(50, generator=rng(), dtype=torch.float64)
    times = torch.linspace(0, 1, 401).double().tolist()
    for t, (x, clean) in zip(times[1:], solve(exact, z, times, True), strict=True):
        gain = t * STD**2 / ((1 - t) ** 2 + (t * STD) ** 2)
        assert torch.allclose(clean, MEAN + gain * (x - t * MEAN), atol=2e-3)
    assert torch.equal(x, clean)


def test_a_trace_leaves_the_gradients_of_others_alone():
    path = taught(steps=1).trace(range(2), None, 0, DiffusionSampling(steps=3))
    next(path)
    assert torch.is_grad_enabled()


# --- Objectives ---------------------------------------------------------------------------------


def test_denoising_is_the_preconditioner_of_karras():
    model = made(objective="denoising").double()
    t = torch.tensor([0.02, 0.3, 0.77, 0.99], dtype=torch.float64)
    seen: list[tuple[Tensor, Tensor]] = []

    def net(x: Tensor, code: Tensor) -> Tensor:
        seen.append((x, code))
        return torch.sin(3 * x)

    model.net.forward = net
    model.code.forward = lambda level, y, keep: level
    data = torch.randn(4, 1, 8, 8, generator=rng(), dtype=torch.float64)
    start = torch.randn(4, 1, 8, 8, generator=rng(1), dtype=torch.float64)
    wide = t.view(-1, 1, 1, 1)
    x = wide * data + (1 - wide) * start
    denoised = x + (1 - wide) * model.velocity(x, t)
    # Karras et al., table 1, in their own variables
    sigma = (1 - wide) / wide
    both = sigma**2 + SIGMA_DATA**2
    c_skip, c_out = SIGMA_DATA**2 / both, sigma * SIGMA_DATA / both.sqrt()
    c_in, c_noise = 1 / both.sqrt(), sigma.log() / 4
    theirs = data + sigma * start
    assert torch.allclose(seen[0][0], c_in * theirs)
    assert torch.allclose(seen[0][1], c_noise.flatten())
    assert torch.allclose(denoised, c_skip * theirs + c_out * torch.sin(3 * c_in * theirs))
    weight = both / (sigma * SIGMA_DATA) ** 2
    assert torch.allclose(weight * c_out**2, torch.ones_like(weight))
    errors = (weight * (denoised - data).square()).flatten(1).mean(1)
    assert torch.allclose(model._errors(data, start, t, None, None), errors)


@pytest.mark.parametrize("t", [0.0, 0.01, 0.4, 0.9, 1.0])
def test_the_denoising_network_sees_and_gives_numbers_of_size_one(t):
    at = precondition("denoising", torch.tensor([t]))
    data = SIGMA_DATA * torch.randn(200_000, generator=rng())
    start = torch.randn(200_000, generator=rng(1))
    x = (1 - t) * start + t * data
    target = (data - start - at.skip * x) / at.out
    assert float((at.inner * x).std()) == pytest.approx(1, abs=0.01)
    assert float(target.std()) == pytest.approx(1, abs=0.01)
    assert abs(float((target * x).mean())) < 0.01  # a linear guess would not help
    assert at.level.isfinite().all()


@pytest.mark.parametrize(
    ("objective", "mean", "std"), [("flow", 0.0, 1.0), ("denoising", -1.2, 1.2)]
)
def test_times_are_drawn_as_the_papers_say(objective, mean, std):
    model = made(objective=objective)
    found: list[Tensor] = []
    model._errors = lambda data, start, t, y, keep: found.append(t) or t
    list(model.losses(torch.zeros(100_000, 1, 1, 1), None, rng(), 0.0))
    t = found[0]
    normal = torch.logit(t) if objective == "flow" else ((1 - t) / t).log()  # logit t; log sigma
    assert float(normal.mean()) == pytest.approx(mean, abs=0.02)
    assert float(normal.std()) == pytest.approx(std, abs=0.02)


def test_flow_matching_is_the_squared_distance_to_the_velocity():
    model = taught(classes=3)
    x, y = pictures(model.spec, 6)
    data, start = x * 2 - 1, torch.randn(6, 1, 8, 8, generator=rng())
    t = torch.rand(6, generator=rng(1))
    on_path = data * t.view(-1, 1, 1, 1) + start * (1 - t.view(-1, 1, 1, 1))
    raw = model.net(on_path, model.code(t, y, None))
    expected = (raw - (data - start)).square().flatten(1).mean(1)
    assert torch.allclose(model._errors(data, start, t, y, None), expected, rtol=1e-4)


def test_held_out_losses_use_the_same_times_always():
    model = made(objective="denoising")
    found: list[Tensor] = []
    model._errors = lambda data, start, t, y, keep: found.append(t) or t
    model.held_out(torch.zeros(24, 1, 8, 8), None, rng(1))
    model.held_out(torch.zeros(24, 1, 8, 8), None, rng(2))
    assert torch.equal(*found)
    ranks = torch.special.ndtr((torch.logit(found[0]) - 1.2) / 1.2)
    assert torch.allclose(ranks, (torch.arange(24) % 8 + 0.5) / 8, atol=1e-5)
    assert list(taught(steps=1).held_out(torch.rand(3, 1, 8, 8), None, rng())) == ["valid_loss"]


# --- Classes ------------------------------------------------------------------------------------


def test_a_tenth_of_the_labels_is_hidden_in_training():
    model = made(classes=3)
    found: list[Tensor] = []
    model._errors = lambda data, start, t, y, keep: found.append(keep) or t
    list(model.losses(torch.zeros(50_000, 1, 1, 1), torch.zeros(50_000).long(), rng(), 0.0))
    assert DROP == 0.1
    assert float((~found[0]).float().mean()) == pytest.approx(0.1, abs=0.005)


def test_a_hidden_label_is_no_label():
    model = taught(classes=3)
    x, t, y = (
        torch.randn(6, 1, 8, 8, generator=rng()),
        torch.rand(6, generator=rng(1)),
        torch.arange(6) % 3,
    )
    told = torch.arange(6) < 3
    mixed = model.velocity(x, t, y, told)
    assert torch.allclose(mixed[:3], model.velocity(x, t, y)[:3], atol=1e-6)
    assert torch.allclose(mixed[3:], model.velocity(x, t, None)[3:], atol=1e-6)
    assert not torch.allclose(model.velocity(x, t, y), model.velocity(x, t, None), atol=1e-3)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 3.0])
def test_guidance_goes_from_any_class_through_the_class_and_beyond(guidance):
    model = taught(classes=3)
    x, y = torch.randn(6, 1, 8, 8, generator=rng()), torch.arange(6) % 3
    t = torch.full((6,), 0.4)
    this, anything = model.velocity(x, t, y), model.velocity(x, t, None)
    guided = model._field(y, guidance)(x, 0.4)
    assert torch.allclose(guided, anything + guidance * (this - anything), atol=1e-5)


@pytest.mark.parametrize(("guidance", "images"), [(1.0, 6), (2.0, 12)])
def test_guidance_takes_both_branches_in_one_batch(guidance, images):
    model = taught(classes=3)
    batches: list[int] = []
    model.net.register_forward_pre_hook(lambda net, inputs: batches.append(len(inputs[0])))
    sampling = DiffusionSampling(guidance=guidance, steps=4, sampler="euler")
    x = model.sample(range(6), torch.arange(6) % 3, 0, sampling)
    assert batches == [images] * 4
    if guidance == 1:  # the path of the class itself
        z = model.latent(range(6), 0, sampling).view(6, 1, 8, 8)
        y = torch.arange(6) % 3
        plain = lambda x, t: model.velocity(x, torch.full((6,), t), y)  # noqa: E731
        alone = end(plain, z, [0.0, 0.25, 0.5, 0.75, 1.0], False)
        assert torch.equal(x, alone.add(1).div(2).clamp(0, 1))


# --- Back to noise, and likelihood --------------------------------------------------------------


def test_encoding_and_decoding_undo_each_other_with_many_steps():
    model = gaussian()
    assert isinstance(model, Encodes)
    z = model.latent(range(8), 0, DiffusionSampling())
    many = DiffusionSampling(steps=400)
    x = model.decode(z, None, many)
    assert torch.allclose(x * 2 - 1, (MEAN + STD * z).view(8, 1, 8, 8), atol=1e-3)
    assert torch.allclose(model.encode(x, None, many), z, atol=1e-2)


def test_a_network_gives_back_the_image_that_it_encoded():
    model = taught(steps=60, classes=3)
    x, y = pictures(model.spec, 8)
    x = 0.1 + 0.8 * x
    errors = []
    with torch.no_grad():
        for steps in (20, 80):
            sampling = DiffusionSampling(steps=steps)
            back = model.decode(model.encode(x, y, sampling), y, sampling)
            errors.append(float((back - x).abs().max()))
    assert errors[1] < 0.01
    assert errors[1] < errors[0] / 4


def covariance(dim: int) -> Tensor:
    root = torch.randn(dim, dim, generator=rng(7), dtype=torch.float64) / dim**0.5
    return 0.1 * torch.eye(dim, dtype=torch.float64) + 0.3 * root @ root.T


def test_the_log_density_is_that_of_a_gaussian_with_any_covariance():
    dim, count = 6, 20
    cov, mean = covariance(dim), torch.linspace(-1, 1, dim, dtype=torch.float64)
    eye = torch.eye(dim, dtype=torch.float64)

    def field(x: Tensor, t: float) -> Tensor:
        gain = (t * cov - (1 - t) * eye) @ torch.linalg.inv((1 - t) ** 2 * eye + t**2 * cov)
        return mean + (x - t * mean) @ gain

    truth = torch.distributions.MultivariateNormal(mean, cov)
    x = (
        mean
        + torch.randn(count, dim, generator=rng(), dtype=torch.float64)
        @ torch.linalg.cholesky(cov).T
    )
    found = log_density(field, x, eye[:, None], 1.0, steps=200)
    assert torch.allclose(found, truth.log_prob(x), atol=2e-3)
    signs = torch.randint(2, (300, 1, dim), generator=rng(1)) * 2.0 - 1
    guessed = log_density(field, x[:2], signs.double(), 1 / 300, steps=8)
    basis = log_density(field, x[:2], eye[:, None], 1.0, steps=8)
    assert torch.allclose(guessed, basis, atol=0.3)
    assert not torch.allclose(guessed, basis, atol=1e-6)


@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize("size", [8, 9], ids=["exact trace", "random trace"])
def test_levels_have_their_probability_under_a_gaussian(levels, size):
    model = gaussian(size=size, levels=levels)
    assert isinstance(model, Scores)
    pixels = MEAN + STD * torch.randn(40, 1, size, size, generator=rng())
    x = ((pixels + 1) / 2 * (levels - 1)).round().clamp(0, levels - 1) / (levels - 1)
    found = model.log_prob(x, None, rng(1))
    assert found.shape == (40,)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    truth = torch.distributions.Normal(MEAN, STD)
    centre, half = (x * 2 - 1).double(), 1 / (levels - 1)
    mass = (truth.cdf(centre + half) - truth.cdf(centre - half)).log().flatten(1).sum(1)
    spread = found.std() / 40**0.5
    gap = float((mass - found).mean()) / size**2  # in nats per pixel; what the uniform noise costs
    assert -0.01 < gap < (0.05 if levels == 17 else 0.02)
    assert float(spread) < 2


def test_the_likelihood_ignores_half_precision():
    model = taught(size=9, classes=3)
    x, y = pictures(model.spec, 4)
    plain = model.log_prob(x, y, rng())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(model.log_prob(x, y, rng()), plain)
        (loss,) = model.losses(x, y, rng(), 0.5)
        assert loss.value.dtype == torch.float32


# --- Networks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 11, 28, 48, 128])
@pytest.mark.parametrize("width", [4, 20, 32])
def test_the_unet_takes_any_size_and_width(size, width):
    model: Diffusion = made(size=size, channels=3, width=width, network="unet", classes=2)
    x = torch.randn(2, 3, size, size, generator=rng())
    out = model.velocity(x, torch.tensor([0.0, 1.0]), torch.tensor([0, 1]))
    assert out.shape == x.shape
    assert out.isfinite().all()


def test_depth_adds_blocks_to_both_networks():
    for network in ("dense", "unet"):
        counts = [
            sum(p.numel() for p in made(size=16, network=network, depth=d).parameters())
            for d in (1, 2, 3)
        ]
        assert counts[1] - counts[0] == counts[2] - counts[1] > 0
