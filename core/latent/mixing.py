"""The shape of one sample with the colours and textures of another: style mixing in a generator's own layers.

A generator whose every layer is modulated by its own copy of the latent takes the coarse layers from one sample and the
fine ones from another [1]. Ours takes the latent once, at its first layer, so that nothing can be exchanged later on;
what such a modulation would set, the mean and the spread of each channel over the picture, is exchanged instead [2].

References:
    [1] Karras et al., 2019, A style-based generator architecture for GANs, https://arxiv.org/abs/1812.04948
    [2] Huang and Belongie, 2017, Arbitrary style transfer with adaptive instance normalization, https://arxiv.org/abs/1703.06868
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from core.catalog import UserError
from core.latent.directions import layers, private
from core.latent.space import Space
from core.models import Layered
from core.tensors import Images

NO_LAYERS = (
    "The decoder of this model has no convolutional layers whose channels could be exchanged, so shape and colours "
    "cannot be told apart in it. Choose a GAN or a VAE of images above 8 px."
)


def mixable(space: Space) -> int:
    """Counts the layers from which on one sample can take the look of another; 0 where none can."""
    if not isinstance(space.model, Layered):
        return 0
    decoder = space.model.layered()
    if not any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in decoder.modules()):
        return 0
    return len(layers(space.model))


@torch.no_grad()
def mixed(space: Space, shapes: Tensor, looks: Tensor, first: int = 0) -> Images:
    """Gives samples the channels' means and spreads of others, from a layer on, (N, C, H, W).

    Args:
        space: Of a model whose decoder has convolutional layers.
        shapes: Points whose arrangement stays, (N, D + K).
        looks: Points whose colours and textures come, (N, D + K).
        first: The first layer that changes, from 0; a later one changes finer things.

    Raises:
        UserError: If the decoder has no such layers, there is no such layer, or a point is not one of the space.
    """
    count = mixable(space)
    if not count:
        raise UserError(NO_LAYERS)
    if not 0 <= first < count:
        raise UserError(
            f"The first layer must be from 0 to {count - 1}, got {first}. Choose one of them."
        )
    shapes, looks = space.checked(shapes), space.checked(looks)
    seen: list[tuple[Tensor, Tensor] | None] = []

    def look(module: nn.Module, given: Any, out: Tensor) -> None:
        seen.append(_style(out) if out.ndim == 4 else None)

    def take(module: nn.Module, given: Any, out: Tensor) -> Tensor:
        style = seen.pop(0)
        if style is None:
            return out
        mean, spread = _style(out)
        return (out - mean) / spread.clamp_min(1e-5) * style[1] + style[0]

    with private(space) as model:
        of_copy = replace(space, model=model)
        changed = [module for _, module in layers(model)[first:]]
        for hook, points in ((look, looks), (take, shapes)):
            hooks = [module.register_forward_hook(hook) for module in changed]
            try:
                x = of_copy.decode(points)
            finally:
                for each in hooks:
                    each.remove()
    return x.clamp(0, 1)


def _style(h: Tensor) -> tuple[Tensor, Tensor]:
    """Gives mean and spread of each channel (N, C, H, W), each (N, C, 1, 1)."""
    return h.mean((2, 3), keepdim=True), h.std((2, 3), keepdim=True)
