"""Steps that change colours, add noise, blur, cut out and mix."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from core.augment.catalogue import (
    Context,
    Draws,
    Params,
    augmentations,
    luminance,
    needed,
    spread,
)
from core.catalog import Config, knob
from core.tensors import Images, noise, to_bytes


class AmountConfig(Config):
    """How far a step goes."""

    amount: float = knob(0.3, "Largest change; 0 changes nothing.", ge=0, le=1)


def _factor(draws: Draws, amount: float) -> Tensor:
    return draws.uniform("factor", low=1 - amount, high=1 + amount)


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


def sharpened(x: Images, factor: Tensor) -> Images:
    """Goes from a slightly blurred image (factor 0) over the image (1) to a sharper one (2)."""
    soft = blurred(x, torch.full_like(factor, 0.8))
    return (soft + (x - soft) * spread(factor)).clamp(0, 1)


def blurred(x: Images, sigma: Tensor) -> Images:
    """Blurs by a Gaussian whose standard deviation in px, (N,), may be 0; the edge is repeated by its weight."""
    rows, columns = (_kernel(sigma, size) for size in x.shape[2:])
    return (rows[:, None] @ x @ columns[:, None].mT).clamp(0, 1)  # sums of weights round


def _kernel(sigma: Tensor, size: int) -> Tensor:
    """Writes a blur along one side as a matrix per image, (N, size, size); each row sums to 1."""
    here = torch.arange(size, device=sigma.device, dtype=torch.float32)
    square = (here[:, None] - here).square()
    weights = torch.exp(-square / (2 * sigma.clamp_min(1e-3).square())[:, None, None])
    return weights / weights.sum(2, keepdim=True)


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


# --- Colour ---------------------------------------------------------------------------------------------------------


@augmentations.add(
    "brightness",
    "Brightness",
    AmountConfig,
    group="Colour",
    strength="amount",
    units={"factor": "×"},
    torchvision=lambda c: f"v2.ColorJitter(brightness={c.amount:g})",
    albumentations=lambda c: (
        f"A.RandomBrightnessContrast(brightness_limit={c.amount:g}, contrast_limit=0, p={{p}})"
    ),
)
class Brightness:
    """Makes the image brighter or darker by a factor."""

    def __init__(self, config: AmountConfig, context: Context) -> None:
        self.config = config

    def draw(self, draws: Draws) -> Params:
        return {"factor": _factor(draws, self.config.amount)}

    def apply(self, x: Images, params: Params) -> Images:
        return brighter(x, params["factor"])


@augmentations.add(
    "contrast",
    "Contrast",
    AmountConfig,
    group="Colour",
    strength="amount",
    units={"factor": "×"},
    torchvision=lambda c: f"v2.ColorJitter(contrast={c.amount:g})",
    albumentations=lambda c: (
        f"A.RandomBrightnessContrast(brightness_limit=0, contrast_limit={c.amount:g}, p={{p}})"
    ),
)
class Contrast:
    """Raises or lowers the contrast about the mean brightness."""

    def __init__(self, config: AmountConfig, context: Context) -> None:
        self.config = config

    def draw(self, draws: Draws) -> Params:
        return {"factor": _factor(draws, self.config.amount)}

    def apply(self, x: Images, params: Params) -> Images:
        return contrasted(x, params["factor"])


@augmentations.add(
    "saturation",
    "Saturation",
    AmountConfig,
    group="Colour",
    strength="amount",
    units={"factor": "×"},
    torchvision=lambda c: f"v2.ColorJitter(saturation={c.amount:g})",
    albumentations=lambda c: (
        f"A.ColorJitter(brightness=0, contrast=0, saturation={c.amount:g}, hue=0, p={{p}})"
    ),
)
class Saturation:
    """Makes colours stronger or paler; a grey image stays as it is."""

    def __init__(self, config: AmountConfig, context: Context) -> None:
        self.config = config

    def draw(self, draws: Draws) -> Params:
        return {"factor": _factor(draws, self.config.amount)}

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
    strength="degrees",
    units={"angle": "°"},
    torchvision=lambda c: f"v2.ColorJitter(hue={c.degrees / 360:g})",
    albumentations=lambda c: (
        f"A.HueSaturationValue({c.degrees / 2:g}, 0, 0, p={{p}})  # colour images only"
    ),
)
class Hue:
    """Turns the colours about the grey axis; a grey image stays as it is."""

    def __init__(self, config: HueConfig, context: Context) -> None:
        self.config = config

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
    torchvision=lambda c: (
        f"v2.Lambda(lambda x: x ** math.exp(random.uniform(-1, 1) * {math.log1p(c.amount):.4g}))"
    ),
    albumentations=lambda c: (
        f"A.RandomGamma(({100 / (1 + c.amount):.0f}, {100 * (1 + c.amount):.0f}), p={{p}})"
    ),
)
class Gamma:
    """Brightens or darkens the middle tones; black and white stay."""

    def __init__(self, config: AmountConfig, context: Context) -> None:
        self.config = config

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
    torchvision=lambda c: f"v2.Lambda(lambda x: F.solarize(x, random.uniform({c.threshold:g}, 1)))",
    albumentations=lambda c: f"A.Solarize(threshold_range=({c.threshold:g}, 1), p={{p}})",
)
class Solarise:
    """Inverts the bright parts, as an overexposed film does."""

    def __init__(self, config: SolariseConfig, context: Context) -> None:
        self.config = config

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
    torchvision=lambda c: (
        f"v2.Lambda(lambda x: F.posterize(F.to_dtype(x, torch.uint8, scale=True), "
        f"random.randint({c.bits}, 8)) / 255)"
    ),
    albumentations=lambda c: f"A.Posterize(num_bits=({c.bits}, 8), p={{p}})",
)
class Posterise:
    """Leaves fewer brightness levels."""

    def __init__(self, config: PosteriseConfig, context: Context) -> None:
        self.config = config

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
    torchvision=lambda c: (
        f"v2.Lambda(lambda x: torch.lerp(x, F.equalize(F.to_dtype(x, torch.uint8, scale=True)) / 255, "
        f"{c.amount:g} * random.random()))"
    ),
    albumentations=lambda c: "A.Equalize(p={p})",
)
class Equalise:
    """Spreads the brightness levels evenly, so that faint detail is seen."""

    def __init__(self, config: EqualiseConfig, context: Context) -> None:
        self.config = config

    def draw(self, draws: Draws) -> Params:
        return {"amount": draws.uniform("amount", high=self.config.amount)}

    def apply(self, x: Images, params: Params) -> Images:
        return x.lerp(equalised(x), spread(params["amount"]))


# --- Noise and blur -------------------------------------------------------------------------------------------------


class NoiseConfig(Config):
    """How strong the noise is."""

    sigma: float = knob(
        0.1, "Largest standard deviation, where black is 0 and white is 1.", ge=0, le=1
    )


@augmentations.add(
    "noise",
    "Noise",
    NoiseConfig,
    group="Noise and blur",
    strength="sigma",
    units={"sigma": ""},
    torchvision=lambda c: (
        f"v2.Lambda(lambda x: (x + torch.randn_like(x) * random.uniform(0, {c.sigma:g})).clamp(0, 1))"
    ),
    albumentations=lambda c: f"A.GaussNoise(std_range=(0, {c.sigma:g}), p={{p}})",
)
class Noise:
    """Adds Gaussian noise to every pixel."""

    def __init__(self, config: NoiseConfig, context: Context) -> None:
        self.config = config

    def draw(self, draws: Draws) -> Params:
        return {"sigma": draws.uniform("sigma", high=self.config.sigma), "_key": draws.keys()}

    def apply(self, x: Images, params: Params) -> Images:
        grain = noise(0, params["_key"], x.shape[1:], "grain", device=x.device)
        return (x + spread(params["sigma"]) * grain).clamp(0, 1)


class ShareConfig(Config):
    """How many pixels are lost."""

    share: float = knob(0.05, "Largest share of the pixels.", ge=0, le=1)


@augmentations.add(
    "salt_pepper",
    "Salt and pepper",
    ShareConfig,
    group="Noise and blur",
    strength="share",
    units={"share": " of the pixels"},
    torchvision=lambda c: (
        "v2.Lambda(lambda x: salt_pepper(x, random.uniform(0, " + f"{c.share:g})))"
    ),
    albumentations=lambda c: f"A.SaltAndPepper(amount=(0, {c.share:g}), p={{p}})",
)
class SaltPepper:
    """Turns some pixels black and some white."""

    def __init__(self, config: ShareConfig, context: Context) -> None:
        self.config = config

    def draw(self, draws: Draws) -> Params:
        return {"share": draws.uniform("share", high=self.config.share), "_key": draws.keys()}

    def apply(self, x: Images, params: Params) -> Images:
        shape = (1, *x.shape[2:])
        u = noise(0, params["_key"], shape, "salt", uniform=True, device=x.device)
        half = spread(params["share"] / 2)
        return torch.where(u < half, 0.0, torch.where(u > 1 - half, 1.0, x))


class BlurConfig(Config):
    """How far the image is blurred."""

    sigma: float = knob(1.5, "Largest standard deviation of the blur.", ge=0, le=10, unit="px")


@augmentations.add(
    "blur",
    "Blur",
    BlurConfig,
    group="Noise and blur",
    strength="sigma",
    units={"sigma": " px"},
    torchvision=lambda c: (
        f"v2.GaussianBlur({2 * math.ceil(2 * c.sigma) + 1}, (0.01, {max(c.sigma, 0.01):g}))"
    ),
    albumentations=lambda c: (
        f"A.GaussianBlur(blur_limit=0, sigma_limit=(0.01, {max(c.sigma, 0.01):g}), p={{p}})"
    ),
)
class Blur:
    """Blurs the image, as a camera out of focus does."""

    def __init__(self, config: BlurConfig, context: Context) -> None:
        self.config = config

    def draw(self, draws: Draws) -> Params:
        return {"sigma": draws.uniform("sigma", high=self.config.sigma)}

    def apply(self, x: Images, params: Params) -> Images:
        return blurred(x, params["sigma"])


class SharpenConfig(Config):
    """How far the image is sharpened."""

    amount: float = knob(1.0, "Largest sharpening; 0 changes nothing.", ge=0, le=5)


@augmentations.add(
    "sharpen",
    "Sharpen",
    SharpenConfig,
    group="Noise and blur",
    strength="amount",
    units={"amount": ""},
    torchvision=lambda c: (
        f"v2.Lambda(lambda x: F.adjust_sharpness(x, 1 + random.uniform(0, {c.amount:g})))"
    ),
    albumentations=lambda c: f"A.Sharpen(alpha=(0, {min(1.0, c.amount):g}), p={{p}})",
)
class Sharpen:
    """Makes edges stand out."""

    def __init__(self, config: SharpenConfig, context: Context) -> None:
        self.config = config

    def draw(self, draws: Draws) -> Params:
        return {"amount": draws.uniform("amount", high=self.config.amount)}

    def apply(self, x: Images, params: Params) -> Images:
        return sharpened(x, 1 + params["amount"])


class JpegConfig(Config):
    """How far the image is compressed."""

    loss: int = knob(
        60, "Largest loss: 100 minus the quality; 0 leaves the image as it is.", ge=0, le=99
    )


@augmentations.add(
    "jpeg",
    "JPEG",
    JpegConfig,
    group="Noise and blur",
    strength="loss",
    slow=True,
    units={"quality": ""},
    torchvision=lambda c: (
        f"v2.Lambda(lambda x: F.jpeg(F.to_dtype(x, torch.uint8, scale=True), "
        f"random.randint({max(1, 100 - c.loss)}, 100)) / 255)"
    ),
    albumentations=lambda c: (
        f"A.ImageCompression(quality_range=({max(1, 100 - c.loss)}, 100), p={{p}})"
    ),
)
class Jpeg:
    """Compresses the image as a camera does, with its blocks and rings; one image at a time."""

    def __init__(self, config: JpegConfig, context: Context) -> None:
        self.config = config

    def draw(self, draws: Draws) -> Params:
        return {"quality": (100 - draws.uniform("loss", high=self.config.loss)).round()}

    def apply(self, x: Images, params: Params) -> Images:
        import io

        from PIL import Image

        made = []
        for image, quality in zip(to_bytes(x), params["quality"].tolist(), strict=True):
            out = io.BytesIO()
            picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
            picture.save(out, "JPEG", quality=int(quality))
            back = np.asarray(Image.open(out))
            made.append(back[None] if back.ndim == 2 else back.transpose(2, 0, 1))
        if not made:
            return x
        compressed = torch.from_numpy(np.stack(made)).to(x) / 255
        return torch.where(spread(params["quality"]) >= 100, x, compressed)


# --- Cut and mix ----------------------------------------------------------------------------------------------------


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
    strength="share",
    units={"covered": " of the area"},
    torchvision=lambda c: f"v2.RandomErasing(p=1, scale=(0.001, {max(c.share, 0.002):g}))",
    albumentations=lambda c: f"A.Erasing(scale=(0.001, {max(c.share, 0.002):g}), p={{p}})",
)
class Erase:
    """Covers a box, so that a model does not rely on one part.

    References:
        DeVries and Taylor, 2017, Cutout, https://arxiv.org/abs/1708.04552
        Zhong et al., 2017, Random erasing, https://arxiv.org/abs/1708.04896
    """

    def __init__(self, config: EraseConfig, context: Context) -> None:
        self.config = config

    def draw(self, draws: Draws) -> Params:
        covered = draws.uniform("covered", high=self.config.share)
        aspect = draws.uniform("aspect", low=-0.7, high=0.7).exp()
        right, down = draws.uniform("place", 2).unbind(1)
        return {
            "covered": covered,
            "_aspect": aspect,
            "_right": right,
            "_down": down,
            "_key": draws.keys(),
        }

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
    """Marks boxes that lie inside the image: places 0 to 1, sizes as shares; bool (N, H, W)."""
    sides = []
    for place, length, count in ((down, high, size[0]), (right, wide, size[1])):
        here = (torch.arange(count, device=place.device) + 0.5) / count
        start = place * (1 - length)
        sides.append((here >= start[:, None]) & (here < (start + length)[:, None]))
    return sides[0][:, :, None] & sides[1][:, None]


class ShuffleConfig(Config):
    """How fine the grid is."""

    tiles: int = knob(2, "Tiles along a side; 1 leaves the image as it is.", ge=1, le=8)


@augmentations.add(
    "grid_shuffle",
    "Shuffle tiles",
    ShuffleConfig,
    group="Cut and mix",
    strength="tiles",
    neutral=1,
    chance=0.3,
    torchvision=lambda c: f"v2.Lambda(lambda x: grid_shuffle(x, {c.tiles}))",
    albumentations=lambda c: f"A.RandomGridShuffle(grid=({c.tiles}, {c.tiles}), p={{p}})",
)
class GridShuffle:
    """Cuts the image into tiles and shuffles them; what does not fill a tile stays."""

    def __init__(self, config: ShuffleConfig, context: Context) -> None:
        self.config = config

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


def _shares(draws: Draws, alpha: float) -> Tensor:
    """Draws the share of the image itself, at least one half, (N,): the larger side of a Beta(alpha, alpha)."""
    u = draws.uniform("share")
    if alpha == 0:
        return torch.ones_like(u)
    from scipy.special import betaincinv

    drawn = torch.as_tensor(betaincinv(alpha, alpha, u.double().cpu().numpy())).to(u)
    return torch.maximum(drawn, 1 - drawn)


def _partners(draws: Draws, count: int) -> Tensor:
    return (draws.uniform("partner") * count).long().clamp(max=count - 1)


@augmentations.add(
    "mixup",
    "MixUp",
    MixConfig,
    group="Cut and mix",
    strength="alpha",
    needs=("images",),
    labels=True,
    units={"share": " of itself"},
    torchvision=lambda c: (
        f"# v2.MixUp(alpha={c.alpha:g}, num_classes=CLASSES): for a batch with labels"
    ),
    albumentations=lambda c: "# A.MixUp(reference_data=OTHERS, mix_coef_range=(0.5, 1), p={p})",
)
class MixUp:
    """Blends the image with another one, and their labels with the same share.

    References:
        Zhang et al., 2017, mixup: beyond empirical risk minimization, https://arxiv.org/abs/1710.09412
    """

    def __init__(self, config: MixConfig, context: Context) -> None:
        self.config, self.pool = config, needed(context, "MixUp")

    def draw(self, draws: Draws) -> Params:
        share = _shares(draws, self.config.alpha)
        return {"share": share, "_partner": _partners(draws, len(self.pool))}

    def apply(self, x: Images, params: Params) -> Images:
        other = self.pool[params["_partner"]].to(x)
        return other + (x - other) * spread(params["share"])


@augmentations.add(
    "cutmix",
    "CutMix",
    MixConfig,
    group="Cut and mix",
    strength="alpha",
    needs=("images",),
    labels=True,
    units={"share": " of itself"},
    torchvision=lambda c: (
        f"# v2.CutMix(alpha={c.alpha:g}, num_classes=CLASSES): for a batch with labels"
    ),
    albumentations=lambda c: "# CutMix has no equivalent",
)
class CutMix:
    """Puts a box of another image into this one, and mixes the labels by area.

    References:
        Yun et al., 2019, CutMix, https://arxiv.org/abs/1905.04899
    """

    def __init__(self, config: MixConfig, context: Context) -> None:
        self.config, self.pool = config, needed(context, "CutMix")

    def draw(self, draws: Draws) -> Params:
        side = (1 - _shares(draws, self.config.alpha)).sqrt()
        right, down = draws.uniform("place", 2).unbind(1)
        inside = box(self.pool.shape[2:], right, down, side, side)
        share = 1 - inside.float().mean((1, 2))  # what is really covered, to the pixel
        return {"share": share, "_inside": inside, "_partner": _partners(draws, len(self.pool))}

    def apply(self, x: Images, params: Params) -> Images:
        other = self.pool[params["_partner"]].to(x)
        return torch.where(params["_inside"][:, None], other, x)
