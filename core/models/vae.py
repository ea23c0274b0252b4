"""Variational autoencoders: an encoder and a decoder with a smooth latent space between them.

Reproduce: ``python -m core train --family vae --dataset digits --wait`` ends below 40 nats on held-out digits within
a minute on two cores.

References (used throughout the code):
    [1] Kingma and Welling, 2013, Auto-encoding variational Bayes, https://arxiv.org/abs/1312.6114
    [2] Higgins et al., 2017, beta-VAE, https://openreview.net/forum?id=Sy2fzU9gl
    [3] Rybkin et al., 2021, Simple and effective VAE training with calibrated decoders, https://arxiv.org/abs/2006.13202
    [4] Ghosh et al., 2020, From variational to deterministic autoencoders (ex-post mixture), https://arxiv.org/abs/1903.12436
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from core.catalog import Config, knob
from core.models import Spec, families
from core.nets import Downward, LabelEmbedding, ResidualMLP, Upward, refresh_batch_statistics
from core.tensors import Group, Images, Loss, all_mean, draw_labels, noise


class VAEConfig(Config):
    """Parameters of a VAE."""

    network: Literal["auto", "dense", "conv"] = knob(
        "auto", "Networks of both sides; auto takes dense at 8 px and conv above."
    )
    latent_dim: int = knob(
        32,
        "Numbers that an image is squeezed into; what is not needed stays unused.",
        title="Latent dimensions",
        ge=1,
        le=512,
    )
    beta: float = knob(
        1.0,
        "Weight of the divergence from the prior: higher orders the latent space, lower sharpens the images.",
        title="Order of the latent space (beta)",
        ge=0,
        le=100,
        log=True,
    )
    conditional: bool = knob(
        False,
        title="Learn the classes (conditional)",
        help="Gives the class to both sides, when the dataset has labels.",
    )
    warmup: float = knob(
        0.2,
        "Share of the training in which the divergence grows to its full weight.",
        ge=0,
        le=1,
        advanced=True,
    )
    components: int = knob(
        10,
        "Gaussians of the mixture that is fitted to the codes and drawn from.",
        ge=1,
        le=100,
        advanced=True,
    )
    width: int = knob(
        0, "Width of the networks; 0 takes 256 (dense) or 32 (conv).", ge=0, le=1024, advanced=True
    )


class VAESampling(Config):
    """Choices when a VAE draws images."""

    temperature: float = knob(
        1.0, "Spread of the latents: lower is more typical, higher more varied.", ge=0, le=1.5
    )
    prior: Literal["mixture", "normal"] = knob(
        "mixture",
        "Draws latents from the mixture fitted to the codes, or from the standard normal.",
    )


class VAE(nn.Module):
    """An encoder and a decoder with Gaussian latents; see :class:`core.models.GenerativeModel`."""

    mixture_weights: Tensor
    mixture_means: Tensor
    mixture_factors: Tensor
    sigma: Tensor

    def __init__(self, config: VAEConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        network = (
            config.network if config.network != "auto" else ("dense" if spec.size <= 8 else "conv")
        )
        self.dim = config.latent_dim
        self.batch = 128 if network == "dense" else 32  # many small steps learn more in a minute
        self.classes = spec.classes if config.conditional else 0
        extra = 32 if self.classes else 0
        self.embed = LabelEmbedding(self.classes, extra) if self.classes else None
        pixels = spec.channels * spec.size**2
        if network == "dense":
            width = config.width or 256
            self.encoder: nn.Module = nn.Sequential(
                nn.Flatten(), ResidualMLP(pixels, width, 2, width), nn.LeakyReLU(0.2)
            )
            self.decoder: nn.Module = nn.Sequential(
                ResidualMLP(self.dim + extra, width, 2, pixels),
                nn.Tanh(),
                nn.Unflatten(1, (spec.channels, spec.size, spec.size)),
            )
        else:
            width = 8 * (config.width or 32)
            self.encoder = Downward(spec.channels, spec.size, config.width or 32, width)
            self.decoder = Upward(self.dim + extra, spec.channels, spec.size, config.width or 32)
        self.posterior = nn.Linear(width + extra, 2 * self.dim)
        count = config.components
        self.register_buffer("mixture_weights", torch.full((count,), 1 / count))
        self.register_buffer("mixture_means", torch.zeros(count, self.dim))
        self.register_buffer("mixture_factors", torch.eye(self.dim).repeat(count, 1, 1))
        self.register_buffer("sigma", torch.ones(()))

    def groups(self) -> list[Group]:
        """Gives all parameters as one group."""
        return [Group("model", list(self.parameters()), lr=1e-3)]

    def losses(
        self, x: Images, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the negative evidence bound in nats per image, with the sigma that is best for the batch [3]."""
        mean, log_var = self._posterior(x, y)
        z = mean + torch.exp(log_var / 2) * torch.randn(
            mean.shape, generator=generator, device=x.device
        )
        error = all_mean((self.decode(z, y) - x).float().square().mean())
        pixels = x[0].numel()
        nll = pixels / 2 * (torch.log(2 * math.pi * error) + 1)  # [3], eq. 6 with sigma^2 = error
        kl = divergence(mean, log_var).mean()
        warm = min(1.0, progress / self.config.warmup) if self.config.warmup else 1.0
        value = nll + self.config.beta * warm * kl
        yield Loss(
            "model",
            value,
            {"loss": value.detach(), "reconstruction_error": error.detach(), "kl": kl.detach()},
        )

    def held_out(
        self, x: Images, y: Tensor | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Gives the negative evidence bound in nats per image, with the sigma fitted on training images."""
        mean, log_var = self._posterior(x, y)
        z = mean + torch.exp(log_var / 2) * torch.randn(
            mean.shape, generator=generator, device=x.device
        )
        recon = self.decode(z, y)
        return {
            "valid_loss": negative_elbo(x, recon, mean, log_var, self.sigma).mean(),
            "valid_reconstruction_error": (recon - x).square().mean(),
        }

    @torch.no_grad()
    def fit(self, x: Images, y: Tensor | None) -> None:
        """Fits batch statistics, the decoder's sigma and the mixture of latents on training images [4]."""
        from sklearn.mixture import GaussianMixture

        generator = torch.Generator(x.device).manual_seed(0)
        y = y if self.classes else None
        parts = torch.arange(len(x), device=x.device).tensor_split(
            -(-len(x) // 256)
        )  # equal: no part of one image
        found = [self._posterior(x[i], None if y is None else y[i]) for i in parts]
        mean, log_var = (torch.cat(halves) for halves in zip(*found, strict=True))
        z = mean + torch.exp(log_var / 2) * torch.randn(
            mean.shape, generator=generator, device=x.device
        )
        refresh_batch_statistics(
            self.decoder,
            (lambda i=i: self.decode(z[i], None if y is None else y[i]) for i in parts),
        )
        errors = [
            (self.decode(z[i], None if y is None else y[i]) - x[i]).square().flatten(1).mean(1)
            for i in parts
        ]
        self.sigma.fill_(torch.cat(errors).mean().sqrt().clamp_min(1e-3))
        codes = z[torch.linspace(0, len(z) - 1, min(len(z), 2000)).long()].double().cpu().numpy()
        count = min(self.config.components, max(1, len(codes) // 20))
        mixture = GaussianMixture(count, reg_covar=1e-3, max_iter=30, tol=1e-2, random_state=0).fit(
            codes
        )
        pick = (
            torch.arange(self.config.components) % count
        )  # fewer codes than components: repeat them
        repeats = torch.bincount(pick, minlength=count)
        weights = torch.as_tensor(mixture.weights_)[pick] / repeats[pick]
        self.mixture_weights.copy_(weights / weights.sum())
        self.mixture_means.copy_(torch.as_tensor(mixture.means_)[pick])
        self.mixture_factors.copy_(
            torch.linalg.cholesky(torch.as_tensor(mixture.covariances_))[pick]
        )

    def encode(self, x: Images, y: Tensor | None) -> Tensor:
        """Gives the posterior's mean."""
        return self._posterior(x, y)[0]

    def decode(self, z: Tensor, y: Tensor | None) -> Images:
        """Gives the mean image of a latent."""
        if self.embed is not None and y is not None:
            z = torch.cat([z, self.embed(y)], 1)
        return self.decoder(z).add(1).div(2)

    def latent(self, ids: Sequence[int] | Tensor, seed: int, sampling: VAESampling) -> Tensor:
        """Draws latents from the mixture or the standard normal; the temperature scales their spread."""
        z = noise(seed, ids, (self.dim,), "latent", device=self.sigma.device) * sampling.temperature
        if sampling.prior == "normal":
            return z
        component = draw_labels(
            seed, ids, self.mixture_weights.tolist(), self.sigma.device, "component"
        )
        return self.mixture_means[component] + torch.einsum(
            "nij,nj->ni", self.mixture_factors[component], z
        )

    @torch.no_grad()
    def sample(
        self, ids: Sequence[int] | Tensor, y: Tensor | None, seed: int, sampling: VAESampling
    ) -> Images:
        """Makes the images with these ids of this seed."""
        if y is None and self.classes:
            y = draw_labels(seed, ids, self.spec.shares, self.sigma.device)
        return self.decode(self.latent(ids, seed, sampling), y)

    def _posterior(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        h = self.encoder(x * 2 - 1)
        if self.embed is not None and y is not None:
            h = torch.cat([h, self.embed(y)], 1)
        mean, log_var = self.posterior(h).float().chunk(2, 1)
        return mean, log_var.clamp(-12, 6)  # a wider range only lets exp overflow


def divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    """Computes KL(N(mean, exp(log_var)) || N(0, 1)) in nats, (N, D) to (N,) ([1], appendix B)."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)


def negative_elbo(x: Tensor, recon: Tensor, mean: Tensor, log_var: Tensor, sigma: Tensor) -> Tensor:
    """Computes the negative evidence bound of a Gaussian decoder in nats per image, shape (N,)."""
    squares = (x - recon).square().flatten(1)
    nll = (squares / (2 * sigma**2) + torch.log(sigma) + 0.5 * math.log(2 * math.pi)).sum(1)
    return nll + divergence(mean, log_var)


@families.add("vae", "VAE (autoencoder)", VAEConfig, sampling=VAESampling)
def build(config: VAEConfig, spec: Spec) -> VAE:
    """Squeezes images into a few numbers and back: a smooth latent space, soft images, a likelihood bound."""
    return VAE(config, spec)
