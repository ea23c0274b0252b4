"""The GAN's truth: its losses, penalties and networks, and the augmentation of what the critic sees."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.augment import CriticChain, Pipeline, Step
from core.models import ADAPT_EVERY, Adapts, Spec, build, families
from core.models.gan import (
    GAN,
    HIGHEST,
    GANConfig,
    critic_loss,
    generator_loss,
    penalties,
)
from core.nets import CriticAugmentation, ResidualDownward, ResidualUpward
from core.training import TrainConfig, Trainer, spec_of

SHARES = (0.5, 0.3, 0.2)
LOSSES = ("relativistic", "nonsaturating", "hinge", "wgan-gp", "minimax")


def number(value: Tensor) -> float:
    return float(value.detach())


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(spec: Spec, count: int = 16) -> tuple[Tensor, Tensor]:
    """Smooth pictures and their labels."""
    grid = torch.linspace(0, 1, spec.size)
    phase = torch.rand(count, spec.channels, 1, 1, generator=rng())
    x = 0.5 + 0.5 * torch.sin(6 * (grid[:, None] + grid) + 6 * phase)
    return x.contiguous(), torch.arange(count) % 3


def gan(loss: str, network: str = "residual", spec: Spec | None = None, **values: Any) -> GAN:
    """A model with weights from a seed, after a few steps."""
    spec = spec or Spec("image", (1, 8, 8), 17, SHARES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = build("gan", {"loss": loss, "network": network} | values, spec)
    x, y = images(spec)
    groups = {group.name: group.params for group in model.groups()}
    adams = {name: torch.optim.Adam(params, 1e-3) for name, params in groups.items()}
    for step in range(3):
        for each in model.losses(x, y, rng(step), step / 3):
            for param, grad in zip(
                groups[each.group], torch.autograd.grad(each.value, groups[each.group]), strict=True
            ):
                param.grad = grad
            adams[each.group].step()
    return model


# --- Losses -------------------------------------------------------------------------------------


def test_at_one_half_the_losses_have_their_textbook_values():
    zero = torch.zeros(5)
    for kind in ("nonsaturating", "minimax"):
        assert number(critic_loss(kind, zero, zero)) == pytest.approx(2 * math.log(2))
    assert number(critic_loss("relativistic", zero, zero)) == pytest.approx(math.log(2))
    assert number(critic_loss("hinge", zero, zero)) == 2
    assert number(critic_loss("wgan-gp", zero, zero)) == 0
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


def test_hinge_and_wasserstein_are_their_closed_forms():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, -0.5, 1.0])
    assert number(critic_loss("hinge", real, fake)) == pytest.approx((0.5 + 2 + 0.5 + 2) / 3)
    assert number(critic_loss("wgan-gp", real, fake)) == pytest.approx((-2.5 - 1.5) / 3)
    for kind in ("hinge", "wgan-gp"):
        assert number(generator_loss(kind, None, fake)) == pytest.approx(2.5 / 3)


def test_the_losses_stay_finite_for_logits_of_any_size():
    huge = torch.tensor([1e4, -1e4], requires_grad=True)
    for kind in LOSSES:
        for value in (critic_loss(kind, huge, -huge), generator_loss(kind, huge, -huge)):
            assert value.isfinite()
            assert torch.autograd.grad(value, huge)[0].isfinite().all()


@pytest.mark.parametrize("kind", LOSSES)
def test_each_loss_pulls_the_logits_its_own_way(kind):
    real = torch.randn(20, generator=rng()).tanh().requires_grad_()  # within the margin of hinge
    fake = torch.randn(20, generator=rng(1)).tanh().requires_grad_()
    of_real, of_fake = torch.autograd.grad(critic_loss(kind, real, fake), (real, fake))
    assert (of_real < 0).all()  # lowering the critic's loss raises D(x)
    assert (of_fake > 0).all()  # and lowers D(G(z))
    (wanted,) = torch.autograd.grad(generator_loss(kind, real.detach(), fake), fake)
    assert (wanted < 0).all()  # lowering the generator's loss raises D(G(z))


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
        return penalties(nudged, both, labels)

    h = 1e-6
    squares = []
    with torch.no_grad():
        for i in range(6):
            nudges = h * torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
            label = labels[i].expand(64)
            slope = (critic(both[i] + nudges, label) - critic(both[i] - nudges, label)) / (2 * h)
            squares.append(number(slope.square().sum()))
    r1, r2 = measured(critic)
    assert number(r1) == pytest.approx(sum(squares[:3]) / 3, rel=1e-7)
    assert number(r2) == pytest.approx(sum(squares[3:]) / 3, rel=1e-7)
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
                param += sign * 1e-6 * direction
        values.append(sum(number(part) for part in measured(nudged)))
    assert along == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


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


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_but_that_of_wasserstein_takes_both_penalties(loss):
    model = gan(loss, penalty=2.0, penalty_end=2.0)
    x, y = images(model.spec)
    value = next(iter(model.losses(x, y, rng(), 0.5)))
    free = copy.deepcopy(model)
    free.config = GANConfig(loss=loss, penalty=0, penalty_end=0)
    bare = next(iter(free.losses(x, y, rng(), 0.5)))
    if loss == "wgan-gp":
        assert number(value.value) == number(bare.value)
        assert "r1" not in value.parts
    else:
        both = number(value.parts["r1"] + value.parts["r2"])
        assert number(value.value - bare.value) == pytest.approx(both, rel=1e-4)
        assert not {"r1", "gradient_penalty"} & bare.parts.keys()


def test_the_penalty_of_gulrajani_pulls_slopes_to_one_by_finite_differences():
    model = gan("wgan-gp", width=16).double()
    critic = model.critic
    _, y = images(model.spec, 4)
    real, fake = (torch.rand(4, 1, 8, 8, generator=rng(k), dtype=torch.float64) for k in (4, 5))
    u = torch.rand(4, 1, 1, 1, generator=rng(6), dtype=torch.float64)
    between = real + u * (fake - real)
    assert float(u.min()) > 0 and float(u.max()) < 1 and len(u.unique()) == 4
    h, excess = 1e-6, []
    with torch.no_grad():
        for i in range(4):
            nudges, label = (
                h * torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8),
                y[i].expand(64),
            )
            slope = (critic(between[i] + nudges, label) - critic(between[i] - nudges, label)) / (
                2 * h
            )
            excess.append((number(slope.norm()) - 1) ** 2)

    def measured(nudged: GAN) -> Tensor:
        return nudged._penalties(real, fake, y, rng(6), 0.5)[0]

    assert number(measured(model)) == pytest.approx(10 * sum(excess) / 4, rel=1e-7)
    # and its own gradient, along a direction in the weights
    params = list(critic.parameters())
    step = [
        torch.randn(p.shape, generator=rng(k), dtype=torch.float64) for k, p in enumerate(params)
    ]
    slopes = torch.autograd.grad(measured(model), params, allow_unused=True)
    along = sum(number((s * d).sum()) for s, d in zip(slopes, step, strict=True) if s is not None)
    values = []
    for sign in (1, -1):
        nudged = copy.deepcopy(model)
        with torch.no_grad():
            for param, direction in zip(nudged.critic.parameters(), step, strict=True):
                param += sign * 1e-6 * direction
        values.append(number(measured(nudged)))
    assert along == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


@pytest.mark.parametrize("loss", ["relativistic", "wgan-gp"])
def test_slopes_are_taken_in_full_precision_under_half_precision(loss):
    model = gan(loss, augment="off")
    x, y = images(model.spec)
    name = "r1" if loss == "relativistic" else "gradient_penalty"
    fake = (torch.rand(x.shape, generator=rng(2)) * 2 - 1).requires_grad_()
    model.generator.forward = lambda z, y: fake  # type: ignore[method-assign]
    full = next(iter(model.losses(x, y, rng(), 0.5)))
    with torch.autocast("cpu", torch.bfloat16):
        half = next(iter(model.losses(x, y, rng(), 0.5)))
    assert number(half.parts[name]) == pytest.approx(number(full.parts[name]), rel=1e-6)
    assert number(half.value) != number(full.value)  # the rest is in half precision indeed


# --- Networks and presets -----------------------------------------------------------------------


def test_the_classic_preset_is_the_classic_gan():
    preset = dict(families.get("gan").presets["classic"])
    config = GANConfig.of(
        {k.removeprefix("family."): v for k, v in preset.items() if k.startswith("family.")}
    )
    loop = TrainConfig.of(
        {k.removeprefix("train."): v for k, v in preset.items() if k.startswith("train.")}
    )
    model = GAN(config, Spec("image", (1, 28, 28), 256, (0.1,) * 10))

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
    model = GAN(GANConfig(), Spec("image", (1, size, size), 256, SHARES))
    assert (model.network, model.config.loss, model.classes) == (network, "relativistic", 3)
    norms = [type(m).__name__ for m in model.critic.modules() if "Norm" in type(m).__name__]
    assert norms == []  # batch norm is the generator's alone
    assert any("BatchNorm" in type(m).__name__ for m in model.generator.modules()) == (
        network == "conv"
    )


@pytest.mark.parametrize("name", families.get("gan").presets)
def test_every_preset_is_a_gan_that_takes_a_step(name):
    given = families.get("gan").presets[name]
    assert all(key.partition(".")[0] in ("family", "train") for key in given)
    values = {k[7:]: v for k, v in given.items() if k.startswith("family.")}
    TrainConfig.of({k[6:]: v for k, v in given.items() if k.startswith("train.")})
    model: Any = build("gan", values, Spec("image", (3, 16, 16), 256, SHARES))
    x, y = images(model.spec, 2)
    assert all(loss.value.isfinite() for loss in model.losses(x, y, rng(), 0.5))


@pytest.mark.parametrize("size", [9, 16, 30, 128])
def test_the_residual_networks_mirror_each_other_without_norms(size):
    up, down = ResidualUpward(5, 3, size, 8, depth=1), ResidualDownward(3, size, 8, 7, depth=1)
    x = up(torch.randn(2, 5, generator=rng()))
    assert x.shape == (2, 3, size, size)
    assert down(x).shape == (2, 7)
    for net in (up, down):
        assert not [m for m in net.modules() if "Norm" in type(m).__name__]
    model = GAN(GANConfig(network="residual", width=8), Spec("image", (3, size, size), 256))
    assert isinstance(model.critic.body, ResidualDownward)


def test_residual_blocks_start_as_the_identity():
    net = ResidualUpward(5, 1, 16, 32)
    blocks = [m for m in net.modules() if type(m).__name__ == "ResidualConv"]
    assert len(blocks) == 6
    for block in blocks:
        h = torch.randn(2, block.first.in_channels, 4, 4, generator=rng())
        assert torch.equal(block(h), h)
    assert {block.second.groups for block in blocks} == {2, 4, 8}  # of 16 channels


# --- Augmentation -------------------------------------------------------------------------------


def pictures(count: int = 40, channels: int = 3, size: int = 12) -> Tensor:
    return torch.rand(count, channels, size, size, generator=rng()) * 2 - 1


def test_without_probability_images_pass_as_they_are():
    x = pictures()
    assert torch.equal(CriticAugmentation(mirror=True)(x, torch.tensor(0.0), rng(1)), x)
    half = x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(CriticAugmentation()(half, torch.tensor(0.0), rng(1)), half.float())


@pytest.mark.parametrize("channels", [1, 3])
def test_with_probability_one_every_image_changes_in_its_own_way(channels):
    x = pictures(1, channels).expand(30, -1, -1, -1)
    made = CriticAugmentation()(x, torch.tensor(1.0), rng(1))
    assert made.shape == x.shape
    assert made.isfinite().all()
    assert (made != x).flatten(1).any(1).all()
    assert len(made.flatten(1).unique(dim=0)) == 30


def test_each_of_three_changes_meets_its_share_of_the_images():
    x = pictures(4000, 1, 8)
    made = CriticAugmentation()(x, torch.tensor(0.3), rng(1))
    changed = (made != x).flatten(1).any(1).float().mean()
    assert number(changed) == pytest.approx(1 - 0.7**3, abs=0.03)


def test_an_image_has_one_draw_whatever_else_is_in_the_batch():
    x, other = pictures(), pictures().flip(0)
    swapped = torch.cat([x[:20], other[20:]])
    p = torch.tensor(0.8)
    first, second = (CriticAugmentation(True)(each, p, rng(1)) for each in (x, swapped))
    assert torch.equal(first[:20], second[:20])
    assert not torch.equal(first, CriticAugmentation(True)(x, p, rng(2)))


def test_the_augmentation_is_differentiable():
    x, step = pictures().requires_grad_(), pictures().flip(1)
    weights = torch.randn(x.shape, generator=rng(3))

    def score(images: Tensor) -> Tensor:
        made = CriticAugmentation(True)(images, torch.tensor(0.9), rng(1))
        return (made * weights).flatten(1).sum(1)

    (slope,) = torch.autograd.grad(score(x).sum(), x)
    # every change is affine in the pixels, so that a difference is exact for a step of any size
    assert torch.allclose((slope * step).flatten(1).sum(1), score(x + step) - score(x), atol=2e-3)
    assert slope.flatten(1).any(1).all()


def test_images_shift_by_whole_pixels_and_by_parts_and_are_mirrored_only_if_asked():
    x, chosen = pictures(2, 1, 8), torch.tensor([True, False])

    def moved(*u: float, mirror: bool = False) -> Tensor:
        made = CriticAugmentation(mirror)._moved(x, chosen, torch.tensor([u, u]))
        assert torch.equal(made[1], x[1])  # was not chosen
        return made[0]

    border = torch.cat([x[0, :, 1:], x[0, :, -1:]], 1)
    assert torch.equal(moved(1.0, 0.5, 0.0), border)  # an eighth of 8 px, the border repeated
    assert torch.allclose(moved(0.75, 0.5, 0.0), (x[0] + border) / 2, atol=1e-6)
    assert torch.equal(moved(0.5, 0.5, 0.0), x[0])
    assert torch.equal(moved(0.5, 0.5, 0.0, mirror=True), x[0].flip(-1))
    assert torch.equal(moved(0.5, 0.5, 0.9, mirror=True), x[0])
    assert [gan("hinge", mirror=on).augmentation.mirror for on in (False, True)] == [False, True]


def test_the_cut_is_a_grey_square_of_half_the_size():
    x = torch.ones(3, 1, 8, 8)
    u = torch.tensor([[0.5, 0.5], [0.0, 0.5], [0.5, 0.5]])
    made = CriticAugmentation()._cut(x, torch.tensor([True, True, False]), u)
    assert (made == 0).flatten(1).sum(1).tolist() == [16, 8, 0]  # the second one lies half outside
    assert not made[0, 0, 2:6, 2:6].any()


def test_colours_change_around_their_means():
    x = pictures(4)
    u = torch.tensor([[1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0], [1.0, 1.0, 1.0]])
    made = CriticAugmentation()._coloured(x, torch.tensor([True, True, True, False]), u)
    assert torch.allclose(made[0], x[0] + 0.5, atol=1e-6)
    assert torch.allclose(made[1], (x[1] + x[1].mean()) / 2, atol=1e-6)
    assert torch.allclose(made[2], x[2].mean(0).expand(3, -1, -1), atol=1e-6)
    assert torch.equal(made[3], x[3])


class Fixed(nn.Module):
    """A stand-in for both networks: a critic that reads the brightness, a generator that knows one grey."""

    def __init__(self, grey: float = 0.0) -> None:
        super().__init__()
        self.grey = grey

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        return x.mean((1, 2, 3)) if x.ndim == 4 else torch.full((len(x), 1, 8, 8), self.grey)


def steered(
    train: float, valid: float, fake: float, **values: Any
) -> tuple[GAN, Callable[[], Any]]:
    """A model and a look of its controller at images that the critic gives these logits."""
    model = gan("relativistic", **values)
    model.critic, model.generator = Fixed(), Fixed(fake)  # type: ignore[assignment]
    grey = [torch.full((16, 1, 8, 8), (logit + 1) / 2) for logit in (train, valid)]

    def look() -> Any:
        with torch.no_grad():
            return model.adapt(grey[0], None, grey[1], None, rng())

    return model, look


@pytest.mark.parametrize(
    ("valid", "overfitting"), [(1.0, 0.0), (0.6, 0.2), (-0.8, 0.9), (-1.0, 1.0)]
)
def test_overfitting_is_the_way_of_held_out_images_to_generated_ones(valid, overfitting):
    model, look = steered(1.0, valid, -1.0, augment_speed=160)
    model.probability.fill_(0.0)
    found = look()
    assert number(found["overfitting"]) == pytest.approx(overfitting, abs=1e-6)
    assert found["augmentation"] == model.probability
    assert number(model.probability) == pytest.approx(
        ADAPT_EVERY / 160 if overfitting > 0.5 else 0.0
    )


def test_the_probability_rises_and_falls_in_even_steps_and_stays_within_bounds():
    values = {"augment_speed": 160, "augment_target": 0.5}
    model, look = steered(1.0, -1.0, -1.0, **values)
    # what the augmentation itself does to the logits is no part of this test
    model.augmentation.forward = lambda x, *_, **__: x  # type: ignore[method-assign]
    rise = [number(look()["augmentation"]) for _ in range(12)]
    assert rise == pytest.approx([min(0.1 * k, HIGHEST) for k in range(1, 13)])
    other, look = steered(1.0, 1.0, -1.0, **values)
    other.augmentation.forward = lambda x, *_, **__: x  # type: ignore[method-assign]
    other.probability.fill_(0.25)
    assert [number(look()["augmentation"]) for _ in range(4)] == pytest.approx([0.15, 0.05, 0, 0])


def test_a_critic_that_sees_no_difference_at_all_grows_nothing():
    model, look = steered(0.0, 0.0, 0.0)
    assert number(look()["overfitting"]) == 0
    assert number(model.probability) == 0


def test_a_critic_that_is_fooled_has_no_say():
    model = gan("relativistic")
    model.critic, model.generator = Fixed(), Fixed(0.0)  # type: ignore[assignment]
    grey = torch.linspace(0, 1, 16)[:, None, None, None].expand(-1, 1, 8, 8)
    train, valid = grey + 1e-3, grey - 1e-3  # logits from -1 to 1 that differ by next to nothing
    with torch.no_grad():
        found = model.adapt(train, None, valid, None, rng())
    spread = number((2 * train[:, 0, 0, 0] - 1).std(correction=0))
    assert number(found["overfitting"]) == pytest.approx(4e-3 / (spread / 4), rel=1e-3)


def test_without_augmentation_nothing_is_steered_nor_changed():
    model, plain = gan("hinge"), gan("hinge", augment="off")
    x, y = images(model.spec)
    assert isinstance(model, Adapts)
    assert plain.adapt(x, y, x, y, rng()) == {}

    def losses(each: GAN) -> list[float]:
        return [number(loss.value) for loss in each.losses(x, y, rng(), 0.5)]

    assert losses(model) == losses(plain)  # at probability 0 both see the same
    for each in (model, plain):
        each.probability.fill_(0.8)
    assert all(a != b for a, b in zip(losses(model), losses(plain), strict=True))


@pytest.mark.parametrize("chained", [False, True])
def test_the_generator_learns_through_the_augmentation(chained):
    model = gan("hinge", augment="always")
    if chained:
        model.shown_through(CriticChain(Pipeline((Step.of("rotate"), Step.of("erase")))))
    x, y = images(model.spec)
    seen: list[Tensor] = []
    model.critic.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    losses = model.losses(x, y, rng(), 0.5)
    next(losses)
    value = next(losses).value
    fake = seen[0][16:]
    assert torch.equal(seen[-1], fake)  # one draw per image and step
    z = torch.randn(16, model.config.latent_dim, generator=rng())
    assert not torch.equal(model.generator(z, y), fake)
    slopes = torch.autograd.grad(value, list(model.generator.parameters()))
    assert all(slope.isfinite().all() for slope in slopes)
    assert any(slope.any() for slope in slopes)


@pytest.mark.parametrize("chained", [False, True])
def test_a_training_steers_itself_and_resumes_where_it_was(toy, chained):
    dataset = toy(60, classes=2, levels=17)
    config = TrainConfig.of({"images": 36 * 16, "batch": 16})

    def started() -> Trainer:
        values = {"augment_target": 0.0, "augment_speed": 100, "width": 16}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model: Any = build("gan", values, spec_of(dataset))
        if chained:
            pipeline = Pipeline((Step.of("rotate"), Step.of("noise"), Step.of("contrast")))
            model.shown_through(CriticChain(pipeline))
        return Trainer(model, dataset, config, torch.device("cpu"))

    whole = started()
    told = [record.values for record in whole if "augmentation" in record.values]
    assert told
    assert all(0 <= values["augmentation"] <= HIGHEST for values in told)
    assert all(-1 <= values["overfitting"] <= 1 for values in told)
    assert number(whole.model.gaps.abs().sum()) > 0  # type: ignore[union-attr, operator]
    for stop in (20, 32):
        first, second = started(), started()
        for _ in range(stop):
            first.one_step()
        second.restore(copy.deepcopy(first.state()))
        list(second)
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, second.model.state_dict()[name]), name
