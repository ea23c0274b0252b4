"""Directions in a latent space that mean something: found from the model alone, and what they change."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from core.latent.space import Space, components, remember
from core.models import Layered

MOST = 6  # directions shown at a time; more make it harder to choose well
AMOUNTS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
SMALL = 128  # latents up to here have their Jacobian computed whole


@dataclass(frozen=True, eq=False)
class Direction:
    """A way to move a point; a step of 1 is a standard deviation of the draws unless its kind says otherwise.

    Attributes:
        name: For people.
        kind: ``principal``, ``factors``, ``local``, ``labels`` or ``attributes``.
        vector: What a step of 1 adds to a point, (D + K,).
        share: Of what there is to explain, 0 to 1; None where that means nothing.
        accuracy: Of reading the label or attribute off points that were held out; None for other kinds.
        measure: What the accuracy is: ``R²`` or ``accuracy``.
        chance: The accuracy of always guessing the most frequent value, or the mean.
        leaks: What one step changes beside what it is for, in standard deviations of each other attribute.
        n: Points that it was found with.
        notes: What to know about it, as sentences.
    """

    name: str
    kind: str
    vector: Tensor = field(repr=False)
    share: float | None = None
    accuracy: float | None = None
    measure: str = ""
    chance: float = 0.0
    leaks: Mapping[str, float] = field(default_factory=dict, repr=False)
    n: int = 0
    notes: tuple[str, ...] = ()


@runtime_checkable
class Judging(Protocol):
    """Whatever names the class of images, such as :class:`core.measure.features.Judge`."""

    def probabilities(self, x: Tensor) -> np.ndarray:
        """Gives the probability of each class, (N, K)."""
        ...


@dataclass(frozen=True, eq=False)
class Strip:
    """What a direction does to an image.

    Attributes:
        x: The images, uint8 (S, C, H, W).
        amounts: Steps of each.
        classes: The class that the judge sees in each; None without a judge.
        changes: Whether some class differs from the one in the middle.
    """

    x: np.ndarray = field(repr=False)
    amounts: tuple[float, ...]
    classes: tuple[int, ...] | None
    changes: bool


def move(space: Space, point: Tensor, steps: Mapping[Direction, float] | Sequence[Any]) -> Tensor:
    """Moves a point (D + K,) by steps along directions; on a sphere, its latent keeps its length.

    Args:
        space: Of the point.
        point: Where to start.
        steps: Steps by direction, or pairs of both.

    Raises:
        UserError: If the point does not belong to the space, or a step is not finite.
    """
    moved = space.checked(point)[0].clone()
    length = moved[: space.latent].norm()
    for direction, amount in steps.items() if isinstance(steps, Mapping) else steps:
        moved = moved + float(amount) * direction.vector.to(moved)
    if space.sphere:
        z, shares = moved.split([space.latent, space.classes])
        moved = torch.cat([z * (length / z.norm().clamp_min(1e-8)), shares])
    return space.checked(moved)[0]


@torch.no_grad()
def filmstrip(
    space: Space,
    point: Tensor,
    direction: Direction,
    amounts: Sequence[float] = AMOUNTS,
    judge: Judging | None = None,
    quick: bool = False,
) -> Strip:
    """Shows what a direction makes of a point, before anybody moves.

    Raises:
        UserError: If the point or an amount is not allowed.
    """
    points = torch.stack([move(space, point, [(direction, amount)]) for amount in amounts])
    x = space.decode(space.checked(points), quick)
    classes = None if judge is None else tuple(judge.probabilities(x).argmax(1).tolist())
    middle = int(np.argmin(np.abs(amounts)))
    changes = classes is not None and any(each != classes[middle] for each in classes)
    return Strip(space.medium.shown(x), tuple(map(float, amounts)), classes, changes)


# --- Principal directions -------------------------------------------------------------------------------------------


def principal(space: Space, count: int = MOST) -> list[Direction]:
    """Finds the directions that vary most: of the latents if they vary unevenly, else of what they lead to.

    Latents of an autoencoder have principal components of their own. Noise has none; then the components are those of
    the decoder's activations, or of the images if it has no layers, and a direction is what moves a component: the
    mean of its gradient, which regression on samples estimates.

    References:
        Härkönen et al., 2020, GANSpace: discovering interpretable GAN controls, https://arxiv.org/abs/2004.02546
        Stein, 1981, Estimation of the mean of a multivariate normal distribution (why both agree)
    """

    def find() -> list[Direction]:
        z = space.studied()[:, : space.latent]
        if not space.even:
            shares, axes = components(z - z.mean(0), MOST)
            axes = axes.T
        elif isinstance(space.model, Layered) and layers(space.model):
            axes, shares = _of_activations(space)
        else:
            axes, shares = _of_images(space)
        return [
            _direction(
                space, f"Main direction {k + 1}", "principal", axis, float(shares[k]), len(z)
            )
            for k, axis in enumerate(axes)
        ]

    return remember(space, "principal", find)[:count]


def _direction(
    space: Space, name: str, kind: str, axis: Tensor, share: float | None, n: int
) -> Direction:
    """Makes a direction of an axis of latents (D,): of a unit's length, its largest number positive."""
    axis = axis * torch.sign(axis[axis.abs().argmax()])
    vector = torch.cat([space.unit(axis.to(space.device)), axis.new_zeros(space.classes)])
    return Direction(name, kind, vector, share, n=n)


@torch.no_grad()
def _of_activations(space: Space) -> tuple[Tensor, Tensor]:
    """Regresses latents on the principal components of the activations of the first layer that has any."""
    points = space.studied()
    with private(space) as model:
        first = layers(model)[0][1]
        seen: list[Tensor] = []
        hook = first.register_forward_hook(lambda *call: seen.append(call[2].detach().flatten(1)))
        try:
            for part in points.split(500):
                replace(space, model=model).decode(part)
        finally:
            hook.remove()
    values = torch.cat(seen)
    values = values - values.mean(0)
    shares, axes = components(values, MOST)
    coordinates = values @ axes  # (M, k)
    z = points[:, : space.latent]
    found = torch.linalg.lstsq(coordinates, z - z.mean(0)).solution  # (k, D)
    return _apart(found), shares


def _of_images(space: Space) -> tuple[Tensor, Tensor]:
    """Averages the gradients of the principal components of the images."""
    points = space.studied()
    many, few = (64, 8) if space.slow else (400, 48)
    with torch.no_grad():
        x = space.decode(points[:many], quick=True).flatten(1)
    x = x - x.mean(0)
    shares, axes = components(x, MOST)
    count = axes.shape[1]
    repeated = points[:few].repeat(count, 1).requires_grad_()
    images = space.decode(repeated, quick=True).flatten(1)
    weights = axes.T.repeat_interleave(few, 0)
    (slope,) = torch.autograd.grad((images * weights).sum(), repeated)
    found = slope[:, : space.latent].view(count, few, -1).mean(1)
    return _apart(found), shares


def _apart(axes: Tensor) -> Tensor:
    """Makes rows (k, D) orthogonal, in their order; rows that say nothing new are left out."""
    kept: list[Tensor] = []
    for axis in axes.double():
        rest = axis
        for other in kept:
            rest = rest - (rest @ other) * other
        if rest.norm() > 1e-6 * axis.norm().clamp_min(1e-12):
            kept.append(rest / rest.norm())
    return torch.stack(kept).float() if kept else axes[:0]


# --- Factors of the first layer -------------------------------------------------------------------------------------


def factors(space: Space, count: int = MOST) -> list[Direction]:
    """Finds the latents that the first dense layer amplifies most; none where a decoder has no such layer.

    Closed form: the eigenvectors of AᵀA with the largest eigenvalues, where A is the layer, with the scales of a batch
    norm that follows it.

    References:
        Shen and Zhou, 2021, Closed-form factorization of latent semantics in GANs (SeFa), https://arxiv.org/abs/2007.06600
    """
    weight = first_weight(space)
    if weight is None:
        return []
    _, scale, axes = torch.linalg.svd(weight.double(), full_matrices=False)
    shares = scale.square() / scale.square().sum().clamp_min(1e-12)
    return [
        _direction(space, f"Factor {k + 1}", "factors", axis.float(), float(shares[k]), 0)
        for k, axis in enumerate(axes[: min(count, space.latent)])
    ]


def first_weight(space: Space) -> Tensor | None:
    """Gives the first dense layer's matrix for the latent, (units, D), or None."""
    if not isinstance(space.model, Layered):
        return None
    modules = [m for m in space.model.layered().modules() if not list(m.children())]
    for module, after in zip(modules, [*modules[1:], None], strict=True):
        if isinstance(module, nn.Linear):
            if module.in_features < space.latent:
                return None
            weight = module.weight.detach()[:, : space.latent]
            if isinstance(after, nn.BatchNorm1d) and after.running_var is not None:
                scale = (after.running_var + after.eps).rsqrt()
                weight = weight * (scale * after.weight.detach())[:, None]
            return weight
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            return None
    return None


# --- Local directions -----------------------------------------------------------------------------------------------


def local(space: Space, point: Tensor, count: int = MOST) -> list[Direction]:
    """Finds the directions that change the image most at a point: the first right singular vectors of the Jacobian.

    The Jacobian is computed whole by Jacobian-vector products up to 128 dimensions, else met by subspace iteration.

    References:
        Ramesh et al., 2018, A spectral regularizer for unsupervised disentanglement, https://arxiv.org/abs/1812.01161
        Halko et al., 2011, Finding structure with randomness, https://arxiv.org/abs/0909.4061
    """
    point = space.checked(point)[0]
    z, shares = point.split([space.latent, space.classes])
    decode = _decoder(space, shares)
    count = min(count, space.latent)
    if space.latent <= SMALL and not space.slow:
        whole = jacobian(decode, z)
        _, scale, axes = torch.linalg.svd(whole.double(), full_matrices=False)
        total = scale.square().sum()
    else:
        scale, axes = _subspace(decode, z, min(count + 2, space.latent))
        total = None
    return [
        Direction(
            found.name,
            "local",
            found.vector,
            None if total is None else float(scale[k] ** 2 / total.clamp_min(1e-12)),
            n=1,
            notes=("It holds near this image; find it again after moving far.",),
        )
        for k, axis in enumerate(axes[:count])
        for found in [_direction(space, f"Local direction {k + 1}", "local", axis.float(), None, 1)]
    ]


def _decoder(space: Space, shares: Tensor) -> Callable[[Tensor], Tensor]:
    def decode(z: Tensor) -> Tensor:
        points = torch.cat([z, shares.expand(len(z), -1)], 1)
        x = space.decode(points, quick=True) if space.slow else space.smooth(points)
        return x.flatten(1)

    return decode


def pushed(decode: Callable[[Tensor], Tensor], z: Tensor, v: Tensor) -> Tensor:
    """Multiplies the Jacobian at a latent (D,) with vectors (M, D), (M, P): one product each, in one batch.

    The product with the transpose is linear in what it is multiplied with, and its derivative by that is the Jacobian:
    two passes backwards, which need neither the slow import nor the single level of forward differentiation.
    """
    repeated = z.expand(len(v), -1).clone().requires_grad_()
    with torch.enable_grad():
        out = decode(repeated)
        weights = torch.zeros_like(out, requires_grad=True)
        (pulled,) = torch.autograd.grad(out, repeated, weights, create_graph=True)
        (product,) = torch.autograd.grad(pulled, weights, v)
    return product


def jacobian(decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Computes the derivative of all pixels by all latents (D,), (P, D), one product per latent."""
    return pushed(decode, z, torch.eye(len(z), device=z.device)).T


def _subspace(
    decode: Callable[[Tensor], Tensor], z: Tensor, count: int, rounds: int = 4
) -> tuple[Tensor, Tensor]:
    """Iterates towards the first right singular vectors of the Jacobian; gives singular values and rows."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(len(z), count, generator=generator).to(z)
    basis = torch.linalg.qr(start)[0].T.contiguous()  # (k, D)
    for _ in range(rounds):
        weights = pushed(decode, z, basis)
        repeated = z.expand(count, -1).clone().requires_grad_()
        with torch.enable_grad():
            (pulled,) = torch.autograd.grad((decode(repeated) * weights).sum(), repeated)
        basis = torch.linalg.qr(pulled.T)[0].T.contiguous()
    _, scale, turn = torch.linalg.svd(pushed(decode, z, basis).T.double(), full_matrices=False)
    return scale, turn @ basis.double()


# --- Looking inside without touching what others use ----------------------------------------------------------------

_copies = threading.RLock()


@contextmanager
def private(space: Space) -> Iterator[Any]:
    """Lends a copy of the model that hooks may be put on; one caller at a time, and the hooks must be gone after."""
    model = remember(space, "private", lambda: copy.deepcopy(space.model))
    with _copies:
        yield model


def layers(model: Layered) -> list[tuple[str, nn.Module]]:
    """Lists the layers with units of a decoder in the order of computation, with names for people.

    They are its activations where these are modules, else every dense or convolutional layer but the last.
    """
    modules = [m for m in model.layered().modules() if not list(m.children())]
    found = [m for m in modules if isinstance(m, nn.ReLU | nn.LeakyReLU)]
    if not found:
        kinds = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
        found = [m for m in modules if isinstance(m, kinds)][:-1]
    return [(f"Layer {k + 1}", module) for k, module in enumerate(found)]
