"""The fifteen common corruptions in five severities, batched on the device: "ImageNet-C-style".

Written from the published parameters for images of 224 px and scaled to the size at hand; frost and snow are drawn, not
pasted from photographs. So the numbers must not be compared with a published table of ImageNet-C.

References:
    Hendrycks and Dietterich, 2019, Benchmarking neural network robustness to common corruptions and perturbations,
    https://arxiv.org/abs/1903.12261
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from core import tensors
from core.catalog import UserError, unknown
from core.target import Target
from core.tensors import Images, luminance

SEVERITIES = (1, 2, 3, 4, 5)
Corruption = Callable[[Images, int, "Dice"], Tensor]


class Dice:
    """Random numbers that depend on the seed, the image's number and the stream alone."""

    def __init__(self, seed: int, ids: Tensor, device: torch.device) -> None:
        self.seed, self.ids, self.device = seed, ids, device

    def normal(self, shape: Sequence[int], stream: str) -> Tensor:
        """Draws standard normal numbers, (N, *shape)."""
        return tensors.noise(self.seed, self.ids, shape, stream, device=self.device)

    def uniform(self, shape: Sequence[int], stream: str) -> Tensor:
        """Draws numbers in (0, 1), (N, *shape)."""
        return tensors.noise(self.seed, self.ids, shape, stream, uniform=True, device=self.device)


def names() -> list[str]:
    """Lists the corruptions, in the order of the paper."""
    return list(_KINDS)


def title(name: str) -> str:
    """Writes a corruption's name for people.

    >>> title("gaussian_noise"), title("jpeg_compression")
    ('Gaussian noise', 'JPEG compression')
    """
    return name.replace("_", " ").capitalize().replace("Jpeg", "JPEG")


def corrupt(
    x: Images, name: str, severity: int, seed: int = 0, ids: Sequence[int] | Tensor | None = None
) -> Images:
    """Corrupts images; the same image, seed and number give the same result in any batch.

    Args:
        x: Images in [0, 1], (N, C, H, W).
        name: One of :func:`names`.
        severity: 1 to 5; 0 changes nothing.
        seed, ids: What random draws depend on; ids (N,).

    Raises:
        UserError: If there is no such corruption or severity.
    """
    if name not in _KINDS:
        raise UserError(unknown("corruption", name, _KINDS))
    if severity not in (0, *SEVERITIES):
        raise UserError(f"A severity must be 0 to 5, got {severity}. 0 changes nothing, 5 most.")
    if not severity:
        return x
    numbers = torch.arange(len(x)) if ids is None else torch.as_tensor(ids)
    draws = Dice(seed, numbers.to(x.device), x.device)
    return _KINDS[name](x, severity - 1, draws).clamp(0, 1)


def accuracy(
    target: Target, x: Images, y: Tensor, seed: int = 0, kinds: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Measures accuracy by corruption and severity, yielding the table as it grows.

    Yields:
        ``{"n", "clean", "accuracy": {name: [of severity 1 … 5]}, "mean"}``; the mean is over what is there.
    """
    target.medium.require("corruptions")
    x, y = x.to(target.device), y.to(target.device)
    clean = float((target.predict(x) == y).float().mean())
    table: dict[str, list[float]] = {}
    for name in kinds or names():
        for severity in SEVERITIES:
            right = 0
            for rows in torch.arange(len(x), device=x.device).split(target.batch):
                right += int(
                    (target.predict(corrupt(x[rows], name, severity, seed, rows)) == y[rows]).sum()
                )
            table.setdefault(name, []).append(right / len(x))
            flat = [value for row in table.values() for value in row]
            yield {
                "title": "ImageNet-C-style",
                "n": len(x),
                "clean": clean,
                "accuracy": {key: list(row) for key, row in table.items()},
                "mean": sum(flat) / len(flat),
            }


# --- Noise ----------------------------------------------------------------------------------------------------------


def _gaussian_noise(x: Images, level: int, draws: Dice) -> Tensor:
    return x + (0.08, 0.12, 0.18, 0.26, 0.38)[level] * draws.normal(x.shape[1:], "gaussian noise")


def _shot_noise(x: Images, level: int, draws: Dice) -> Tensor:
    """Counts photons: a Poisson draw by inversion, exact, from one uniform number per pixel."""
    photons = (60, 25, 12, 5, 3)[level]
    return poisson(x * photons, draws.uniform(x.shape[1:], "shot noise")) / photons


def poisson(mean: Tensor, u: Tensor) -> Tensor:
    """Draws counts with these means (at most about 80) from uniform numbers, by inverting the distribution."""
    most = int(float(mean.max()) + 10 * math.sqrt(float(mean.max()) + 1)) + 5
    chance = torch.exp(-mean.double())
    total, count = chance.clone(), torch.zeros_like(chance)
    for k in range(1, most):
        count += total < u
        chance = chance * mean / k
        total = total + chance
    return count.float()


def _impulse_noise(x: Images, level: int, draws: Dice) -> Tensor:
    amount = (0.03, 0.06, 0.09, 0.17, 0.27)[level]
    u = draws.uniform(x.shape[1:], "impulse noise")
    return torch.where(u < amount / 2, 0.0, torch.where(u > 1 - amount / 2, 1.0, x))


# --- Blur -----------------------------------------------------------------------------------------------------------


def _defocus_blur(x: Images, level: int, draws: Dice) -> Tensor:
    radius, soft = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[level]
    return convolve(x, disk(radius * _scale(x), soft))


def _glass_blur(x: Images, level: int, draws: Dice) -> Tensor:
    """Blurs, swaps each pixel with a near one some times, blurs again."""
    sigma, reach, turns = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[level]
    sigma = sigma * max(0.35, _scale(x) ** 0.5)
    reach = max(1, round(reach * _scale(x) ** 0.5))
    n, _, height, width = x.shape
    x = convolve(x, gaussian(sigma))
    rows = torch.arange(height, device=x.device).view(1, -1, 1)
    columns = torch.arange(width, device=x.device).view(1, 1, -1)
    for turn in range(turns):
        shift = (
            draws.uniform((2, height, width), f"glass {turn}") * (2 * reach + 1)
        ).floor() - reach
        row = (rows + shift[:, 0]).clamp(0, height - 1).long()
        column = (columns + shift[:, 1]).clamp(0, width - 1).long()
        index = (row * width + column).view(n, 1, -1).expand(-1, x.shape[1], -1)
        x = x.flatten(2).gather(2, index).view_as(x)
    return convolve(x, gaussian(sigma))


def _motion_blur(x: Images, level: int, draws: Dice) -> Tensor:
    """Smears along a line of a random angle, with weights that fall like a bell."""
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[level]
    radius, sigma = max(1, round(radius * _scale(x))), max(0.5, sigma * _scale(x))
    angle = torch.deg2rad(90 * draws.uniform((), "motion") - 45)
    return _smeared(x, radius, sigma, angle)


def _smeared(x: Images, radius: int, sigma: float, angle: Tensor) -> Tensor:
    steps = torch.arange(radius + 1, dtype=torch.float32, device=x.device)
    weights = torch.exp(-steps.square() / (2 * sigma**2))
    total = torch.zeros_like(x)
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        total += weight * _moved(x, step * angle.cos(), step * angle.sin())
    return total


def _moved(x: Images, right: Tensor, down: Tensor) -> Tensor:
    """Shifts images by pixels, (N,) each; the edge goes on outside."""
    one, zero = torch.ones_like(right), torch.zeros_like(right)
    first = torch.stack([one, zero, 2 * right / x.shape[3]], 1)
    second = torch.stack([zero, one, 2 * down / x.shape[2]], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _zoom_blur(x: Images, level: int, draws: Dice) -> Tensor:
    top, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[level]
    factors = [1 + step * k for k in range(math.ceil((top - 1) / step))]
    total = x.clone()
    for factor in factors:
        total += zoomed(x, factor)
    return total / (len(factors) + 1)


def zoomed(x: Images, factor: float) -> Tensor:
    """Enlarges the middle of images by a factor."""
    matrix = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]], dtype=x.dtype, device=x.device)
    grid = F.affine_grid(matrix.expand(len(x), -1, -1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


# --- Weather --------------------------------------------------------------------------------------------------------


def _snow(x: Images, level: int, draws: Dice) -> Tensor:
    mean, spread, zoom, cut, radius, sigma, keep = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[level]
    flakes = mean + spread * draws.normal((1, *x.shape[2:]), "snow")
    flakes = zoomed(flakes, 1 + (zoom - 1) * min(1.0, 4 * _scale(x)))
    flakes = flakes * (flakes >= cut)
    angle = torch.deg2rad(-135 + 90 * draws.uniform((), "wind"))
    scale = _scale(x)
    flakes = _smeared(
        flakes.clamp(0, 1), max(1, round(radius * scale)), max(0.5, sigma * scale), angle
    )
    white = torch.maximum(x, luminance(x) * 1.5 + 0.5)
    return keep * x + (1 - keep) * white + flakes + flakes.rot90(2, (2, 3))


def _frost(x: Images, level: int, draws: Dice) -> Tensor:
    """Lays ice over the image: here drawn as sharp ridges of a fractal, where the original has photographs."""
    keep, ice = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[level]
    ridges = 1 - (2 * plasma(x, draws, 2.0, "frost") - 1).abs()
    return keep * x + ice * ridges.square()


def _fog(x: Images, level: int, draws: Dice) -> Tensor:
    amount, decay = ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[level]
    top = x.flatten(1).amax(1).view(-1, 1, 1, 1)
    return (x + amount * plasma(x, draws, decay, "fog")) * top / (top + amount)


def plasma(x: Images, draws: Dice, decay: float, stream: str) -> Tensor:
    """Draws clouds in [0, 1], (N, 1, H, W): noise of every size, each finer one weaker by ``decay``."""
    size = 2 ** math.ceil(math.log2(max(x.shape[2:])))
    total = torch.zeros(len(x), 1, size, size, device=x.device)
    cells, weight = 2, 1.0
    while cells <= size:
        coarse = 2 * draws.uniform((1, cells, cells), f"{stream} {cells}") - 1
        total += weight * F.interpolate(
            coarse, size=(size, size), mode="bilinear", align_corners=True
        )
        cells, weight = cells * 2, weight / decay
    total = total[:, :, : x.shape[2], : x.shape[3]]
    low, high = (
        total.flatten(1).amin(1).view(-1, 1, 1, 1),
        total.flatten(1).amax(1).view(-1, 1, 1, 1),
    )
    return (total - low) / (high - low).clamp_min(1e-6)


def _brightness(x: Images, level: int, draws: Dice) -> Tensor:
    """Raises the value of hue, saturation and value: all channels by the same factor."""
    amount = (0.1, 0.2, 0.3, 0.4, 0.5)[level]
    value = x.amax(1, keepdim=True)
    raised = (value + amount).clamp(max=1)
    return torch.where(value > 0, x * raised / value.clamp_min(1e-6), raised)


# --- Digital --------------------------------------------------------------------------------------------------------


def _contrast(x: Images, level: int, draws: Dice) -> Tensor:
    amount = (0.4, 0.3, 0.2, 0.1, 0.05)[level]
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * amount + mean


def _elastic_transform(x: Images, level: int, draws: Dice) -> Tensor:
    """Bends the image by a smooth random field and a random affine map; the small published set, for 224 px."""
    alpha, sigma, affine = (
        (244 * 2, 244 * 0.7, 244 * 0.1),
        (244 * 2, 244 * 0.08, 244 * 0.2),
        (244 * 0.05, 244 * 0.01, 244 * 0.02),
        (244 * 0.07, 244 * 0.01, 244 * 0.02),
        (244 * 0.12, 244 * 0.01, 244 * 0.02),
    )[level]
    scale, size = _scale(x), x.shape[-1]
    field = 2 * draws.uniform((2, *x.shape[2:]), "elastic") - 1
    smooth = gaussian(max(0.3, sigma * scale), 3.0, limit=x.shape[-1])
    field = convolve(field, smooth) * alpha * scale
    # three corners of a triangle move; the map that takes them there moves the rest
    corners = (
        torch.tensor([[-1 / 3, -1 / 3], [1 / 3, -1 / 3], [-1 / 3, 1 / 3]], device=x.device) * 2
    )
    moved = corners + (2 * draws.uniform((3, 2), "affine") - 1) * affine / 244 * 2
    ones = torch.ones(3, 1, device=x.device)
    matrix = torch.linalg.solve(torch.cat([corners, ones], 1).expand(len(x), -1, -1), moved)
    grid = F.affine_grid(matrix.transpose(1, 2), list(x.shape), align_corners=False)
    grid = grid + field.permute(0, 2, 3, 1) * 2 / size
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _pixelate(x: Images, level: int, draws: Dice) -> Tensor:
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[level]
    small = max(1, round(x.shape[-1] * share))
    down = F.interpolate(x, (small, small), mode="area")
    return F.interpolate(down, x.shape[2:], mode="nearest")


def _jpeg_compression(x: Images, level: int, draws: Dice) -> Tensor:
    return jpeg(x, (25, 18, 15, 10, 7)[level])


LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *((99,) * 8,) * 4,
)  # fmt: skip


def jpeg(x: Images, quality: int) -> Images:
    """Rounds images as JPEG does: cosine transform of 8 px blocks, the standard's tables, colour at half resolution.

    References:
        ITU-T T.81, 1992, annex K
    """
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    height, width = x.shape[2:]
    edge = 16 if x.shape[1] == 3 else 8
    padded = F.pad(x * 255, (0, -width % edge, 0, -height % edge), mode="replicate")
    if x.shape[1] == 1:
        return (_blocks(padded - 128, LUMA, scale) + 128)[:, :, :height, :width].clamp(
            0, 255
        ).round() / 255
    r, g, b = padded.unbind(1)
    bright = 0.299 * r + 0.587 * g + 0.114 * b
    colour = torch.stack([(b - bright) / 1.772, (r - bright) / 1.402], 1)
    bright = _blocks(bright[:, None] - 128, LUMA, scale)[:, 0] + 128
    colour = _blocks(F.avg_pool2d(colour, 2), CHROMA, scale)
    blue, red = F.interpolate(colour, scale_factor=2, mode="bilinear").unbind(1)
    r, b = bright + 1.402 * red, bright + 1.772 * blue
    g = (bright - 0.299 * r - 0.114 * b) / 0.587
    out = torch.stack([r, g, b], 1)[:, :, :height, :width]
    return out.clamp(0, 255).round() / 255


def _blocks(x: Tensor, table: Sequence[Sequence[int]], scale: float) -> Tensor:
    """Quantises the cosine transform of 8×8 blocks."""
    steps = torch.tensor(table, dtype=x.dtype, device=x.device)
    steps = ((steps * scale + 50) / 100).floor().clamp(1, 255)
    k = torch.arange(8, dtype=x.dtype, device=x.device)
    cosines = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) / 2
    cosines[0] /= math.sqrt(2)
    n, channels, height, width = x.shape
    blocks = x.view(n, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    rounded = (cosines @ blocks @ cosines.T / steps).round() * steps
    return (cosines.T @ rounded @ cosines).transpose(3, 4).reshape(n, channels, height, width)


# --- Kernels --------------------------------------------------------------------------------------------------------


def _scale(x: Images) -> float:
    """Gives the size of the images as a share of the 224 px that the parameters were published for."""
    return x.shape[-1] / 224


def disk(radius: float, soft: float) -> Tensor:
    """Gives the kernel of a lens out of focus, with a softened edge, (K, K), sum 1."""
    reach = max(1, math.ceil(radius))
    line = torch.arange(-reach, reach + 1, dtype=torch.float32)
    far = (line[:, None].square() + line[None].square()).sqrt()
    kernel = (radius + 0.5 - far).clamp(0, 1)  # the edge covers pixels in part
    bell = torch.exp(-far.square() / (2 * max(soft, 1e-3) ** 2))
    kernel = F.conv2d(kernel[None, None], (bell / bell.sum())[None, None], padding=reach)[0, 0]
    return kernel / kernel.sum()


def gaussian(sigma: float, reach: float = 4.0, limit: int = 10_000) -> Tensor:
    """Gives a Gaussian kernel, (K, K), sum 1."""
    half = min(max(1, math.ceil(reach * sigma)), limit)
    line = torch.arange(-half, half + 1, dtype=torch.float32)
    bell = torch.exp(-line.square() / (2 * sigma**2))
    return bell[:, None] * bell[None] / bell.sum() ** 2


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolves every channel with one kernel; the edge is mirrored as far as the image reaches, then goes on."""
    half, channels = kernel.shape[-1] // 2, x.shape[1]
    mirrored = min(half, x.shape[-1] - 1, x.shape[-2] - 1)
    x = F.pad(x, (mirrored,) * 4, mode="reflect")
    if half > mirrored:
        x = F.pad(x, (half - mirrored,) * 4, mode="replicate")
    weights = kernel.to(x)[None, None].expand(channels, 1, -1, -1)
    return F.conv2d(x, weights, groups=channels)


_KINDS: dict[str, Corruption] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
