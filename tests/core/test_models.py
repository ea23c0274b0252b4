"""Families of generative models: the contract for each of them, and the truth about their losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.catalog import Config, Entry, UserError
from core.models import Decodes, Encodes, Fits, GenerativeModel, Spec, Validates, build, families
from core.models.gan import GAN, GANConfig, critic_loss, generator_loss, penalties
from core.models.vae import VAE, VAESampling, divergence, negative_elbo
from core.nets import LabelEmbedding, crop, pad, plan, refresh_batch_statistics
from core.training import TrainConfig

SHARES = (0.5, 0.3, 0.2)
LOSSES = ("relativistic", "nonsaturating", "minimax")


def number(value: Tensor) -> float:
    return float(value.detach())


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def able(protocol: type) -> list[tuple[Entry, dict[str, Any]]]:
    """The families and variants whose models have a capability."""
    spec = Spec(1, 8, 17, SHARES)
    return [
        (e, v) for e in families for v in variants(e) if isinstance(made(e, spec, **v), protocol)
    ]


every = pytest.mark.parametrize("entry", list(families), ids=named)
every_variant = pytest.mark.parametrize(
    ("entry", "values"), [(e, v) for e in families for v in variants(e)], ids=named
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
    spec = Spec(channels, size, 256, SHARES[:classes])
    model = made(entry, spec).eval()
    assert isinstance(model, nn.Module)
    assert isinstance(model, GenerativeModel)
    sampling = entry.extra["sampling"]()
    x = model.sample(range(3), None, 0, sampling)
    assert x.shape == (3, channels, size, size)
    assert x.dtype == torch.float32
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1
    real, y = images(spec, 4)
    for loss in model.train().losses(real, y, rng(), 0.5):
        assert loss.value.shape == ()
        assert loss.value.isfinite()


@every_variant
def test_the_same_seed_gives_the_same_sample_whatever_the_batch(entry, values):
    model = made(entry, Spec(1, 8, 17, SHARES), **values)
    train(model)
    model.eval()
    sampling = entry.extra["sampling"]()
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
    model = made(entry, Spec(3, 16, 256, SHARES), **values)
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
    model = made(entry, Spec(1, 16, 256, SHARES), **values)
    train(model)  # layers that start at zero move first
    x, y = images(model.spec)
    names = {id(param): name for name, param in model.named_parameters()}
    groups = {group.name: group.params for group in model.groups()}
    seen = set()
    for progress in (0.05, 0.5, 0.95):
        for loss in model.losses(x, y, rng(1), progress):
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


@every_variant
def test_the_losses_depend_on_weights_batch_and_generator_alone(entry, values):
    first = made(entry, Spec(1, 8, 17, SHARES), **values)
    second = copy.deepcopy(first)
    torch.manual_seed(99)
    a, b = train(first), train(second)
    assert a == b
    assert all(len(part) for part in a.values())
    for one, two in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    assert train(copy.deepcopy(first), seed=50) != train(first)


@every_variant
def test_the_state_survives_safetensors(entry, values, tmp_path):
    spec = Spec(1, 12, 256, SHARES)
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
    sampling = entry.extra["sampling"]()
    drawn = [each.eval().sample(range(8), None, 0, sampling) for each in (model, other)]
    assert torch.equal(*drawn)


@pytest.mark.parametrize(("entry", "values"), able(Decodes), ids=named)
def test_decoding_a_latent_is_sampling(entry, values):
    model = made(entry, Spec(1, 8, 17, SHARES), **values).eval()
    sampling = entry.extra["sampling"]()
    y = torch.arange(6) % 3
    z = model.latent(range(6), 2, sampling)
    assert z.ndim == 2
    assert torch.equal(model.decode(z, y).detach(), model.sample(range(6), y, 2, sampling))
    assert torch.allclose(model.latent([4], 2, sampling)[0], z[4], atol=1e-6)
    if isinstance(model, Encodes):
        x, labels = images(model.spec, 6)
        assert model.encode(x, labels).shape == z.shape


@every_variant
def test_shares_of_classes_are_blended_labels(entry, values):
    model = made(entry, Spec(1, 8, 17, SHARES), **values)
    train(model)
    model.eval()
    sampling = entry.extra["sampling"]()
    y = torch.arange(6) % 3
    shares = nn.functional.one_hot(y, 3).float()
    x = model.sample(range(6), y, 0, sampling)
    assert torch.allclose(model.sample(range(6), shares, 0, sampling), x, atol=1e-6)
    blend = model.sample(range(6), (shares + shares.roll(1, 1)) / 2, 0, sampling)
    other = model.sample(range(6), (y + 1) % 3, 0, sampling)
    listens = not torch.equal(x, other)
    assert listens == (not torch.equal(blend, x))
    assert listens == values.get("conditional", entry.config.knobs()["conditional"].default)


@every
def test_every_choice_of_the_sampling_changes_the_samples(entry):
    spec = Spec(1, 8, 17, SHARES)
    model = made(entry, spec)
    train(model, 10)
    if isinstance(model, Fits):
        model.fit(*images(spec, 100))
    model.eval()
    sampling: type[Config] = entry.extra["sampling"]
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
    spec = Spec(1, 12, 256, SHARES)
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
    model = made(entry, Spec(1, 8, 17, SHARES), **values).eval()
    with torch.no_grad():
        first, again = (model.held_out(*images(model.spec), rng(1)) for _ in range(2))
    assert {name: float(value) for name, value in first.items()} == {
        name: float(value) for name, value in again.items()
    }
    assert all(math.isfinite(float(value)) for value in first.values())


def test_a_family_that_does_not_exist_is_told():
    with pytest.raises(UserError, match=r"^There is no family 'gam'\. Did you mean 'gan'\?$"):
        build("gam", {}, Spec(1, 8, 17))
    with pytest.raises(UserError) as caught:
        build("gan", {"latent_dim": 0}, Spec(1, 8, 17))
    assert str(caught.value) == (
        "family.latent_dim must be a whole number at least 1 and at most 1024, got 0. Leave it out to use 64."
    )


# --- The GAN's truth ----------------------------------------------------------------------------


def test_at_one_half_the_losses_have_their_textbook_values():
    zero = torch.zeros(5)
    for kind in ("nonsaturating", "minimax"):
        assert number(critic_loss(kind, zero, zero)) == pytest.approx(2 * math.log(2))
    assert number(critic_loss("relativistic", zero, zero)) == pytest.approx(math.log(2))
    assert number(generator_loss("nonsaturating", None, zero)) == pytest.approx(math.log(2))
    assert number(generator_loss("minimax", None, zero)) == pytest.approx(-math.log(2))
    assert number(generator_loss("relativistic", zero, zero)) == pytest.approx(math.log(2))


def test_the_classic_losses_are_the_formulas_of_goodfellow():
    real, fake = torch.randn(50, generator=rng()), torch.randn(50, generator=rng(1))
    d_real, d_fake = torch.sigmoid(real), torch.sigmoid(fake)
    critic = -(d_real.log() + (1 - d_fake).log()).mean()
    assert number(critic_loss("nonsaturating", real, fake)) == pytest.approx(
        number(critic), rel=1e-5
    )
    assert number(critic_loss("minimax", real, fake)) == pytest.approx(number(critic), rel=1e-5)
    assert number(generator_loss("nonsaturating", None, fake)) == pytest.approx(
        number(-d_fake.log().mean()), rel=1e-5
    )
    assert number(generator_loss("minimax", None, fake)) == pytest.approx(
        number((1 - d_fake).log().mean()), rel=1e-5
    )


def test_the_losses_stay_finite_for_logits_of_any_size():
    huge = torch.tensor([1e4, -1e4], requires_grad=True)
    for kind in LOSSES:
        for value in (critic_loss(kind, huge, -huge), generator_loss(kind, huge, -huge)):
            assert value.isfinite()
            assert torch.autograd.grad(value, huge)[0].isfinite().all()


@pytest.mark.parametrize("kind", LOSSES)
def test_each_loss_pulls_the_logits_its_own_way(kind):
    real = torch.randn(20, generator=rng()).requires_grad_()
    fake = torch.randn(20, generator=rng(1)).requires_grad_()
    of_real, of_fake = torch.autograd.grad(critic_loss(kind, real, fake), (real, fake))
    assert (of_real < 0).all()  # lowering the critic's loss raises D(x)
    assert (of_fake > 0).all()  # and lowers D(G(z))
    (wanted,) = torch.autograd.grad(generator_loss(kind, real.detach(), fake), fake)
    assert (wanted < 0).all()  # lowering the generator's loss raises D(G(z))


def gan(loss: str, network: str = "residual", **values: Any) -> GAN:
    model = made(families.get("gan"), Spec(1, 8, 17, SHARES), loss=loss, network=network, **values)
    train(model, 3)
    return model


@pytest.mark.parametrize("network", ["residual", "mlp"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_moves_each_network_its_own_way(loss, network):
    model = gan(loss, network, penalty=0.0, penalty_end=0.0)
    x, y = images(model.spec)
    z = torch.randn(len(x), 64, generator=rng(9))

    def logits() -> tuple[Tensor, Tensor]:
        return model.critic(x * 2 - 1, y), model.critic(model.generator(z, y), y)

    def moved(params: list[nn.Parameter], value: Tensor, rate: float) -> None:
        with torch.no_grad():
            for param, grad in zip(params, torch.autograd.grad(value, params), strict=True):
                param -= rate * grad

    critic, generator = list(model.critic.parameters()), list(model.generator.parameters())
    before = critic_loss(loss, *logits())
    moved(critic, before, 1e-2)
    real, fake = logits()
    assert number(critic_loss(loss, real, fake)) < number(before)
    moved(generator, generator_loss(loss, real.detach(), fake), 1e-2)
    assert number(logits()[1].mean()) > number(fake.mean())


@pytest.mark.parametrize("loss", LOSSES)
def test_the_two_networks_oppose_each_other(loss):
    model = gan(loss)
    x, y = images(model.spec)
    fake = model.generator(torch.randn(len(x), 64, generator=rng(9)), y).detach().requires_grad_()
    real = model.critic(x * 2 - 1, y).detach()
    losses = (
        critic_loss(loss, real, model.critic(fake, y)),
        generator_loss(loss, real, model.critic(fake, y)),
    )
    assert number(losses[0]) != pytest.approx(number(losses[1]), abs=1e-4)
    slopes = [torch.autograd.grad(value, fake)[0].flatten(1) for value in losses]
    cosine = nn.functional.cosine_similarity(*slopes)
    assert torch.allclose(
        cosine, torch.tensor(-1.0), atol=1e-3
    )  # per image, exactly against each other


@pytest.mark.parametrize("loss", LOSSES)
def test_each_yielded_loss_belongs_to_its_own_network(loss):
    model = gan(loss)
    x, y = images(model.spec)
    losses = model.losses(x, y, rng(), 0.5)
    critic = next(losses)
    assert critic.group == "critic"
    slopes = torch.autograd.grad(
        critic.value, list(model.generator.parameters()), allow_unused=True, retain_graph=True
    )
    assert all(slope is None for slope in slopes)  # the generated images were cut off
    with torch.no_grad():
        model.critic.last.bias += 3.0  # as if the trainer had stepped
        for param in model.critic.last.parameters():
            param *= 2
    generator = next(losses)
    assert generator.group == "generator"
    fake = model.generator(torch.randn(len(x), 64, generator=rng()), y)
    expected = generator_loss(loss, model.critic(x * 2 - 1, y), model.critic(fake, y))
    assert number(generator.value) == pytest.approx(
        number(expected), rel=1e-5
    )  # against the critic as it now is
    assert next(losses, None) is None
    assert {"critic_loss", "D_real", "D_fake"} <= critic.parts.keys()
    assert 0 < number(critic.parts["D_real"]) < 1
    assert generator.parts.keys() == {"generator_loss"}


def test_the_penalties_are_squared_slopes_by_finite_differences():
    model = gan("relativistic", width=16)
    critic = model.critic.double()
    _, y = images(model.spec, 3)
    assert y is not None
    both = torch.rand(6, 1, 8, 8, generator=rng(4), dtype=torch.float64)
    labels = torch.cat([y, y])

    def measured(nudged: nn.Module) -> tuple[Tensor, Tensor]:
        points = both.clone().requires_grad_()
        return penalties(points, *nudged(points, labels).chunk(2))

    h = 1e-6
    squares = []
    with torch.no_grad():
        for i in range(6):
            nudges = h * torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
            label = labels[i].expand(64)
            slope = (critic(both[i] + nudges, label) - critic(both[i] - nudges, label)) / (2 * h)
            squares.append(number(slope.square().sum()))
    r1, r2 = measured(critic)
    assert number(r1) == pytest.approx(sum(squares[:3]) / 3, rel=1e-4)
    assert number(r2) == pytest.approx(sum(squares[3:]) / 3, rel=1e-4)
    # and their own gradient, along a direction in the weights
    params = list(critic.parameters())
    step = [
        torch.randn(p.shape, generator=rng(k), dtype=torch.float64) for k, p in enumerate(params)
    ]
    slopes = torch.autograd.grad(r1 + r2, params, allow_unused=True)
    along = sum(number((s * d).sum()) for s, d in zip(slopes, step, strict=True) if s is not None)
    values = []
    for sign in (1, -1):
        nudged = copy.deepcopy(critic)
        with torch.no_grad():
            for param, direction in zip(nudged.parameters(), step, strict=True):
                param += sign * 2e-5 * direction
        values.append(sum(number(part) for part in measured(nudged)))
    assert along == pytest.approx((values[0] - values[1]) / 4e-5, rel=3e-2)


def test_the_penalty_fades_over_two_thirds_of_the_training():
    model = gan("relativistic", penalty=1.0, penalty_end=0.1)
    x, y = images(model.spec)

    def weight(progress: float) -> float:
        loss = next(iter(model.losses(x, y, rng(), progress)))
        free = copy.deepcopy(model)
        free.config = GANConfig(penalty=0, penalty_end=0)
        bare = next(iter(free.losses(x, y, rng(), progress)))
        return 2 * number(loss.value - bare.value) / number(loss.parts["r1"] + loss.parts["r2"])

    weights = [weight(progress) for progress in (0, 1 / 3, 2 / 3, 1)]
    assert weights == pytest.approx([1.0, 0.55, 0.1, 0.1], abs=0.02)


def test_the_classic_preset_is_the_classic_gan():
    preset = dict(families.get("gan").presets["classic"])
    config = GANConfig.of(
        {k.removeprefix("family."): v for k, v in preset.items() if k.startswith("family.")}
    )
    loop = TrainConfig.of(
        {k.removeprefix("train."): v for k, v in preset.items() if k.startswith("train.")}
    )
    model = GAN(config, Spec(1, 28, 256, (0.1,) * 10))

    def layers(net: nn.Module) -> list[str]:
        return [
            f"{m.in_features}->{m.out_features}" if isinstance(m, nn.Linear) else type(m).__name__
            for m in net.modules()
            if not list(m.children()) and not isinstance(m, nn.Flatten)
        ]

    assert layers(model.generator) == ["100->256", "ReLU", "256->512", "ReLU", "512->784", "Tanh"]
    assert layers(model.critic) == ["784->512", "LeakyReLU", "512->256", "LeakyReLU", "256->1"]
    for group in model.groups():
        assert (group.lr, group.beta1, group.beta2, group.weight_decay) == (2e-4, 0.5, 0.999, 0.0)
    assert config.loss == "nonsaturating"
    assert (loop.lr, loop.schedule, loop.warmup, loop.clip, loop.average) == (
        0.0,
        "constant",
        0,
        0.0,
        0,
    )
    minimax = families.get("gan").presets["classic minimax"]
    assert minimax == preset | {"family.loss": "minimax"}


@pytest.mark.parametrize(("size", "network"), [(8, "residual"), (9, "conv"), (32, "conv")])
def test_the_default_gan_compares_pairs_and_fits_its_network_to_the_size(size, network):
    model = GAN(GANConfig(), Spec(1, size, 256, SHARES))
    assert (model.network, model.config.loss, model.classes) == (network, "relativistic", 3)
    norms = [type(m).__name__ for m in model.critic.modules() if "Norm" in type(m).__name__]
    assert norms == []  # batch norm is the generator's alone
    assert any("BatchNorm" in type(m).__name__ for m in model.generator.modules()) == (
        network == "conv"
    )


# --- The VAE's truth ----------------------------------------------------------------------------


def vae(size: int = 8, **values: Any) -> VAE:
    return made(families.get("vae"), Spec(1, size, 17, SHARES), **values)


def test_the_divergence_is_that_of_torch_distributions():
    mean, log_var = torch.randn(6, 5, generator=rng()), torch.randn(6, 5, generator=rng(1))
    p = torch.distributions.Normal(mean, (log_var / 2).exp())
    expected = torch.distributions.kl_divergence(p, torch.distributions.Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(divergence(mean, log_var), expected, rtol=1e-5)
    assert torch.equal(divergence(torch.zeros(2, 3), torch.zeros(2, 3)), torch.zeros(2))


def test_the_evidence_bound_is_that_of_torch_distributions():
    x, recon = torch.rand(4, 1, 3, 3, generator=rng()), torch.rand(4, 1, 3, 3, generator=rng(1))
    mean, log_var, sigma = (
        torch.randn(4, 2, generator=rng(2)),
        torch.randn(4, 2, generator=rng(3)),
        torch.tensor(0.3),
    )
    nll = -torch.distributions.Normal(recon, sigma).log_prob(x).flatten(1).sum(1)
    assert torch.allclose(
        negative_elbo(x, recon, mean, log_var, sigma), nll + divergence(mean, log_var), rtol=1e-5
    )


def test_the_bound_never_beats_the_likelihood_itself():
    model = vae(latent_dim=1).eval()
    train(model, 10)
    x, _ = images(model.spec, 4)
    sigma = torch.tensor(0.5)
    with torch.no_grad():
        grid = torch.linspace(-8, 8, 4001, dtype=torch.float32)[:, None]
        recon = model.decode(grid, None).flatten(1)
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(grid[:, 0])
        for image in x:
            joint = (
                torch.distributions.Normal(recon, sigma).log_prob(image.flatten()).sum(1) + prior
            )
            exact = -number(torch.logsumexp(joint.double(), 0) + math.log(16 / 4000))
            mean, log_var = model._posterior(image[None], None)
            z = mean + (log_var / 2).exp() * torch.randn(4000, 1, generator=rng())
            many = image.expand(4000, 1, 8, 8)
            bound = negative_elbo(
                many, model.decode(z, None), mean.expand(4000, 1), log_var.expand(4000, 1), sigma
            )
            assert number(bound.mean()) > exact - 4 * number(bound.std()) / 4000**0.5


def test_the_loss_is_the_likelihood_at_the_best_sigma():
    model = vae(warmup=0.0, beta=2.0)
    x, y = images(model.spec)
    loss = next(iter(model.losses(x, y, rng(1), 0.5)))
    mean, log_var = model._posterior(x, y)
    recon = model.decode(mean + (log_var / 2).exp() * torch.randn(mean.shape, generator=rng(1)), y)

    def nll(sigma: Tensor) -> float:
        return -number(
            torch.distributions.Normal(recon, sigma).log_prob(x).flatten(1).sum(1).mean()
        )

    best = (recon - x).square().mean().sqrt()
    kl = number(divergence(mean, log_var).mean())
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


def test_fitting_finds_the_sigma_of_the_decoder():
    model = vae().eval()
    x, y = images(model.spec, 200)
    model.fit(x, y)
    mean, log_var = model._posterior(x, y)
    z = mean + (log_var / 2).exp() * torch.randn(mean.shape, generator=rng())
    expected = (model.decode(z, None) - x).square().mean().sqrt()
    assert number(model.sigma) == pytest.approx(number(expected), rel=1e-4)


def test_a_latent_of_no_dimension_is_refused():
    for family in ("gan", "vae"):
        with pytest.raises(
            UserError, match=r"family\.latent_dim must be a whole number at least 1 "
        ):
            build(family, {"latent_dim": 0}, Spec(1, 8, 17))


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
