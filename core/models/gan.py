"""Generative adversarial networks: a generator net against a critic.

Reproduce: ``python -m benchmarks.quality --data digits --family gan`` ends, after some 40 CPU-seconds of training, at a
Fréchet distance of about 0.55 times that of real test images (0.47 to 0.61 over three seeds), with 61 % of the samples
nearer to the training images than to held-out ones (real ones: 57 %) and 99 % of the asked classes.

References (used throughout the code):
    [1] Goodfellow et al., 2014, Generative adversarial nets, https://arxiv.org/abs/1406.2661
    [2] Jolicoeur-Martineau, 2018, The relativistic discriminator, https://arxiv.org/abs/1807.00734
    [3] Huang et al., 2024, The GAN is dead; long live the GAN!, https://arxiv.org/abs/2501.05441
    [4] Mescheder et al., 2018, Which training methods for GANs do actually converge?, https://arxiv.org/abs/1801.04406
    [5] Miyato and Koyama, 2018, cGANs with projection discriminator, https://arxiv.org/abs/1802.05637
    [6] Radford et al., 2015, DCGAN, https://arxiv.org/abs/1511.06434
    [7] Lim and Ye, 2017, Geometric GAN (hinge), https://arxiv.org/abs/1705.02894
    [8] Gulrajani et al., 2017, Improved training of Wasserstein GANs, https://arxiv.org/abs/1704.00028
    [9] Karras et al., 2020, Training GANs with limited data (ADA), https://arxiv.org/abs/2006.06676
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.catalog import Config, knob
from core.models import ADAPT_EVERY, Curve, Spec, families
from core.nets import (
    CriticAugmentation,
    Downward,
    LabelEmbedding,
    ResidualDownward,
    ResidualMLP,
    ResidualUpward,
    Upward,
    flat,
    joined,
    labels_for,
    refresh_batch_statistics,
)
from core.tensors import Group, Ids, Images, Loss, all_mean, full, noise, rows

GULRAJANI = 10.0  # weight of the gradient penalty of wgan-gp [8]
HIGHEST = 0.8  # above it, generated images start to look augmented themselves [9]
MEMORY = 0.95  # what a gap between logits keeps of its past at each look
FAINT = 0.25  # spreads of the logits; a smaller gap to generated images is mostly chance


class GANConfig(Config):
    """Parameters of a GAN."""

    network: Literal["auto", "residual", "conv", "mlp"] = knob(
        "auto",
        "Networks of both sides; auto takes residual at 8 px and conv above, where residual wants a GPU and "
        "a long training; mlp is the classic small one.",
    )
    loss: Literal["relativistic", "nonsaturating", "hinge", "wgan-gp", "minimax"] = knob(
        "relativistic",
        "What the two sides play for; relativistic compares pairs of real and generated images and rarely collapses.",
    )
    conditional: bool = knob(
        True,
        title="Learn the classes",
        help="Learns to make the class that you ask for, when the dataset has labels.",
    )
    latent_dim: int = knob(
        64, "Numbers that one image is made from.", title="Latent dimensions", ge=1, le=1024
    )
    augment: Literal["adaptive", "always", "off"] = knob(
        "adaptive",
        "Moves, cuts and recolours what the critic sees: the more it knows training images by heart, or always "
        "each change for four images of five; meant for few images.",
        title="Augmentation",
    )
    width: int = knob(
        0,
        "Channels of the networks; 0 takes 256 (residual at 8 px) or 32 (convolutions).",
        ge=0,
        le=1024,
        advanced=True,
    )
    penalty: float = knob(
        1.0,
        "Weight of the gradient penalties R1 and R2 at the start; wgan-gp has a penalty of its own instead.",
        title="Gradient penalty (R1, R2), start",
        ge=0,
        le=1000,
        log=True,
        advanced=True,
    )
    penalty_end: float = knob(
        0.1,
        "Weight of the penalties after two thirds of the training.",
        title="Gradient penalty (R1, R2), end",
        ge=0,
        le=1000,
        log=True,
        advanced=True,
    )
    mirror: bool = knob(
        False,
        "Lets the augmentation mirror images: right for faces and things, wrong for digits and letters.",
        advanced=True,
    )
    augment_target: float = knob(
        0.5,
        "Overfitting of the critic above which the augmentation grows: 0 as sure of held-out images as of training "
        "images, 1 takes them for generated ones.",
        title="Overfitting allowed",
        ge=0,
        le=1,
        advanced=True,
    )
    augment_speed: int = knob(
        3000,
        "Steps in which the augmentation can grow from none to all images.",
        title="Speed of the augmentation",
        ge=ADAPT_EVERY,
        le=10_000_000,
        unit="steps",
        log=True,
        advanced=True,
    )


class GANSampling(Config):
    """Choices when a GAN draws images."""

    truncation: float = knob(
        1.0,
        "Pulls the noise towards its centre: lower is more typical, higher more varied.",
        ge=0,
        le=1.5,
    )


CURVES = (
    Curve(
        "opinions",
        "How real images look to the critic",
        "1 is certainly real. Both near 0.5: the critic can no longer tell them apart.",
        lines={"D_real": "real ones", "D_fake": "generated ones"},
        position="first",
    ),
    Curve(
        "losses",
        "Loss",
        "Each side lowers its own loss against the other: neither has to fall while the images get better.",
        lines={"critic_loss": "critic", "generator_loss": "generator"},
        position="first",
    ),
    Curve(
        "augmentation",
        "Augmentation of the critic's input",
        "The probability rises while the critic tells training images from held-out ones, and falls otherwise.",
        lines={"augmentation": "probability", "overfitting": "overfitting"},
        position="steering",
    ),
    Curve(
        "penalties",
        "Gradient penalties",
        "Squared slope of the critic; large means unstable.",
        lines={"r1": "real (R1)", "r2": "generated (R2)", "gradient_penalty": "between (wgan-gp)"},
    ),
)


class GAN(nn.Module):
    """A generator net and a critic; see :class:`core.models.GenerativeModel`."""

    ease = 1.0  # the trainer lowers it when the training diverges
    probability: Tensor
    gaps: Tensor

    def __init__(self, config: GANConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        network: str = config.network
        if network == "auto":
            network = "residual" if spec.size <= 8 else "conv"
        if network == "residual" and spec.size > 8:
            network = "residual conv"
        self.network = network
        self.classes = spec.classes if config.conditional else 0
        # convolutions are slow on a CPU, and many small steps learn more in a minute than few large ones
        self.batch = 16 if "conv" in network else 128
        self.generator = GeneratorNet(config, spec, network, self.classes)
        self.critic = Critic(config, spec, network, self.classes)
        self.augmentation = CriticAugmentation(config.mirror)
        self.register_buffer("probability", torch.zeros(()))
        self.register_buffer("gaps", torch.zeros(3))

    def groups(self) -> list[Group]:
        """Gives critic and generator, each with the optimiser that its network is known to train well with."""
        lr, beta1, beta2 = {
            "mlp": (2e-4, 0.5, 0.999),
            "residual": (4e-4, 0.0, 0.95),
            "residual conv": (2e-4, 0.0, 0.99),
            "conv": (2e-3, 0.0, 0.9),
        }[self.network]
        return [
            Group("critic", list(self.critic.parameters()), lr, beta1, beta2),
            Group("generator", list(self.generator.parameters()), lr, beta1, beta2),
        ]

    def hot(self) -> list[nn.Module]:
        """Lists what compiling speeds up."""
        return [self.generator, self.critic]

    def losses(
        self, x: Images, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the critic's loss, then, against the critic that has moved, the generator's."""
        loss, y = self.config.loss, y if self.classes else None
        real, fake = x * 2 - 1, self.generator(self._latents(x, generator), y)
        if self.config.augment != "off":
            both = self._seen(torch.cat([real, fake]), generator, parts=2)
            real, fake = both[: len(x)].detach(), both[len(x) :]
        pairs = torch.cat([real, fake.detach()])  # (2N, C, H, W)
        d_real, d_fake = self.critic(pairs, None if y is None else torch.cat([y, y])).chunk(2)
        value = critic_loss(loss, d_real, d_fake)
        parts = opinions(loss, d_real.detach(), d_fake.detach())
        with torch.autocast(x.device.type, enabled=False):  # second derivatives want full precision
            penalty, slopes = self._penalties(
                full(real), full(fake.detach()), y, generator, progress
            )
        value = value + penalty
        yield Loss("critic", value, {"critic_loss": value.detach(), **parts, **slopes})
        with torch.no_grad():
            d_real = self.critic(real, y) if loss == "relativistic" else None
        value = generator_loss(loss, d_real, self.critic(fake, y))
        yield Loss("generator", value, {"generator_loss": value.detach()})

    def adapt(
        self,
        x: Images,
        y: Tensor | None,
        valid_x: Images,
        valid_y: Tensor | None,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Moves the probability of the augmentation by a small step, up where the critic knows images by heart.

        Overfitting is how far held-out images are on the way from training images (0) to generated ones (1) in the
        critic's eyes ([9], eq. 1). Differences of logits alone enter, so that it means the same for every loss; their
        running averages, so that a small batch suffices; and a critic that takes generated images for real ones counts
        for little.
        """
        if self.config.augment != "adaptive":
            return {}
        z = self._latents(x, generator)
        d_train, d_valid, d_fake = (
            self.critic(self._seen(image, generator), label)
            for image, label in (
                (x * 2 - 1, y),
                (valid_x * 2 - 1, valid_y),
                (self.generator(z, y if self.classes else None), y),
            )
        )
        means = (d_train.mean(), d_valid.mean(), d_fake.mean(), d_train.square().mean())
        train, valid, fake, square = all_mean(torch.stack(means))
        spread = (square - train.square()).clamp_min(1e-12).sqrt()
        gaps = torch.stack([train - valid, train - fake, FAINT * spread])
        to_valid, to_fake, least = self.gaps.lerp_(gaps, 1 - MEMORY)
        overfitting = (to_valid / torch.maximum(to_fake, least)).clamp(-1, 1)
        step = ADAPT_EVERY / self.config.augment_speed
        up = torch.sign(overfitting - self.config.augment_target)
        self.probability.add_(step * up).clamp_(0, HIGHEST)
        return {"augmentation": self.probability.clone(), "overfitting": overfitting}

    def criticise(self, x: Images, y: Tensor | None) -> Tensor:
        """Gives the critic's logits of images, (N,)."""
        return self.critic(x * 2 - 1, y)

    def shown_through(self, augmentation: nn.Module) -> None:
        """Puts another augmentation before the critic."""
        self.augmentation = augmentation

    def _seen(self, x: Tensor, generator: torch.Generator, parts: int = 1) -> Tensor:
        """Gives what the critic sees of images in [-1, 1]."""
        always = torch.full_like(self.probability, HIGHEST)
        p = self.probability if self.config.augment == "adaptive" else always
        return self.augmentation(x, p, generator, parts=parts)

    def _latents(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Draws noise for as many images as ``x`` has, (N, D)."""
        shape = (len(x), self.config.latent_dim)
        return rows(torch.randn, shape, generator=generator, device=x.device)

    def _penalties(
        self,
        real: Tensor,
        fake: Tensor,
        y: Tensor | None,
        generator: torch.Generator,
        progress: float,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Gives what the critic pays for steep slopes, and the parts of it for the record."""
        if self.config.loss == "wgan-gp":
            options = {"generator": generator, "device": real.device, "dtype": real.dtype}
            u = rows(torch.rand, (len(real), 1, 1, 1), **options)
            between = torch.lerp(real, fake, u)
            slope = self.critic(between, y, slopes=True).clamp_min(1e-12).sqrt()
            excess = (slope - 1).square().mean()  # [8], eq. 3
            return GULRAJANI * excess, {"gradient_penalty": excess.detach()}
        share = min(1.0, progress * 1.5)
        weight = self.config.penalty + share * (self.config.penalty_end - self.config.penalty)
        weight *= self.ease
        if weight == 0:
            return real.new_zeros(()), {}
        # slopes are costly, and every fourth of the pairs estimates their mean well enough
        both = torch.cat([real[::4], fake[::4]])
        r1, r2 = penalties(self.critic, both, None if y is None else torch.cat([y[::4], y[::4]]))
        # [3], eq. 2 with R1 and R2 of [4]
        return weight / 2 * (r1 + r2), {"r1": r1.detach(), "r2": r2.detach()}

    @torch.no_grad()
    def fit(self, x: Images, y: Tensor | None) -> None:
        """Recomputes the generator's batch statistics for its averaged weights."""
        ids = torch.arange(128, device=x.device)
        refresh_batch_statistics(
            self.generator,
            (
                lambda k=k: self.generator(
                    noise(k, ids, (self.config.latent_dim,), "fit", device=x.device),
                    labels_for(self, ids, None, k),
                )
                for k in range(8)
            ),
        )

    def latent(self, ids: Ids, seed: int, sampling: GANSampling) -> Tensor:
        """Draws standard normal noise, scaled by the truncation."""
        device, shape = self.gaps.device, (self.config.latent_dim,)
        return noise(seed, ids, shape, "latent", device=device) * sampling.truncation

    def decode(self, z: Tensor, y: Tensor | None, sampling: Config) -> Images:
        """Runs the generator net."""
        return self.generator(z, y if self.classes else None).add(1).div(2)

    def layered(self) -> nn.Module:
        """Gives the generator net."""
        return self.generator

    @torch.no_grad()
    def sample(self, ids: Ids, y: Tensor | None, seed: int, sampling: GANSampling) -> Images:
        """Makes the images with these ids of this seed."""
        z = self.latent(ids, seed, sampling)
        return self.decode(z, labels_for(self, ids, y, seed), sampling)


class GeneratorNet(nn.Module):
    """Turns noise, and a class, into an image in [-1, 1]."""

    def __init__(self, config: GANConfig, spec: Spec, network: str, classes: int) -> None:
        super().__init__()
        self.shape = spec.shape
        self.embed = LabelEmbedding(classes, 32) if classes else None
        inputs = config.latent_dim + (32 if classes else 0)
        pixels = math.prod(spec.shape)
        if network == "mlp":
            self.net: nn.Module = flat(inputs, 256, 512, pixels, last=nn.Tanh)
        elif network == "residual":
            self.net = nn.Sequential(ResidualMLP(inputs, config.width or 256, 3, pixels), nn.Tanh())
        else:
            kind = Upward if network == "conv" else ResidualUpward
            net = kind(inputs, spec.channels, spec.size, config.width or 32)
            self.net = nn.Sequential(net, nn.Tanh())

    def forward(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self.net(joined(z, self.embed, y)).view(-1, *self.shape)  # (N, D) -> (N, C, H, W)


class Critic(nn.Module):
    """Gives one logit per image: above 0 it takes the image for real; a class enters by projection [5]."""

    def __init__(self, config: GANConfig, spec: Spec, network: str, classes: int) -> None:
        super().__init__()
        pixels = math.prod(spec.shape)
        if network == "mlp":
            features, act = 256, partial(nn.LeakyReLU, 0.2)
            body = flat(pixels, 512, features, last=act, act=act)
            self.body: nn.Module = nn.Sequential(nn.Flatten(), body)
        elif network == "residual":
            features = config.width or 256
            self.body = nn.Sequential(
                nn.Flatten(), ResidualMLP(pixels, features, 3, features), nn.LeakyReLU(0.2)
            )
        else:
            width = config.width or 32
            features = 4 * width
            kind = Downward if network == "conv" else ResidualDownward
            self.body = kind(spec.channels, spec.size, width, features)
        self.last = nn.Linear(features, 1)
        self.embed = LabelEmbedding(classes, features) if classes else None

    def forward(self, x: Tensor, y: Tensor | None, slopes: bool = False) -> Tensor:
        """Gives the logits, (N,), or with ``slopes`` the squared length of the gradient of each at its image."""
        return squares(partial(self._logits, y=y), x) if slopes else self._logits(x, y)

    def _logits(self, x: Tensor, y: Tensor | None) -> Tensor:
        h = self.body(x)  # (N, C, H, W) -> (N, D)
        logits = self.last(h).squeeze(1)
        if self.embed is not None and y is not None:
            logits = logits + (h * self.embed(y)).sum(1) / h.shape[1] ** 0.5
        return logits


def critic_loss(kind: str, d_real: Tensor, d_fake: Tensor) -> Tensor:
    """Scores the critic; lower when real images get higher logits than generated ones.

    Args:
        kind: ``relativistic`` [2], ``hinge`` [7], ``wgan-gp`` (without its penalty) [8], else the classic
            ``-[log D(x) + log(1 - D(G(z)))]`` of [1].
        d_real, d_fake: Logits, shape (N,).
    """
    if kind == "relativistic":
        return F.softplus(d_fake - d_real).mean()
    if kind == "hinge":
        return (F.relu(1 - d_real) + F.relu(1 + d_fake)).mean()
    if kind == "wgan-gp":
        return (d_fake - d_real).mean()
    return (F.softplus(-d_real) + F.softplus(d_fake)).mean()


def generator_loss(kind: str, d_real: Tensor | None, d_fake: Tensor) -> Tensor:
    """Scores the generator; lower when generated images get higher logits.

    Args:
        kind: ``relativistic`` [2], ``nonsaturating`` ``-log D(G(z))`` or ``minimax`` ``log(1 - D(G(z)))`` [1];
            for ``hinge`` and ``wgan-gp`` the mean logit itself counts.
        d_real: Logits of real images, for ``relativistic`` only, shape (N,).
        d_fake: Logits of generated images, shape (N,).
    """
    if kind == "relativistic" and d_real is not None:
        return F.softplus(d_real - d_fake).mean()
    if kind == "nonsaturating":
        return F.softplus(-d_fake).mean()
    if kind == "minimax":
        return -F.softplus(d_fake).mean()
    return -d_fake.mean()


def opinions(kind: str, d_real: Tensor, d_fake: Tensor) -> dict[str, Tensor]:
    """Gives how probable it is to the critic that real and generated images are real, on average.

    A relativistic or Wasserstein critic knows only which one of a pair looks more real; its logits have no zero.
    """
    if kind in ("relativistic", "wgan-gp"):
        right = torch.sigmoid(d_real - d_fake).mean()
        return {"D_real": right, "D_fake": 1 - right}
    return {"D_real": torch.sigmoid(d_real).mean(), "D_fake": torch.sigmoid(d_fake).mean()}


def penalties(critic: nn.Module, both: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gives R1 and R2: the mean squared length of the critic's gradient at real and at generated images [4].

    Args:
        critic: Gives these squares with ``slopes``.
        both: Real images, then generated ones, (2N, C, H, W).
        y: Their labels, (2N,).
    """
    r1, r2 = critic(both, y, slopes=True).chunk(2)
    return r1.mean(), r2.mean()


def squares(logits: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gives the squared length of the gradient of each logit (N,) at its image, (N,); differentiable once more."""
    if torch.compiler.is_compiling():  # a graph has a second derivative only if it holds the first
        slope = torch.func.grad(lambda x: logits(x).sum())(x)
    else:
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(logits(x).sum(), x, create_graph=True)
    return slope.square().flatten(1).sum(1)


PRESETS = {
    "quick": {"train.images": 200_000},
    "good": {"train.images": 2_000_000},
    "gpu": {
        "family.network": "residual",
        "family.width": 64,
        "train.batch": 256,
        "train.images": 10_000_000,
    },
}
CLASSIC = {
    "family.network": "mlp",
    "family.loss": "nonsaturating",
    "family.conditional": False,
    "family.latent_dim": 100,
    "family.penalty": 0.0,
    "family.penalty_end": 0.0,
    "family.augment": "off",
    "train.schedule": "constant",
    "train.warmup": 0,
    "train.clip": 0.0,
    "train.average": 0,
}


@families.add(
    "gan",
    "GAN (adversarial)",
    GANConfig,
    sampling=GANSampling,
    curves=CURVES,
    critic=True,
    presets=PRESETS | {"classic": CLASSIC, "classic minimax": CLASSIC | {"family.loss": "minimax"}},
)
def build(config: GANConfig, spec: Spec) -> GAN:
    """Lets a generator and a critic compete: sharp images, quickly, without a likelihood."""
    return GAN(config, spec)
