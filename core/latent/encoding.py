"""Items in the latent space: encoded by the model, or searched for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from core.catalog import UserError
from core.latent.evolution import minimise
from core.latent.space import Space, remember
from core.tensors import Batch

STARTS = 8  # samples that an inversion starts from
STEPS = 160  # of an inversion
ROUNDS = 240  # generations of a search without gradients
KINDS = 3  # classes that it begins with
LONGEST = 1.2  # length that a latent may reach in an inversion, over that of the draws


# --- Encoding -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Encoded:
    """Images in the latent space.

    Attributes:
        points: Shape (N, D + K).
        recon: What the points decode to, uint8 (N, 1 or 3, H, W).
        error: Mean squared error of the pixels in [0, 1], (N,).
        seconds: How long it took.
    """

    points: Tensor = field(repr=False)
    recon: np.ndarray = field(repr=False)
    error: np.ndarray
    seconds: float


def checked_images(space: Space, x: Batch) -> Batch:
    """Brings images onto the device.

    Raises:
        UserError: If their shape is not the model's, or a number is not finite.
    """
    spec = space.model.spec
    if x.shape[1:] != spec.shape:
        raise UserError(
            f"This model makes images of {' × '.join(map(str, spec.shape))} numbers, got "
            f"{' × '.join(map(str, x.shape[1:]))}. Prepare the picture for its dataset first."
        )
    if not bool(x.isfinite().all()):
        raise UserError("The image holds nan or infinity. Use one with numbers from 0 to 1.")
    return x.to(space.device, torch.float32).clamp(0, 1)


def encode(space: Space, x: Batch, labels: Sequence[int] | None = None) -> Encoded:
    """Finds the latents of what a model sees, (N, …) in [0, 1], by the model's own encoder, and decodes them again.

    Args:
        space: Of a model that encodes.
        x: The images.
        labels: Their classes, for a model that listens to classes.

    Raises:
        UserError: If the model has no encoder, or the images are not of its shape.
    """
    x = checked_images(space, x)
    start = time.perf_counter()
    points = space.encode(x, labels)
    with torch.no_grad():
        recon = torch.cat([space.decode(part) for part in points.split(256)])
    error = (recon - x).square().flatten(1).mean(1).cpu().numpy()
    return Encoded(points, space.medium.shown(recon), error, time.perf_counter() - start)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Shows where images differ: the absolute difference, uint8, same shape."""
    return np.abs(a.astype(np.int16) - b).astype(np.uint8)


# --- Inversion ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SearchStep:
    """A state of the search for an image.

    Attributes:
        point: The best until then, (D + K,).
        image: What it decodes to, uint8 (1 or 3, H, W).
        error: Mean squared error of the pixels in [0, 1].
        done: Share of the search, 0 to 1.
        seconds: Since the search began.
    """

    point: Tensor = field(repr=False)
    image: np.ndarray = field(repr=False)
    error: float
    done: float
    seconds: float


def find(space: Space, x: Batch, label: int | None = None) -> Iterator[SearchStep]:
    """Finds the point of an image (1, C, H, W): in one step where the model encodes, else by a search.

    The search follows the gradient (:func:`invert`) where there is one, and goes without (:func:`evolve`) else.
    """
    if not space.encodes:
        yield from (invert if space.differentiable else evolve)(space, x, label)
        return
    encoded = encode(space, x, None if label is None else [label] * len(x))
    yield SearchStep(
        encoded.points[0], encoded.recon[0], float(encoded.error[0]), 1.0, encoded.seconds
    )


def bank(space: Space) -> tuple[Tensor, Tensor]:
    """Decodes many draws once: points (M, D + K), and their images in [0, 1] as float16, (M, P)."""

    def make() -> tuple[Tensor, Tensor]:
        points = space.studied()
        with torch.no_grad():
            parts = [space.decode(part, quick=True).flatten(1) for part in points.split(256)]
        return points, torch.cat(parts).half()

    return remember(space, "bank", make)


def invert(
    space: Space,
    x: Batch,
    label: int | None = None,
    *,
    steps: int = STEPS,
    every: int = 10,
) -> Iterator[SearchStep]:
    """Searches for the point of an image (1, C, H, W) in [0, 1]; yields the best until then at regular intervals.

    It starts from the draws that look most like the image, and follows the gradient of the squared error; the worse
    half of them is dropped after each third of the steps. A latent stays about as long as those that are drawn.

    Args:
        space: Of any model that can be differentiated.
        x: The image.
        label: Its class; without one, whatever class the most similar draws have.
        steps: Of the gradient descent.
        every: Steps between two yields.

    Raises:
        UserError: If the image is not of the model's shape, or there is no such class.

    References:
        Zhu et al., 2016, Generative visual manipulation on the natural image manifold, https://arxiv.org/abs/1609.03552
    """
    began = time.perf_counter()
    x = checked_images(space, x)[:1]
    points, images = candidates(space, label)
    flat = x.flatten(1)
    errors = (images.float() - flat).square().mean(1)
    nearest = errors.topk(min(STARTS, len(errors)), largest=False).indices
    best: tuple[float, Tensor] | None = None
    search = descent(
        space, points[nearest][None], lambda made: (made.flatten(1) - flat).square().mean(1), steps
    )
    for step, (points, error) in enumerate(search):
        lowest = int(error[0].argmin())
        if best is None or float(error[0, lowest]) < best[0]:
            best = float(error[0, lowest]), points[0, lowest]
        if step % every == 0 or step == steps:
            image = space.image(best[1])
            yield SearchStep(best[1], image, best[0], step / steps, time.perf_counter() - began)


def candidates(space: Space, label: int | None = None) -> tuple[Tensor, Tensor]:
    """Gives what :func:`bank` has of a class, or all of it without one; of a rare class, other draws.

    Raises:
        UserError: If there is no such class.
    """
    points, images = bank(space)
    if label is None or not space.classes:
        return points, images
    label = space.known(label)
    of_class = points[:, space.latent + label] > 0.5
    if int(of_class.sum()) >= 100:
        return points[of_class], images[of_class]

    def make() -> tuple[Tensor, Tensor]:
        points = space.draw(range(256), [label] * 256, seed=1)
        with torch.no_grad():
            return points, space.decode(points, quick=True).flatten(1).half()

    return remember(space, ("bank", label), make)


def _longest(space: Space) -> Tensor:
    """Gives the length that a latent may reach in a search."""
    longest = LONGEST * space.studied()[:, : space.latent].norm(dim=1).mean()
    if float(longest) == 0:  # a truncation of 0 leaves a single latent
        longest = torch.tensor(float(space.latent) ** 0.5)
    return longest


def descent(
    space: Space, points: Tensor, error: Callable[[Batch], Tensor], steps: int = STEPS
) -> Iterator[tuple[Tensor, Tensor]]:
    """Follows the gradient of an error from several points of each of several searches.

    The worse half of the points of each search is dropped after each third of the steps. A latent stays about as long
    as those that are drawn; classes stay what they are.

    Args:
        space: Of any model that can be differentiated.
        points: Where to begin, (searches, points, D + K).
        error: What is to become small, of images (N, …): (N,).
        steps: Of the gradient descent.

    Yields:
        Points (searches, points, D + K) and their errors (searches, points), before the first step and after each.
    """
    searches = len(points)
    z, shares = points.flatten(0, 1).split([space.latent, space.classes], 1)
    longest = _longest(space)
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    for step in range(steps + 1):
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            off = error(space.smooth(torch.cat([z, shares], 1)))
            (slope,) = torch.autograd.grad(off.sum(), z)
        off = off.detach().view(searches, -1)
        yield torch.cat([z, shares], 1).detach().unflatten(0, off.shape), off
        with torch.no_grad():  # Adam (Kingma and Ba, 2014) with a rate that falls along a cosine
            first = 0.9 * first + 0.1 * slope
            second = 0.99 * second + 0.01 * slope.square()
            unit = (first / (1 - 0.9 ** (step + 1))) / (
                (second / (1 - 0.99 ** (step + 1))).sqrt() + 1e-10
            )
            rate = 0.15 * (0.05 + 0.95 * (1 + np.cos(np.pi * step / steps)) / 2)
            z = z - rate * unit
            z = z * (longest / z.norm(dim=1, keepdim=True)).clamp_max(1)
            if step in (steps // 3, 2 * steps // 3) and off.shape[1] > 1:
                half = off.topk(off.shape[1] // 2, largest=False).indices  # (searches, points / 2)
                half = (
                    half + torch.arange(searches, device=z.device)[:, None] * off.shape[1]
                ).flatten()
                z, shares, first, second = z[half], shares[half], first[half], second[half]


def evolve(
    space: Space, x: Batch, label: int | None = None, *, rounds: int = ROUNDS, every: int = 10
) -> Iterator[SearchStep]:
    """Searches for the point of an image (1, C, H, W) in [0, 1] without gradients; yields as :func:`invert`.

    It starts from the draws that look most like the image, one of each class that is among them, and evolves a normal
    distribution of latents (:mod:`core.latent.evolution`); the best start goes on after a third of the rounds.

    Args:
        space: Of any model that decodes.
        x: The image.
        label: Its class; without one, whatever class the most similar draws have.
        rounds: Generations in all.
        every: Generations between two yields.

    Raises:
        UserError: If the image is not of the model's shape, or there is no such class.
    """
    began = time.perf_counter()
    x = checked_images(space, x)[:1]
    flat, longest = x.flatten(1), _longest(space)
    points, images = candidates(space, label)
    errors = (images.float() - flat).square().mean(1)
    starts = points[errors.topk(min(STARTS, len(errors)), largest=False).indices]
    if space.classes:
        kinds = starts[:, space.latent :].argmax(1).tolist()
        starts = starts[[kinds.index(kind) for kind in dict.fromkeys(kinds)][:KINDS]]
    else:
        starts = starts[:1]
    spread = float(space.spread.mean().clamp_min(1e-3)) / 3
    best: tuple[float, Tensor] | None = None

    def search(start: Tensor, spread: float, rounds: int, seed: int) -> Iterator[SearchStep]:
        nonlocal best, taken
        z, shares = start.split([space.latent, space.classes])

        def within(z: Tensor) -> Tensor:
            return z * (longest / z.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)

        @torch.no_grad()
        def error(z: Tensor) -> Tensor:
            inner = within(z)
            points = torch.cat([inner, shares.expand(len(z), -1)], 1)
            miss = (space.decode(points).flatten(1) - flat).square().mean(1)
            return miss + 1e-3 * (z - inner).square().sum(1)  # so that it comes back

        for found in minimise(error, z, spread, rounds=rounds, seed=seed):
            if best is None or found.value < best[0]:
                best = found.value, torch.cat([within(found.at[None])[0], shares])
            taken += 1
            if taken % every == 0 or taken == total:
                yield SearchStep(
                    best[1], space.image(best[1]), best[0], taken / total, time.perf_counter() - began
                )  # fmt: skip

    first = max(1, rounds // 3 // len(starts))
    total, taken = rounds, 0
    for seed, start in enumerate(starts):
        yield from search(start, spread, first, seed)
    assert best is not None
    yield from search(best[1], spread / 2, rounds - first * len(starts), len(starts))
