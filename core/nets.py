"""Blocks that the families and the classifier are built from. Images go in and out centred, in [-1, 1]."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.tensors import Ids, all_mean, draw_labels, full, processes, rows


class ResidualMLP(nn.Module):
    """Maps vectors to vectors through residual blocks whose second layer starts at zero; no normalisation."""

    def __init__(self, inputs: int, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)]) for _ in range(depth)
        )
        for _, second in self.blocks:  # type: ignore[misc]
            nn.init.zeros_(second.weight)
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for first, second in self.blocks:  # type: ignore[misc]
            h = h + second(F.leaky_relu(first(F.leaky_relu(h, 0.2)), 0.2))
        return self.last(F.leaky_relu(h, 0.2))


class LabelEmbedding(nn.Module):
    """Embeds labels (N,), or mixtures of labels given as shares (N, K), so that classes can be blended."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, width))

    def forward(self, y: Tensor) -> Tensor:
        if y.is_floating_point():
            return y @ self.weight
        return F.embedding(y, self.weight)


def plan(size: int) -> tuple[int, int]:
    """Chooses the smallest grid (4 to 8 px) and the doublings that lead from it to at least ``size`` px.

    >>> plan(8), plan(28), plan(32), plan(30)
    ((4, 1), (7, 2), (4, 3), (8, 2))
    """
    doublings = max(1, int(math.log2(size / 4)))
    return math.ceil(size / 2**doublings), doublings


def joined(x: Tensor, embed: LabelEmbedding | None, y: Tensor | None) -> Tensor:
    """Appends embedded labels to vectors (N, D), for a network that listens to any."""
    return x if embed is None or y is None else torch.cat([x, embed(y)], 1)


def widths(width: int, levels: int, most: int = 8) -> list[int]:
    """Doubles a width from level to level, up to ``most`` times the first one.

    >>> widths(32, 5)
    [32, 64, 128, 256, 256]
    """
    return [width * min(2**level, most) for level in range(levels)]


class _SharedStatistics:
    """Batch norm whose statistics, in training, are those of the batch of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        norm: Any = self
        count = processes()[0]
        if count == 1 or not norm.training:
            return super().forward(x)  # type: ignore[misc]
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
        h = full(x)
        mean = all_mean(h.mean(axes))
        h = h - mean.view(shape)
        var = all_mean(h.square().mean(axes))
        with torch.no_grad():
            n = count * x.numel() // len(mean)
            norm.num_batches_tracked += 1
            share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
            norm.running_var.lerp_((var * n / (n - 1)).to(norm.running_var.dtype), share)
        scale = (var + norm.eps).rsqrt() * norm.weight
        return (h * scale.view(shape) + norm.bias.view(shape)).to(x.dtype)


class BatchNorm1d(_SharedStatistics, nn.BatchNorm1d):
    """Normalises vectors (N, C) by the statistics of the batch, however many processes share it."""


class BatchNorm2d(_SharedStatistics, nn.BatchNorm2d):
    """Normalises images (N, C, H, W) by the statistics of the batch, however many processes share it."""


class Upward(nn.Module):
    """Maps a vector to an image: a small grid, then transposed convolutions that double it, with batch norm.

    Channels double with each halving of the grid, from ``width`` at half the size of the image to at most 8 times that.
    The output is unbounded; its tanh is an image in [-1, 1].

    References:
        Radford et al., 2015, DCGAN, https://arxiv.org/abs/1511.06434
    """

    def __init__(self, inputs: int, channels: int, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.base, doublings = plan(size)
        channels_of = widths(width, doublings)[::-1]
        self.inner = channels_of[0]
        numbers = self.inner * self.base**2
        self.first = nn.Sequential(
            nn.Linear(inputs, numbers, bias=False), BatchNorm1d(numbers), nn.ReLU()
        )
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels_of):
            conv = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)
            layers += [conv, BatchNorm2d(after), nn.ReLU()]
        self.rest = nn.Sequential(*layers, nn.ConvTranspose2d(width, channels, 4, 2, 1))

    def forward(self, h: Tensor) -> Tensor:
        h = self.first(h).view(-1, self.inner, self.base, self.base)  # (N, D) -> (N, C', b, b)
        h = h.contiguous(memory_format=torch.channels_last)  # faster on a CPU
        return crop(self.rest(h), self.size).contiguous()  # (N, C, H, W)


class Downward(nn.Module):
    """Maps an image in [-1, 1] to a vector: strided convolutions without normalisation."""

    def __init__(self, channels: int, size: int, width: int, outputs: int) -> None:
        super().__init__()
        base, doublings = plan(size)
        self.inner = base * 2**doublings
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([channels, *widths(width, doublings)]):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
        layers += [nn.Flatten(), nn.Linear(after * base**2, outputs), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(pad(x, self.inner))  # (N, C, H, W) -> (N, D)


class ConvFeatures(nn.Sequential):
    """Maps an image in [0, 1] to a vector: convolutions with batch norm down to 4 to 8 px, and a layer on top."""

    def __init__(self, channels: int, size: int, width: int, outputs: int) -> None:
        base, doublings = plan(size)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([channels, *widths(width, doublings, most=4)]):
            for sizes in (before, after, 3, 1, 1), (after, after, 4, 2, 1):
                layers += [nn.Conv2d(*sizes, bias=False), BatchNorm2d(after), nn.ReLU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(after * base**2, outputs), nn.ReLU())
        self.inner = base * 2**doublings

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(pad(input * 2 - 1, self.inner))  # (N, C, H, W) -> (N, D)


class ResidualConv(nn.Module):
    """Adds to its input what a 1×1, a grouped 3×3 and a 1×1 convolution make of it; no normalisation.

    The last convolution starts at zero and the others at a scale that falls with the number of blocks in the network,
    so that depth does no harm at the start.

    References:
        Huang et al., 2024, The GAN is dead; long live the GAN!, https://arxiv.org/abs/2501.05441 (section 3)
        Zhang et al., 2019, Fixup initialization, https://arxiv.org/abs/1901.09321
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        groups = math.gcd(width, max(1, width // 16))
        self.first = nn.Conv2d(width, width, 1)
        self.second = nn.Conv2d(width, width, 3, padding=1, groups=groups)
        self.last = nn.Conv2d(width, width, 1, bias=False)
        for conv in (self.first, self.second):
            nn.init.kaiming_normal_(conv.weight, 0.2)
            conv.weight.data.mul_(blocks**-0.25)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.first(x), 0.2)
        return x + self.last(F.leaky_relu(self.second(h), 0.2))


class ResidualUpward(nn.Module):
    """Maps a vector to an image: a learned small grid, weighed by the vector, and residual blocks at every doubling.

    Channels as in :class:`Upward`, the image itself included; the output is unbounded.
    """

    def __init__(self, inputs: int, channels: int, size: int, width: int, depth: int = 2) -> None:
        super().__init__()
        self.size = size
        base, doublings = plan(size)
        channels_of = widths(width, doublings + 1)[::-1]
        self.grid = nn.Parameter(torch.randn(channels_of[0], base, base))
        self.first = nn.Linear(inputs, channels_of[0])
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([*channels_of, channels]):
            layers += [ResidualConv(before, depth * len(channels_of)) for _ in range(depth)]
            layers += [nn.Conv2d(before, after, 1), nn.Upsample(scale_factor=2, mode="bilinear")]
        self.rest = nn.Sequential(*layers[:-1])  # the image itself is not doubled

    def forward(self, h: Tensor) -> Tensor:
        h = self.first(h)[:, :, None, None] * self.grid  # (N, D) -> (N, C', b, b)
        return crop(self.rest(h), self.size)  # (N, C, H, W)


class ResidualDownward(nn.Module):
    """Maps an image to a vector: the mirror of :class:`ResidualUpward`."""

    def __init__(self, channels: int, size: int, width: int, outputs: int, depth: int = 2) -> None:
        super().__init__()
        base, doublings = plan(size)
        self.inner = base * 2**doublings
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([channels, *widths(width, doublings + 1)]):
            layers += [nn.AvgPool2d(2), nn.Conv2d(before, after, 1)]
            layers += [ResidualConv(after, depth * (doublings + 1)) for _ in range(depth)]
        layers += [nn.Conv2d(after, after, base, groups=after), nn.Flatten()]
        self.rest = nn.Sequential(*layers[1:], nn.Linear(after, outputs), nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(pad(x, self.inner))  # (N, C, H, W) -> (N, D)


class CriticAugmentation(nn.Module):
    """Moves, cuts and recolours what a critic sees, each for a share ``p`` of the images; differentiable.

    As long as most images pass unchanged, a generator that matches the augmented images also matches the plain ones;
    near ``p`` = 1 it learns to make augmented ones.

    * mirror (half of the images that are chosen) and shift by up to an eighth of the size; the border is repeated
    * cutout: a square of half the size turns grey
    * brightness and contrast; saturation of colour images

    References:
        Karras et al., 2020, Training GANs with limited data (ADA), https://arxiv.org/abs/2006.06676
        Zhao et al., 2020, Differentiable augmentation for data-efficient GAN training, https://arxiv.org/abs/2006.10738
    """

    def __init__(self, mirror: bool = False) -> None:
        super().__init__()
        self.mirror = mirror

    def forward(self, x: Tensor, p: Tensor, generator: torch.Generator, parts: int = 1) -> Tensor:
        """Augments images in [-1, 1], (N, C, H, W); with ``p`` (a scalar) at 0 they come out as they went in.

        ``parts`` says how many batches lie one behind the other in them.
        """
        if p.device.type == "cpu" and p == 0:  # on a GPU the test would force a synchronisation
            return full(x)
        with torch.autocast(x.device.type, enabled=False):
            x = full(x)
            # one row of uniform numbers per image: three that choose, and the size of every change
            shape = (len(x), 11)
            u = rows(torch.rand, shape, parts=parts, generator=generator, device=x.device)
            move, cut, colour = (u[:, :3] < p).unbind(1)
            x = self._moved(x, move, u[:, 3:6])
            x = self._cut(x, cut, u[:, 6:8])
            return self._coloured(x, colour, u[:, 8:11] * 2 - 1)

    def _moved(self, x: Tensor, chosen: Tensor, u: Tensor) -> Tensor:
        size = x.shape[-1]
        pixels = torch.arange(size, device=x.device, dtype=x.dtype)
        shifts = (u[:, :2] - 0.5) * chosen[:, None] * (size / 4)  # (N, 2)
        across = pixels.expand(len(x), size)
        if self.mirror:
            mirrored = chosen & (u[:, 2] < 0.5)
            across = torch.where(mirrored[:, None], pixels.flip(0), across)
        # each new row, and column, is a mixture of the two old ones that its source falls between
        rows, columns = (
            F.relu(1 - ((source + shift[:, None]).clamp(0, size - 1)[:, :, None] - pixels).abs())
            for source, shift in zip((pixels, across), shifts.unbind(1), strict=True)
        )  # (N, new, old)
        return rows[:, None] @ x @ columns[:, None].mT

    def _cut(self, x: Tensor, chosen: Tensor, u: Tensor) -> Tensor:
        size = x.shape[-1]
        pixels = torch.arange(size, device=x.device) + 0.5
        inside = (pixels - u[:, :, None] * size).abs() < size / 4  # (N, 2, size)
        hole = inside[:, 0, :, None] & inside[:, 1, None] & chosen[:, None, None]
        return x.masked_fill(hole[:, None], 0.0)

    def _coloured(self, x: Tensor, chosen: Tensor, u: Tensor) -> Tensor:
        brightness, contrast, saturation = u[:, :, None, None, None].unbind(1)  # in -1 … 1
        grey, mean = x.mean(1, keepdim=True), x.mean((1, 2, 3), keepdim=True)
        changed = grey + (x - grey) * (1 + saturation)
        changed = mean + (changed - mean) * (1 + contrast / 2) + brightness / 2
        return torch.where(chosen[:, None, None, None], changed, x)


def pad(x: Tensor, size: int) -> Tensor:
    """Repeats the border until the image has ``size`` px; the inverse of :func:`crop`."""
    extra = size - x.shape[-1]
    if extra == 0:
        return x
    before, after = extra // 2, extra - extra // 2
    return F.pad(x, (before, after, before, after), mode="replicate")


def crop(x: Tensor, size: int) -> Tensor:
    """Cuts the middle ``size`` px out."""
    start = (x.shape[-1] - size) // 2
    return x if x.shape[-1] == size else x[..., start : start + size, start : start + size]


def flat(
    *layers: int,
    last: Callable[[], nn.Module] | None = None,
    act: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Stacks linear layers with an activation between them: ``flat(100, 256, 512, 784, last=nn.Tanh)``."""
    modules: list[nn.Module] = []
    for before, after in itertools.pairwise(layers):
        modules += [nn.Linear(before, after), act()]
    modules[-1:] = [last()] if last else []
    return nn.Sequential(*modules)


@torch.no_grad()
def labels_for(model: Any, ids: Ids, y: Tensor | None, seed: int) -> Tensor | None:
    """Gives the labels that were asked for; without, draws them as often as the training data has them, (N,).

    None for a model without classes.
    """
    if y is not None or not model.classes:
        return y
    return draw_labels(seed, ids, model.spec.shares, next(model.parameters()).device)


def refresh_batch_statistics(net: nn.Module, batches: Iterable[Callable[[], object]]) -> None:
    """Recomputes the running statistics of every batch norm in ``net`` as plain averages over the given forward passes.

    Averaged weights have other activations than the weights that were trained, so the statistics collected during
    training do not fit them.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    if not norms:
        return
    mode, momenta = net.training, [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    net.train()
    for run in batches:
        run()
    net.train(mode)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


class TokenFeatures(nn.Module):
    """Maps tokens to a vector: which ones stand in short rows anywhere, by convolutions and their largest values.

    Args:
        count: Size of the vocabulary; a token comes as its share of the last one, (N, 1, T) in [0, 1].
        width: Of the first layer.
        outputs: Length of the vector.
    """

    def __init__(self, count: int, width: int, outputs: int) -> None:
        super().__init__()
        self.count = count
        self.embed = nn.Embedding(count, width, padding_idx=0)
        self.first = nn.Conv1d(width, 4 * width, 5, padding=2)
        self.second = nn.Conv1d(4 * width, 4 * width, 5, padding=2)
        self.last = nn.Linear(4 * width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        codes = x.flatten(1).mul(self.count - 1).round().long().clamp(0, self.count - 1)
        h = self.embed(codes).mT  # (N, T) -> (N, D, T)
        h = F.relu(self.second(F.relu(self.first(h))))
        return F.relu(self.last(h.amax(2)))
