"""Steps that cover parts of an image, shuffle them, and mix in other images."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from core.augment.catalogue import (
    Configured,
    Context,
    Draws,
    Params,
    augmentations,
    needed,
    spread,
)
from core.catalog import Config, knob
from core.tensors import Images, noise


class EraseConfig(Config):
    """How much is covered."""

    share: float = knob(0.2, "Largest share of the area.", ge=0, le=1, title="Covered")
    fill: Literal["grey", "black", "noise"] = knob(
        "grey", "What covers it: the mean of the image, black, or noise."
    )


@augmentations.add(
    "erase",
    "Erase a box",
    EraseConfig,
    group="Cut and mix",
    smooth=True,
    strength="share",
    units={"covered": " of the area"},
    code=lambda c: f"erased(x, random.uniform(0, {c.share:g}), {c.fill!r})",
)
class Erase(Configured[EraseConfig]):
    """Covers a box, so that a model does not rely on one part.

    References:
        DeVries and Taylor, 2017, Cutout, https://arxiv.org/abs/1708.04552
        Zhong et al., 2017, Random erasing, https://arxiv.org/abs/1708.04896
    """

    def draw(self, draws: Draws) -> Params:
        covered = draws.uniform("covered", high=self.config.share)
        aspect = draws.uniform("aspect", low=-0.7, high=0.7).exp()
        right, down = draws.uniform("place", 2).unbind(1)
        box = {"covered": covered, "_aspect": aspect, "_right": right, "_down": down}
        return box | {"_key": draws.keys()}

    def apply(self, x: Images, params: Params) -> Images:
        side = params["covered"].sqrt()
        wide = (side * params["_aspect"].sqrt()).clamp(max=1.0)
        high = (params["covered"] / wide.clamp_min(1e-6)).clamp(max=1.0)
        wide = torch.where(high >= 1, params["covered"], wide)
        inside = box(x.shape[2:], params["_right"], params["_down"], wide, high)
        if self.config.fill == "noise":
            shape = x.shape[1:]
            cover = noise(0, params["_key"], shape, "cover", uniform=True, device=x.device)
        elif self.config.fill == "grey":
            cover = x.mean((2, 3), keepdim=True)
        else:
            cover = torch.zeros_like(x[:, :, :1, :1])
        return torch.where(inside[:, None], cover, x)


def box(size: Any, right: Tensor, down: Tensor, wide: Tensor, high: Tensor) -> Tensor:
    """Marks boxes inside images: positions 0 to 1 and sizes as shares, (N,) each; bool (N, H, W)."""
    sides = []
    for position, length, count in ((down, high, size[0]), (right, wide, size[1])):
        pixel = (torch.arange(count, device=position.device) + 0.5) / count
        start = position * (1 - length)
        sides.append((pixel >= start[:, None]) & (pixel < (start + length)[:, None]))
    return sides[0][:, :, None] & sides[1][:, None]


class ShuffleConfig(Config):
    """How fine the grid is."""

    tiles: int = knob(2, "Tiles along a side; 1 leaves the image as it is.", ge=1, le=8)


@augmentations.add(
    "grid_shuffle",
    "Shuffle tiles",
    ShuffleConfig,
    group="Cut and mix",
    smooth=True,
    strength="tiles",
    neutral=1,
    chance=0.3,
    code=lambda c: f"shuffled(x, {c.tiles})",
)
class GridShuffle(Configured[ShuffleConfig]):
    """Cuts the image into tiles and shuffles them; what does not fill a tile stays."""

    def draw(self, draws: Draws) -> Params:
        return {"_order": draws.uniform("order", self.config.tiles**2).argsort(1)}

    def apply(self, x: Images, params: Params) -> Images:
        tiles = self.config.tiles
        count, channels, height, width = x.shape
        high, wide = height // tiles, width // tiles
        if tiles == 1 or not high or not wide:
            return x
        part = x[:, :, : high * tiles, : wide * tiles]
        part = part.reshape(count, channels, tiles, high, tiles, wide).permute(0, 2, 4, 1, 3, 5)
        part = part.reshape(count, tiles**2, channels, high, wide)
        order = params["_order"][:, :, None, None, None].expand_as(part)
        part = part.gather(1, order).reshape(count, tiles, tiles, channels, high, wide)
        x = x.clone()
        x[:, :, : high * tiles, : wide * tiles] = part.permute(0, 3, 1, 4, 2, 5).reshape(
            count, channels, high * tiles, wide * tiles
        )
        return x


class MixConfig(Config):
    """How far two images are mixed."""

    alpha: float = knob(
        0.4, "Both parameters of the Beta distribution of the share; 0 does not mix.", ge=0, le=4
    )


class Mixing:
    """A step that mixes in another image of the dataset."""

    def __init__(self, config: MixConfig, context: Context) -> None:
        self.config, self.pool = config, needed(context, type(self).__name__)


def _shares(draws: Draws, alpha: float) -> Tensor:
    """Draws the share of the image itself, at least one half, (N,): the larger side of a Beta(alpha, alpha)."""
    u = draws.uniform("share")
    if alpha == 0:
        return torch.ones_like(u)
    from scipy.special import betaincinv

    # on the CPU, because a device may lack float64
    drawn = betaincinv(alpha, alpha, u.cpu().double().numpy())
    drawn = torch.as_tensor(drawn).float().to(u)
    return torch.maximum(drawn, 1 - drawn)


def _partners(draws: Draws, count: int) -> Tensor:
    return (draws.uniform("partner") * count).long().clamp(max=count - 1)


_mixing = partial(
    augmentations.add,
    config=MixConfig,
    group="Cut and mix",
    strength="alpha",
    needs=("images",),
    labels=True,
    units={"share": " of itself"},
    absent="mixes images and labels of a whole batch",
)


@_mixing("mixup", "MixUp")
class MixUp(Mixing):
    """Blends the image with another one, and their labels with the same share.

    References:
        Zhang et al., 2017, mixup: beyond empirical risk minimization, https://arxiv.org/abs/1710.09412
    """

    def draw(self, draws: Draws) -> Params:
        share = _shares(draws, self.config.alpha)
        return {"share": share, "_partner": _partners(draws, len(self.pool))}

    def apply(self, x: Images, params: Params) -> Images:
        other = self.pool[params["_partner"]].to(x)
        return other + (x - other) * spread(params["share"])


@_mixing("cutmix", "CutMix")
class CutMix(Mixing):
    """Puts a box of another image into this one, and mixes the labels by area.

    References:
        Yun et al., 2019, CutMix, https://arxiv.org/abs/1905.04899
    """

    def draw(self, draws: Draws) -> Params:
        side = (1 - _shares(draws, self.config.alpha)).sqrt()
        right, down = draws.uniform("place", 2).unbind(1)
        inside = box(self.pool.shape[2:], right, down, side, side)
        share = 1 - inside.float().mean((1, 2))  # what is really covered, to the pixel
        return {"share": share, "_inside": inside, "_partner": _partners(draws, len(self.pool))}

    def apply(self, x: Images, params: Params) -> Images:
        other = self.pool[params["_partner"]].to(x)
        return torch.where(params["_inside"][:, None], other, x)
