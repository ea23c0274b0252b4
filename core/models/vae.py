"""Variational autoencoders: an encoder and a decoder with a smooth latent space between them.

Reproduce: ``python -m core train --family vae --dataset digits --images 100000 --wait`` ends near -34 nats on held-out
digits within half a minute on two cores. Of so few images it learns the likelihood by heart when it trains on (above
80 nats after 400 000 images); its samples stay as good.

``python -m benchmarks.quality --data digits --family vae`` ends at a Fréchet distance of about 1.9 times that of real
test images (1.5 to 2.3 over three seeds), with 61 % of the samples nearer to the training images than to held-out ones
(real ones: 57 %); ``--data mnist16`` at 2.9 times (2.6 to 3.0), with 60 %.

References (used throughout the code):
    [1] Kingma and Welling, 2013, Auto-encoding variational Bayes, https://arxiv.org/abs/1312.6114
    [2] Higgins et al., 2017, beta-VAE, https://openreview.net/forum?id=Sy2fzU9gl
    [3] Rybkin et al., 2021, Simple and effective VAE training with calibrated decoders, https://arxiv.org/abs/2006.13202
    [4] Ghosh et al., 2020, From variational to deterministic autoencoders (ex-post mixture), https://arxiv.org/abs/1903.12436
    [5] Salimans et al., 2017, PixelCNN++ (discretised logistic), https://arxiv.org/abs/1701.05517
    [6] Kingma et al., 2016, Improved variational inference (free bits), https://arxiv.org/abs/1606.04934
    [7] Burda et al., 2016, Importance weighted autoencoders, https://arxiv.org/abs/1509.00519
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.catalog import Config, knob
from core.models import MEMORISES, Curve, Spec, dense, families
from core.nets import (
    Downward,
    LabelEmbedding,
    ResidualMLP,
    Upward,
    joined,
    labels_for,
    refresh_batch_statistics,
)
from core.tensors import Batch, Group, Ids, Loss, all_mean, draw_labels, full, noise, rows

DRAWS = 16  # latents per image that `log_prob` looks at
CODES = 70  # codes per Gaussian of the mixture: fewer learn them by heart, more leave holes between the modes


class VAEConfig(Config):
    """Parameters of a VAE."""

    network: Literal["auto", "dense", "conv"] = knob(
        "auto", "Networks of both sides; auto takes dense at 8 px and for vectors, conv above."
    )
    likelihood: Literal["gaussian", "bernoulli", "discretised"] = knob(
        "gaussian",
        "How a pixel may differ from its reconstruction: gaussian with the spread that fits best; bernoulli for black "
        "and white; discretised gives every level its probability, for good bits per dimension.",
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
        "Weight of the divergence from the prior: higher tidies the latent space, in which near points give similar "
        "images; lower sharpens the images.",
        title="Tidy map or sharp images (beta)",
        ge=0,
        le=100,
        log=True,
    )
    conditional: bool = knob(
        False,
        title="Learn the classes",
        help="Gives the class to both sides, when the dataset has labels.",
    )
    free_bits: float = knob(
        0.0,
        "Divergence per latent dimension that costs nothing, so that more dimensions are used.",
        ge=0,
        le=10,
        unit="nats",
        advanced=True,
    )
    warmup: float = knob(
        0.2,
        "Share of the training in which the divergence grows to its full weight.",
        ge=0,
        le=1,
        advanced=True,
    )
    components: int = knob(
        60,
        f"Most Gaussians of the mixture that is fitted to the codes and drawn from; each needs {CODES} codes, or two "
        "for every latent dimension.",
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


CURVES = (
    Curve(
        "loss",
        "Loss",
        "Nats that it takes to describe an image: lower is better; with a density it may be below zero. "
        + MEMORISES,
        position="first",
    ),
    Curve(
        "reconstruction_error",
        "Reconstruction error",
        "Mean squared difference of pixels in [0, 1].",
    ),
    Curve(
        "kl",
        "Divergence from the prior (KL)",
        "Information in the latents, in nats per image.",
    ),
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
        flat = dense(config.network, spec)
        self.dim = config.latent_dim
        self.batch = 128 if flat else 32  # many small steps learn more in a minute
        self.classes = spec.classes if config.conditional else 0
        extra = 32 if self.classes else 0
        self.embed = LabelEmbedding(self.classes, extra) if self.classes else None
        # a discretised likelihood needs a spread next to every mean
        outputs = spec.shape[0] * (2 if config.likelihood == "discretised" else 1)
        if flat:
            width = config.width or 256
            self.encoder: nn.Module = nn.Sequential(
                nn.Flatten(),
                ResidualMLP(math.prod(spec.shape), width, 2, width),
                nn.LeakyReLU(0.2),
            )
            self.decoder: nn.Module = nn.Sequential(
                ResidualMLP(self.dim + extra, width, 2, outputs * math.prod(spec.shape[1:])),
                nn.Unflatten(1, (outputs, *spec.shape[1:])),
            )
        else:
            width = 8 * (config.width or 32)
            self.encoder = Downward(spec.channels, spec.size, config.width or 32, width)
            self.decoder = Upward(self.dim + extra, outputs, spec.size, config.width or 32)
        self.posterior = nn.Linear(width + extra, 2 * self.dim)
        count = config.components
        self.register_buffer("mixture_weights", torch.full((count,), 1 / count))
        self.register_buffer("mixture_means", torch.zeros(count, self.dim))
        self.register_buffer("mixture_factors", torch.eye(self.dim).repeat(count, 1, 1))
        self.register_buffer("sigma", torch.ones(()))

    def groups(self) -> list[Group]:
        """Gives all parameters as one group."""
        return [Group("model", list(self.parameters()), lr=1e-3)]

    def hot(self) -> list[nn.Module]:
        """Lists what compiling speeds up."""
        return [self.encoder, self.decoder]

    def losses(
        self, x: Batch, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the negative evidence bound in nats per image, a Gaussian's with the sigma best for the batch [3]."""
        mean, log_var = self._posterior(x, y)
        raw = self._raw(draw(mean, log_var, generator), y)
        error = all_mean((image(raw, x.shape[1]) - x).square().mean())
        if self.config.likelihood == "gaussian":
            # [3], eq. 6 with sigma^2 = error
            nll = x[0].numel() / 2 * (torch.log(2 * math.pi * error) + 1)
        else:
            nll = -self._log_likelihood(x, raw).mean()
        kl = all_mean(divergence(mean, log_var).mean(0))  # per dimension
        paid = kl.clamp_min(self.config.free_bits).sum()  # [6], eq. 15
        warm = min(1.0, progress / self.config.warmup) if self.config.warmup else 1.0
        value = nll + self.config.beta * warm * paid

        def each() -> Tensor:
            if self.config.likelihood == "gaussian":  # at the best sigma, its own gradient is 0
                log_likelihood = gaussian(x, image(raw, x.shape[1]), error.detach().sqrt())
            else:
                log_likelihood = self._log_likelihood(x, raw)
            used = kl >= self.config.free_bits  # over the batch; another dimension costs a constant
            paid = torch.where(used, divergence(mean, log_var), self.config.free_bits).sum(1)
            return self.config.beta * warm * paid - log_likelihood

        parts = {"loss": value, "reconstruction_error": error, "kl": kl.sum()}
        yield Loss("model", value, {name: part.detach() for name, part in parts.items()}, each)

    def held_out(self, x: Batch, y: Tensor | None, generator: torch.Generator) -> dict[str, Tensor]:
        """Gives the negative evidence bound in nats per image, with the sigma fitted on training images."""
        mean, log_var = self._posterior(x, y)
        raw = self._raw(draw(mean, log_var, generator), y)
        bound = self._log_likelihood(x, raw) - divergence(mean, log_var).sum(1)
        return {
            "valid_loss": -bound.mean(),
            "valid_reconstruction_error": (image(raw, x.shape[1]) - x).square().mean(),
        }

    def log_prob(self, x: Batch, y: Tensor | None, generator: torch.Generator) -> Tensor:
        """Gives a lower bound of the log-probability of the levels under the normal prior, in nats, (N,).

        Importance-weighted over several latents [7]: the mean over them of p(x, z) / q(z | x), before the logarithm.
        """
        mean, log_var = self._posterior(x, y)
        weights = []
        for _ in range(DRAWS):
            z = draw(mean, log_var, generator)
            from_posterior = (z - mean).square() * torch.exp(-log_var) + log_var
            ratio = (from_posterior - z.square()).sum(1) / 2  # log p(z) - log q(z | x)
            weights.append(ratio + self._log_probability(x, self._raw(z, y), generator))
        return torch.logsumexp(torch.stack(weights), 0) - math.log(DRAWS)

    @torch.no_grad()
    def fit(self, x: Batch, y: Tensor | None) -> None:
        """Fits batch statistics, the decoder's sigma and the mixture of latents on training images [4]."""
        from sklearn.mixture import GaussianMixture

        generator = torch.Generator(x.device).manual_seed(0)
        # parts of equal size, because batch statistics of a single image do not exist
        parts = torch.arange(len(x), device=x.device).tensor_split(-(-len(x) // 256))
        labelled = [(i, y[i] if self.classes and y is not None else None) for i in parts]
        posteriors = [self._posterior(x[i], label) for i, label in labelled]
        mean, log_var = (torch.cat(halves) for halves in zip(*posteriors, strict=True))
        z = draw(mean, log_var, generator)
        refresh_batch_statistics(
            self.decoder, (partial(self._mean_image, z[i], label) for i, label in labelled)
        )
        errors = [
            (self._mean_image(z[i], label) - x[i]).square().flatten(1).mean(1)
            for i, label in labelled
        ]
        self.sigma.fill_(torch.cat(errors).mean().sqrt().clamp_min(1e-3))
        codes = z[torch.linspace(0, len(z) - 1, min(len(z), 4096)).long()].cpu().double().numpy()
        needed = max(CODES, 2 * self.dim)  # a covariance of many dimensions needs more of them
        count = min(self.config.components, max(1, len(codes) // needed))
        mixture = GaussianMixture(count, reg_covar=1e-3, max_iter=30, tol=1e-2, random_state=0)
        mixture.fit(codes)
        # with few codes there are fewer Gaussians than components, so they are repeated
        pick = torch.arange(self.config.components) % count
        repeats = torch.bincount(pick, minlength=count)
        weights = torch.as_tensor(mixture.weights_)[pick] / repeats[pick]
        self.mixture_weights.copy_((weights / weights.sum()).float())
        self.mixture_means.copy_(torch.as_tensor(mixture.means_)[pick].float())
        factors = torch.linalg.cholesky(torch.as_tensor(mixture.covariances_))
        self.mixture_factors.copy_(factors[pick].float())

    def encode(self, x: Batch, y: Tensor | None, sampling: Config) -> Tensor:
        """Gives the posterior's mean."""
        return self._posterior(x, y)[0]

    def spread(self, x: Batch, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gives mean and logarithm of the variance of the latents of images, each (N, D)."""
        return self._posterior(x, y)

    def layered(self) -> nn.Module:
        """Gives the decoder."""
        return self.decoder

    def decode(self, z: Tensor, y: Tensor | None, sampling: Config) -> Batch:
        """Gives the mean image of a latent."""
        return self._mean_image(z, y)

    def _mean_image(self, z: Tensor, y: Tensor | None) -> Batch:
        return image(self._raw(z, y), self.spec.shape[0])

    def latent(self, ids: Ids, seed: int, sampling: VAESampling) -> Tensor:
        """Draws latents from the mixture or the standard normal; the temperature scales their spread."""
        z = noise(seed, ids, (self.dim,), "latent", device=self.sigma.device) * sampling.temperature
        if sampling.prior == "normal":
            return z
        weights = self.mixture_weights.tolist()
        component = draw_labels(seed, ids, weights, self.sigma.device, "component")
        drawn = torch.empty_like(z)
        # one factor at a time: a factor per latent could fill the memory
        for k in component.unique().tolist():
            mine = component == k
            drawn[mine] = self.mixture_means[k] + z[mine] @ self.mixture_factors[k].T
        return drawn

    @torch.no_grad()
    def sample(self, ids: Ids, y: Tensor | None, seed: int, sampling: VAESampling) -> Batch:
        """Makes the images with these ids of this seed."""
        y = labels_for(self, ids, y, seed)
        return self.decode(self.latent(ids, seed, sampling), y, sampling)

    def _posterior(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        h = joined(self.encoder(x * 2 - 1), self.embed, y)  # (N, C, H, W) -> (N, width)
        mean, log_var = full(self.posterior(h)).chunk(2, 1)
        return mean, log_var.clamp(-12, 6)  # a wider range only lets exp overflow

    def _raw(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Gives the decoder's numbers per pixel, (N, C, H, W) or, with a spread each, (N, 2C, H, W)."""
        return full(self.decoder(joined(z, self.embed, y)))

    def _log_likelihood(self, x: Tensor, raw: Tensor) -> Tensor:
        """Gives log p(x | z) in nats, (N,): of pixels for a Gaussian, of levels when discretised."""
        if self.config.likelihood == "gaussian":
            return gaussian(x, image(raw, x.shape[1]), self.sigma)
        if self.config.likelihood == "bernoulli":
            return bernoulli(x, 2 * raw)  # the sigmoid of 2 a is (tanh(a) + 1) / 2
        mean, log_scale = image(raw, x.shape[1]), raw[:, x.shape[1] :] - 3
        return discretised(x, mean, log_scale, self.spec.levels)

    def _log_probability(self, x: Tensor, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Gives a lower bound of log P(levels | z), (N,), that proper probabilities of the levels have."""
        if self.config.likelihood == "discretised":
            return self._log_likelihood(x, raw)
        levels = self.spec.levels
        if self.config.likelihood == "bernoulli":
            return tilted(x, 2 * raw, levels)
        # the density of one level's width around x, with the sigma that fits the noise as well
        u = torch.rand(x.shape, generator=generator, device=x.device) - 0.5
        sigma = torch.sqrt(self.sigma**2 + 1 / (12 * (levels - 1) ** 2))
        density = gaussian(x + u / (levels - 1), image(raw, x.shape[1]), sigma)
        return density - x[0].numel() * math.log(levels - 1)


def image(raw: Tensor, channels: int) -> Tensor:
    """Turns the decoder's first numbers into the mean image in [0, 1]."""
    return torch.tanh(raw[:, :channels]).add(1).div(2)


def draw(mean: Tensor, log_var: Tensor, generator: torch.Generator) -> Tensor:
    """Draws latents from the posterior, differentiably, (N, D) ([1], section 2.4)."""
    fresh = rows(torch.randn, mean.shape, generator=generator, device=mean.device)
    return mean + torch.exp(log_var / 2) * fresh


def divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    """Computes KL(N(mean, exp(log_var)) || N(0, 1)) of each dimension in nats, (N, D) ([1], appendix B)."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)


def gaussian(x: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """Computes the log-density of images under independent normal pixels in nats, (N,)."""
    squares = (x - mean).square() / (2 * sigma**2)
    return -(squares + torch.log(sigma) + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


def bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    """Computes the negative cross-entropy of targets in [0, 1] in nats, (N,): a log-probability if all are 0 or 1."""
    return (x * logits - F.softplus(logits)).flatten(1).sum(1)


def tilted(x: Tensor, logits: Tensor, levels: int) -> Tensor:
    """Computes log-probabilities of levels x = 0, 1/(levels-1), … 1 in proportion to ``exp(x logit)`` in nats, (N,).

    With two levels, this is :func:`bernoulli`.
    """
    step = (logits.abs() / (levels - 1)).clamp_min(1e-6)
    series = torch.expm1(-levels * step) / torch.expm1(-step)  # the sum, with its largest term at 1
    return (x * logits - F.relu(logits) - torch.log(series)).flatten(1).sum(1)


def discretised(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Computes log-probabilities of levels in nats, (N,): a logistic's mass near each; the ends take the rest.

    With edges a above and b below, the difference of sigmoids is sigmoid(a) sigmoid(-b) (1 - exp(b - a)) ([5], eq. 2).
    """
    scale, half = torch.exp(log_scale.clamp(-8, 4)), 0.5 / (levels - 1)
    above, below = (x + half - mean) / scale, (x - half - mean) / scale
    inside = torch.log(-torch.expm1(-2 * half / scale))
    lowest, highest = x < half, x > 1 - half
    log_prob = (
        F.logsigmoid(above).masked_fill(highest, 0.0)
        + F.logsigmoid(-below).masked_fill(lowest, 0.0)
        + inside.masked_fill(lowest | highest, 0.0)
    )
    return log_prob.flatten(1).sum(1)


PRESETS = {
    "quick": {"train.images": 400_000},
    "good": {"train.images": 4_000_000},
    "gpu": {"family.width": 64, "train.batch": 256, "train.images": 10_000_000},
}


@families.add(
    "vae",
    "VAE (autoencoder)",
    VAEConfig,
    sampling=VAESampling,
    curves=CURVES,
    presets=PRESETS,
    takes=("picture", "vector"),
)
def build(config: VAEConfig, spec: Spec) -> VAE:
    """Squeezes images into a few numbers and back: a smooth latent space, soft images, a likelihood bound."""
    return VAE(config, spec)
