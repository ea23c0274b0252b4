"""Picture to picture: a network that turns a condition, such as a sketch, into the image that belongs to it.

The condition is the second image of each item; of a dataset without one it is made of the image itself, so that any
dataset can teach how to fill in outlines, or to sharpen what is coarse.

Reproduce: ``python -m benchmarks.paired -n 1000`` measures the pix2pix run that ships, 25,600 images of training: on
1,000 held-out faces its error is 0.067 of the mean face's; glasses, hair and smile are as drawn in 98, 100 and 81 %.

References (used throughout the code):
    [1] Isola et al., 2017, Image-to-image translation with conditional adversarial networks, https://arxiv.org/abs/1611.07004
    [2] Ronneberger et al., 2015, U-Net, https://arxiv.org/abs/1505.04597
    [3] Goodfellow et al., 2014, Generative adversarial nets, https://arxiv.org/abs/1406.2661
    [4] Wu and He, 2018, Group normalization, https://arxiv.org/abs/1803.08494
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.catalog import Config, knob
from core.models import MEMORISES, Curve, Spec, families
from core.nets import crop, pad, plan, widths
from core.tensors import Group, Ids, Images, Loss, edges, full, noise, rows, to_float

KEPT = 2**19  # bytes of the conditions that `sample` renders
COARSE = 4  # pixels of a side that become one


class Pix2PixConfig(Config):
    """Parameters of a network from picture to picture."""

    condition: Literal["auto", "edges", "coarse"] = knob(
        "auto",
        "What the network is told: auto takes the second image of each item where the dataset has one, and else the "
        "edges; coarse is the picture with a quarter of its pixels a side.",
        title="Made from",
    )
    critic: float = knob(
        0.01,
        "Weight of the critic beside the plain difference: higher gives livelier pictures that may be wrong, 0 has no "
        "critic and averages what the condition leaves open.",
        title="Weight of the critic",
        ge=0,
        le=1,
    )
    gaps: float = knob(
        0.5,
        "Share of the training conditions of which a part is wiped out, so that an unfinished drawing is completed.",
        title="Wiped out in training",
        ge=0,
        le=1,
    )
    width: int = knob(
        16,
        "Channels at the full size of the picture; they double as it shrinks.",
        ge=8,
        le=256,
        advanced=True,
    )


class Pix2PixSampling(Config):
    """Nothing to choose: the same condition always gives the same image."""


CURVES = (
    Curve(
        "error",
        "Squared error",
        "Mean squared difference to the true image, of pixels in [0, 1]: lower is better. "
        + MEMORISES,
        position="first",
    ),
    Curve("difference", "Difference", "Mean absolute difference to the true image, of a pixel."),
    Curve(
        "critic_loss",
        "Players",
        "The critic tells true pairs from made ones; where its loss is near 0, it always can.",
        lines={"critic_loss": "critic", "generator_loss": "generator"},
    ),
)


class Pix2Pix(nn.Module):
    """A U-Net that fills in a condition, and a critic of patches; see :class:`core.models.Renders`."""

    kept: Tensor

    def __init__(self, config: Pix2PixConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec, self.classes = config, spec, 0
        self.batch = 32
        paired = config.condition == "auto" and spec.condition > 0
        self.told = spec.condition if paired else 0
        coarse = config.condition == "coarse"
        self.means = "second image" if paired else "coarse picture" if coarse else "edges"
        channels = self.told or (spec.channels if coarse else 1)
        self.generator = Translator(channels, spec.channels, spec.size, config.width)
        self.critic = PatchCritic(channels + spec.channels, config.width) if config.critic else None
        shape = (channels, spec.size, spec.size)
        count = max(16, min(1000, KEPT // (channels * spec.size**2)))
        # until conditions are kept: noise, so that samples differ
        self.register_buffer("kept", torch.randint(256, (count, *shape), dtype=torch.uint8))

    def groups(self) -> list[Group]:
        """Gives the critic, where there is one, and the generator."""
        groups = [Group("generator", list(self.generator.parameters()), 1e-3, 0.9, 0.99)]
        if self.critic is not None:
            groups.insert(0, Group("critic", list(self.critic.parameters()), 5e-4, 0.5, 0.99))
        return groups

    def hot(self) -> list[nn.Module]:
        """Lists what compiling speeds up."""
        return [self.generator, *([self.critic] if self.critic else [])]

    def losses(
        self, x: Images, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the critic's loss, then the generator's: the difference, and what the critic says ([1], eq. 4)."""
        told, x = self.condition(x), x[:, : self.spec.channels]
        told, real = self._wiped(told, generator) * 2 - 1, x * 2 - 1
        fake = self.generator(told)
        opinion = fake.new_zeros(())
        if self.critic is not None:
            both = torch.cat([torch.cat([told, real], 1), torch.cat([told, fake.detach()], 1)])
            d_real, d_fake = full(self.critic(both)).chunk(2)
            value = F.softplus(-d_real).mean() + F.softplus(d_fake).mean()  # [3], eq. 1
            yield Loss("critic", value, {"critic_loss": value.detach()})
            opinion = F.softplus(-full(self.critic(torch.cat([told, fake], 1)))).mean()
        difference = (full(fake) - real).abs().mean() / 2
        value = difference + self.config.critic * opinion
        error = (full(fake.detach()).clamp(-1, 1) - real).square().mean() / 4
        parts = {"error": error, "difference": difference.detach()}
        if self.critic is not None:
            parts |= {"generator_loss": opinion.detach()}
        yield Loss("generator", value, parts)

    def held_out(
        self, x: Images, y: Tensor | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Gives the differences between held-out images and what is made of their conditions."""
        made, real = self._filled(self.condition(x)), x[:, : self.spec.channels]
        return {
            "valid_error": (made - real).square().mean(),
            "valid_difference": (made - real).abs().mean(),
        }

    def condition(self, x: Images) -> Tensor:
        """Gives the conditions of real images, (N, C + told, H, W) to (N, K, H, W)."""
        if self.told:
            return x[:, self.spec.channels :]
        if self.means == "edges":
            return edges(x)
        small = F.avg_pool2d(pad(x, -(-x.shape[-1] // COARSE) * COARSE), COARSE)
        return crop(F.interpolate(small, scale_factor=COARSE), x.shape[-1])

    @torch.no_grad()
    def keep(self, x: Images) -> None:
        """Keeps conditions, evenly spread over the images; of too few some are kept twice."""
        told = self.condition(x)
        pick = torch.arange(len(self.kept), device=x.device)
        pick = (
            pick * len(told) // len(self.kept) if len(told) > len(self.kept) else pick % len(told)
        )
        self.kept.copy_((told[pick] * 255).round().to(torch.uint8))

    def conditions(self, ids: Ids, seed: int) -> Images:
        """Draws kept conditions, each with the same chance."""
        u = noise(seed, ids, (), "condition", uniform=True, device=self.kept.device)
        return to_float(self.kept[(u * len(self.kept)).long()])

    @torch.no_grad()
    def render(
        self, condition: Tensor, ids: Ids, y: Tensor | None, seed: int, sampling: Config
    ) -> Images:
        """Fills in conditions; nothing is drawn by chance."""
        return self._filled(condition)

    @torch.no_grad()
    def sample(self, ids: Ids, y: Tensor | None, seed: int, sampling: Config) -> Images:
        """Fills in conditions of held-out images, drawn by the ids."""
        return self.render(self.conditions(ids, seed), ids, y, seed, sampling)

    def _filled(self, condition: Tensor) -> Images:
        return full(self.generator(condition * 2 - 1)).add(1).div(2).clamp(0, 1)

    def _wiped(self, told: Images, generator: torch.Generator) -> Images:
        """Replaces a rectangle of some conditions by the value that is most usual in each, as of empty paper."""
        size = told.shape[-1]
        u = rows(torch.rand, (len(told), 5), generator=generator, device=told.device)
        pixels = (torch.arange(size, device=told.device) + 0.5) / size
        centre, half = u[:, :2, None], u[:, 2:4, None] / 2
        inside = (pixels - centre).abs() < half  # (N, 2, size)
        hole = (
            inside[:, 0, :, None] & inside[:, 1, None] & (u[:, 4] < self.config.gaps)[:, None, None]
        )
        paper = (
            told.flatten(2).median(2).values[:, :, None, None]
        )  # of each alone, whatever is beside it
        return torch.where(hole[:, None], paper, told)


class Convolutions(nn.Module):
    """Two convolutions with group normalisation [4], added to the input, whose channels may change."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(math.gcd(8, after), after)
        )
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.second(F.silu(self.first(x)))


class Translator(nn.Module):
    """Maps pictures to pictures through ever smaller ones, each of which is also handed across [2]."""

    def __init__(self, before: int, after: int, size: int, width: int) -> None:
        super().__init__()
        base, doublings = plan(size)
        self.inner, self.size = base * 2**doublings, size
        channels = widths(width, doublings + 1, most=8)
        self.first = nn.Conv2d(before, width, 3, padding=1)
        steps = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(Convolutions(a, b) for a, b in steps)
        self.middle = Convolutions(channels[-1], channels[-1])
        self.up = nn.ModuleList(Convolutions(a + b, b) for b, a in reversed(steps))
        self.last = nn.Conv2d(width, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(pad(x, self.inner))
        across = []
        for block in self.down:
            across.append(h)
            h = block(F.avg_pool2d(h, 2))
        h = self.middle(h)
        for block in self.up:
            h = block(torch.cat([F.interpolate(h, scale_factor=2), across.pop()], 1))
        return crop(self.last(F.silu(h)), self.size)  # (N, C, H, W)


class PatchCritic(nn.Sequential):
    """Gives a logit for each patch of pictures together with their conditions, (N, 1, h, w) ([1], section 3.2.2)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.GroupNorm(math.gcd(8, 2 * width), 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, padding=1),
        )


@families.add(
    "pix2pix",
    "Pix2pix (picture to picture)",
    Pix2PixConfig,
    sampling=Pix2PixSampling,
    curves=CURVES,
    presets={
        "quick": {"train.images": 25_600},
        "good": {"train.images": 200_000},
        "gpu": {"family.width": 32, "train.images": 2_000_000},
    },
    renders=True,
)
def build(config: Pix2PixConfig, spec: Spec) -> Pix2Pix:
    """Turns a sketch, or any second image of each item, into the picture; its samples are made of held-out ones."""
    return Pix2Pix(config, spec)
