"""Steps that change colours and brightness."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from core.augment.catalogue import (
    Configured,
    Draws,
    Params,
    augmentations,
    by_number,
    spread,
)
from core.catalog import Config, knob
from core.tensors import Images, luminance


class AmountConfig(Config):
    """How far a step goes."""

    amount: float = knob(0.3, "Largest change; 0 changes nothing.", ge=0, le=1)


def _about_one(config: AmountConfig) -> tuple[float, float]:
    return 1 - config.amount, 1 + config.amount


_scaling = partial(
    by_number,
    config=AmountConfig,
    number="factor",
    bounds=_about_one,
    unit="×",
    group="Colour",
    smooth=True,
    strength="amount",
)


@_scaling("brightness", "", torchvision=lambda c: f"v2.ColorJitter(brightness={c.amount:g})")
def brighter(x: Images, factor: Tensor) -> Images:
    """Makes the image brighter or darker by a factor."""
    return (x * spread(factor)).clamp(0, 1)


@_scaling("contrast", "", torchvision=lambda c: f"v2.ColorJitter(contrast={c.amount:g})")
def contrasted(x: Images, factor: Tensor) -> Images:
    """Raises or lowers the contrast about the mean brightness."""
    mean = luminance(x).mean((1, 2, 3), keepdim=True)
    return (mean + (x - mean) * spread(factor)).clamp(0, 1)


@_scaling("saturation", "", torchvision=lambda c: f"v2.ColorJitter(saturation={c.amount:g})")
def coloured(x: Images, factor: Tensor) -> Images:
    """Makes colours stronger or paler; a grey image stays as it is."""
    grey = luminance(x)
    return (grey + (x - grey) * spread(factor)).clamp(0, 1)


class HueConfig(Config):
    """How far colours turn."""

    degrees: float = knob(20.0, "Largest turn of the colour circle.", ge=0, le=180, unit="°")


@by_number(
    "hue",
    "Hue",
    HueConfig,
    "angle",
    lambda c: (-c.degrees, c.degrees),
    unit="°",
    group="Colour",
    smooth=True,
    strength="degrees",
)
def turned(x: Images, degrees: Tensor) -> Images:
    """Turns the colours about the grey axis; a grey image stays as it is."""
    if x.shape[1] == 1:
        return x
    angle = degrees * (math.pi / 180)
    # Rodrigues' formula about the axis (1, 1, 1) / sqrt(3)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=x.device) / 3**0.5
    matrix = (
        cos * torch.eye(3, device=x.device)
        + sin * cross
        + (1 - cos) * torch.full((3, 3), 1 / 3, device=x.device)
    )
    return (matrix @ x.flatten(2)).view_as(x).clamp(0, 1)


@augmentations.add(
    "gamma",
    "Gamma",
    AmountConfig,
    group="Colour",
    strength="amount",
    units={"exponent": ""},
    code=lambda c: f"x ** math.exp(random.uniform(-1, 1) * {math.log1p(c.amount):.6g})",
)
class Gamma(Configured[AmountConfig]):
    """Brightens or darkens the middle tones; black and white stay."""

    def draw(self, draws: Draws) -> Params:
        most = math.log1p(self.config.amount)
        return {"exponent": draws.uniform("exponent", low=-most, high=most).exp()}

    def apply(self, x: Images, params: Params) -> Images:
        return x ** spread(params["exponent"])


class SolariseConfig(Config):
    """Which pixels are inverted."""

    threshold: float = knob(0.7, "Lowest brightness that is inverted; at 1 nothing is.", ge=0, le=1)


@by_number(
    "solarise",
    "Solarise",
    SolariseConfig,
    "threshold",
    lambda c: (c.threshold, 1),
    group="Colour",
    strength="threshold",
    neutral=1.0,
)
def solarised(x: Images, threshold: Tensor) -> Images:
    """Inverts the bright parts, as an overexposed film does."""
    return torch.where(x > spread(threshold), 1 - x, x)


class PosteriseConfig(Config):
    """How many levels remain."""

    bits: int = knob(4, "Fewest bits per colour that remain; 8 keeps all.", ge=1, le=8)


@augmentations.add(
    "posterise",
    "Posterise",
    PosteriseConfig,
    group="Colour",
    strength="bits",
    neutral=8,
    units={"bits": " bits"},
    code=lambda c: f"posterised(x, random.randint({c.bits}, 8))",
)
class Posterise(Configured[PosteriseConfig]):
    """Leaves fewer brightness levels."""

    def draw(self, draws: Draws) -> Params:
        low = self.config.bits
        return {"bits": draws.uniform("bits", low=low, high=9).floor().clamp(low, 8)}

    def apply(self, x: Images, params: Params) -> Images:
        return posterised(x, params["bits"])


def posterised(x: Images, bits: Tensor) -> Images:
    """Keeps the highest bits, 1 to 8 of each image, (N,), of each level."""
    step = spread(2.0 ** (8 - bits))
    fewer = torch.floor((x * 255).round() / step) * step / 255
    return torch.where(spread(bits) >= 8, x, fewer)


class EqualiseConfig(Config):
    """How far the levels are spread."""

    amount: float = knob(1.0, "Share of the equalised image; 0 changes nothing.", ge=0, le=1)


@by_number(
    "equalise",
    "Equalise",
    EqualiseConfig,
    "amount",
    lambda c: (0, c.amount),
    group="Colour",
    strength="amount",
    chance=0.5,
    code=lambda c: f"x.lerp(equalised(x), random.uniform(0, {c.amount:g}))",
)
def levelled(x: Images, amount: Tensor) -> Images:
    """Spreads the brightness levels evenly, so that faint detail is seen."""
    return x.lerp(equalised(x), spread(amount))


def equalised(x: Images) -> Images:
    """Spreads the brightness levels of each channel evenly; one that is constant stays."""
    levels = (x * 255).round().long().flatten(2).flatten(0, 1)  # (N C, H W)
    counts = torch.zeros(len(levels), 256, device=x.device).scatter_add_(
        1, levels, torch.ones(1, 1, device=x.device).expand(levels.shape)
    )
    lowest = counts.gather(1, levels.amin(1, keepdim=True))  # how many pixels have it
    table = (counts.cumsum(1) - lowest) / (levels.shape[1] - lowest).clamp_min(1)
    even = table.gather(1, levels).clamp(0, 1).view_as(x)
    constant = (counts.amax(1) == levels.shape[1]).view(*x.shape[:2], 1, 1)
    return torch.where(constant, x, even)


def stretched(x: Images) -> Images:
    """Stretches the brightness of each channel to the full range; one that is constant stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp_min(1e-6), x)
