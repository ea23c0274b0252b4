"""Steps that add noise, blur, sharpen and compress."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.augment.catalogue import Configured, Draws, Params, augmentations, spread
from core.catalog import Config, knob
from core.tensors import Images, noise, to_bytes


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


@augmentations.add(
    "blur",
    "Blur",
    BlurConfig,
    group="Noise and blur",
    smooth=True,
    strength="sigma",
    units={"sigma": " px"},
    code=lambda c: f"blurred(x, random.uniform(0, {c.sigma:g}))",
)
class Blur(Configured[BlurConfig]):
    """Blurs the image, as a camera out of focus does."""

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
    smooth=True,
    strength="amount",
    units={"amount": ""},
    code=lambda c: f"sharpened(x, 1 + random.uniform(0, {c.amount:g}))",
)
class Sharpen(Configured[SharpenConfig]):
    """Makes edges stand out."""

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
    code=lambda c: f"jpeg(x, round(100 - random.uniform(0, {c.loss})))",
)
class Jpeg(Configured[JpegConfig]):
    """Compresses the image as a camera does, with its blocks and rings; one image at a time."""

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
