"""Directions in a latent space that the model alone gives away, and what they change in an image."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.ground.watch import UNWATCHED, Watch
from core.latent.space import Space, components, remember, remembers
from core.models import Layered

MOST = 6  # directions shown at a time; more make it harder to choose well
AMOUNTS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # steps of a film strip
COSTLY = 60.0  # seconds above which nobody waits for directions without having been asked
DERIVED = 3  # images that can be decoded while one is, with the derivative of its pixels
ROUNDS = 4  # of the subspace iteration
SMALL = 128  # latents up to here have their Jacobian computed whole


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction to move a point in; a step of 1 is a standard deviation of the draws, unless its kind says otherwise.

    Attributes:
        name: For people.
        kind: ``principal``, ``factors``, ``local``, ``labels``, ``attributes``, or ``named`` by a person.
        vector: What a step of 1 adds to a point, (D + K,).
        share: Of the variation that it explains, 0 to 1, None where that is not defined; of ``labels`` and
            ``attributes``, what a step changes in the column, in its standard deviations.
        accuracy: Of reading the label or attribute off held-out points; None for other kinds.
        measure: What the accuracy is: ``R²`` or ``accuracy``.
        chance: The accuracy of always guessing the most frequent value, or the mean.
        leaks: What one step changes in each other attribute, in standard deviations.
        n: Points that it was computed from.
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


def move(space: Space, point: Tensor, vector: Tensor, steps: float) -> Tensor:
    """Moves a point (D + K,) by steps along a direction's vector; on a sphere, its latent keeps its length.

    Raises:
        UserError: If the point does not belong to the space, or the steps are not finite.
    """
    point = space.checked(point)[0]
    moved = point + float(steps) * vector.to(point)
    if space.sphere:
        z, shares = moved.split([space.latent, space.classes])
        length = point[: space.latent].norm()
        moved = torch.cat([z * (length / z.norm().clamp_min(1e-8)), shares])
    return space.checked(moved)[0]


@torch.no_grad()
def filmstrip(
    space: Space,
    point: Tensor,
    direction: Direction,
    classifier: Callable[[Tensor], Tensor] | None = None,
    quick: bool = False,
) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """Moves a point along a direction, by each number of :data:`AMOUNTS`.

    Args:
        space: Of the point.
        point: Shape (D + K,).
        direction: Where to move.
        classifier: Gives logits (N, K) of images, on the device of the model.
        quick: Takes fewer steps where an image takes many.

    Returns:
        The images, uint8 (7, C, H, W), and the class that the classifier sees in each; None without one.

    Raises:
        UserError: If the point does not belong to the space.
    """
    x = space.decode(
        torch.stack([move(space, point, direction.vector, steps) for steps in AMOUNTS]), quick
    )
    classes = None if classifier is None else tuple(classifier(x).argmax(1).tolist())
    return space.medium.shown(x), classes


# --- What they cost ---------------------------------------------------------------------------------------------------


def foretold(space: Space, kind: str = "principal") -> float:
    """Foretells the seconds that finding directions of a kind takes here, from the pace at which images are decoded.

    0 where they are known already, or need no image.
    """
    if kind == "principal":
        if remembers(space, "principal") or not space.even:
            return 0.0
        many, few = _looks(space)
        images = many + (DERIVED * MOST * few if space.differentiable else 0)
        if isinstance(space.model, Layered) and layers(space.model):
            images = len(space.studied())
    elif kind == "local":
        count = min(MOST, space.latent)
        if not space.differentiable:
            images = 2 * space.latent
        elif space.latent <= SMALL and not space.slow:
            images = 2 * DERIVED * space.latent
        else:  # in each round a product with the Jacobian, which takes two derivatives, and one with its transpose
            images = (count + 2) * DERIVED * (3 * ROUNDS + 2)
    else:
        return 0.0
    return images * space.pace


def costly(space: Space, kind: str = "principal") -> bool:
    """Tells whether finding directions of a kind takes so long that a person is asked before."""
    return foretold(space, kind) > COSTLY


def _looks(space: Space) -> tuple[int, int]:
    """Says how many images main directions are found from, and at how many of them derivatives are taken."""
    return (64, 8) if space.slow else (400, 48)


def _slices(space: Space, points: Tensor, most: int) -> tuple[Tensor, ...]:
    """Cuts points into parts of at most so many, which take about a second each where all of them take long."""
    return points.split(max(1, min(most, int(1 / space.pace))) if costly(space) else most)


# --- Principal directions -------------------------------------------------------------------------------------------


def principal(space: Space, count: int = MOST, watch: Watch = UNWATCHED) -> list[Direction]:
    """Finds the directions of largest variance: of the latents if they vary unevenly, else of what they decode to.

    Latents of an autoencoder have principal components of their own. Noise has none; then the components are those of
    the decoder's activations, or of the images if it has no layers, and a direction is the mean gradient of a
    component, which a regression on samples estimates.

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
            axes, shares = _of_activations(space, watch)
        else:
            axes, shares = _of_images(space, watch)
        return [
            direction_of(
                space, f"Main direction {k + 1}", "principal", axis, float(shares[k]), len(z)
            )
            for k, axis in enumerate(axes)
        ]

    return remember(space, "principal", find)[:count]


def direction_of(
    space: Space, name: str, kind: str, axis: Tensor, share: float | None, n: int
) -> Direction:
    """Makes a direction of an axis of latents (D,), as long as a step of 1; its largest number becomes positive."""
    axis = axis * torch.sign(axis[axis.abs().argmax()])
    vector = torch.cat([space.unit(axis.to(space.device)), axis.new_zeros(space.classes)])
    return Direction(name, kind, vector, share, n=n)


@torch.no_grad()
def _of_activations(space: Space, watch: Watch) -> tuple[Tensor, Tensor]:
    """Regresses latents on the principal components of the activations of the first layer that has any."""
    points = space.studied()
    with private(space) as model:
        first = layers(model)[0][1]
        seen: list[Tensor] = []
        hook = first.register_forward_hook(lambda *call: seen.append(call[2].detach().flatten(1)))
        try:
            done = 0
            for part in _slices(space, points, 500):
                replace(space, model=model).decode(part)
                done += len(part)
                watch.count("Decoding", done, len(points), "images")
        finally:
            hook.remove()
    values = torch.cat(seen)
    values = values - values.mean(0)
    shares, axes = components(values, MOST)
    coordinates = values @ axes  # (M, k)
    z = points[:, : space.latent]
    directions = torch.linalg.lstsq(coordinates, z - z.mean(0)).solution  # (k, D)
    return _orthogonal(directions), shares


def _of_images(space: Space, watch: Watch) -> tuple[Tensor, Tensor]:
    """Averages the gradients of the principal components of the images."""
    points = space.studied()
    many, few = _looks(space)
    derived = MOST * few if space.differentiable else 0
    seen = []
    with torch.no_grad():
        for part in _slices(space, points[:many], many):
            seen.append(space.decode(part, quick=True).flatten(1))
            done = sum(map(len, seen))
            watch.say("Decoding images", done / (len(points[:many]) + DERIVED * derived))
            watch.check()
    x = torch.cat(seen)
    x = x - x.mean(0)
    shares, axes = components(x, MOST)
    count = axes.shape[1]
    if (
        not space.differentiable
    ):  # the mean gradient is the slope of a regression, for normal latents
        z = points[: len(x), : space.latent]
        slopes = torch.linalg.lstsq(z - z.mean(0), x @ axes).solution  # (D, k)
        return _orthogonal(slopes.T), shares
    repeated, weights = points[:few].repeat(count, 1), axes.T.repeat_interleave(few, 0)
    slopes = []
    # a derivative keeps what each step of each image has computed: gigabytes of a large network
    at_once = max(1, min(few, 2**13 // space.latent)) if space.slow else len(repeated)
    if costly(space):
        at_once = max(1, min(at_once, int(1 / (DERIVED * space.pace))))
    for part, weight in zip(repeated.split(at_once), weights.split(at_once), strict=True):
        done = len(x) + DERIVED * len(slopes)
        watch.say("Looking what changes them", done / (len(x) + DERIVED * len(repeated)))
        watch.check()
        part = part.clone().requires_grad_()
        images = space.decode(part, quick=True).flatten(1)
        slopes += torch.autograd.grad((images * weight).sum(), part)
    slope = torch.cat(slopes)
    return _orthogonal(slope[:, : space.latent].view(count, few, -1).mean(1)), shares


def _orthogonal(axes: Tensor) -> Tensor:
    """Makes rows (k, D) orthogonal, in their order; rows that depend on earlier ones are left out."""
    rows: list[Tensor] = []
    for axis in axes.double():
        rest = axis
        for row in rows:
            rest = rest - (rest @ row) * row
        if rest.norm() > 1e-6 * axis.norm().clamp_min(1e-12):
            rows.append(rest / rest.norm())
    return torch.stack(rows).float() if rows else axes[:0]


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
        direction_of(space, f"Factor {k + 1}", "factors", axis.float(), float(shares[k]), 0)
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

    Up to 128 dimensions the Jacobian is computed whole, by Jacobian-vector products; else subspace iteration needs only
    such products. Of a model without derivatives it is measured by small steps to both sides.

    References:
        Ramesh et al., 2018, A spectral regularizer for unsupervised disentanglement, https://arxiv.org/abs/1812.01161
        Halko et al., 2011, Finding structure with randomness, https://arxiv.org/abs/0909.4061
    """
    point = space.checked(point)[0]
    z, shares = point.split([space.latent, space.classes])
    decode = _decoder(space, shares)
    count = min(count, space.latent)
    if not space.differentiable or (space.latent <= SMALL and not space.slow):
        whole = (jacobian if space.differentiable else differences)(decode, z)
        _, scale, axes = torch.linalg.svd(whole.double(), full_matrices=False)
        total = scale.square().sum()
    else:
        scale, axes = _subspace(decode, z, min(count + 2, space.latent))
        total = None
    return [
        replace(
            direction_of(
                space,
                f"Local direction {k + 1}",
                "local",
                axis.float(),
                None if total is None else float(scale[k] ** 2 / total.clamp_min(1e-12)),
                1,
            ),
            notes=("It holds near this image; find it again after moving far.",),
        )
        for k, axis in enumerate(axes[:count])
    ]


def _decoder(space: Space, shares: Tensor) -> Callable[[Tensor], Tensor]:
    def decode(z: Tensor) -> Tensor:
        points = torch.cat([z, shares.expand(len(z), -1)], 1)
        x = space.decode(points, quick=True) if space.slow else space.smooth(points)
        return x.flatten(1)

    return decode


def pushed(decode: Callable[[Tensor], Tensor], z: Tensor, v: Tensor) -> Tensor:
    """Multiplies the Jacobian at a latent (D,) with vectors (M, D), (M, P), all in one batch.

    A vector-Jacobian product is linear in its vector, and the derivative by that vector is the Jacobian. So two
    backward passes do it; forward differentiation would be slow to import, and cannot be nested.
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


@torch.no_grad()
def differences(decode: Callable[[Tensor], Tensor], z: Tensor, step: float = 1e-2) -> Tensor:
    """Measures the derivative of all pixels by all latents (D,), (P, D), by steps to both sides."""
    moves = step * torch.eye(len(z), device=z.device)
    ahead, behind = (
        torch.cat([decode(z + sign * part) for part in moves.split(128)]) for sign in (1, -1)
    )
    return (ahead - behind).T / (2 * step)


def _subspace(
    decode: Callable[[Tensor], Tensor], z: Tensor, count: int, rounds: int = ROUNDS
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


# --- Hooks on a copy of the model, which others share ----------------------------------------------------------------

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
    units = [m for m in modules if isinstance(m, nn.ReLU | nn.LeakyReLU)]
    if not units:
        kinds = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
        units = [m for m in modules if isinstance(m, kinds)][:-1]
    return [(f"Layer {k + 1}", module) for k, module in enumerate(units)]
