"""Flow matching and diffusion: a network that turns noise into images in small steps.

Everything lives on the straight path ``x_t = (1 - t) noise + t data`` from noise (t = 0) to data (t = 1), and the
network predicts its velocity ``data - noise``. Flow matching [1, 2] and the denoising diffusion of Karras et al. [3]
are two ways to train it: ``x_t / t`` is data with noise of level ``sigma = (1 - t) / t``, so [3] scales what goes in
and out of the same network, and a log-normal sigma is a logit-normal t with another mean. Samplers, paths, encodings
and likelihoods need the velocity alone and are shared.

Reproduce: ``python -m benchmarks.quality --data digits --family diffusion`` ends, after some 7 CPU-seconds of
training, at a Fréchet distance of about 1.3 times that of real test images (1.2 to 1.4 over three seeds), with 59 % of
the samples nearer to the training images than to held-out ones (real ones: 57 %) and 99.8 % of the asked classes.
Trained longer or wider it copies so small a set: 69 % after 600 000 images at width 48; ``valid_loss`` does not tell.

References (used throughout the code):
    [1] Lipman et al., 2022, Flow matching for generative modeling, https://arxiv.org/abs/2210.02747
    [2] Esser et al., 2024, Scaling rectified flow transformers (logit-normal t), https://arxiv.org/abs/2403.03206
    [3] Karras et al., 2022, Elucidating the design space of diffusion models, https://arxiv.org/abs/2206.00364
    [4] Ho and Salimans, 2022, Classifier-free diffusion guidance, https://arxiv.org/abs/2207.12598
    [5] Grathwohl et al., 2018, FFJORD (likelihood with a random trace), https://arxiv.org/abs/1810.01367
    [6] Perez et al., 2017, FiLM, https://arxiv.org/abs/1709.07871
    [7] Trippe et al., 2022, Diffusion probabilistic modeling of protein backbones in 3D for the motif-scaffolding
        problem (SMCDiff), https://arxiv.org/abs/2206.04119
    [8] Lugmayr et al., 2022, RePaint: inpainting using denoising diffusion probabilistic models,
        https://arxiv.org/abs/2201.09865
    [9] Ho et al., 2020, Denoising diffusion probabilistic models, https://arxiv.org/abs/2006.11239
    [10] Pan et al., 2023, Effective real image editing with accelerated iterative diffusion inversion (AIDI),
        https://arxiv.org/abs/2309.04907
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.catalog import Config, knob
from core.models import MEMORISES, Curve, Spec, dense, families
from core.nets import LabelEmbedding, crop, labels_for, pad, plan
from core.tensors import Batch, Group, Ids, Loss, noise, rows

# mean and spread of logit t; [2] and [3], table 1: -log sigma
TIMES = {"flow": (0.0, 1.0), "denoising": (1.2, 1.2)}
SIGMA_DATA = 0.5  # [3]
DROP = 0.1  # share of images whose class the network is not told [4]
CHURN = 10.0  # noise that the stochastic sampler renews over a whole path, S_churn of [3]
ROUNDS = 8  # in which the state before an Euler step is looked for
STILL = 1e-6  # mean square by which a step may miss its end, of a range of 2
NARROWEST = 0.05  # smallest standard deviation by which particles are weighed, of a range of 2
CODE = 128  # numbers that tell the network time and class

Field = Callable[[Tensor, float], Tensor]  # a velocity at states and a time
Renewal = Callable[[Tensor, float, int], tuple[Tensor, float]]  # states, time, step: to new ones


class DiffusionConfig(Config):
    """Parameters of a diffusion model."""

    objective: Literal["flow", "denoising"] = knob(
        "flow",
        "What is learned: the direction from noise to image (flow matching), or the clean image (denoising).",
    )
    network: Literal["auto", "dense", "unet"] = knob(
        "auto",
        "Network that removes the noise; auto takes dense at 8 px and for vectors, unet above.",
    )
    conditional: bool = knob(
        True,
        title="Learn the classes",
        help="Learns to make the class that you ask for, when the dataset has labels.",
    )
    width: int = knob(
        32,
        "Channels of the unet at its largest grid; the dense network is four times as wide.",
        ge=4,
        le=512,
        advanced=True,
    )
    depth: int = knob(
        1,
        "Residual blocks of the unet at each grid, down and up; the dense network has two for each.",
        ge=1,
        le=8,
        advanced=True,
    )


class DiffusionSampling(Config):
    """Choices when a diffusion model draws images."""

    steps: int = knob(
        20,
        "Steps from noise to image: more are slower and more exact.",
        ge=1,
        le=1000,
        log=True,
        visitor=50,
    )
    guidance: float = knob(
        1.75,
        "Pull towards the class that you ask for: 0 ignores it, 1 draws what was learned, more is more typical.",
        title="Guidance strength",
        ge=0,
        le=10,
    )
    sampler: Literal["heun", "euler", "stochastic"] = knob(
        "heun",
        "Euler looks once per step, Heun twice; stochastic is Heun that renews some noise before each step.",
    )


CURVES = (
    Curve(
        "loss",
        "Loss",
        "Squared error of the direction from noise to image, per number; lower is better. "
        + MEMORISES,
        position="first",
    ),
)


class Diffusion(nn.Module):
    """A velocity field that carries noise to images; see :class:`core.models.GenerativeModel`."""

    exact = 64  # values of an item up to which a divergence is computed, not estimated

    def __init__(self, config: DiffusionConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.shape = spec.shape
        self.dim = math.prod(self.shape)
        self.classes = spec.classes if config.conditional else 0
        flat = dense(config.network, spec)
        self.batch = 128
        self.lr = 1.25e-3 if flat else 2e-3
        self.code = Code(self.classes)
        if flat:
            self.net: nn.Module = Dense(self.dim, config.width, config.depth)
        else:
            self.net = UNet(spec.channels, spec.size, config.width, config.depth)

    def groups(self) -> list[Group]:
        """Gives all parameters as one group."""
        return [Group("model", list(self.parameters()), lr=self.lr, weight_decay=1e-2)]

    def velocity(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """Expects ``data - noise`` for images on the path.

        Args:
            x: Images on the path, centred, (N, …).
            t: Times, 0 is noise and 1 is data, (N,).
            y: Labels (N,), or shares of classes (N, K); None for any class.
            keep: False for an image whose label is to be ignored, (N,).
        """
        skip, out, inner, level = precondition(self.config.objective, t)  # each (N,)
        raw = self.net(x * wide(inner, x), self.code(level, y, keep)).to(x.dtype)
        return wide(skip, x) * x + wide(out, x) * raw

    def hot(self) -> list[nn.Module]:
        """Lists what compiling speeds up."""
        return [self.code, self.net]

    def losses(
        self, x: Batch, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the weighted squared error of the velocity at random times; labels (N,), some hidden [4]."""
        mean, std = TIMES[self.config.objective]
        draw = partial(rows, generator=generator, device=x.device)
        t = torch.sigmoid(mean + std * draw(torch.randn, (len(x),)))
        start = draw(torch.randn, x.shape)
        keep = draw(torch.rand, (len(x),)) >= DROP
        errors = self._errors(x * 2 - 1, start, t, y, keep)
        value = errors.mean()
        yield Loss("model", value, {"loss": value.detach()}, each=lambda: errors)

    def _errors(
        self, data: Tensor, start: Tensor, t: Tensor, y: Tensor | None, keep: Tensor | None
    ) -> Tensor:
        """Gives the weighted squared error per image, (N,)."""
        x = torch.lerp(start, data, wide(t, data))
        error = (self.velocity(x, t, y, keep) - (data - start)).square().flatten(1).mean(1)
        return error / precondition(self.config.objective, t).out ** 2

    def held_out(self, x: Batch, y: Tensor | None, generator: torch.Generator) -> dict[str, Tensor]:
        """Gives the loss of images (N, …) at eight fixed times, the octiles of the training's."""
        mean, std = TIMES[self.config.objective]
        octile = (torch.arange(len(x), device=x.device) % 8 + 0.5) / 8  # (N,)
        t = torch.sigmoid(mean + std * torch.special.ndtri(octile))
        start = torch.randn(x.shape, generator=generator, device=x.device)
        return {"valid_loss": self._errors(x * 2 - 1, start, t, y, None).mean()}

    # --- from noise to images and back --------------------------------------------------------------------------

    def latent(self, ids: Ids, seed: int, sampling: DiffusionSampling) -> Tensor:
        """Draws the noise that a path starts from, (N, D)."""
        return noise(seed, ids, (self.dim,), "latent", device=next(self.parameters()).device)

    def decode(self, z: Tensor, y: Tensor | None, sampling: DiffusionSampling) -> Batch:
        """Follows the path from noise (N, D) to images (N, …); no sampler adds fresh noise here."""
        *_, (x, _) = self._path(z, y, sampling)
        return to_images(x)

    def encode(self, x: Batch, y: Tensor | None, sampling: DiffusionSampling) -> Tensor:
        """Follows the path backwards, from images to the noise (N, D) that :meth:`decode` makes them of.

        Heun's steps lead back along the same path; Euler's do not, and are inverted one by one.
        """
        if sampling.sampler == "euler":
            times = torch.linspace(0, 1, sampling.steps + 1).tolist()
            return undo(self._field(y, sampling.guidance), x * 2 - 1, times).flatten(1)
        *_, (z, _) = self._path(x * 2 - 1, y, sampling, ends=(1, 0))
        return z.flatten(1)

    def purify(self, x: Batch, noise: float, steps: int, generator: torch.Generator) -> Batch:
        """Adds noise to images, and follows Euler's path back from there, of no class in particular."""
        start = 1 - noise
        fresh = torch.randn(x.shape, generator=generator, device=x.device)
        state = start * (x * 2 - 1) + (1 - start) * fresh
        for step in range(steps):
            t = state.new_full((len(x),), start + (1 - start) * step / steps)
            state = state + (1 - start) / steps * self.velocity(state, t)
        return to_images(state)

    def trace(
        self, ids: Ids, y: Tensor | None, seed: int, sampling: DiffusionSampling
    ) -> Iterator[Batch]:
        """Yields the images (N, …) expected after every step of :meth:`sample`; the last ones are the samples."""
        for _, clean in self._drawing(ids, y, seed, sampling):
            yield to_images(clean)

    def states(
        self, ids: Ids, y: Tensor | None, seed: int, sampling: DiffusionSampling
    ) -> Iterator[tuple[float, Batch, Batch]]:
        """Yields time, the noisy and the expected images (N, …), from the start of :meth:`sample` on."""
        z = self.latent(ids, seed, sampling).view(-1, *self.shape)
        with torch.no_grad():
            clean = z + self._field(labels_for(self, ids, y, seed), sampling.guidance)(z, 0.0)
        yield 0.0, to_images(z), to_images(clean)
        for step, (x, clean) in enumerate(self._drawing(ids, y, seed, sampling), start=1):
            yield step / sampling.steps, to_images(x), to_images(clean)

    def _drawing(
        self, ids: Ids, y: Tensor | None, seed: int, sampling: DiffusionSampling
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields state and expected end after every step of sampling, both centred."""

        def renew(x: Tensor, t: float, step: int) -> tuple[Tensor, float]:
            fresh = noise(seed, ids, self.shape, f"step {step}", device=x.device)
            return churn(x, t, fresh, sampling.steps)

        z, y = self.latent(ids, seed, sampling), labels_for(self, ids, y, seed)
        path = self._path(z, y, sampling, renew=renew if sampling.sampler == "stochastic" else None)
        while True:
            with torch.no_grad():  # and not around the yield, where the caller may want gradients
                state = next(path, None)
            if state is None:
                return
            yield state

    def sample(self, ids: Ids, y: Tensor | None, seed: int, sampling: DiffusionSampling) -> Batch:
        """Makes the images with these ids of this seed, (N, …) in [0, 1]."""
        *_, last = self.trace(ids, y, seed, sampling)
        return last

    def _path(
        self,
        x: Tensor,
        y: Tensor | None,
        sampling: DiffusionSampling,
        ends: tuple[float, float] = (0, 1),
        renew: Renewal | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        times = torch.linspace(*ends, sampling.steps + 1).tolist()
        field = self._field(y, sampling.guidance)
        return solve(field, x.view(-1, *self.shape), times, sampling.sampler != "euler", renew)

    def _field(self, y: Tensor | None, guidance: float) -> Field:
        """Gives the velocity field of a class, guided [4]: the class's and any class's in one batch."""

        def field(x: Tensor, t: float) -> Tensor:
            if y is None or not self.classes or guidance == 1:
                return self.velocity(x, x.new_full((len(x),), t), y)
            x, y2 = torch.cat([x, x]), torch.cat([y, y])  # (2N, …): of the class, then of any
            keep = torch.arange(len(x), device=x.device) < len(x) // 2
            v, v_any = self.velocity(x, x.new_full((len(x),), t), y2, keep).chunk(2)
            return torch.lerp(v_any, v, guidance)

        return field

    # --- repair -------------------------------------------------------------------------------------------------

    def repair(
        self,
        x: Batch,
        part: Callable[[Tensor], Tensor],
        ids: Ids,
        y: Tensor | None,
        seed: int,
        sampling: DiffusionSampling,
        quick: bool = False,
    ) -> Iterator[Batch]:
        """Yields fills (N, …) of what is not known of an item; see :class:`core.models.Repairs`.

        Each fill is one of a population of particles [7], which draws are resampled by how well they lead to what is
        known, with noise of its level; where no class is told, every class has particles. The preview is RePaint [8].
        """
        known = part(x * 2 - 1)  # (1, …)
        if quick:
            path = self._repainted(known, part, ids, y, seed)
        else:
            path = self._particles(known, part, ids, y, seed, sampling.steps)
        while True:
            with torch.no_grad():
                clean = next(path, None)
            if clean is None:
                return
            yield to_images(clean)

    def _particles(
        self,
        known: Tensor,
        part: Callable[[Tensor], Tensor],
        ids: Ids,
        y: Tensor | None,
        seed: int,
        steps: int,
    ) -> Iterator[Tensor]:
        """Yields the first particle of each fill, centred, as it is expected after every step; [7], algorithm 2."""
        count, n, device = particles(self.dim), len(ids), known.device
        rows = torch.arange(n, device=device)[:, None]
        fresh = partial(noise, seed, ids, device=device)  # a shape and a stream: (N, *shape)
        lots = fresh((steps + 1,), "repair choice", uniform=True)  # (N, steps + 1)
        if y is not None:
            y = y.repeat_interleave(count, 0)  # (N P,)
        elif self.classes:  # each class has its share of the particles
            place = torch.arange(count, device=device) + lots[:, -1:]
            edges = torch.tensor(self.spec.shares, device=device).cumsum(0)[:-1]
            y = torch.bucketize(place.flatten() / count, edges)
        field = self._field(y, 1.0)  # unguided, so that fills are as varied as what was learned
        # of each step the first is for what is known on its way from noise, the others for the particles
        draw = fresh((1 + count, *self.shape), "repair start")
        noisy, state = draw.split([1, count], 1)  # (N, 1, …), (N, P, …)
        state = state + each(part, noisy - state)
        times = torch.linspace(0, 1, steps + 1).tolist()
        for step, (t, after) in enumerate(itertools.pairwise(times)):
            clean = state + (1 - t) * field(state.flatten(0, 1), t).view_as(state)
            mean, spread = ancestral(state, clean, t, after)
            noisy, _ = ancestral(noisy, known[:, None], t, after)
            if after < 1:
                draw = spread * fresh((1 + count, *self.shape), f"repair step {step}")
                noisy, state = noisy + draw[:, :1], mean + draw[:, 1:]
            else:
                state = mean
            off = each(part, noisy - mean).square().flatten(2).sum(2)  # (N, P)
            chance = (-off / (2 * max(spread, NARROWEST) ** 2)).softmax(1)
            kept = resampled(chance, lots[:, step])
            state = (state + each(part, noisy - state))[rows, kept]
            if y is not None:
                y = y.view(n, count).gather(1, kept).flatten()
                field = self._field(y, 1.0)
            yield clean[rows[:, 0], kept[:, 0]]

    def _repainted(
        self,
        known: Tensor,
        part: Callable[[Tensor], Tensor],
        ids: Ids,
        y: Tensor | None,
        seed: int,
    ) -> Iterator[Tensor]:
        """Yields fills, centred, as they are expected after every step; [8], algorithm 1."""
        steps, turns = repainting(self.dim)
        field = self._field(y, 1.0)
        state = noise(seed, ids, self.shape, "repaint start", device=known.device)  # (N, …)
        times = torch.linspace(0, 1, steps + 1).tolist()
        for step, (t, after) in enumerate(itertools.pairwise(times)):
            every = (turns, 3, *self.shape)
            fresh = noise(seed, ids, every, f"repaint {step}", device=known.device)
            for turn in range(turns if step else 1):
                back, hidden, jump = fresh[:, turn].unbind(1)  # each (N, …)
                if turn:  # to the earlier time again, so that the rest can follow what is known
                    ratio = t / after
                    lost = math.sqrt((1 - t) ** 2 - (ratio * (1 - after)) ** 2)
                    state = ratio * state + lost * back
                state = state + part(torch.lerp(hidden, known, t) - state)
                clean = state + (1 - t) * field(state, t)
                mean, spread = ancestral(state, clean, t, after)
                state = mean + spread * jump
            yield clean

    # --- likelihood ---------------------------------------------------------------------------------------------

    def log_prob(self, x: Batch, y: Tensor | None, generator: torch.Generator) -> Tensor:
        """Estimates a lower bound of the log-probability of the levels in nats, (N,), without guidance.

        The probability-flow ODE, 32 Heun steps; the divergence is exact up to ``exact`` values per image and else
        estimated with 4 random probes [5]. Level k stands for the interval of one level around its value.
        """
        level = 1 / (self.spec.levels - 1)
        x = x + level * (torch.rand(x.shape, generator=generator, device=x.device) - 0.5)
        if self.dim <= self.exact:
            probes = torch.eye(self.dim, device=x.device).view(-1, 1, *self.shape)  # (D, 1, …)
            share = 1.0
        else:
            flips = torch.randint(2, (4, *x.shape), generator=generator, device=x.device)
            probes, share = flips * 2.0 - 1, 1 / 4  # (4, N, …)
        with torch.autocast(x.device.type, enabled=False):
            density = log_density(self._field(y, 1.0), x.float() * 2 - 1, probes, share, steps=32)
        return density + self.dim * math.log(2 * level)  # the width of a level between -1 and 1


def particles(dim: int) -> int:
    """Chooses how many particles a fill has: fewer of large images, whose passes take longer.

    >>> [particles(dim) for dim in (8 * 8, 28 * 28, 3 * 32 * 32)]
    [128, 25, 16]
    """
    return min(128, max(16, 20_000 // dim))


def repainting(dim: int) -> tuple[int, int]:
    """Chooses the steps of a preview, and how often each is done: fewer for images that take longer."""
    return (20, 5) if dim <= 64 else (8, 2)


def ancestral(state: Tensor, clean: Tensor, t: float, after: float) -> tuple[Tensor, float]:
    """Gives mean and standard deviation of a state at a later time, from a state and the data that it leads to.

    The posterior of the path's own noise ([9], eq. 7, at ``alpha = t`` and ``sigma = 1 - t``).
    """
    ratio, left = t / after, ((1 - after) / (1 - t)) ** 2
    lost = (1 - t) ** 2 - (
        ratio * (1 - after)
    ) ** 2  # variance that the way back from later to now adds
    return after * clean + ratio * left * (state - t * clean), math.sqrt(max(0.0, left * lost))


def resampled(chance: Tensor, u: Tensor) -> Tensor:
    """Draws as many particles as there are, by systematic resampling.

    Args:
        chance: Of each, (N, P), with a sum of 1.
        u: Uniform on (0, 1), (N,).

    Returns:
        Their places, (N, P), turned so that the first is any of them with its chance.
    """
    count = chance.shape[1]
    place = torch.arange(count, device=chance.device) / count + u[:, None]
    return torch.searchsorted(chance.cumsum(1), place % 1).clamp_max(count - 1)


def each(part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a linear function of items (N, …) to populations of them, (N, P, …)."""
    return part(x.flatten(0, 1)).view_as(x)


class Precondition(NamedTuple):
    """How a network sits in its velocity: ``v = skip x + out net(inner x, level)``; each (N,)."""

    skip: Tensor
    out: Tensor
    inner: Tensor
    level: Tensor


def precondition(objective: str, t: Tensor) -> Precondition:
    """Scales what goes in and out of the network at times t (N,).

    ``denoising`` is [3], table 1, said about the velocity ``(D - x) / (1 - t)`` of the denoiser
    ``D = c_skip x/t + c_out net(c_in x/t, c_noise)`` with sigma = (1 - t) / t: a form without a pole at either end.
    Its skip is the velocity for Gaussian data of standard deviation SIGMA_DATA.
    """
    if objective == "flow":
        return Precondition(torch.zeros_like(t), torch.ones_like(t), torch.ones_like(t), t)
    square = (1 - t) ** 2 + (SIGMA_DATA * t) ** 2
    sigma = ((1 - t) / t.clamp_min(1e-6)).clamp(0.002, 80)  # what [3] ever shows to a network
    return Precondition(
        skip=(SIGMA_DATA**2 * t - (1 - t)) / square,
        out=SIGMA_DATA / square.sqrt(),
        inner=square.rsqrt(),
        level=sigma.log() / 4,
    )


def solve(
    field: Field,
    x: Tensor,
    times: Sequence[float],
    heun: bool,
    renew: Renewal | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Follows a velocity field from the first time to the last; yields state and expected end after each step.

    Args:
        field: Velocity at a state and a time.
        x: The state at the first time, (N, …).
        times: Of the steps' ends, in either direction.
        heun: Averages the velocities at both ends of a step (order 2), instead of Euler's first one (order 1).
        renew: Exchanges noise before a step: gives the new state and its time.
    """
    for step, (t, after) in enumerate(itertools.pairwise(times)):
        if renew is not None and step:  # at first all is noise
            x, t = renew(x, t, step)
        v = field(x, t)
        start, x = x, x + (after - t) * v
        if heun:
            first, v = v, field(x, after)
            x = start + (after - t) / 2 * (first + v)
        yield x, x + (1 - after) * v


def undo(field: Field, x: Tensor, times: Sequence[float]) -> Tensor:
    """Finds the states (N, …) at the first time that Euler's steps lead from to ``x`` at the last.

    A step exchanges the velocity at its start for less of it, so it is undone with that velocity, and not with the one
    at its end: in a few rounds [10], until it misses its end by no more than STILL. A row that comes no nearer goes on
    with half of the way, and what came nearest counts, so that a row never depends on those beside it.
    """
    slope = torch.zeros_like(x)
    for t, after in reversed([*itertools.pairwise(times)]):
        end, length = x, after - t
        state, least = end - length * slope, x.new_full((len(x),), math.inf)
        share, off = torch.ones_like(least), torch.zeros_like(x)
        for _ in range(ROUNDS):
            missed = end - length * field(state, t) - state
            error = missed.square().flatten(1).mean(1)  # (N,)
            nearer = error < least
            x, off = (torch.where(wide(nearer, x), *pair) for pair in ((state, x), (missed, off)))
            share = torch.where(nearer, share, share / 2)
            least = torch.where(nearer, error, least)
            if bool((least <= STILL).all()):
                break
            state = x + wide(share * (least > STILL), x) * off
        slope = (end - x) / length
    return x


def churn(x: Tensor, t: float, fresh: Tensor, steps: int) -> tuple[Tensor, float]:
    """Adds fresh noise, which takes a state back to an earlier time of the same path ([3], algorithm 2).

    Args:
        x, fresh: The state and standard normal noise, both (N, C, H, W).
        t: The time of the state, above 0 and below 1.
        steps: Of the whole path.
    """
    sigma = (1 - t) / t
    raised = sigma * (1 + min(CHURN / steps, math.sqrt(2) - 1))
    earlier = 1 / (1 + raised)
    return earlier * (x / t + math.sqrt(raised**2 - sigma**2) * fresh), earlier


def log_density(field: Field, x: Tensor, probes: Tensor, share: float, steps: int) -> Tensor:
    """Computes the log-density at the end of a flow that starts from standard normal noise, (N,) [5].

    Args:
        field: Velocity at a state and a time.
        x: States at time 1, (N, ...).
        probes: Directions in which the divergence is measured, (K, N or 1, ...).
        share: Weight of each: 1 for a basis, 1/K for random signs.
        steps: Of Heun's method.
    """

    def both(state: Tensor, t: float) -> Tensor:
        """Gives the velocity, and its divergence in the last column."""
        with torch.enable_grad():
            point = state[:, :-1].view_as(x).detach().requires_grad_()
            v = field(point, t)
            divergence = x.new_zeros(len(x))
            for probe in probes.expand(len(probes), *x.shape):
                (slope,) = torch.autograd.grad(v, point, probe, retain_graph=True)
                divergence = divergence + (slope * probe).flatten(1).sum(1)
        return torch.cat([v.detach().flatten(1), share * divergence[:, None]], 1)

    state = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], 1)  # (N, D + 1)
    *_, (state, _) = solve(both, state, torch.linspace(1, 0, steps + 1).tolist(), True)
    start = state[:, :-1]
    return state[:, -1] - 0.5 * (start.square() + math.log(2 * math.pi)).sum(1)


def wide(t: Tensor, x: Tensor) -> Tensor:
    """Lets (N,) multiply ``x`` (N, …)."""
    return t.view(-1, *[1] * (x.ndim - 1))


def to_images(x: Tensor) -> Batch:
    """Turns centred images (N, …), -1 to 1, into images in [0, 1]."""
    return x.add(1).div(2).clamp(0, 1)


# --- networks ---------------------------------------------------------------------------------------------------


class Code(nn.Module):
    """Tells a network time and class as CODE numbers; an ignored class adds nothing."""

    pitch: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("pitch", torch.logspace(0, 5, 32, base=2), persistent=False)
        self.time = nn.Sequential(nn.Linear(64, CODE), nn.SiLU(), nn.Linear(CODE, CODE))
        self.embed = LabelEmbedding(classes, CODE) if classes else None

    def forward(self, level: Tensor, y: Tensor | None, keep: Tensor | None) -> Tensor:
        waves = level[:, None] * self.pitch  # (N,) -> (N, 32)
        code = self.time(torch.cat([waves.sin(), waves.cos()], 1))  # (N, CODE)
        if self.embed is not None and y is not None:
            label = self.embed(y)
            code = code + (label if keep is None else label * keep[:, None])
        return F.silu(code)


class Dense(nn.Module):
    """A residual network on all pixels at once; time and class scale and shift the input of every block [6]."""

    def __init__(self, pixels: int, width: int, depth: int) -> None:
        super().__init__()
        width = 4 * width
        self.first = nn.Linear(pixels, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "film": nn.Linear(CODE, 2 * width),
                    "inner": nn.Linear(width, width),
                    "outer": zeroed(nn.Linear(width, width)),
                }
            )
            for _ in range(2 * depth)
        )
        self.last = zeroed(nn.Linear(width, pixels))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        h = self.first(x.flatten(1))  # (N, …) -> (N, width)
        for block in self.blocks:
            scale, shift = block["film"](code).chunk(2, 1)  # type: ignore[index]
            u = F.layer_norm(h, h.shape[1:]) * (1 + scale) + shift
            h = h + block["outer"](F.silu(block["inner"](F.silu(u))))  # type: ignore[index]
        return self.last(F.silu(F.layer_norm(h, h.shape[1:]))).view_as(x)


class UNet(nn.Module):
    """A convolutional network that goes down to a grid of 4 to 8 px and back up, with shortcuts at every grid.

    Squares of pixels become channels first, so that the largest grid has 4 to 32 px; attention looks across the
    smallest one. Other sizes repeat their border.
    """

    def __init__(self, channels: int, size: int, width: int, depth: int) -> None:
        super().__init__()
        base, doublings = plan(size)
        self.patch = 2 if size <= 32 else 4
        self.size, self.inner = size, base * 2**doublings
        pixels = channels * self.patch**2
        levels = doublings - self.patch // 2 + 1
        widths = [width] + [2 * width] * (levels - 1)

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                nn.ModuleList(Block(channels) for _ in range(depth)) for channels in widths
            )

        self.first = nn.Conv2d(pixels, width, 3, padding=1)
        self.down, self.up = blocks(), blocks()
        pairs = list(itertools.pairwise(widths))
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 2, 2) for fine, coarse in pairs)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in pairs)
        self.attention = Attention(widths[-1])
        self.middle = Block(widths[-1])
        self.norm = nn.GroupNorm(groups_of(width), width)
        self.last = zeroed(nn.Conv2d(width, pixels, 3, padding=1))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        h = F.pixel_unshuffle(pad(x, self.inner), self.patch)  # (N, C, H, W) -> (N, C p², H/p, W/p)
        h = self.first(h.contiguous(memory_format=torch.channels_last))
        shortcuts = []
        for level, blocks in enumerate(self.down):
            h = self.shrink[level - 1](h) if level else h
            for block in blocks:  # type: ignore[union-attr]
                h = block(h, code)
                shortcuts.append(h)
        h = self.middle(self.attention(h), code)
        for level, blocks in reversed(list(enumerate(self.up))):
            for block in blocks:  # type: ignore[union-attr]
                h = block(h + shortcuts.pop(), code)
            h = self.grow[level - 1](h) if level else h
        h = self.last(F.silu(self.norm(h)))
        return crop(F.pixel_shuffle(h, self.patch), self.size).contiguous()


class Block(nn.Module):
    """Two convolutions beside a shortcut; time and class scale and shift what is between them [6]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups_of(width), width)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(CODE, 2 * width)
        self.middle = nn.GroupNorm(groups_of(width), width, affine=False)
        self.outer = zeroed(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        scale, shift = self.film(code)[..., None, None].chunk(2, 1)
        h = self.middle(self.inner(F.silu(self.norm(x)))) * (1 + scale) + shift
        return x + self.outer(F.silu(h))


class Attention(nn.Module):
    """Lets every position look at every other, in heads of about 32 channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = math.gcd(width, max(1, width // 32))
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 3 * width)
        self.outer = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)  # (N, T, C)
        heads = self.inner(self.norm(tokens)).view(n, -1, 3, self.heads, c // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (N, heads, T, C/heads)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, -1, c)
        return x + self.outer(mixed).transpose(1, 2).reshape(n, c, height, width)


def groups_of(channels: int) -> int:
    """Chooses how many groups of channels are normalised together: about 16 channels each."""
    return math.gcd(channels, max(1, channels // 16))


def zeroed(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    """Starts a layer at zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


@families.add(
    "diffusion",
    "Diffusion (flow matching)",
    DiffusionConfig,
    sampling=DiffusionSampling,
    curves=CURVES,
    takes=("picture", "vector"),
    presets={
        "quick": {"train.images": 200_000},
        "good": {"family.width": 48, "train.images": 600_000},
        "gpu": {
            "family.width": 128,
            "family.depth": 2,
            "train.images": 10_000_000,
            "train.batch": 256,
            "train.lr": 5e-4,
            "train.clip": 1.0,
        },
    },
)
def build(config: DiffusionConfig, spec: Spec) -> Diffusion:
    """Turns noise into images in small steps: the best images and a way to watch them appear, slower to draw."""
    return Diffusion(config, spec)
