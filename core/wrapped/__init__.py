"""Networks from outside in the clothes of a family: what can do one thing gets all that follows from it.

A network that knows its velocity is sampled, encoded and traced as our own paths are; one that decodes has a latent
space to walk in; one that only samples is sampled. A class here has no method that its network cannot do, so that the
protocols of :mod:`core.models` tell what pages may offer.

What a network gets as ``y`` are shares of the classes, float32 (N, K) with rows that sum to 1, so that blends of
classes need no second way in; None stands for no class in particular.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.catalog import Config
from core.models import Spec
from core.tensors import Batch, Ids


@runtime_checkable
class HasVelocity(Protocol):
    """A network that knows the way from noise to data."""

    def velocity(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        """Expects ``data - noise`` at ``x = (1 - t) noise + t data``, images centred from -1 to 1, t (N,) in [0, 1]."""
        ...


@runtime_checkable
class HasDecoder(Protocol):
    """A network that turns rows of standard normal numbers into images."""

    latent_dim: int

    def decode(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Turns latents (N, latent_dim) into images (N, C, H, W) in [0, 1]."""
        ...


@runtime_checkable
class HasEncoder(HasDecoder, Protocol):
    """A network with the way back from an image to its latent."""

    def encode(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Turns images in [0, 1] into latents (N, latent_dim)."""
        ...


@runtime_checkable
class HasSampler(Protocol):
    """A network that draws images, and tells nothing of how."""

    def sample(self, ids: list[int], y: Tensor | None, seed: int, sampling: Config) -> Tensor:
        """Draws the images with these ids of this seed, (N, C, H, W) in [0, 1]."""
        ...


class Wrapped(nn.Module):
    """A network from outside, with what all of them need.

    Attributes:
        net: The network; a module, or anything with the methods that are asked of it.
        spec: What it makes.
        classes: How many classes it listens to.
    """

    def __init__(self, net: Any, spec: Spec, classes: int) -> None:
        super().__init__()
        self.net, self.spec, self.classes = net, spec, classes
        # a network without any numbers has a device all the same
        self.anchor = nn.Parameter(torch.zeros(()), requires_grad=False)

    def groups(self) -> list[Any]:
        """Lists no parameters: it is not trained here."""
        return []


def shares(y: Tensor | None, classes: int) -> Tensor | None:
    """Turns labels (N,) into shares of the classes (N, K), and leaves shares as they are; None without classes."""
    if y is None or not classes:
        return None
    return y if y.is_floating_point() else F.one_hot(y.long(), classes).float()


def rows_of(ids: Ids) -> list[int]:
    """Gives ids as plain numbers."""
    return ids.tolist() if isinstance(ids, Tensor) else list(ids)


def as_items(x: Batch) -> Batch:
    """Brings what a network drew into [0, 1], float32; it was looked at when it was brought."""
    return x.float().clamp(0, 1)


def raised(error: Exception) -> str:
    """Names an error of somebody else's program in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
