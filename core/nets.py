"""Blocks that the families and the classifier are built from. Images go in and out centred, in [-1, 1]."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


class Upward(nn.Module):
    """Maps a vector to an image in [-1, 1]: a small grid, then transposed convolutions that double it, with batch norm.

    Channels double with each halving of the grid, from ``width`` at half the size of the image to at most 8 times that.

    References:
        Radford et al., 2015, DCGAN, https://arxiv.org/abs/1511.06434
    """

    def __init__(self, inputs: int, channels: int, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.base, doublings = plan(size)
        widths = [min(width * 2**level, width * 8) for level in reversed(range(doublings))]
        self.inner = widths[0]
        self.first = nn.Sequential(
            nn.Linear(inputs, widths[0] * self.base**2, bias=False),
            nn.BatchNorm1d(widths[0] * self.base**2),
            nn.ReLU(),
        )
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [
                nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        layers += [nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh()]
        self.rest = nn.Sequential(*layers)

    def forward(self, h: Tensor) -> Tensor:
        h = self.first(h).view(-1, self.inner, self.base, self.base)
        h = h.contiguous(memory_format=torch.channels_last)  # faster on a CPU
        return crop(self.rest(h), self.size).contiguous()


class Downward(nn.Module):
    """Maps an image in [-1, 1] to a vector: strided convolutions without normalisation."""

    def __init__(self, channels: int, size: int, width: int, outputs: int) -> None:
        super().__init__()
        base, doublings = plan(size)
        self.inner = base * 2**doublings
        widths = [min(width * 2**level, width * 8) for level in range(doublings)]
        layers: list[nn.Module] = []
        for before, after in zip([channels, *widths], widths, strict=False):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
        layers += [nn.Flatten(), nn.Linear(widths[-1] * base**2, outputs), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(pad(x, self.inner))


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
