"""A decoder from outside: standard normal latents, and a space to walk in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from core.catalog import Config, knob
from core.models import Spec
from core.nets import labels_for
from core.tensors import Batch, Ids, noise
from core.wrapped import HasDecoder, HasEncoder, Wrapped, as_items, shares


class DecoderSampling(Config):
    """Choices when a decoder from outside draws images."""

    temperature: float = knob(
        1.0,
        "Spread of the latents: lower is more typical, higher more varied; 1 is what the decoder expects.",
        ge=0,
        le=1.5,
    )


class DecoderModel(Wrapped):
    """A network that turns standard normal numbers into images."""

    def __init__(self, net: HasDecoder, spec: Spec, classes: int) -> None:
        super().__init__(net, spec, classes)
        self.latent_dim = int(net.latent_dim)

    def raw(self, z: Tensor, y: Tensor | None) -> Any:
        """Gives what the network itself says of latents (N, D)."""
        return self.net.decode(z, shares(y, self.classes))

    def latent(self, ids: Ids, seed: int, sampling: DecoderSampling) -> Tensor:
        """Draws latents, (N, D)."""
        z = noise(seed, ids, (self.latent_dim,), "latent", device=self.anchor.device)
        return sampling.temperature * z

    def decode(self, z: Tensor, y: Tensor | None, sampling: DecoderSampling) -> Batch:
        """Turns latents (N, D) into images (N, C, H, W)."""
        return as_items(self.raw(z, y))

    @torch.no_grad()
    def sample(self, ids: Ids, y: Tensor | None, seed: int, sampling: DecoderSampling) -> Batch:
        """Makes the images with these ids of this seed, (N, C, H, W) in [0, 1]."""
        y = labels_for(self, ids, y, seed)
        return self.decode(self.latent(ids, seed, sampling), y, sampling)


class EncoderModel(DecoderModel):
    """A decoder with the way back."""

    def __init__(self, net: HasEncoder, spec: Spec, classes: int) -> None:
        super().__init__(net, spec, classes)

    def encode(self, x: Batch, y: Tensor | None, sampling: DecoderSampling) -> Tensor:
        """Turns images into latents (N, D)."""
        return self.net.encode(x, shares(y, self.classes)).float()
