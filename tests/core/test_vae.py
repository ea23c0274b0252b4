"""The VAE's truth: its likelihoods, bounds, free bits and the mixture of its codes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from core.models import Scores, Spec, build, families
from core.models import vae as module
from core.models.vae import (
    VAE,
    VAESampling,
    bernoulli,
    discretised,
    divergence,
    gaussian,
    tilted,
)
from core.training import TrainConfig

SHARES = (0.5, 0.3, 0.2)
LIKELIHOODS = ("gaussian", "bernoulli", "discretised")


def number(value: Tensor) -> float:
    return float(value.detach())


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(spec: Spec, count: int = 16) -> tuple[Tensor, Tensor]:
    """Smooth pictures of the dataset's levels, and their labels."""
    grid = torch.linspace(0, 1, spec.size)
    phase = torch.rand(count, spec.channels, 1, 1, generator=rng())
    x = 0.5 + 0.5 * torch.sin(6 * (grid[:, None] + grid) + 6 * phase)
    return torch.round(x * (spec.levels - 1)) / (spec.levels - 1), torch.arange(count) % 3


def vae(size: int = 8, levels: int = 17, **values: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build("vae", values, Spec("image", (1, size, size), levels, SHARES))


def train(model: VAE, count: int) -> None:
    """A few steps."""
    x, y = images(model.spec)
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    for step in range(count):
        (loss,) = model.losses(x, y, rng(step), step / count)
        adam.zero_grad()
        loss.value.backward()
        adam.step()


def whole(model: VAE, x: Tensor, raw: Tensor) -> Tensor:
    """The log-likelihood by torch.distributions, (N,)."""
    recon = torch.sigmoid(2 * raw[:, :1])
    if model.config.likelihood == "gaussian":
        found = torch.distributions.Normal(recon, model.sigma).log_prob(x)
    elif model.config.likelihood == "bernoulli":
        found = torch.distributions.Bernoulli(recon, validate_args=False).log_prob(x)
    else:
        found = logistic(x, recon, raw[:, 1:] - 3, model.spec.levels)
    return found.flatten(1).sum(1)


def logistic(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """The discretised logistic by the distribution function of torch.distributions, in double precision."""
    mean, scale, x = mean.double(), log_scale.double().exp(), x.double()
    base = torch.distributions.Uniform(
        torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    )
    steps = [
        torch.distributions.SigmoidTransform().inv,
        torch.distributions.AffineTransform(mean, scale),
    ]
    law = torch.distributions.TransformedDistribution(base, steps, validate_args=False)
    half = 0.5 / (levels - 1)
    above = torch.where(x > 1 - half, 1.0, law.cdf(x + half))
    return (above - torch.where(x < half, 0.0, law.cdf(x - half))).log()


def test_the_divergence_is_that_of_torch_distributions():
    mean, log_var = torch.randn(6, 5, generator=rng()), torch.randn(6, 5, generator=rng(1))
    p = torch.distributions.Normal(mean, (log_var / 2).exp())
    expected = torch.distributions.kl_divergence(p, torch.distributions.Normal(0.0, 1.0))
    assert torch.allclose(divergence(mean, log_var), expected, rtol=1e-5)
    assert not divergence(torch.zeros(2, 3), torch.zeros(2, 3)).any()


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_likelihoods_are_those_of_torch_distributions(levels):
    x = torch.randint(levels, (5, 1, 4, 4), generator=rng()) / (levels - 1)
    raw = torch.randn(5, 1, 4, 4, generator=rng(1))
    sigma, logits = torch.tensor(0.3), 3 * raw
    normal = torch.distributions.Normal(raw, sigma).log_prob(x).flatten(1).sum(1)
    assert torch.allclose(gaussian(x, raw, sigma), normal, rtol=1e-5)
    coin = torch.distributions.Bernoulli(logits=logits, validate_args=False).log_prob(x)
    assert torch.allclose(bernoulli(x, logits), coin.flatten(1).sum(1), rtol=1e-5)
    weights = torch.linspace(0, 1, levels) * logits[..., None]
    chosen = torch.distributions.Categorical(logits=weights).log_prob(torch.round(x * (levels - 1)))
    assert torch.allclose(tilted(x, logits, levels), chosen.flatten(1).sum(1), rtol=1e-4)
    if levels == 2:
        assert torch.allclose(tilted(x, logits, 2), bernoulli(x, logits), rtol=1e-5)
    mean, log_scale = torch.sigmoid(raw), torch.randn(5, 1, 4, 4, generator=rng(2)) / 2 - 1.5
    expected = logistic(x, mean, log_scale, levels).flatten(1).sum(1).float()
    assert torch.allclose(discretised(x, mean, log_scale, levels), expected, rtol=1e-3)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_probabilities_of_all_levels_sum_to_one(levels):
    x = torch.linspace(0, 1, levels)[:, None, None, None].expand(levels, 1, 1, 1)
    for mean in (0.0, 0.013, 0.5, 1.0):
        for log_scale in (-20.0, -7.0, -3.0, 0.0, 9.0):
            where, spread = torch.full_like(x, mean), torch.full_like(x, log_scale)
            total = discretised(x, where, spread, levels).exp().sum()
            assert number(total) == pytest.approx(1, abs=5e-4)
    for logit in (0.0, 1e-4, -0.7, 8.0, -200.0):
        total = tilted(x, torch.full_like(x, logit), levels).exp().sum()
        assert number(total) == pytest.approx(1, abs=5e-4)


def test_improbable_levels_have_finite_slopes():
    x = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    far = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1, 1).requires_grad_()
    log_scale = torch.full_like(x, -9.0).requires_grad_()
    values = discretised(x, far, log_scale, 256)
    assert values.isfinite().all()
    slopes = torch.autograd.grad(values.sum(), (far, log_scale))
    assert all(slope.isfinite().all() for slope in slopes)
    assert torch.equal(slopes[0].flatten().sign(), torch.tensor([-1.0, 1.0, 1.0]))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_bounds_are_those_of_torch_distributions(likelihood):
    model = vae(likelihood=likelihood, warmup=0.0, beta=1.0).eval()
    x, y = images(model.spec)
    with torch.no_grad():
        model.sigma.fill_(0.2)
        mean, log_var = model._posterior(x, y)
        posterior = torch.distributions.Normal(mean, (log_var / 2).exp())
        z = mean + (log_var / 2).exp() * torch.randn(mean.shape, generator=rng(1))
        kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
        elbo = whole(model, x, model._raw(z, y)).mean() - kl.sum(1).mean()
        found = model.held_out(x, y, rng(1))
        assert number(found["valid_loss"]) == pytest.approx(-number(elbo), rel=1e-4)
        if likelihood != "gaussian":  # whose sigma is the batch's own
            (loss,) = model.losses(x, y, rng(1), 0.5)
            assert number(loss.value) == pytest.approx(-number(elbo), rel=1e-4)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_log_probability_is_a_bound_that_tightens_to_that_of_the_levels(
    likelihood, monkeypatch
):
    model = vae(latent_dim=1, likelihood=likelihood)
    train(model, 20)
    model.eval()
    assert isinstance(model, Scores)
    x, _ = images(model.spec, 4)
    with torch.no_grad():
        model.sigma.fill_(0.3)
        grid = torch.linspace(-8, 8, 4001)[:, None]
        raw = model._raw(grid, None).double()
        recon = torch.sigmoid(2 * raw[:, :1])
        if likelihood == "gaussian":  # the mass of the noisy level under the sigma that fits it
            width = 1 / 16
            law = torch.distributions.Normal(recon, math.sqrt(0.3**2 + width**2 / 12))
            of_levels = [law.cdf(image + width / 2) - law.cdf(image - width / 2) for image in x]
        elif likelihood == "bernoulli":
            weights = (torch.linspace(0, 1, 17) * 2 * raw[..., None]).softmax(-1)
            index = torch.round(x * 16).long()[..., None]
            of_levels = [weights.gather(-1, i.expand(4001, -1, -1, -1, 1))[..., 0] for i in index]
        else:
            of_levels = [logistic(image, recon, raw[:, 1:] - 3, 17).exp() for image in x]
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(grid[:, 0]).double()
        joint = torch.stack([p.log().flatten(1).sum(1) + prior for p in of_levels])
        exact = torch.logsumexp(joint, 1) + math.log(16 / 4000)
        few = torch.stack([model.log_prob(x, None, rng(k)) for k in range(30)]).double()
        assert few.shape == (30, 4)
        assert (few.mean(0) < exact + 3 * few.std(0) / 30**0.5 + 1e-3).all()
        # many draws that cover the true posterior give the probability itself
        share = joint.softmax(1)
        centre = share @ grid.double()
        spread = share @ grid.double().square() - centre.square()
        found = centre.float(), torch.log(4 * spread + 1e-4).float()
        model._posterior = lambda x, y: found
        monkeypatch.setattr(module, "DRAWS", 500)
        assert torch.allclose(model.log_prob(x, None, rng(5)).double(), exact, atol=0.25)


def test_free_bits_cost_nothing():
    x, y = images(Spec("image", (1, 8, 8), 17, SHARES))
    free, plain = vae(free_bits=0.5, warmup=0.0, beta=2.0), vae(warmup=0.0, beta=2.0)
    mean = torch.zeros(16, 32)
    mean[:, 0], mean[:8, 1] = 2.0, 1.2  # KL 2 in every image; 0.72 in half of them; none
    for model in (free, plain):
        model._posterior = lambda x, y: (mean, torch.zeros(16, 32))
    (with_bits,), (without,) = (model.losses(x, y, rng(1), 0.5) for model in (free, plain))
    assert number(without.parts["kl"]) == pytest.approx(2 + 0.36)
    assert number(with_bits.parts["kl"]) == pytest.approx(2 + 0.36)  # the record tells the truth
    difference = number(with_bits.value) - number(without.value)
    assert difference == pytest.approx(2 * ((2 + 31 * 0.5) - 2.36), rel=1e-5)


@pytest.mark.parametrize("name", families.get("vae").presets)
def test_every_preset_is_a_vae_that_takes_a_step(name):
    given = families.get("vae").presets[name]
    assert all(key.partition(".")[0] in ("family", "train") for key in given)
    TrainConfig.of({k[6:]: v for k, v in given.items() if k.startswith("train.")})
    values = {k[7:]: v for k, v in given.items() if k.startswith("family.")}
    model: Any = build("vae", values, Spec("image", (3, 16, 16), 256, SHARES))
    x, y = images(model.spec, 2)
    assert all(loss.value.isfinite() for loss in model.losses(x, y, rng(), 0.5))


def test_the_loss_is_the_likelihood_at_the_best_sigma():
    model = vae(warmup=0.0, beta=2.0)
    x, y = images(model.spec)
    loss = next(iter(model.losses(x, y, rng(1), 0.5)))
    mean, log_var = model._posterior(x, y)
    recon = model.decode(
        mean + (log_var / 2).exp() * torch.randn(mean.shape, generator=rng(1)), y, VAESampling()
    )

    def nll(sigma: Tensor) -> float:
        return -number(
            torch.distributions.Normal(recon, sigma).log_prob(x).flatten(1).sum(1).mean()
        )

    best = (recon - x).square().mean().sqrt()
    kl = number(divergence(mean, log_var).sum(1).mean())
    assert number(loss.value) == pytest.approx(nll(best) + 2 * kl, rel=1e-5)
    assert nll(best) < min(nll(best * 0.9), nll(best * 1.1))
    assert number(loss.parts["kl"]) == pytest.approx(kl, rel=1e-5)
    assert number(loss.parts["reconstruction_error"]) == pytest.approx(number(best**2), rel=1e-5)


def test_the_divergence_grows_to_its_weight_over_the_warm_up():
    model = vae(warmup=0.2, beta=3.0)
    x, y = images(model.spec)
    losses = {p: next(iter(model.losses(x, y, rng(1), p))) for p in (0.0, 0.1, 0.2, 0.9)}
    kl = number(losses[0.0].parts["kl"])
    grown = [(number(losses[p].value) - number(losses[0.0].value)) / kl for p in losses]
    assert grown == pytest.approx([0, 1.5, 3, 3], abs=1e-3)


def test_the_mixture_finds_two_clusters_and_draws_from_them():
    model = vae(latent_dim=2, components=2).eval()
    n, share = 2000, 0.7
    which = torch.arange(n) % 10 < 10 * share
    codes = torch.randn(n, 2, generator=rng()) * torch.tensor([0.5, 0.2])
    codes = codes + torch.where(which[:, None], torch.tensor([3.0, 0.0]), torch.tensor([-2.0, 1.0]))
    x = torch.zeros(n, 1, 8, 8)
    x[:, 0, 0, :2] = codes  # the images carry their codes, however they are split into parts
    model._posterior = lambda x, y: (x[:, 0, 0, :2], torch.full((len(x), 2), -12.0))  # type: ignore[method-assign]
    model.fit(x, None)
    order = model.mixture_means[:, 0].argsort(descending=True)
    assert torch.allclose(model.mixture_weights[order], torch.tensor([0.7, 0.3]), atol=0.01)
    assert torch.allclose(
        model.mixture_means[order], torch.tensor([[3.0, 0.0], [-2.0, 1.0]]), atol=0.05
    )
    z = model.latent(range(5000), 0, VAESampling())
    assert torch.allclose(z.mean(0), codes.mean(0), atol=0.15)
    assert torch.allclose(torch.cov(z.T), torch.cov(codes.T), rtol=0.1, atol=0.1)
    assert number((z[:, 0] > 0.5).float().mean()) == pytest.approx(share, abs=0.03)
    cold = model.latent(range(5000), 0, VAESampling(temperature=0))
    assert len(cold.unique(dim=0)) == 2  # only the centres


@pytest.mark.parametrize(
    ("n", "dim", "components", "expected"),
    [(50, 2, 60, 1), (700, 2, 60, 10), (700, 2, 4, 4), (700, 100, 60, 3)],
)
def test_the_mixture_has_one_gaussian_for_every_70_codes(n, dim, components, expected):
    model = vae(latent_dim=dim, components=components).eval()
    model.fit(*images(model.spec, n))
    assert len(model.mixture_means.unique(dim=0)) == expected
    assert model.mixture_weights.sum() == pytest.approx(1)


def test_fitting_finds_the_sigma_of_the_decoder():
    model = vae().eval()
    x, y = images(model.spec, 200)
    model.fit(x, y)
    mean, log_var = model._posterior(x, y)
    z = mean + (log_var / 2).exp() * torch.randn(mean.shape, generator=rng())
    expected = (model.decode(z, None, VAESampling()) - x).square().mean().sqrt()
    assert number(model.sigma) == pytest.approx(number(expected), rel=1e-4)
