"""Steps that change colours and brightness."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from core.augment.catalogue import Configured, Draws, Params, augmentations, spread
from core.catalog import Config, knob
from core.tensors import Images, luminance


class AmountConfig(Config):
    """How far a step goes."""

    amount: float = knob(0.3, "Largest change; 0 changes nothing.", ge=0, le=1)


class Scaled(Configured[AmountConfig]):
    """A step that multiplies something by a factor about 1."""

    def draw(self, draws: Draws) -> Params:
        amount = self.config.amount
        return {"factor": draws.uniform("factor", low=1 - amount, high=1 + amount)}


def brighter(x: Images, factor: Tensor) -> Images:
    """Multiplies the brightness by one factor (N,) per image."""
    return (x * spread(factor)).clamp(0, 1)


def contrasted(x: Images, factor: Tensor) -> Images:
    """Moves pixels away from the mean brightness of their image, or towards it."""
    mean = luminance(x).mean((1, 2, 3), keepdim=True)
    return (mean + (x - mean) * spread(factor)).clamp(0, 1)


def coloured(x: Images, factor: Tensor) -> Images:
    """Moves colours away from grey, or towards it; grey images stay."""
    grey = luminance(x)
    return (grey + (x - grey) * spread(factor)).clamp(0, 1)


def equalised(x: Images) -> Images:
    """Spreads the brightness levels of each channel evenly; one that is constant stays."""
    flat = (x * 255).round().long().flatten(2).flatten(0, 1)  # (N C, H W)
    counts = torch.zeros(len(flat), 256, device=x.device).scatter_add_(
        1, flat, torch.ones(1, 1, device=x.device).expand(flat.shape)
    )
    below = counts.cumsum(1)
    first = counts.gather(1, flat.amin(1, keepdim=True))  # pixels at the lowest level
    table = (below - first) / (flat.shape[1] - first).clamp_min(1)
    made = table.gather(1, flat).clamp(0, 1).view_as(x)
    flat_ones = (counts.amax(1) == flat.shape[1]).view(*x.shape[:2], 1, 1)
    return torch.where(flat_ones, x, made)


def stretched(x: Images) -> Images:
    """Stretches the brightness of each channel to the full range; one that is constant stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp_min(1e-6), x)


def solarised(x: Images, threshold: Tensor) -> Images:
    """Inverts what is brighter than a threshold."""
    return torch.where(x > spread(threshold), 1 - x, x)


def posterised(x: Images, bits: Tensor) -> Images:
    """Keeps the highest bits of each level, 1 to 8."""
    step = spread(2.0 ** (8 - bits))
    fewer = torch.floor((x * 255).round() / step) * step / 255
    return torch.where(spread(bits) >= 8, x, fewer)


def _scaling(name: str, code: str) -> Callable[[type[Scaled]], type[Scaled]]:
    """Registers a step that multiplies by a factor, which a function of this module does."""
    return augmentations.add(
        name,
        "",
        AmountConfig,
        group="Colour",
        smooth=True,
        strength="amount",
        units={"factor": "×"},
        code=lambda c: f"{code}(x, random.uniform({1 - c.amount:g}, {1 + c.amount:g}))",
        torchvision=lambda c: f"v2.ColorJitter({name}={c.amount:g})",
    )


@_scaling("brightness", "brighter")
class Brightness(Scaled):
    """Makes the image brighter or darker by a factor."""

    def apply(self, x: Images, params: Params) -> Images:
        return brighter(x, params["factor"])


@_scaling("contrast", "contrasted")
class Contrast(Scaled):
    """Raises or lowers the contrast about the mean brightness."""

    def apply(self, x: Images, params: Params) -> Images:
        return contrasted(x, params["factor"])


@_scaling("saturation", "coloured")
class Saturation(Scaled):
    """Makes colours stronger or paler; a grey image stays as it is."""

    def apply(self, x: Images, params: Params) -> Images:
        return coloured(x, params["factor"])


class HueConfig(Config):
    """How far colours turn."""

    degrees: float = knob(20.0, "Largest turn of the colour circle.", ge=0, le=180, unit="°")


@augmentations.add(
    "hue",
    "Hue",
    HueConfig,
    group="Colour",
    smooth=True,
    strength="degrees",
    units={"angle": "°"},
    code=lambda c: f"turned(x, random.uniform({-c.degrees:g}, {c.degrees:g}))",
)
class Hue(Configured[HueConfig]):
    """Turns the colours about the grey axis; a grey image stays as it is."""

    def draw(self, draws: Draws) -> Params:
        degrees = self.config.degrees
        return {"angle": draws.uniform("angle", low=-degrees, high=degrees)}

    def apply(self, x: Images, params: Params) -> Images:
        if x.shape[1] == 1:
            return x
        angle = params["angle"] * (math.pi / 180)
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


@augmentations.add(
    "solarise",
    "Solarise",
    SolariseConfig,
    group="Colour",
    strength="threshold",
    neutral=1.0,
    units={"threshold": ""},
    code=lambda c: f"solarised(x, random.uniform({c.threshold:g}, 1))",
)
class Solarise(Configured[SolariseConfig]):
    """Inverts the bright parts, as an overexposed film does."""

    def draw(self, draws: Draws) -> Params:
        return {"threshold": draws.uniform("threshold", low=self.config.threshold)}

    def apply(self, x: Images, params: Params) -> Images:
        return solarised(x, params["threshold"])


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


class EqualiseConfig(Config):
    """How far the levels are spread."""

    amount: float = knob(1.0, "Share of the equalised image; 0 changes nothing.", ge=0, le=1)


@augmentations.add(
    "equalise",
    "Equalise",
    EqualiseConfig,
    group="Colour",
    strength="amount",
    chance=0.5,
    units={"amount": ""},
    code=lambda c: f"x.lerp(equalised(x), random.uniform(0, {c.amount:g}))",
)
class Equalise(Configured[EqualiseConfig]):
    """Spreads the brightness levels evenly, so that faint detail is seen."""

    def draw(self, draws: Draws) -> Params:
        return {"amount": draws.uniform("amount", high=self.config.amount)}

    def apply(self, x: Images, params: Params) -> Images:
        return x.lerp(equalised(x), spread(params["amount"]))
