"""Steps that add noise, blur, sharpen and compress."""

from __future__ import annotations

import numpy as np
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
from core.tensors import Images, noise, to_bytes


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
    smooth=True,
    strength="sigma",
    units={"sigma": ""},
    code=lambda c: f"(x + random.uniform(0, {c.sigma:g}) * torch.randn_like(x)).clamp(0, 1)",
)
class Noise(Configured[NoiseConfig]):
    """Adds Gaussian noise to every pixel."""

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
    smooth=True,
    strength="share",
    units={"share": " of the pixels"},
    code=lambda c: f"salted(x, random.uniform(0, {c.share:g}))",
)
class SaltPepper(Configured[ShareConfig]):
    """Turns some pixels black and some white."""

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


@by_number(
    "blur",
    "Blur",
    BlurConfig,
    "sigma",
    lambda c: (0, c.sigma),
    unit=" px",
    group="Noise and blur",
    smooth=True,
    strength="sigma",
)
def blurred(x: Images, sigma: Tensor) -> Images:
    """Blurs the image, as a camera out of focus does."""
    # a Gaussian whose standard deviation may be 0; at the edge the weights that lie inside are scaled up to 1
    rows, columns = (_kernel(sigma, size) for size in x.shape[2:])
    return (rows[:, None] @ x @ columns[:, None].mT).clamp(0, 1)  # sums of weights round


def _kernel(sigma: Tensor, size: int) -> Tensor:
    """Writes a blur along one side as a matrix per image, (N, size, size); each row sums to 1."""
    pixel = torch.arange(size, device=sigma.device, dtype=torch.float32)
    square = (pixel[:, None] - pixel).square()
    weights = torch.exp(-square / (2 * sigma.clamp_min(1e-3).square())[:, None, None])
    return weights / weights.sum(2, keepdim=True)


class SharpenConfig(Config):
    """How far the image is sharpened."""

    amount: float = knob(1.0, "Largest sharpening; 0 changes nothing.", ge=0, le=5)


@by_number(
    "sharpen",
    "Sharpen",
    SharpenConfig,
    "amount",
    lambda c: (0, c.amount),
    group="Noise and blur",
    smooth=True,
    strength="amount",
    code=lambda c: f"sharpened(x, 1 + random.uniform(0, {c.amount:g}))",
)
def sharper(x: Images, amount: Tensor) -> Images:
    """Makes edges stand out."""
    return sharpened(x, 1 + amount)


def sharpened(x: Images, factor: Tensor) -> Images:
    """Goes from a slightly blurred image (factor 0) over the image (1) to a sharper one (2)."""
    soft = blurred(x, torch.full_like(factor, 0.8))
    return (soft + (x - soft) * spread(factor)).clamp(0, 1)


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
    code=lambda c: f"jpeg(x, round(100 - random.uniform(0, {c.loss})))",
)
class Jpeg(Configured[JpegConfig]):
    """Compresses the image as a camera does, with its blocks and rings; one image at a time."""

    def draw(self, draws: Draws) -> Params:
        return {"quality": (100 - draws.uniform("loss", high=self.config.loss)).round()}

    def apply(self, x: Images, params: Params) -> Images:
        import io

        from PIL import Image

        images = to_bytes(x)
        compressed = np.empty_like(images)
        for i, quality in enumerate(params["quality"].tolist()):
            image = images[i]
            file = io.BytesIO()
            picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
            picture.save(file, "JPEG", quality=int(quality))
            pixels = np.asarray(Image.open(file))
            compressed[i] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return torch.where(
            spread(params["quality"]) >= 100, x, torch.from_numpy(compressed).to(x) / 255
        )
