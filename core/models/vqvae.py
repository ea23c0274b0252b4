"""Autoencoders with a finite vocabulary: an image becomes a few codes, and a transformer learns to write codes.

Two stages in one run. First an encoder and a decoder learn to say an image in codes; then, with both frozen, a causal
transformer learns which codes follow which, class by class. Sampling writes codes one after the other and decodes them.

Reproduce: ``python -m core train --family vqvae --dataset digits --preset quick --wait`` takes about a minute on one
core and ends near -23 nats on held-out digits; its samples are recognisable digits, nine out of ten of the class that
was asked for.

References (used throughout the code):
    [1] van den Oord et al., 2017, Neural discrete representation learning, https://arxiv.org/abs/1711.00937
    [2] Mentzer et al., 2023, Finite scalar quantization: VQ-VAE made simple, https://arxiv.org/abs/2309.15505
    [3] Bengio et al., 2013, Estimating or propagating gradients (straight-through), https://arxiv.org/abs/1308.3432
    [4] Dhariwal et al., 2020, Jukebox (restart of codes that nobody uses), https://arxiv.org/abs/2005.00341
    [5] Radford et al., 2019, Language models are unsupervised multitask learners (the transformer),
        https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    [6] Ho and Salimans, 2022, Classifier-free diffusion guidance, https://arxiv.org/abs/2207.12598
    [7] Holtzman et al., 2019, The curious case of neural text degeneration (top-p), https://arxiv.org/abs/1904.09751
    [8] Gal and Ghahramani, 2016, A theoretically grounded application of dropout, https://arxiv.org/abs/1512.05287
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from core.catalog import Config, knob
from core.models import MEMORISES, Curve, Spec, families
from core.nets import LabelEmbedding, crop, labels_for, pad, widths
from core.tensors import Group, Ids, Images, Loss, all_mean, full, noise, processes, rows

CODE_DIM = 8  # numbers per code of a learned codebook
HEAD = 16  # width of a head of attention
RECENT = 100  # steps after which a code that no image used counts as dead


class VQVAEConfig(Config):
    """Parameters of a VQ-VAE and of its prior."""

    quantizer: Literal["levels", "codebook"] = knob(
        "levels",
        "How codes are made: by rounding a few numbers to levels (FSQ), or by a learned codebook (VQ).",
        title="Kind of codes",
    )
    levels: str = knob(
        "5,5,5",
        "Levels of each number that is rounded, such as 8,6,5; their product is the size of the vocabulary.",
    )
    codebook: int = knob(
        128, "Codes of a learned codebook.", title="Size of the codebook", ge=2, le=4096, log=True
    )
    conditional: bool = knob(
        True,
        title="Learn the classes",
        help="The prior learns to write the class that you ask for, when the dataset has labels.",
    )
    first_stage: float = knob(
        0.4,
        "Share of the training that goes to the autoencoder; the rest goes to the prior over its codes.",
        ge=0.05,
        le=0.9,
        advanced=True,
    )
    width: int = knob(
        32,
        "Channels of the autoencoder at half the size of the image.",
        ge=4,
        le=512,
        advanced=True,
    )
    prior_width: int = knob(
        64, "Width of the prior's layers, in steps of 16.", ge=16, le=1024, advanced=True
    )
    prior_depth: int = knob(3, "Layers of the prior.", ge=1, le=24, advanced=True)
    dropout: float = knob(
        0.1,
        "Share of the prior's channels that is silenced in training, against learning by heart.",
        ge=0,
        le=0.9,
        advanced=True,
    )

    @model_validator(mode="after")
    def _levels(self) -> VQVAEConfig:
        parts = [part.strip() for part in self.levels.split(",")]
        whole = all(part.isdigit() and 2 <= int(part) <= 64 for part in parts)
        if not whole or math.prod(map(int, parts)) > 4096:
            raise ValueError(
                "family.levels must be whole numbers from 2 to 64 with commas between them, with a product of at "
                f"most 4096, got {self.levels!r}. Leave it out to use 5,5,5."
            )
        return self


class VQVAESampling(Config):
    """Choices when a VQ-VAE draws images."""

    temperature: float = knob(
        1.0, "Freedom of the prior: lower is more typical, higher more varied.", ge=0, le=1.5
    )
    guidance: float = knob(
        1.5, "How strongly the class is insisted on; 1 is what the prior learned.", ge=0, le=10
    )
    top_p: float = knob(
        0.95,
        "Draws from the likeliest codes that together have this probability.",
        title="Likeliest share (top-p)",
        ge=0.05,
        le=1,
        advanced=True,
    )


CURVES = (
    Curve(
        "loss",
        "Loss",
        "Nats that it takes to describe an image: in training the decoder's error alone, held out the codes as well. "
        "Lower is better, and it may be below zero. " + MEMORISES,
        position="first",
    ),
    Curve(
        "prior_loss",
        "Loss of the prior",
        "Nats per code: how well the second stage foretells the codes of the first.",
    ),
    Curve(
        "codebook_use",
        "Codes in use",
        "Share of the codebook that was used lately.",
        lines={"codebook_use": "share in use"},
    ),
    Curve(
        "perplexity",
        "Perplexity of the codes",
        "How many codes are used as if all were used equally often.",
    ),
    Curve(
        "reconstruction_error",
        "Reconstruction error",
        "Mean squared difference of pixels in [0, 1].",
    ),
)


class VQVAE(nn.Module):
    """An autoencoder with codes and a prior over them; see :class:`core.models.GenerativeModel`.

    The trainer averages weights over steps; the averaged autoencoder reaches the live one, on whose codes the prior is
    trained, soon after the first stage.
    """

    usage: Tensor
    idle: Tensor
    sigma: Tensor
    histogram: Tensor
    begun: Tensor

    def __init__(self, config: VQVAEConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.batch = 64
        self.classes = spec.classes if config.conditional else 0
        self.grid, halvings = tokens(spec.size)
        self.inner = self.grid * 2**halvings  # the size of the image, rounded up
        self.quantizer = (
            FSQ([int(part) for part in config.levels.split(",")])
            if config.quantizer == "levels"
            else Codebook(config.codebook, CODE_DIM)
        )
        count = self.quantizer.count
        sizes = spec.channels, config.width, halvings, self.quantizer.dims
        self.encoder, self.decoder = encoder(*sizes), decoder(*sizes)
        self.prior = Prior(count, self.grid**2, self.classes, config)
        self.register_buffer("usage", torch.full((count,), 1 / count))  # running share of each code
        self.register_buffer("idle", torch.full((count,), RECENT))  # steps since it was used
        self.register_buffer("sigma", torch.ones(()))
        self.register_buffer("histogram", torch.full((self.grid**2, count), 1 / count))
        self.register_buffer("begun", torch.zeros(()))  # 1 once the prior has been trained

    def groups(self) -> list[Group]:
        """Gives the autoencoder, then, in the second stage, the prior; wide networks learn more slowly."""
        both = [*self.encoder.parameters(), *self.decoder.parameters()]
        prior = Group("prior", list(self.prior.parameters()), beta2=0.95, weight_decay=0.1)
        split, lr = self.config.first_stage, 2e-3
        return [
            Group("autoencoder", both, lr * (32 / self.config.width) ** 0.5, stop=split),
            replace(prior, lr=lr * (64 / self.prior.width) ** 0.5, start=split),
        ]

    def hot(self) -> list[nn.Module]:
        """Lists what compiling speeds up."""
        return [self.encoder, self.decoder, *self.prior.blocks]

    def losses(
        self, x: Images, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the loss of the stage that ``progress`` lies in.

        The autoencoder's is the negative log-likelihood in nats per image, with the sigma that is best for the batch,
        plus a codebook's commitment; the prior's is in nats per code.
        """
        if progress < self.config.first_stage:
            yield self._autoencoder_loss(x, generator)
        else:
            yield self._prior_loss(x, y, generator)

    def _autoencoder_loss(self, x: Images, generator: torch.Generator) -> Loss:
        z = self.spell(x)  # (N, C, H, W) -> (N, T, D)
        codes = self.quantizer.nearest(z)  # (N, T)
        vectors = self.quantizer.vectors(codes)  # (N, T, D)
        recon = self._decode(z + (vectors - z).detach())  # straight through [3]
        error = all_mean((recon - x).square().mean()).clamp_min(1e-6)
        nll = x[0].numel() / 2 * (torch.log(2 * math.pi * error) + 1)
        value = nll + self.quantizer.commitment(z, vectors)
        self._count(z.detach(), codes, generator)
        entropy = torch.special.entr(self.usage).sum()
        parts = {
            "loss": value.detach(),
            "reconstruction_error": error.detach(),
            "codebook_use": (self.idle < RECENT).float().mean(),
            "perplexity": entropy.exp(),
        }
        return Loss("autoencoder", value, parts)

    def _prior_loss(self, x: Images, y: Tensor | None, generator: torch.Generator) -> Loss:
        self.begun.fill_(1.0)
        codes = self.quantize(x)
        # one class in ten is hidden, so that the prior also knows how to write without one [6]
        keep = rows(torch.rand, (len(x), 1), generator=generator, device=x.device) >= 0.1
        logits = self.prior(self.prior.start(len(x), y, keep), codes[:, :-1], generator=generator)
        value = F.cross_entropy(full(logits).flatten(0, 1), codes.flatten())
        return Loss("prior", value, {"prior_loss": value.detach()})

    @torch.no_grad()
    def _count(self, z: Tensor, codes: Tensor, generator: torch.Generator) -> None:
        """Records which codes the batch used, and lets a learned codebook follow its vectors."""
        z, codes = z.flatten(0, 1), codes.flatten()  # (N T, D) and (N T,)
        ones = torch.ones_like(z[:, 0]) / len(z)
        share = all_mean(torch.zeros_like(self.usage, dtype=z.dtype).index_add_(0, codes, ones))
        self.usage.lerp_(share.to(self.usage.dtype), 0.01)
        self.idle.add_(1).masked_fill_(share > 0, 0)
        if isinstance(self.quantizer, Codebook):
            sums = torch.zeros_like(self.quantizer.sums, dtype=z.dtype)
            self.quantizer.follow(share, all_mean(sums.index_add_(0, codes, z / len(z))))
            dead = self.idle >= RECENT
            # every process draws the same rows of the batch of all of them
            everyone = gathered(z)
            picks = torch.randint(len(everyone), dead.shape, generator=generator, device=z.device)
            self.quantizer.restart(dead, everyone[picks])  # anew in each step until it is used

    def quantize(self, x: Images) -> Tensor:
        """Turns images into codes, (N, T), row by row from the top left."""
        # in full precision also within autocast, so that a code never depends on it
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return self.quantizer.nearest(self.spell(x))

    def restore(self, codes: Tensor) -> Images:
        """Turns codes (N, T) into images."""
        return self._decode(self.quantizer.vectors(codes)).clamp(0, 1)

    def spell(self, x: Images) -> Tensor:
        """Gives the vectors of images before they are rounded, (N, T, D)."""
        z = self.encoder(pad(x * 2 - 1, self.inner))  # (N, D, grid, grid)
        return self.quantizer.bound(full(z.flatten(2).mT))

    def vectors(self, codes: Tensor) -> Tensor:
        """Gives the vectors of codes, (...) to (..., D)."""
        return self.quantizer.vectors(codes)

    def nearest(self, vectors: Tensor) -> Tensor:
        """Gives the codes whose vectors are nearest, (..., D) to (...)."""
        return self.quantizer.nearest(vectors)

    def paint(self, vectors: Tensor) -> Images:
        """Turns vectors (N, T, D) into images, also those between codes."""
        return self._decode(vectors).clamp(0, 1)

    def use(self) -> tuple[Tensor, Tensor]:
        """Gives the share of each code at all places of the training images, and which codes none of them had."""
        share = self.histogram.mean(0)
        # `fit` adds 0.1 to every count, so that a code that was never met has the same small share everywhere
        return share, self.histogram.amax(0) <= self.histogram.amin() * 1.001

    def layered(self) -> nn.Module:
        """Gives the decoder."""
        return self.decoder

    def _decode(self, vectors: Tensor) -> Tensor:
        # no bound in training: a sigmoid that has once gone all black never finds its way back
        h = self.decoder(vectors.mT.unflatten(2, (self.grid, self.grid)))
        return crop(full(h), self.spec.size).add(1).div(2)

    @torch.no_grad()
    def fit(self, x: Images, y: Tensor | None) -> None:
        """Finds the decoder's sigma, and how often each code stands at each place, on training images."""
        errors, counts = [], torch.full_like(self.histogram, 0.1)  # no code is impossible
        for part in x.split(512):
            codes = self.quantize(part)
            errors.append((self.restore(codes) - part).square().flatten(1).mean(1))
            first = torch.arange(counts.shape[0], device=x.device) * counts.shape[1]  # (T,)
            counts += (first + codes).flatten().bincount(minlength=counts.numel()).view_as(counts)
        self.sigma.copy_(torch.cat(errors).mean().sqrt().clamp_min(1e-3))
        self.histogram.copy_(counts / counts.sum(1, keepdim=True))

    def held_out(
        self, x: Images, y: Tensor | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Gives the nats that it takes to say an image: its codes, then what the decoder misses of it.

        A bound on the negative log-likelihood (of the density, as a VAE's) in both stages: as long as the prior is
        untrained, codes are said by their frequency at each place, as `sample` draws them.
        """
        codes = self.quantize(x)
        error = (self.restore(codes) - x).square().mean()
        nll = x[0].numel() * (
            error / (2 * self.sigma**2) + torch.log(self.sigma) + 0.5 * math.log(2 * math.pi)
        )
        if self.begun:
            logits = self.prior(self.prior.start(len(x), y), codes[:, :-1])
        else:
            logits = self.histogram.log().expand(len(x), -1, -1)
        rate = F.cross_entropy(logits.flatten(0, 1), codes.flatten())
        return {
            "valid_loss": nll + rate * codes.shape[1],
            "valid_reconstruction_error": error,
            "valid_prior_loss": rate,
        }

    @torch.no_grad()
    def sample(self, ids: Ids, y: Tensor | None, seed: int, sampling: VQVAESampling) -> Images:
        """Makes the images with these ids of this seed.

        Before the prior's stage has begun, each code is drawn by itself, as often as the training images have it at
        its place: this shows what the decoder can do, not yet how codes go together.
        """
        y = labels_for(self, ids, y, seed)
        return self.restore(self.write(ids, y, seed, sampling))

    def predict(self, codes: Tensor, y: Tensor | None) -> Tensor:
        """Gives log-probabilities (N, T, V) of the codes at each place, given those before it (N, T)."""
        if not self.begun:
            return self.histogram.log().expand(len(codes), -1, -1)
        return full(self.prior(self.prior.start(len(codes), y), codes[:, :-1])).log_softmax(-1)

    def write(
        self,
        ids: Ids,
        y: Tensor | None,
        seed: int,
        sampling: VQVAESampling,
        cached: bool = True,
    ) -> Tensor:
        """Draws codes (N, T) one place after the other; without the cache it computes all earlier ones anew."""
        draws = noise(seed, ids, (self.grid**2,), "codes", uniform=True, device=self.sigma.device)
        if not self.begun:
            logits = self.histogram.log().expand(len(draws), -1, -1)
            return choose(logits, draws, sampling)
        guided = bool(self.classes) and sampling.guidance != 1
        start = self.prior.start(len(draws), y)
        if guided:
            start = torch.cat([start, self.prior.start(len(draws), None)])
        codes = torch.zeros(len(start), 0, dtype=torch.int64, device=draws.device)
        cache: list[list[Tensor]] | None = [[] for _ in self.prior.blocks] if cached else None
        for draw in draws.unbind(1):
            logits = self.prior(start, codes, cache)[:, -1]
            if guided:
                of_class, of_any = logits.chunk(2)
                # [6], eq. 6 with w = guidance - 1
                logits = of_any + sampling.guidance * (of_class - of_any)
            code = choose(logits, draw, sampling)
            codes = torch.cat([codes, code.repeat(2 if guided else 1)[:, None]], 1)
        return codes[: len(draws)]


def choose(logits: Tensor, draw: Tensor, sampling: VQVAESampling) -> Tensor:
    """Picks codes by inverse transform: the first at which the cumulated probability reaches the draw.

    Args:
        logits: Shape (..., V).
        draw: Uniform on (0, 1), shape (...).
        sampling: Temperature and top-p [7].
    """
    p = (logits / max(sampling.temperature, 1e-3)).softmax(-1)
    if sampling.top_p < 1:
        ordered, order = p.sort(-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        p = torch.zeros_like(p).scatter(-1, order, ordered * (before < sampling.top_p))
    reach = p.cumsum(-1)
    return torch.searchsorted(reach, draw[..., None] * reach[..., -1:])[..., 0]


# --- Autoencoder ------------------------------------------------------------------------------------------------------


def tokens(size: int) -> tuple[int, int]:
    """Chooses the grid of codes (at most 8 by 8) and the halvings that lead to it.

    >>> tokens(8), tokens(16), tokens(28), tokens(64)
    ((4, 1), (4, 2), (7, 2), (8, 3))
    """
    halvings = max(1 if size < 16 else 2, math.ceil(math.log2(size / 8)))
    return math.ceil(size / 2**halvings), halvings


class Residual(nn.Module):
    """Adds two convolutions of the activated input to it; no normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.2)), 0.2))


def encoder(channels: int, width: int, halvings: int, dims: int) -> nn.Sequential:
    """Maps images to vectors on the grid of codes; the first halving only folds pixels into channels."""
    sizes = widths(width, halvings, most=4)
    layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, width, 3, padding=1)]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.LeakyReLU(0.2), nn.Conv2d(before, after, 4, 2, 1)]
    layers += [Residual(sizes[-1]), nn.LeakyReLU(0.2), nn.Conv2d(sizes[-1], dims, 1)]
    # standardised per image: all levels are in use from the first step on, and the bound never saturates
    return nn.Sequential(*layers, nn.GroupNorm(1, dims, affine=False))


def decoder(channels: int, width: int, halvings: int, dims: int) -> nn.Sequential:
    """Maps vectors on the grid to images, about in [-1, 1]; the mirror of the encoder."""
    sizes = widths(width, halvings, most=4)[::-1]
    layers: list[nn.Module] = [nn.Conv2d(dims, sizes[0], 3, padding=1), Residual(sizes[0])]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.LeakyReLU(0.2), nn.ConvTranspose2d(before, after, 4, 2, 1)]
    layers += [nn.LeakyReLU(0.2), nn.Conv2d(width, 4 * channels, 3, padding=1), nn.PixelShuffle(2)]
    return nn.Sequential(*layers)


# --- Quantizers: bound, nearest and vectors are all that the model asks of one ----------------------------------------


class FSQ(nn.Module):
    """Rounds each of a few numbers in (-1, 1) to one of its levels, equally spaced from -1 to 1 [2].

    The paper shifts an even number of levels so that 0 is one of them; here they stay symmetric.
    """

    levels: Tensor
    basis: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.dims, self.count = len(levels), math.prod(levels)
        basis = [math.prod(levels[:digit]) for digit in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("basis", torch.tensor(basis), persistent=False)

    def bound(self, z: Tensor) -> Tensor:
        """Squeezes vectors (..., D) into (-1, 1)."""
        return torch.tanh(z)

    def nearest(self, z: Tensor) -> Tensor:
        """Gives the code whose vector is nearest, (..., D) to (...): the levels read as digits of a number."""
        last = self.levels - 1
        digits = ((z + 1) / 2 * last).round().long().clamp(min=torch.zeros_like(last), max=last)
        return (digits * self.basis).sum(-1)

    def vectors(self, codes: Tensor) -> Tensor:
        """Gives the vectors of codes, (...) to (..., D)."""
        digits = codes[..., None] // self.basis % self.levels
        return digits / (self.levels - 1) * 2 - 1

    def commitment(self, z: Tensor, vectors: Tensor) -> Tensor:
        """Asks for nothing: bounded vectors cannot run away."""
        return z.new_zeros(())


class Codebook(nn.Module):
    """Looks vectors up in a table that follows them as a running mean, without a gradient ([1], appendix A.1).

    Counts and sums are kept as shares of a batch: only their ratio matters, and shares of several processes average.
    """

    counts: Tensor
    sums: Tensor

    def __init__(self, count: int, dims: int, decay: float = 0.99) -> None:
        super().__init__()
        self.dims, self.count, self.decay = dims, count, decay
        self.register_buffer("counts", torch.full((count,), 1 / count))
        self.register_buffer("sums", torch.randn(count, dims) / count)

    def bound(self, z: Tensor) -> Tensor:
        """Leaves vectors as they are."""
        return z

    def nearest(self, z: Tensor) -> Tensor:
        """Gives the code whose vector is nearest, (..., D) to (...)."""
        table = self._table(z)
        return (table.square().sum(1) - 2 * z @ table.T).argmin(-1)

    def vectors(self, codes: Tensor) -> Tensor:
        """Gives the vectors of codes, (...) to (..., D)."""
        return self._table(self.sums)[codes]

    def commitment(self, z: Tensor, vectors: Tensor) -> Tensor:
        """Keeps vectors (N, T, D) near the ones that stand for them, per image ([1], eq. 3, with beta 0.25)."""
        return 0.25 * (z - vectors.detach()).square().sum((1, 2)).mean()

    def follow(self, share: Tensor, mean: Tensor) -> None:
        """Takes in the share of each code in a batch (V,), and its vectors summed over that share (V, D)."""
        self.counts.lerp_(share.to(self.counts.dtype), 1 - self.decay)  # eq. 6
        self.sums.lerp_(mean.to(self.sums.dtype), 1 - self.decay)  # eq. 7

    def restart(self, dead: Tensor, vectors: Tensor) -> None:
        """Puts new vectors (V, D) in the place of codes that are dead (V,) [4]."""
        self.counts.masked_fill_(dead, 1 / self.count)
        self.sums.copy_(torch.where(dead[:, None], vectors / self.count, self.sums))

    def _table(self, like: Tensor) -> Tensor:
        return (self.sums / self.counts[:, None].clamp_min(1e-12)).to(like.dtype)  # eq. 8


def gathered(x: Tensor) -> Tensor:
    """Joins the rows (N, D) of all processes, in their order; alone, returns its input."""
    count = processes()[0]
    if count == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(count)]
    torch.distributed.all_gather(parts, x.contiguous())
    return torch.cat(parts)


# --- Prior ------------------------------------------------------------------------------------------------------------


class Prior(nn.Module):
    """Gives the logits of each code from the class and the codes before it: a causal transformer [5]."""

    def __init__(self, count: int, length: int, classes: int, config: VQVAEConfig) -> None:
        super().__init__()
        self.width = width = -(-config.prior_width // HEAD) * HEAD
        self.dropout = config.dropout
        self.first = nn.Parameter(0.1 * torch.randn(width))
        self.label = LabelEmbedding(classes, width) if classes else None
        self.embed = nn.Embedding(count, width)
        self.position = nn.Parameter(0.1 * torch.randn(length, width))
        self.blocks = nn.ModuleList(PriorBlock(width) for _ in range(config.prior_depth))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, count)

    def start(self, count: int, y: Tensor | None, keep: Tensor | None = None) -> Tensor:
        """Gives the token that stands before the codes, (N, D): the class's, except where ``keep`` (N, 1) is false."""
        token = self.first.expand(count, -1)
        if self.label is None or y is None:
            return token
        label = self.label(y)
        return token + (label if keep is None else label * keep)

    def forward(
        self,
        start: Tensor,
        codes: Tensor,
        cache: list[list[Tensor]] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Gives logits (N, t + 1, V) of the next code after the start and after each of the codes (N, t).

        Args:
            start: First tokens, (N, D).
            codes: The codes so far, (N, t).
            cache: Keys and values of each layer for all codes but the newest; then only the last logits come out,
                (N, 1, V), and the lists grow by the newest code.
            generator: Of the dropout; without it there is none.
        """
        h = torch.cat([start[:, None], self.embed(codes)], 1) + self.position[: codes.shape[1] + 1]
        if cache is not None:
            h = h[:, -1:]
        h = silence(h, self.dropout, generator)
        for layer, block in enumerate(self.blocks):
            h = block(h, None if cache is None else cache[layer])
            h = silence(h, self.dropout, generator)
        return self.last(self.norm(h))


class PriorBlock(nn.Module):
    """Attention to the codes before, then two dense layers on each; both are added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.think = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, h: Tensor, cache: list[Tensor] | None) -> Tensor:
        heads = self.qkv(self.norms[0](h)).unflatten(2, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        q, k, v = heads.unbind()  # (N, heads, t, HEAD)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = k, v
        # a single query is the newest: it may look at everything
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1)
        h = h + self.mix(mixed.transpose(1, 2).flatten(2))
        return h + self.think(self.norms[1](h))


def silence(h: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Silences a share of the channels of each sequence (N, t, D), at all places alike [8].

    Without a generator, it silences none.
    """
    if generator is None or not share:
        return h
    # one draw for all places: noise for each number would take a tenth of a step on a CPU
    shape = (len(h), 1, h.shape[2])
    keep = rows(torch.rand, shape, generator=generator, device=h.device) >= share
    return h * keep / (1 - share)


PRESETS = {
    "quick": {"train.images": 150_000},
    "good": {"family.prior_depth": 4, "family.dropout": 0.3, "train.images": 1_200_000},
    "gpu": {
        "family.levels": "8,5,5,5",
        "family.width": 128,
        "family.prior_width": 256,
        "family.prior_depth": 8,
        "train.images": 10_000_000,
        "train.batch": 256,
    },
}


@families.add(
    "vqvae",
    "VQ-VAE (codes and a transformer)",
    VQVAEConfig,
    sampling=VQVAESampling,
    curves=CURVES,
    presets=PRESETS,
)
def build(config: VQVAEConfig, spec: Spec) -> VQVAE:
    """Turns images into codes of a small vocabulary and learns to write them like a text: varied images, two stages."""
    return VQVAE(config, spec)
