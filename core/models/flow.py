"""Normalising flows: an invertible network between images and Gaussian noise, with an exact likelihood.

Reproduce: ``python -m core train --family flow --dataset digits --wait`` ends near 2.0 bits per dimension on held-out
digits within a minute on two cores (17 levels: a model that knows nothing has 4.09), with a Fréchet distance below 1.8
times that of real digits.

References (used throughout the code):
    [1] Dinh et al., 2017, Density estimation using Real NVP, https://arxiv.org/abs/1605.08803
    [2] Kingma and Dhariwal, 2018, Glow, https://arxiv.org/abs/1807.03039
    [3] Theis et al., 2016, A note on the evaluation of generative models, https://arxiv.org/abs/1511.01844
    [4] Huang et al., 2020, Augmented normalizing flows, https://arxiv.org/abs/2002.07101
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.catalog import Config, knob
from core.models import Curve, Spec, families
from core.nets import LabelEmbedding, crop, labels_for
from core.tensors import Group, Ids, Images, Loss, all_mean, noise, rows

# Of the logit transform ([1], section 4.1): keeps black and white away from infinity, yet leaves them room. A wider
# one makes spikes of them, which cost likelihood and show as grey dust in the samples; a narrower one long tails.
MARGIN = 0.005
MOST_SILENCED = 160  # units of 256

# of the two layers of hidden units of a coupling: which ones stay, and what these are multiplied by
Masks = tuple[Tensor, Tensor, Tensor]
Silence = Callable[[Sequence[int]], Masks]  # dropout: draws them for a shape


class FlowConfig(Config):
    """Parameters of a flow."""

    network: Literal["auto", "dense", "conv"] = knob(
        "auto",
        "Networks of the couplings; auto takes dense up to 16 px, and convolutions on several scales above.",
    )
    conditional: bool = knob(
        True,
        title="Learn the classes",
        help="Learns to make the class that you ask for, when the dataset has labels.",
    )
    steps: int = knob(
        8,
        "Couplings on each scale; each changes half of the numbers, knowing the other half.",
        title="Coupling steps",
        ge=1,
        le=64,
    )
    width: int = knob(
        0,
        "Width of the dense couplings; 0 takes 128 up to 8 px and 384 above.",
        ge=0,
        le=4096,
        advanced=True,
    )
    channels: int = knob(
        32, "Channels of the convolutional couplings.", ge=4, le=1024, advanced=True
    )
    gap: float = knob(
        0.25,
        "How much worse held-out images may be than training images before units are silenced at random (dropout), "
        "against learning images by heart.",
        title="Allowed gap to held-out images",
        unit="bits per dimension",
        ge=0,
        le=10,
        advanced=True,
    )
    weight_decay: float = knob(
        0.01, "Pull of the weights towards zero.", ge=0, le=10, log=True, advanced=True
    )


class FlowSampling(Config):
    """Choices when a flow draws images."""

    temperature: float = knob(
        0.9,
        "Spread of the noise: lower is more typical, higher more varied; 1 draws from the learnt density itself.",
        ge=0,
        le=1.5,
    )


CURVES = (
    Curve(
        "loss",
        "Loss",
        "Negative log-likelihood in nats per image; lower is better.",
        position="first",
    ),
    Curve(
        "bits_per_dim",
        "Bits per dimension",
        "How many bits a pixel costs under the model; lower is better. Held-out rising: the model memorises.",
    ),
    Curve(
        "dropout",
        "Dropout",
        "Rises while held-out images cost more than training images, and falls otherwise.",
        lines={"dropout": "share"},
        position="steering",
    ),
    Curve(
        "gap",
        "Held-out less training (bits)",
        "Bits per dimension that held-out images cost more than training images; the dropout keeps it small.",
        lines={"gap": "gap"},
    ),
)


class Flow(nn.Module):
    """Couplings between an image and noise of the same size; see :class:`core.models.GenerativeModel`.

    Dense couplings see all pixels. With ``conv`` the image is squeezed (2x2 pixels become 4 channels) and changed by
    convolutional couplings; half of its numbers are done then, and the other half goes on to the next scale, until
    8 px or less are left for dense couplings.
    """

    ready: Tensor
    silenced: Tensor

    def __init__(self, config: FlowConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.batch = 128
        self.classes = spec.classes if config.conditional else 0
        extra = 32 if self.classes else 0
        self.embed = LabelEmbedding(self.classes, extra) if self.classes else None
        conv = config.network == "conv" or (config.network == "auto" and spec.size > 16)
        halvings = max(1, math.ceil(math.log2(spec.size / 8))) if conv else 0
        side = self.inner = math.ceil(spec.size / 2**halvings) * 2**halvings
        channels = spec.channels
        shapes: list[tuple[int, ...]] = []
        for _ in range(halvings):
            channels, side = 4 * channels, side // 2  # squeezed
            shapes.append((channels, side, side))
            channels //= 2  # the other half is done
        shapes.append((channels * side**2,))
        tiny = not conv and spec.size <= 8
        width = config.width or (128 if tiny else 384)
        self.lr = 1e-3 if tiny else 2e-3
        self.scales = nn.ModuleList(
            nn.ModuleList(
                FlowStep(shape, config.channels if len(shape) > 1 else width, extra, seed)
                for seed in range(config.steps)
            )
            for shape in shapes
        )
        self.shapes = shapes
        self.register_buffer("ready", torch.tensor(False))
        self.register_buffer("silenced", torch.tensor(0, dtype=torch.uint8))  # units of 256
        self.started = False

    def groups(self) -> list[Group]:
        """Gives all parameters as one group."""
        decay = self.config.weight_decay
        return [Group("model", list(self.parameters()), self.lr, 0.9, 0.99, decay)]

    def hot(self) -> list[nn.Module]:
        """Lists what compiling speeds up."""
        return [step for steps in self.scales for step in steps]  # type: ignore[attr-defined]

    def losses(
        self, x: Images, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the negative log-likelihood of (N, C, H, W) in nats per image; the first batch sets all scales [2]."""
        if not self.started:  # reading `ready` of a GPU forces a synchronisation, so only once
            if not self.ready:
                with torch.no_grad():
                    self._log_prob(x, y, generator, first=True)
                self.ready.fill_(True)
            self.started = True
        log_prob = self._log_prob(x, y, generator, self._silence(generator))
        value = -log_prob.mean()
        parts = {"loss": value.detach(), "bits_per_dim": value.detach() / self._nats_per_bit}
        yield Loss("model", value, parts, each=lambda: -log_prob)

    def adapt(
        self,
        x: Images,
        y: Tensor | None,
        valid_x: Images,
        valid_y: Tensor | None,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Silences more units where held-out images are less probable than training images, and fewer where not.

        Args:
            x, y: Training images (N, C, H, W) in [0, 1], and their labels (N,), if any.
            valid_x, valid_y: As many held-out ones.
            generator: Of the dequantisation.
        """
        train = self.log_prob(x, y, generator).mean()
        valid = self.log_prob(valid_x, valid_y, generator).mean()
        gap = all_mean(train - valid) / self._nats_per_bit
        more = torch.where(gap > self.config.gap, 4, -4)
        self.silenced.copy_((self.silenced + more).clamp(0, MOST_SILENCED))
        return {"dropout": self.silenced / 256, "gap": gap}

    def _silence(self, generator: torch.Generator) -> Silence:
        """Makes the dropout of one step; bytes are drawn several times faster than floats."""
        options = {"generator": generator, "device": self.silenced.device, "dtype": torch.uint8}
        draw = partial(rows, partial(torch.randint, 0, 256), **options)

        def silence(shape: Sequence[int]) -> Masks:
            inner, outer = (draw(shape) >= self.silenced for _ in range(2))
            return inner, outer, 256 / (256 - self.silenced.float())

        return silence

    def held_out(
        self, x: Images, y: Tensor | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Gives the negative log-likelihood of images (N, C, H, W) in bits per dimension.

        By as much as it lies above that of training images, these were learnt by heart.
        """
        return {"valid_bits_per_dim": -self.log_prob(x, y, generator).mean() / self._nats_per_bit}

    def log_prob(self, x: Images, y: Tensor | None, generator: torch.Generator) -> Tensor:
        """Bounds the log-probability of images of ``spec.levels`` levels in nats, (N,)."""
        return self._log_prob(x, y, generator)

    @property
    def _nats_per_bit(self) -> float:
        """Nats of an image that make one bit per dimension."""
        return self.spec.channels * self.spec.size**2 * math.log(2)

    def _log_prob(
        self,
        x: Tensor,
        y: Tensor | None,
        generator: torch.Generator,
        silence: Silence | None = None,
        first: bool = False,
    ) -> Tensor:
        levels = self.spec.levels
        # a level is a cell of width 1 / levels, spread evenly over it [3]
        u = rows(torch.rand, x.shape, generator=generator, device=x.device)
        v = self._framed((x * (levels - 1) + u) / levels, generator)
        z, log_det = self.forward(v, y, silence, first)
        log_normal = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
        return log_normal + log_det - x[0].numel() * math.log(levels)

    def _framed(self, v: Tensor, generator: torch.Generator | None) -> Tensor:
        """Puts images into the middle of ``inner`` px; the frame is uniform noise, whose density is 1 [4]."""
        if self.inner == self.spec.size:
            return v
        shape = (*v.shape[:2], self.inner, self.inner)
        if generator is None:
            frame = v.new_full(shape, 0.5)
        else:
            frame = rows(torch.rand, shape, generator=generator, device=v.device, dtype=v.dtype)
        crop(frame, self.spec.size).copy_(v)
        return frame

    def forward(
        self,
        v: Tensor,
        y: Tensor | None,
        silence: Silence | None = None,
        first: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Maps points of (0, 1), (N, C, inner, inner), to noise (N, D), with the log-determinant of the Jacobian (N,).

        Args:
            v: Dequantised images.
            y: Labels (N,) or shares (N, K).
            silence: Of the couplings' hidden units.
            first: Sets the scales of every step from these images.
        """
        e = self._embedded(y)
        p = MARGIN + (1 - 2 * MARGIN) * v
        h = torch.log(p) - torch.log1p(-p)
        log_det = (math.log(1 - 2 * MARGIN) - torch.log(p) - torch.log1p(-p)).flatten(1).sum(1)
        parts: list[Tensor] = []
        for shape, steps in zip(self.shapes, self.scales, strict=True):
            # (N, C, H, W) -> (N, 4C, H/2, W/2), or (N, D) for dense couplings
            h = F.pixel_unshuffle(h, 2) if len(shape) > 1 else h.flatten(1)
            for step in steps:  # type: ignore[attr-defined]
                if first:
                    step.fit(h)
                h, change = step(h, e, silence(step.hidden(h)) if silence else None)
                log_det = log_det + change
            if len(shape) > 1:
                h, done = h.chunk(2, 1)  # each (N, 2C, H/2, W/2)
                parts.append(done.flatten(1))
        return torch.cat([*parts, h], 1), log_det

    def _embedded(self, y: Tensor | None) -> Tensor | None:
        return None if self.embed is None or y is None else self.embed(y)

    def inverse(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Maps noise (N, D) back to points of (0, 1), (N, C, inner, inner), or a little outside."""
        *_, (_, v) = self._undone(z, y)
        return v

    def unroll(self, z: Tensor, y: Tensor | None) -> Iterator[tuple[str, Images]]:
        """Yields the images (N, C, H, W) that noise (N, D) would be if no more steps were undone, from none to all."""
        for name, v in self._undone(z, y, shown=True):
            yield name, self._seen(v)

    def _undone(
        self, z: Tensor, y: Tensor | None, shown: bool = False
    ) -> Iterator[tuple[str, Tensor]]:
        """Undoes step after step; yields the points of (0, 1) at the end or, ``shown``, after each step as well."""
        e = self._embedded(y)
        sizes = [math.prod(shape) // 2 for shape in self.shapes[:-1]]
        *parts, h = z.split([*sizes, z.shape[1] - sum(sizes)], 1)
        if shown:
            yield "noise", self._unfolded(h, parts, len(self.shapes) - 1)
        for scale in reversed(range(len(self.shapes))):
            shape, steps = self.shapes[scale], self.scales[scale]
            if len(shape) > 1:
                h = h.view(-1, shape[0] // 2, *shape[1:])
                h = torch.cat([h, parts.pop().view(h.shape)], 1)
            for number in reversed(range(len(steps))):  # type: ignore[arg-type]
                h = steps[number].inverse(h, e)  # type: ignore[index]
                if shown and (scale or number):
                    name = f"scale {scale + 1}, step {number + 1}"
                    yield name, self._unfolded(h, parts, scale, joined=True)
            h = F.pixel_shuffle(h, 2) if len(shape) > 1 else h
        yield "image", self._unfolded(h, [], -1)

    def _unfolded(
        self, h: Tensor, parts: Sequence[Tensor], scale: int, joined: bool = False
    ) -> Tensor:
        """Brings numbers from within a scale to their places in the image, without undoing any more steps."""
        parts = list(parts)
        for shape in reversed(self.shapes[: scale + 1]):
            if len(shape) > 1:
                if not joined:
                    h = h.reshape(-1, shape[0] // 2, *shape[1:])
                    h = torch.cat([h, parts.pop().view(h.shape)], 1)
                h = F.pixel_shuffle(h, 2)
            joined = False
        p = torch.sigmoid(h).view(-1, self.spec.channels, self.inner, self.inner)
        return (p - MARGIN) / (1 - 2 * MARGIN)

    def encode(self, x: Images, y: Tensor | None, sampling: Config) -> Tensor:
        """Finds the noise of the middle of the levels of an image, (N, D)."""
        levels = self.spec.levels
        v = self._framed((x * (levels - 1) + 0.5) / levels, None)
        return self.forward(v, y)[0]

    def decode(self, z: Tensor, y: Tensor | None, sampling: Config) -> Images:
        """Runs the flow backwards, from noise (N, D) to images (N, C, H, W)."""
        return self._seen(self.inverse(z, y))

    def _seen(self, v: Tensor) -> Images:
        levels = self.spec.levels
        v = crop(v, self.spec.size)
        return ((v * levels - 0.5) / (levels - 1)).clamp(0, 1)

    def latent(self, ids: Ids, seed: int, sampling: FlowSampling) -> Tensor:
        """Draws standard normal noise, scaled by the temperature, (N, D)."""
        count = self.spec.channels * self.inner**2
        z = noise(seed, ids, (count,), "latent", device=self.ready.device)
        return z * sampling.temperature

    @torch.no_grad()
    def sample(self, ids: Ids, y: Tensor | None, seed: int, sampling: FlowSampling) -> Images:
        """Makes the images with these ids of this seed, (N, C, H, W) in [0, 1]."""
        y = labels_for(self, ids, y, seed)
        return self.decode(self.latent(ids, seed, sampling), y, sampling)


class FlowStep(nn.Module):
    """Normalises, mixes, and changes one half of the numbers, knowing the other ([2], figure 2).

    The half that is changed comes last: where a scale ends it is the half that is done, and the other goes on.
    """

    centre: Tensor
    spread: Tensor
    order: Tensor
    back: Tensor

    def __init__(self, shape: tuple[int, ...], width: int, extra: int, seed: int) -> None:
        super().__init__()
        count, ones = shape[0], (1,) * (len(shape) - 1)
        self.pixels = math.prod(shape[1:])
        # what the first batch decides are buffers, so that the averaged weights have them at once
        self.register_buffer("centre", torch.zeros(count, *ones))
        self.register_buffer("spread", torch.ones(count, *ones))
        self.log_scale = nn.Parameter(torch.zeros(count, *ones))
        self.shift = nn.Parameter(torch.zeros(count, *ones))
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("order", order)
        self.register_buffer("back", order.argsort())
        self.known, self.changed = count // 2, count - count // 2
        self.net = CouplingNet(self.known, width, 2 * self.changed, extra, len(shape) > 1)

    @torch.no_grad()
    def fit(self, h: Tensor) -> None:
        """Sets centre and spread so that these inputs (N, C, …) leave the normalisation with mean 0 and variance 1."""
        axes = [axis for axis in range(h.ndim) if axis != 1]
        self.centre.copy_(all_mean(h.mean(axes)).view_as(self.centre))
        squares = (h - self.centre).square()
        self.spread.copy_(all_mean(squares.mean(axes)).sqrt().clamp_min(1e-3).view_as(self.spread))

    def hidden(self, h: Tensor) -> tuple[int, ...]:
        """Gives the shape of each of the two layers of hidden units of its coupling, for inputs (N, C, …)."""
        return len(h), self.net.width, *h.shape[2:]

    def forward(self, h: Tensor, e: Tensor | None, masks: Masks | None) -> tuple[Tensor, Tensor]:
        """Gives the changed numbers, and the log-determinant of the change, (N,)."""
        h = (h - self.centre) / self.spread * self.log_scale.exp() + self.shift
        h = h.index_select(1, self.order)
        known, rest = h.split([self.known, self.changed], 1)
        log_scale, shift = self._coupling(known, e, masks)
        rest = (rest + shift) * log_scale.exp()
        constant = self.pixels * (self.log_scale - self.spread.log()).sum()
        log_det = log_scale.flatten(1).sum(1) + constant
        return torch.cat([known, rest], 1), log_det

    def inverse(self, h: Tensor, e: Tensor | None) -> Tensor:
        """Undoes the step; (N, C, …) to the same."""
        known, rest = h.split([self.known, self.changed], 1)
        log_scale, shift = self._coupling(known, e, None)
        h = torch.cat([known, rest * (-log_scale).exp() - shift], 1).index_select(1, self.back)
        return (h - self.shift) * (-self.log_scale).exp() * self.spread + self.centre

    def _coupling(
        self, known: Tensor, e: Tensor | None, masks: Masks | None
    ) -> tuple[Tensor, Tensor]:
        raw, shift = self.net(known, e, masks).chunk(2, 1)
        return 2 * torch.tanh(raw / 2), shift  # bounded: a saturated scale makes infinite samples


class CouplingNet(nn.Module):
    """Gives log-scale and shift of one half from the other half and the class; zeros before it has learned."""

    def __init__(self, inputs: int, width: int, outputs: int, extra: int, conv: bool) -> None:
        super().__init__()

        def layer(before: int, after: int, size: int) -> nn.Module:
            if conv:
                return nn.Conv2d(before, after, size, padding=size // 2)
            return nn.Linear(before, after)

        self.width = width
        self.first = layer(inputs, width, 3)
        self.label = nn.Linear(extra, width, bias=False) if extra else None
        self.middle = nn.ModuleList([layer(width, width, 1), layer(width, width, 1)])
        self.last = layer(width, outputs, 3)
        for param in self.last.parameters():
            nn.init.zeros_(param)

    def forward(self, known: Tensor, e: Tensor | None, masks: Masks | None) -> Tensor:
        h = self.first(known)
        if self.label is not None and e is not None:
            h = h + self.label(e).view(*h.shape[:2], *(1,) * (h.ndim - 2))
        first, second = self.middle
        inside = F.leaky_relu(first(F.leaky_relu(h, 0.2)), 0.2)
        if masks is not None:
            inside = inside * masks[0] * masks[2]
        h = F.leaky_relu(h + second(inside), 0.2)
        if masks is not None:
            h = h * masks[1] * masks[2]
        # in full precision: the likelihood sums the logarithms of these scales
        with torch.autocast(h.device.type, enabled=False):
            return self.last(h.to(known.dtype))


@families.add(
    "flow",
    "Flow (exact likelihood)",
    FlowConfig,
    sampling=FlowSampling,
    curves=CURVES,
    presets={
        "quick": {"train.images": 200_000},
        "good": {"train.images": 2_000_000, "family.width": 256},
        "gpu": {
            "train.images": 10_000_000,
            "train.batch": 256,
            "family.width": 1024,
            "family.channels": 128,
            "family.steps": 16,
        },
    },
)
def build(config: FlowConfig, spec: Spec) -> Flow:
    """Bends Gaussian noise into images, step by invertible step: an exact likelihood, exact latents, fast samples."""
    return Flow(config, spec)
