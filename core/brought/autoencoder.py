"""A folder of diffusers with an ``AutoencoderKL``: pictures become small ones of other channels, and come back.

Such a network draws nothing by itself: it has no prior. A normal distribution is fitted to the latents of the
dataset that it is brought for, and its samples are drawn from that.

References:
    Rombach et al., 2022, High-resolution image synthesis with latent diffusion models, https://arxiv.org/abs/2112.10752
    Ghosh et al., 2020, From variational to deterministic autoencoders (a density fitted afterwards),
    https://arxiv.org/abs/1903.12436
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core import brought
from core.brought import Seen, origins
from core.catalog import Config, UserError, knob, optional
from core.models import Spec
from core.runs import Opened
from core.tensors import Group, Ids, Images, Loss, fingerprint, noise
from core.weights import Package
from core.weights.architecture import Architecture

RANK = 256  # directions of the fitted covariance; what they leave varies number by number
MOST = 65_536  # numbers of a latent
TOGETHER = 32  # pictures in one pass, so that large ones fit the memory
DIVERGENCE = 1e-6  # weight of the divergence in training, per number, as its authors trained it

AUTOENCODER = Architecture(
    "AutoencoderKL",
    lambda: (
        optional("diffusers.models.autoencoders.autoencoder_kl", "An AutoencoderKL").AutoencoderKL
    ),
    choices={
        "down_block_types": ("DownEncoderBlock2D",),
        "up_block_types": ("UpDecoderBlock2D",),
        "act_fn": ("silu", "swish", "gelu", "mish"),
        "latents_mean": (None,),
        "latents_std": (None,),
        "force_upcast": (True, False),
        "use_quant_conv": (True, False),
        "use_post_quant_conv": (True, False),
        "mid_block_add_attention": (True, False),
    },
    bounds={
        "in_channels": (1, 16),
        "out_channels": (1, 16),
        "block_out_channels": (1, 4096),
        "layers_per_block": (1, 8),
        "latent_channels": (1, 64),
        "norm_num_groups": (1, 256),
        "sample_size": (1, 8192),
        "scaling_factor": (1e-4, 1e4),
        "shift_factor": (-1e3, 1e3),
    },
    renamed={  # of attention, until 2023
        ".query.": ".to_q.",
        ".key.": ".to_k.",
        ".value.": ".to_v.",
        ".proj_attn.": ".to_out.0.",
    },
)


class AutoencoderConfig(Config):
    """How an autoencoder that somebody brings is used; there is nothing to choose."""


class AutoencoderSampling(Config):
    """How samples of a brought autoencoder are drawn: from a normal distribution that was fitted to your images."""

    temperature: float = knob(
        1.0,
        "Spread of the latents, which are drawn from a normal distribution that was fitted to your images: lower is "
        "more typical, higher more varied.",
        ge=0,
        le=2,
    )


class Codec(nn.Module):
    """Between pictures (N, C, H, W) in [0, 1] and their latents (N, c, h, w), scaled as a prior wants them."""

    def __init__(self, net: nn.Module, config: Mapping[str, Any], spec: Spec) -> None:
        super().__init__()
        self.net = net
        self.scale = float(config.get("scaling_factor", 0.18215))
        self.shift = float(config.get("shift_factor") or 0)
        self.shape = latent_shape(config, spec)

    def encode(self, x: Images) -> tuple[Tensor, Tensor]:
        """Gives mean and logarithm of the variance of the latents, each (N, c, h, w)."""
        net: Any = self.net
        halves = net.encoder(x * 2 - 1)
        if net.quant_conv is not None:
            halves = net.quant_conv(halves)
        mean, log_var = halves.chunk(2, 1)  # (N, 2c, h, w)
        return (mean - self.shift) * self.scale, log_var.clamp(-30, 20) + 2 * math.log(self.scale)

    def decode(self, z: Tensor) -> Images:
        """Turns latents (N, c, h, w) into pictures; differentiable."""
        net: Any = self.net
        z = z / self.scale + self.shift
        if net.post_quant_conv is not None:
            z = net.post_quant_conv(z)
        return net.decoder(z).add(1).div(2).clamp(0, 1)


def reduction(config: Mapping[str, Any]) -> int:
    """Tells how many times smaller a latent is than its picture."""
    widths = config.get("block_out_channels", [64])
    return 2 ** ((len(widths) if isinstance(widths, list) else 1) - 1)


def latent_shape(config: Mapping[str, Any], spec: Spec) -> tuple[int, int, int]:
    """Gives the shape of the latent of a picture, (c, h, w).

    Raises:
        UserError: If the network makes other pictures than those of the spec.
    """
    factor = reduction(config)
    channels = config.get("in_channels", 3), config.get("out_channels", 3)
    if spec.form != "picture" or channels != (spec.channels, spec.channels):
        raise UserError(
            f"This AutoencoderKL takes pictures of {channels[0]} channels and makes ones of {channels[1]}; the dataset "
            f"has {' × '.join(map(str, spec.shape))}. Choose a dataset with as many channels."
        )
    wanted = max(2, round(spec.size / factor)) * factor
    if wanted != spec.size:
        raise UserError(
            f"This AutoencoderKL makes each side {factor} times smaller, so pictures must have a side that is a "
            f"multiple of {factor} px, at least {2 * factor}, got {spec.size}. "
            f"Import the dataset at {wanted} px." + brought.beyond(wanted)
        )
    return config.get("latent_channels", 4), spec.size // factor, spec.size // factor


class FittedAutoencoder(nn.Module):
    """An autoencoder with a normal distribution fitted to its latents; see :class:`core.models.Spreads`."""

    middle: Tensor
    directions: Tensor
    rest: Tensor
    classes = 0
    batch = 16

    def __init__(self, codec: Codec, spec: Spec) -> None:
        super().__init__()
        self.spec, self.codec = spec, codec
        self.dim = math.prod(codec.shape)
        if self.dim > MOST:
            raise UserError(
                f"A latent may have at most {MOST:,} numbers, got {self.dim:,}: this network does not make pictures "
                "smaller. Bring one with more blocks, or choose a dataset of smaller pictures."
            )
        self.register_buffer("middle", torch.zeros(self.dim))
        self.register_buffer("directions", torch.zeros(self.dim, min(RANK, self.dim)))
        self.register_buffer("rest", torch.ones(self.dim))

    def groups(self) -> list[Group]:
        """Gives all parameters as one group."""
        return [Group("model", list(self.parameters()), lr=1e-4)]

    def losses(
        self, x: Images, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the squared error of a picture that went through, and a little of the divergence."""
        mean, log_var = self.codec.encode(x)
        fresh = torch.randn(mean.shape, generator=generator, device=x.device)
        error = (self.codec.decode(mean + (log_var / 2).exp() * fresh) - x).square()
        kl = (mean.square() + log_var.exp() - 1 - log_var) / 2
        each = error.flatten(1).mean(1) + DIVERGENCE * kl.flatten(1).mean(1)
        parts = {"loss": each.mean().detach(), "reconstruction_error": error.mean().detach()}
        yield Loss("model", each.mean(), parts, lambda: each)

    @torch.no_grad()
    def fit(self, x: Images, y: Tensor | None) -> None:
        """Fits the normal distribution to the latents of images: their mean and covariance.

        Of the covariance the :data:`RANK` largest directions are kept, and what they leave of each number's variance:
        exact where a latent has no more numbers than that.
        """
        halves = [self.codec.encode(part) for part in x.split(TOGETHER)]
        codes, spread = (
            torch.cat([half.flatten(1) for half in every]) for every in zip(*halves, strict=True)
        )  # each (N, D)
        self.middle.copy_(codes.mean(0))
        centred = (codes - self.middle).double() / max(1, len(codes) - 1) ** 0.5
        # of the products of images, which are few, rather than of the covariance, which can be huge
        _, turns = torch.linalg.eigh(centred @ centred.T)  # (N, N), the largest last
        kept = min(self.directions.shape[1], len(codes))
        self.directions.zero_()
        self.directions[:, :kept] = (centred.T @ turns.flip(1)[:, :kept]).float()
        left = centred.square().sum(0).float() - self.directions.square().sum(1)
        self.rest.copy_((left.clamp_min(0) + spread.exp().mean(0)).sqrt())

    def latent(self, ids: Ids, seed: int, sampling: Config) -> Tensor:
        """Draws latents from the fitted normal distribution, (N, D)."""
        rank = self.directions.shape[1]
        drawn = noise(seed, ids, (rank + self.dim,), "autoencoder", device=self.middle.device)
        along, alone = drawn.split([rank, self.dim], 1)
        temperature = sampling.record()["temperature"]
        return self.middle + temperature * (along @ self.directions.T + alone * self.rest)

    def decode(self, z: Tensor, y: Tensor | None, sampling: Config) -> Images:
        """Gives the picture of a latent; differentiable."""
        parts = z.view(-1, *self.codec.shape).split(TOGETHER)  # (N, D) -> (N, c, h, w)
        return torch.cat([self.codec.decode(part) for part in parts])

    def encode(self, x: Images, y: Tensor | None, sampling: Config) -> Tensor:
        """Gives the mean of the latents of pictures, (N, D)."""
        return self.spread(x, y)[0]

    def spread(self, x: Images, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gives mean and logarithm of the variance of the latents of pictures, each (N, D)."""
        halves = [self.codec.encode(part) for part in x.split(TOGETHER)]
        mean, log_var = (torch.cat([*every]).flatten(1) for every in zip(*halves, strict=True))
        return mean, log_var

    @torch.no_grad()
    def sample(self, ids: Ids, y: Tensor | None, seed: int, sampling: Config) -> Images:
        """Makes the pictures with these ids of this seed."""
        return self.decode(self.latent(ids, seed, sampling), None, sampling)


def _knows(package: Package) -> bool:
    return package.described("config.json").get("_class_name") == AUTOENCODER.name


def _see(package: Package) -> Seen:
    config = AUTOENCODER.read(package)
    factor = reduction(config)
    return Seen(
        "AutoencoderKL (diffusers)",
        AUTOENCODER.count(config),
        sampler="a normal distribution that is fitted to the latents of your images",
        notes=(
            "It has no prior: its samples are no better than that distribution.",
            f"It takes pictures of {config.get('in_channels', 3)} channels, of any side that is a multiple of "
            f"{factor} px.",
        ),
    )


def _note(record: Mapping[str, Any]) -> str:
    return "An autoencoder; samples from a normal distribution that was fitted to your images."


@origins.add(
    "autoencoder",
    "An AutoencoderKL (a folder of diffusers)",
    AutoencoderConfig,
    files=("safetensors",),
    sampling=AutoencoderSampling,
    note=_note,
    knows=_knows,
    see=_see,
    fits=True,
)
def build(
    config: AutoencoderConfig,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """An autoencoder; its samples come from a normal distribution that is fitted to your images."""
    if package is None:
        assert record is not None
        described = record["facts"]["autoencoder"]
    else:
        described = AUTOENCODER.read(package)
    latent_shape(described, spec)  # refuses other pictures before memory is taken
    net = AUTOENCODER.built(described, package)
    model = FittedAutoencoder(Codec(net, described, spec), spec)
    about = {"kind": "brought", "facts": {"autoencoder": described}, "hash": fingerprint(model)}
    return brought.opened(model, spec, classes, about, (), AutoencoderSampling)
