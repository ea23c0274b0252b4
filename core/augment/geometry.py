"""Steps that move pixels: one matrix or field of displacements per image, one call for a batch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from core.augment.catalogue import Configured, Draws, Params, augmentations
from core.catalog import Config, knob
from core.tensors import Images

Fill = Literal["edge", "black", "mirror"]
PADDING = {"edge": "border", "black": "zeros", "mirror": "reflection"}


def fill_knob() -> Any:
    """Declares what stands where the image has moved away."""
    return knob(
        "edge",
        "What fills the gap: the colour at the edge, black, or the mirrored image.",
        title="Fill",
        advanced=True,
    )


def sampled(x: Images, grid: Tensor, fill: str) -> Images:
    """Reads images at points, (N, H, W, 2) in -1 … 1, between pixels linearly."""
    return F.grid_sample(x, grid, "bilinear", PADDING[fill], align_corners=False)


def pixels(x: Images) -> Tensor:
    """Gives the middles of the pixels of such images, (1, H, W, 2) in -1 … 1."""
    still = torch.eye(2, 3, device=x.device)[None]
    return F.affine_grid(still, [1, 1, *x.shape[2:]], align_corners=False)


def moved(x: Images, matrix: Tensor, fill: str) -> Images:
    """Moves images by one matrix each, (N, 2, 3), from points of the result to points of the image, in -1 … 1."""
    grid = F.affine_grid(matrix.to(x.dtype), list(x.shape), align_corners=False)
    return sampled(x, grid, fill)


def matrices(
    angle: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    shear: Tensor | None = None,
) -> Tensor:
    """Writes the matrices of :func:`moved` for turns, scales, shifts and shears about the middle.

    Args:
        angle: Degrees, against the clock, (N,).
        scale: Factor of the size, (N,).
        shift: Share of the size, to the right and down, (N, 2).
        shear: Degrees along x and y, (N, 2).

    Returns:
        Matrices, (N, 2, 3).
    """
    given = next(part for part in (angle, scale, shift, shear) if part is not None)
    one = torch.ones(len(given), device=given.device)
    turn = torch.zeros_like(one) if angle is None else angle * (math.pi / 180)
    cos, sin = turn.cos(), turn.sin()
    inner = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # (N, 2, 2)
    if shear is not None:
        x, y = torch.tan(shear * (math.pi / 180)).unbind(1)
        inner = inner @ torch.stack([torch.stack([one, x], 1), torch.stack([y, one], 1)], 1)
    if scale is not None:
        inner = inner / scale[:, None, None]
    move = torch.zeros_like(inner[:, :, :1])
    if shift is not None:
        move = -(inner @ (2 * shift)[:, :, None])
    return torch.cat([inner, move], 2)


def after(first: Tensor, second: Tensor) -> Tensor:
    """Joins two maps of :func:`moved`, (N, 2, 3) each, into the one that has the effect of both in turn."""
    joint = first[:, :, :2] @ second
    return torch.cat([joint[:, :, :2], joint[:, :, 2:] + first[:, :, 2:]], 2)


class Affine(Configured[Any], ABC):
    """A step that is one affine map per image, with a ``fill``; neighbours with the same read the image once."""

    @abstractmethod
    def matrix(self, params: Params, x: Images) -> Tensor:
        """Gives the map from points of the result to points of the image, in -1 … 1, (N, 2, 3)."""

    def apply(self, x: Images, params: Params) -> Images:
        return moved(x, self.matrix(params, x), self.config.fill)


_moving = partial(augmentations.add, group="Geometry", smooth=True)


class PlainConfig(Config):
    """A step without parameters."""


class Mirror(Configured[PlainConfig]):
    """A step that mirrors an image along one of its axes."""

    axis: int

    def draw(self, draws: Draws) -> Params:
        return {}

    def apply(self, x: Images, params: Params) -> Images:
        return x.flip(self.axis)


@_moving(
    "flip",
    "Mirror left and right",
    PlainConfig,
    chance=0.5,
    code=lambda c: "x.flip(2)",
    torchvision=lambda c: "v2.RandomHorizontalFlip(p=1)",
    albumentations=lambda c: "A.HorizontalFlip(p={p})",
)
class Flip(Mirror):
    """Mirrors the image left to right; not for digits, letters or anything with a reading direction."""

    axis = 3


@_moving(
    "flip_vertical",
    "Mirror top and bottom",
    PlainConfig,
    chance=0.5,
    code=lambda c: "x.flip(1)",
    torchvision=lambda c: "v2.RandomVerticalFlip(p=1)",
    albumentations=lambda c: "A.VerticalFlip(p={p})",
)
class FlipVertical(Mirror):
    """Mirrors the image top to bottom; for pictures taken from above, such as cells or satellites."""

    axis = 2


class RotateConfig(Config):
    """How far the image turns."""

    degrees: float = knob(15.0, "Largest turn to either side.", ge=0, le=180, unit="°")
    fill: Fill = fill_knob()


@_moving(
    "rotate",
    "Rotate",
    RotateConfig,
    strength="degrees",
    units={"angle": "°"},
    code=lambda c: (
        f"affine(x, angle=random.uniform({-c.degrees:g}, {c.degrees:g}), fill={PADDING[c.fill]!r})"
    ),
)
class Rotate(Affine):
    """Turns the image about its middle."""

    def draw(self, draws: Draws) -> Params:
        degrees = self.config.degrees
        return {"angle": draws.uniform("angle", low=-degrees, high=degrees)}

    def matrix(self, params: Params, x: Images) -> Tensor:
        return matrices(angle=params["angle"])


class TranslateConfig(Config):
    """How far the image moves."""

    share: float = knob(
        0.1, "Largest shift, as a share of the size, in each direction.", ge=0, le=1, title="Shift"
    )
    whole: bool = knob(
        False, "Shifts by whole pixels, so that nothing is blurred.", title="Whole pixels"
    )
    fill: Fill = fill_knob()


@_moving(
    "translate",
    "Shift",
    TranslateConfig,
    strength="share",
    units={"right": " of the width", "down": " of the height"},
    code=lambda c: (
        f"affine(x, shift=[{'round(' * c.whole}random.uniform({-c.share:g}, {c.share:g})"
        f"{' * n) / n' * c.whole} for n in x.shape[:0:-1]], fill={PADDING[c.fill]!r})"
    ),
)
class Translate(Affine):
    """Shifts the image sideways and up or down."""

    def draw(self, draws: Draws) -> Params:
        share = self.config.share
        right, down = draws.uniform("shift", 2, low=-share, high=share).unbind(1)
        return {"right": right, "down": down}

    def matrix(self, params: Params, x: Images) -> Tensor:
        shift = torch.stack([params["right"], params["down"]], 1)
        if self.config.whole:
            size = torch.tensor([x.shape[3], x.shape[2]], device=x.device)
            shift = (shift * size).round() / size
        return matrices(shift=shift)


class ScaleConfig(Config):
    """How far the image grows or shrinks."""

    share: float = knob(
        0.2, "Largest change of the size; 0.5 is half to one and a half.", ge=0, le=0.9
    )
    fill: Fill = fill_knob()


@_moving(
    "scale",
    "Zoom",
    ScaleConfig,
    strength="share",
    units={"factor": "×"},
    code=lambda c: (
        f"affine(x, scale=random.uniform({1 - c.share:g}, {1 + c.share:g}), fill={PADDING[c.fill]!r})"
    ),
)
class Scale(Affine):
    """Enlarges or shrinks what is seen, about the middle."""

    def draw(self, draws: Draws) -> Params:
        share = self.config.share
        return {"factor": draws.uniform("factor", low=1 - share, high=1 + share)}

    def matrix(self, params: Params, x: Images) -> Tensor:
        return matrices(scale=params["factor"])


class ShearConfig(Config):
    """How far the image slants."""

    degrees: float = knob(10.0, "Largest slant in each direction.", ge=0, le=60, unit="°")
    fill: Fill = fill_knob()


@_moving(
    "shear",
    "Slant",
    ShearConfig,
    strength="degrees",
    units={"across": "°", "down": "°"},
    code=lambda c: (
        f"affine(x, shear=[random.uniform({-c.degrees:g}, {c.degrees:g}) for _ in range(2)], "
        f"fill={PADDING[c.fill]!r})"
    ),
)
class Shear(Affine):
    """Slants the image, as italic letters are."""

    def draw(self, draws: Draws) -> Params:
        degrees = self.config.degrees
        across, down = draws.uniform("shear", 2, low=-degrees, high=degrees).unbind(1)
        return {"across": across, "down": down}

    def matrix(self, params: Params, x: Images) -> Tensor:
        return matrices(shear=torch.stack([params["across"], params["down"]], 1))


class CropConfig(Config):
    """How much of the image is cut away."""

    share: float = knob(
        0.3, "Largest share of the area that is cut away.", ge=0, le=0.95, title="Cut away"
    )
    stretch: float = knob(
        1.2, "Largest change of the aspect ratio; 1 keeps it.", ge=1, le=2, advanced=True
    )


@_moving(
    "crop",
    "Crop and enlarge",
    CropConfig,
    strength="share",
    units={"kept": " of the area", "aspect": ""},
    code=lambda c: f"cropped(x, random.uniform({1 - c.share:g}, 1), {c.stretch:g})",
)
class Crop(Configured[CropConfig]):
    """Cuts a part out and enlarges it to the full size.

    References:
        Szegedy et al., 2014, Going deeper with convolutions, https://arxiv.org/abs/1409.4842
    """

    def draw(self, draws: Draws) -> Params:
        kept = 1 - self.config.share * draws.uniform("kept")
        # the aspect may change only as far as the part still fits: none of it, where nothing is cut away
        most = torch.clamp(1 / kept, max=self.config.stretch).log()
        aspect = (draws.uniform("aspect", low=-1, high=1) * most).exp()
        right, down = draws.uniform("place", 2, low=-1, high=1).unbind(1)
        return {"kept": kept, "aspect": aspect, "_right": right, "_down": down}

    def apply(self, x: Images, params: Params) -> Images:
        side = params["kept"].sqrt()
        size = torch.stack([side * params["aspect"].sqrt(), side / params["aspect"].sqrt()], 1)
        middle = torch.stack([params["_right"], params["_down"]], 1) * (1 - size)  # of the part
        matrix = torch.cat([torch.diag_embed(size), middle[:, :, None]], 2)
        return moved(x, matrix, "edge")


class PerspectiveConfig(Config):
    """How far the corners move."""

    share: float = knob(
        0.2, "Largest shift of a corner, as a share of half the size.", ge=0, le=0.9, title="Tilt"
    )
    fill: Fill = fill_knob()


@_moving(
    "perspective",
    "Tilt",
    PerspectiveConfig,
    strength="share",
    units={"tilt": " of half the size"},
    code=lambda c: f"tilted(x, {c.share:g} * torch.rand(4, 2), {PADDING[c.fill]!r})",
)
class Perspective(Configured[PerspectiveConfig]):
    """Tilts the picture as if it were seen from the side."""

    def draw(self, draws: Draws) -> Params:
        corners = draws.uniform("corners", 4, 2) * self.config.share
        return {"tilt": corners.amax((1, 2)), "_corners": corners}

    def apply(self, x: Images, params: Params) -> Images:
        signs = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]], device=x.device)
        ends = signs * (1 - params["_corners"])  # (N, 4, 2), where the corners go
        starts = signs.expand_as(ends)
        plain = pixels(x)
        points = torch.cat([plain, torch.ones_like(plain[..., :1])], 3).view(1, -1, 3)
        points = points @ homographies(ends, starts).mT  # (N, H W, 3)
        grid = (points[..., :2] / points[..., 2:]).view(len(x), *x.shape[2:], 2)
        return sampled(x, grid, self.config.fill)


def homographies(start: Tensor, end: Tensor) -> Tensor:
    """Finds the projective maps of four points onto four others, (N, 4, 2) each, as matrices (N, 3, 3)."""
    (x, y), (u, v) = start.unbind(2), end.unbind(2)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    across = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], 2)
    down = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], 2)
    solved = torch.linalg.solve(torch.cat([across, down], 1), torch.cat([u, v], 1))  # (N, 8)
    return torch.cat([solved, torch.ones_like(solved[:, :1])], 1).view(-1, 3, 3)


class ElasticConfig(Config):
    """How far the image is bent."""

    share: float = knob(
        0.05, "Largest shift of a point, as a share of the size.", ge=0, le=0.3, title="Bend"
    )
    knots: int = knob(
        4, "Points along a side that move on their own; more bend finer.", ge=2, le=16
    )
    fill: Fill = fill_knob()


@_moving(
    "elastic",
    "Bend",
    ElasticConfig,
    strength="share",
    units={"bend": " of the size"},
    code=lambda c: (
        f"bent(x, {c.share:g} * (2 * torch.rand(2, {c.knots}, {c.knots}) - 1), {PADDING[c.fill]!r})"
    ),
)
class Elastic(Configured[ElasticConfig]):
    """Bends the image smoothly, as handwriting varies.

    References:
        Simard et al., 2003, Best practices for convolutional neural networks applied to visual document analysis
    """

    def draw(self, draws: Draws) -> Params:
        share, knots = self.config.share, self.config.knots
        field = draws.uniform("field", 2, knots, knots, low=-share, high=share)
        return {"bend": field.abs().amax((1, 2, 3)), "_field": field}

    def apply(self, x: Images, params: Params) -> Images:
        bend = F.interpolate(params["_field"], x.shape[2:], mode="bicubic", align_corners=True)
        return sampled(x, pixels(x) + 2 * bend.permute(0, 2, 3, 1), self.config.fill)
