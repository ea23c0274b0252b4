"""The truth about codes, their straight-through gradient, the learned codebook, and the prior that writes codes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.catalog import UserError
from core.models import Fits, Quantizes, Spec, Validates, build
from core.models.vqvae import (
    FSQ,
    RECENT,
    VQVAE,
    Codebook,
    Prior,
    VQVAEConfig,
    VQVAESampling,
    choose,
    silence,
    tokens,
)
from core.tensors import noise

SHARES = (0.5, 0.3, 0.2)
PLAIN = VQVAESampling(guidance=1, top_p=1)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(spec: Spec | None = None, **values: Any) -> VQVAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build("vqvae", values, spec or Spec("image", (1, 8, 8), 17, SHARES))
    assert isinstance(model, VQVAE)
    return model


def pictures(model: VQVAE, count: int = 32) -> tuple[Tensor, Tensor]:
    spec = model.spec
    x = torch.rand(count, spec.channels, spec.size, spec.size, generator=rng())
    return x, torch.arange(count) % 3


def a_prior(count: int = 3, length: int = 4, **values: Any) -> Prior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        prior = Prior(count, length, 3, VQVAEConfig(prior_width=16, prior_depth=2, **values))
        for param in prior.parameters():  # far from uniform
            param.data.mul_(2)
    return prior


def trained(steps: int = 6, **values: Any) -> VQVAE:
    model = made(**values)
    x, y = pictures(model)
    adams = {g.name: (torch.optim.Adam(g.params, 1e-2), g.params) for g in model.groups()}
    for step in range(steps):
        for loss in model.losses(x, y, rng(step), step / steps):
            adam, params = adams[loss.group]
            for param, grad in zip(params, torch.autograd.grad(loss.value, params), strict=True):
                param.grad = grad
            adam.step()
    return model.eval()


# --- Codes by levels ----------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [(5, 5, 5), (8, 6, 5), (2,), (2, 3, 4, 2), (64, 64)])
def test_every_code_comes_back_from_its_vector(levels):
    fsq = FSQ(levels)
    codes = torch.arange(math.prod(levels))
    vectors = fsq.vectors(codes)
    assert fsq.count == len(codes) == len(vectors.unique(dim=0))
    assert vectors.shape == (len(codes), len(levels))
    assert float(vectors.abs().max()) == 1
    assert torch.equal(fsq.nearest(vectors), codes)
    assert torch.equal(fsq.nearest(fsq.bound(torch.full((1, len(levels)), -99.0))), codes[:1])
    assert torch.equal(fsq.nearest(fsq.bound(torch.full((1, len(levels)), 99.0))), codes[-1:])


def test_the_rounded_vector_is_the_nearest_of_all():
    fsq = FSQ((4, 5, 3))
    z = fsq.bound(torch.randn(200, 3, generator=rng()))
    distances = torch.cdist(z, fsq.vectors(torch.arange(60)))
    assert torch.equal(fsq.nearest(z), distances.argmin(1))


def test_levels_that_make_no_vocabulary_are_refused():
    for text in ("5,,5", "1,5", "five", "65", "64,65", "16,16,17", ""):
        with pytest.raises(UserError, match=r"^family\.levels must be whole numbers from 2 to 64 "):
            build("vqvae", {"levels": text}, Spec("image", (1, 8, 8), 17))
    assert made(levels=" 3, 4 ").quantizer.count == 12


@pytest.mark.parametrize("kind", ["levels", "codebook"])
def test_the_gradient_passes_straight_through_the_rounding(kind):
    model = made(quantizer=kind).double()
    x, _ = pictures(model)
    x = x.double()
    z = model.spell(x)
    vectors = model.quantizer.vectors(model.quantizer.nearest(z)).double()
    at = vectors.detach().requires_grad_()
    error = (model._decode(at) - x).square().mean()
    (slope,) = torch.autograd.grad(error, at)  # where the decoder really was
    nll = x[0].numel() / 2 * torch.log(error)
    # the chain rule by hand: the decoder's slope at the codes, fed into the encoder as if z had been there
    surrogate = (slope * z).sum() * x[0].numel() / 2 / error.detach()
    surrogate = surrogate + model.quantizer.commitment(z, vectors)
    params = list(model.encoder.parameters())
    expected = torch.autograd.grad(surrogate, params)
    (loss,) = model.losses(x, None, rng(), 0.0)
    for mine, theirs in zip(torch.autograd.grad(loss.value, params), expected, strict=True):
        assert mine.abs().sum() > 0
        assert torch.allclose(mine, theirs, rtol=1e-6, atol=1e-9)
    constant = x[0].numel() / 2 * (math.log(2 * math.pi) + 1)
    extra = model.quantizer.commitment(z, vectors)
    assert float(loss.value.detach()) == pytest.approx(float((nll + constant + extra).detach()))


# --- A learned codebook -------------------------------------------------------------------------


def test_the_codebook_moves_as_in_the_textbook():
    book = Codebook(3, 2, decay=0.9)
    table = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    book.counts.copy_(torch.tensor([0.5, 0.25, 0.25]))
    book.sums.copy_(table * book.counts[:, None])
    z = torch.tensor([[0.5, 0.1], [3.0, 1.0], [5.0, -1.0], [-0.5, 0.3]])
    codes = book.nearest(z)
    assert codes.tolist() == [0, 1, 1, 0]
    assert torch.equal(book.vectors(codes), table[codes])
    n, m = 4 * book.counts, 4 * book.sums  # counts and sums, as the paper has them
    one_hot = nn.functional.one_hot(codes, 3).float()
    book.follow(one_hot.mean(0), one_hot.T @ z / 4)
    n = 0.9 * n + 0.1 * one_hot.sum(0)
    m = 0.9 * m + 0.1 * one_hot.T @ z
    assert torch.allclose(book.vectors(torch.arange(3)), m / n[:, None])
    assert torch.allclose(book.vectors(torch.tensor(2)), table[2])  # unused codes stay


def test_the_codebook_of_a_training_step_is_the_running_mean_of_its_vectors():
    model = made(quantizer="codebook", codebook=16)
    x, y = pictures(model, 64)
    model.idle.zero_()  # none is dead
    z = model.spell(x).detach().flatten(0, 1)
    counts, sums = model.quantizer.counts.clone(), model.quantizer.sums.clone()
    one_hot = nn.functional.one_hot(model.quantizer.nearest(z), 16).float()
    next(iter(model.losses(x, y, rng(), 0.0)))
    assert torch.allclose(model.quantizer.counts, 0.99 * counts + 0.01 * one_hot.mean(0))
    expected = 0.99 * sums + 0.01 * one_hot.T @ z / len(z)
    assert torch.allclose(model.quantizer.sums, expected, atol=1e-6)
    used = one_hot.sum(0) > 0
    assert torch.equal(model.idle, (~used).long())
    usage = 0.99 / 16 + 0.01 * one_hot.mean(0)
    assert torch.allclose(model.usage, usage)


def test_dead_codes_restart_at_vectors_of_the_batch_that_the_generator_picks():
    model = made(quantizer="codebook", codebook=16)
    x, y = pictures(model, 64)
    book = model.quantizer
    assert isinstance(book, Codebook)
    book.counts[3:6], book.sums[3:6] = 1e-3, 1e3  # far from everything
    model.idle.zero_()
    model.idle[3:5] = RECENT - 1
    z = model.spell(x).detach().flatten(0, 1)
    again = made(quantizer="codebook", codebook=16)
    again.load_state_dict(model.state_dict())
    for each in (model, again):
        next(iter(each.losses(x, y, rng(5), 0.0)))
    table = model.quantizer.vectors(torch.arange(16))
    nearest = (table[:, None] - z).norm(dim=2).min(1).values
    assert float(nearest[3:5].max()) < 1e-3  # restarted
    assert float(nearest[5]) > 1e3  # idle for one step only
    assert torch.equal(table, again.quantizer.vectors(torch.arange(16)))
    codes = model.quantize(x)
    assert {3, 4} <= set(codes.flatten().tolist())


def test_restarts_bring_a_codebook_of_far_away_codes_to_life():
    model = made(quantizer="codebook", codebook=32)
    model.quantizer.sums.add_(50.0)
    x, y = pictures(model, 64)
    uses = [next(iter(model.losses(x, y, rng(k), 0.0))).parts["codebook_use"] for k in range(4)]
    assert float(uses[0]) < 0.2
    assert float(uses[-1]) > 0.8


def test_use_and_perplexity_are_those_of_the_codes():
    model = made(levels="4,2")
    x, y = pictures(model)
    codes = model.quantize(x)
    loss = next(iter(model.losses(x, y, rng(), 0.0)))
    assert float(loss.parts["codebook_use"]) == len(codes.unique()) / 8
    share = codes.flatten().bincount(minlength=8) / codes.numel()
    usage = 0.99 / 8 + 0.01 * share
    perplexity = torch.distributions.Categorical(usage).perplexity()
    assert float(loss.parts["perplexity"]) == pytest.approx(float(perplexity), rel=1e-5)


# --- The prior ----------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [None, 0, 2])
def test_the_probabilities_of_all_sequences_sum_to_one(y):
    prior = a_prior()
    codes = torch.tensor(list(itertools.product(range(3), repeat=4)))
    start = prior.start(81, None if y is None else torch.full((81,), y))
    logits = prior(start, codes[:, :-1]).detach().double()
    each = logits.log_softmax(-1).gather(2, codes[..., None])[..., 0].sum(1).exp()
    assert float(each.sum()) == pytest.approx(1, abs=1e-5)
    assert float(each.max()) > 3 * float(each.min())  # it is not the uniform one


def test_drawn_sequences_have_the_probabilities_of_the_prior():
    model = made(levels="2,2")
    model.begun.fill_(1)
    model.grid, model.prior = 2, a_prior(4)
    n = 20_000
    drawn = model.write(range(n), torch.full((n,), 1), 0, PLAIN)
    codes = torch.tensor(list(itertools.product(range(4), repeat=4)))
    logits = model.prior(model.prior.start(256, torch.ones(256).long()), codes[:, :-1]).detach()
    p = logits.log_softmax(-1).gather(2, codes[..., None])[..., 0].sum(1).exp()
    counts = (drawn @ torch.tensor([64, 16, 4, 1])).bincount(minlength=256)
    z = (counts - n * p) / (n * p * (1 - p)).sqrt()
    assert float(z.abs().max()) < 5
    assert float(z[n * p > 5].square().mean()) == pytest.approx(1, abs=0.4)


def test_a_later_code_never_changes_an_earlier_logit():
    prior = a_prior(5, 9)
    codes = torch.randint(5, (4, 8), generator=rng())
    start = prior.start(4, torch.tensor([0, 1, 2, 0]))
    usual = prior(start, codes).detach()
    for at in range(8):
        other = codes.clone()
        other[:, at:] = (other[:, at:] + 1) % 5
        changed = (prior(start, other).detach() - usual).abs().amax((0, 2))
        assert float(changed[: at + 1].max()) < 1e-6
        assert float(changed[at + 1 :].min()) > 1e-4


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_cache_changes_the_cost_and_nothing_else(guidance):
    prior = a_prior(5, 9)
    codes = torch.randint(5, (4, 8), generator=rng())
    start = prior.start(4, torch.tensor([0, 1, 2, 0]))
    cache: list[list[Tensor]] = [[], []]
    steps = [prior(start, codes[:, :t], cache) for t in range(9)]
    assert torch.allclose(torch.cat(steps, 1), prior(start, codes), atol=1e-4)
    model = trained()
    sampling = VQVAESampling(guidance=guidance)
    y = torch.arange(20) % 3
    found = [model.write(range(20), y, 0, sampling, cached=cached) for cached in (True, False)]
    assert torch.equal(*found)


def test_guidance_of_one_is_none_and_more_of_it_moves_away_from_the_classless():
    model = trained()
    y = torch.arange(40) % 3
    plain = model.write(range(40), y, 0, PLAIN)
    # by hand, without any guidance
    draws = noise(0, range(40), (16,), "codes", uniform=True)
    codes = torch.zeros(40, 0, dtype=torch.int64)
    for draw in draws.unbind(1):
        logits = model.prior(model.prior.start(40, y), codes)[:, -1].detach()
        codes = torch.cat([codes, choose(logits, draw, PLAIN)[:, None]], 1)
    assert torch.equal(plain, codes)
    # guidance 0 has never heard of the class
    none = VQVAESampling(guidance=0, top_p=1)
    assert torch.equal(
        model.write(range(40), y, 0, none), model.write(range(40), (y + 1) % 3, 0, none)
    )
    strong = model.write(range(40), y, 0, VQVAESampling(guidance=3, top_p=1))

    def evidence(codes: Tensor) -> Tensor:
        asked, free = (
            model.prior(model.prior.start(40, label), codes[:, :-1])
            .detach()
            .log_softmax(-1)
            .gather(2, codes[..., None])
            .sum()
            for label in (y, None)
        )
        return asked - free

    assert float(evidence(strong)) > float(evidence(plain))


def test_codes_are_chosen_by_temperature_and_likeliest_share():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(10_000, 4)
    draw = torch.linspace(0, 1, 10_002)[1:-1]

    def shares(**values: float) -> list[float]:
        codes = choose(logits, draw, VQVAESampling(**{"top_p": 1.0} | values))
        return (codes.bincount(minlength=4) / 10_000).tolist()

    assert shares() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=1e-3)
    assert shares(temperature=0) == [1, 0, 0, 0]
    cold = torch.tensor([0.25, 0.09, 0.0225, 0.0025])
    assert shares(temperature=0.5) == pytest.approx((cold / cold.sum()).tolist(), abs=1e-3)
    assert shares(top_p=0.7) == pytest.approx([0.625, 0.375, 0, 0], abs=1e-3)
    assert shares(top_p=0.05) == [1, 0, 0, 0]


def test_silenced_channels_are_silent_at_all_places_and_the_mean_stays():
    h = torch.ones(200, 7, 50)
    out = silence(h, 0.2, rng())
    assert set(out.unique().tolist()) == {0.0, 1.25}
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert float((out == 0).float().mean()) == pytest.approx(0.2, abs=0.02)
    assert silence(h, 0.2, None) is h


# --- Stages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["levels", "codebook"])
def test_each_stage_trains_its_own_group_and_the_second_leaves_the_autoencoder_alone(kind):
    model = made(quantizer=kind, first_stage=0.3)
    x, y = pictures(model)
    groups = {group.name: group for group in model.groups()}
    assert [(g.start, g.stop) for g in groups.values()] == [(0, 0.3), (0.3, 1)]
    for progress, name in (
        (0.0, "autoencoder"),
        (0.29, "autoencoder"),
        (0.3, "prior"),
        (1, "prior"),
    ):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        (loss,) = model.losses(x, y, rng(), progress)
        assert loss.group == name
        for group in groups.values():
            grads = torch.autograd.grad(
                loss.value, group.params, retain_graph=True, allow_unused=True
            )
            assert all((grad is not None) == (group.name == name) for grad in grads)
        moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
        assert moved == {"begun"} if progress == 0.3 else "begun" not in moved
        assert (name == "autoencoder") == ("usage" in moved)


def test_the_loss_of_the_prior_is_its_cross_entropy_with_the_codes():
    model = made(dropout=0.0)
    x, y = pictures(model)
    (loss,) = model.losses(x, y, rng(3), 0.5)
    codes = model.quantize(x)
    keep = torch.rand(len(x), 1, generator=rng(3)) >= 0.1
    assert 0 < float(keep.float().mean()) < 1
    start = torch.where(keep, model.prior.start(32, y), model.prior.start(32, None))
    p = torch.distributions.Categorical(logits=model.prior(start, codes[:, :-1]))
    assert float(loss.value.detach()) == pytest.approx(
        -float(p.log_prob(codes).mean().detach()), rel=1e-5
    )


def test_before_the_second_stage_codes_are_drawn_as_often_as_they_stand_at_their_place():
    model = made(levels="3,2")
    x, y = pictures(model, 500)
    x[:, :, :4] = 0  # the upper half is always the same
    model.fit(x, y)
    codes = model.quantize(x)
    shares = nn.functional.one_hot(codes, 6).float().mean(0)
    assert torch.allclose(model.histogram, shares, atol=2e-3)
    drawn = model.write(range(4000), None, 0, PLAIN)
    assert torch.allclose(nn.functional.one_hot(drawn, 6).float().mean(0), shares, atol=0.04)
    expected = -(shares * model.histogram.log()).sum(1).mean()
    found = model.held_out(x, y, rng())
    assert float(found["valid_prior_loss"]) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("begun", [False, True])
def test_the_held_out_bound_is_codes_plus_what_the_decoder_misses(begun):
    model = trained()
    x, y = pictures(model)
    model.fit(x, y)
    model.begun.fill_(begun)
    codes = model.quantize(x)
    recon = model.restore(codes)
    nll = -torch.distributions.Normal(recon, model.sigma).log_prob(x).flatten(1).sum(1).mean()
    logits = (
        model.prior(model.prior.start(32, y), codes[:, :-1])
        if begun
        else model.histogram.log().expand(32, -1, -1)
    )
    rate = -torch.distributions.Categorical(logits=logits).log_prob(codes).sum(1).mean()
    found = model.held_out(x, y, rng())
    assert next(iter(found)) == "valid_loss"
    assert float(found["valid_loss"].detach()) == pytest.approx(
        float((nll + rate).detach()), rel=1e-4
    )
    assert float(model.sigma) == pytest.approx(
        float((recon - x).square().mean().sqrt().detach()), rel=1e-4
    )


def test_half_precision_changes_no_code_and_no_loss_by_much():
    model = trained()
    x, y = pictures(model)
    codes = model.quantize(x)
    for progress in (0.0, 0.5):
        usual = next(iter(model.losses(x, y, rng(), progress))).value
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model.quantize(x), codes)
            half = next(iter(model.losses(x, y, rng(), progress))).value
        assert half.dtype == torch.float32
        assert float(half.detach()) == pytest.approx(float(usual.detach()), rel=0.02)


# --- Shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 9, 15, 16, 17, 28, 30, 32, 33, 64, 100, 128])
def test_codes_of_every_size_and_back(size):
    grid, halvings = tokens(size)
    assert 3 <= grid <= 8
    assert size <= grid * 2**halvings
    model = made(Spec("image", (3, size, size), 256)).eval()
    assert isinstance(model, Quantizes) and isinstance(model, Fits) and isinstance(model, Validates)
    x = torch.rand(2, 3, size, size, generator=rng())
    codes = model.quantize(x)
    assert codes.shape == (2, grid**2)
    assert codes.dtype == torch.int64
    assert 0 <= int(codes.min()) <= int(codes.max()) < 125
    assert model.restore(codes).shape == x.shape


def test_the_presets_build_what_they_promise():
    from core.models import families

    for values in families.get("vqvae").presets.values():
        given = {k.removeprefix("family."): v for k, v in values.items() if k.startswith("family.")}
        model = made(**given)
        assert model.prior.width == given.get("prior_width", 64)
        assert len(model.prior.blocks) == given.get("prior_depth", 3)


def test_a_decoder_that_has_gone_all_black_feels_the_way_back():
    model = made(Spec("image", (1, 16, 16), 256))
    last = [m for m in model.decoder if isinstance(m, nn.Conv2d)][-1]
    x, _ = pictures(model)
    with torch.no_grad():
        last.bias.fill_(-30.0)  # a sigmoid or a tanh of this has no slope left
        assert float(model.restore(model.quantize(x)).max()) == 0
    (loss,) = model.losses(x, None, rng(), 0.0)
    (slope,) = torch.autograd.grad(loss.value, [last.bias])
    assert slope is not None
    # of D/2 log(error), where the error is (black - x)^2, black = bias / 2 + 1/2 = -14.5, and x is 1/2
    assert float(slope.sum()) == pytest.approx(-256 / 2 / 15, rel=0.05)
