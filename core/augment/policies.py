"""Policies: operations and magnitudes that are drawn by a rule instead of being chosen one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from core.augment import colour, noise_blur
from core.augment.catalogue import Configured, Context, Draws, Params, augmentations, spread
from core.augment.geometry import PADDING, Fill, fill_knob, matrices, moved
from core.catalog import Config, knob
from core.tensors import Images


def _shift(x: Images, m: Tensor, fill: str, axis: int) -> Images:
    shift = torch.zeros(len(m), 2, device=m.device)
    shift[:, axis] = m * 0.45  # as 150 of 331 px in the papers
    return moved(x, matrices(shift=shift), fill)


def _slant(x: Images, m: Tensor, fill: str, axis: int) -> Images:
    shear = torch.zeros(len(m), 2, device=m.device)
    shear[:, axis] = torch.rad2deg(torch.atan(m * 0.3))
    return moved(x, matrices(shear=shear), fill)


# Each takes images, a magnitude of -1 … 1 for each, at which 0 changes nothing, and a fill.
OPERATIONS: dict[str, Callable[[Images, Tensor, str], Images]] = {
    "rotate": lambda x, m, fill: moved(x, matrices(angle=30 * m), fill),
    "shift x": lambda x, m, fill: _shift(x, m, fill, 0),
    "shift y": lambda x, m, fill: _shift(x, m, fill, 1),
    "slant x": lambda x, m, fill: _slant(x, m, fill, 0),
    "slant y": lambda x, m, fill: _slant(x, m, fill, 1),
    "brightness": lambda x, m, fill: colour.brighter(x, 1 + 0.9 * m),
    "contrast": lambda x, m, fill: colour.contrasted(x, 1 + 0.9 * m),
    "colour": lambda x, m, fill: colour.coloured(x, 1 + 0.9 * m),
    "sharpness": lambda x, m, fill: noise_blur.sharpened(x, 1 + 0.9 * m),
    "solarise": lambda x, m, fill: colour.solarised(x, 1 - m.abs()),
    "posterise": lambda x, m, fill: colour.posterised(x, 8 - (4 * m.abs()).round()),
    "equalise": lambda x, m, fill: x.lerp(colour.equalised(x), spread(m.abs())),
    "stretch": lambda x, m, fill: x.lerp(colour.stretched(x), spread(m.abs())),
    "invert": lambda x, m, fill: x.lerp(1 - x, spread(m.abs().ceil())),
}
NAMES = list(OPERATIONS)
COMMON = [NAMES.index(name) for name in NAMES if name != "invert"]  # of RandAugment
MIXED = [  # of AugMix, which leaves out what its test corruptions contain
    NAMES.index(name)
    for name in NAMES
    if name not in ("invert", "brightness", "contrast", "colour", "sharpness")
]


def operated(x: Images, operation: Tensor, magnitude: Tensor, fill: str) -> Images:
    """Applies to each image its own operation, by number (N,), at its own magnitude (N,); -1 applies none."""
    x = x.clone()
    for number, name in enumerate(NAMES):
        index = (operation == number).nonzero()[:, 0]
        if len(index):
            x[index] = OPERATIONS[name](x[index], magnitude[index], fill).clamp(0, 1)
    return x


class Policy(Configured[Any]):
    """A step that applies to each image the operations that were drawn for it, (N, K), one after the other."""

    def apply(self, x: Images, params: Params) -> Images:
        return self.in_turn(x, params["operation"], params["magnitude"])

    def in_turn(self, x: Images, operations: Tensor, magnitudes: Tensor) -> Images:
        """Applies operations by number, (N, K), at their magnitudes, (N, K)."""
        for operation, magnitude in zip(operations.unbind(1), magnitudes.unbind(1), strict=True):
            x = operated(x, operation, magnitude, self.config.fill)
        return x


def _named(numbers: list[int]) -> list[str]:
    return [NAMES[number] for number in numbers]


def _chosen(draws: Draws, count: int, allowed: list[int]) -> Tensor:
    """Draws operations, (N, count), each equally likely."""
    table = torch.tensor(allowed, device=draws.ids.device)
    return table[
        (draws.uniform("operation", count) * len(allowed)).long().clamp(max=len(allowed) - 1)
    ]


class RandAugmentConfig(Config):
    """How many operations, and how strong."""

    operations: int = knob(2, "Operations for each image, one after the other.", ge=1, le=4)
    magnitude: float = knob(4.0, "Strength of all of them; 0 changes nothing.", ge=0, le=10)
    fill: Fill = fill_knob()


@augmentations.add(
    "rand_augment",
    "RandAugment",
    RandAugmentConfig,
    group="Policies",
    strength="magnitude",
    code=lambda c: (
        f"several(x, {_named(COMMON)}, {c.operations}, {c.magnitude / 10:g}, {PADDING[c.fill]!r})"
    ),
)
class RandAugment(Policy):
    """Applies a few operations, drawn for each image, all at one strength.

    Unlike in the paper, the operations without a magnitude are blended in by it, so that 0 leaves the image as it is.

    References:
        Cubuk et al., 2019, RandAugment, https://arxiv.org/abs/1909.13719
    """

    def draw(self, draws: Draws) -> Params:
        count = self.config.operations
        operation = _chosen(draws, count, COMMON)
        sign = draws.uniform("sign", count).sub(0.5).sign()
        return {"operation": operation, "magnitude": sign * self.config.magnitude / 10}


class TrivialConfig(Config):
    """There is nothing to tune but the fill."""

    fill: Fill = fill_knob()


@augmentations.add(
    "trivial_augment",
    "TrivialAugment",
    TrivialConfig,
    group="Policies",
    code=lambda c: (
        f"operated(x, random.choice({['nothing', *_named(COMMON)]}), random.uniform(-1, 1), "
        f"{PADDING[c.fill]!r})"
    ),
)
class TrivialAugment(Policy):
    """Applies one operation at one strength, both drawn for each image; nothing to tune, and hard to beat.

    References:
        Müller and Hutter, 2021, TrivialAugment, https://arxiv.org/abs/2103.10158
    """

    def draw(self, draws: Draws) -> Params:
        return {
            "operation": _chosen(draws, 1, [-1, *COMMON]),
            "magnitude": draws.uniform("magnitude", 1, low=-1, high=1),
        }


class AutoAugmentConfig(Config):
    """Whose policy is used."""

    policy: Literal["cifar10", "imagenet", "svhn"] = knob(
        "cifar10", "The pictures that the policy was searched on: things, photographs, or digits."
    )
    fill: Fill = fill_knob()


# torchvision's names of the operations
_THEIRS = {
    "Rotate": "rotate",
    "TranslateX": "shift x",
    "TranslateY": "shift y",
    "ShearX": "slant x",
    "ShearY": "slant y",
    "Brightness": "brightness",
    "Contrast": "contrast",
    "Color": "colour",
    "Sharpness": "sharpness",
    "Solarize": "solarise",
    "Posterize": "posterise",
    "Equalize": "equalise",
    "AutoContrast": "stretch",
    "Invert": "invert",
}


def _pairs(policy: str) -> list[list[tuple[str, float, float]]]:
    """Lists the 25 pairs of a policy: name, probability and magnitude of each operation."""
    from torchvision.transforms import AutoAugment as Listed
    from torchvision.transforms import AutoAugmentPolicy

    return [
        [
            (_THEIRS[name], chance, 1.0 if step is None else round(step / 9, 4))
            for name, chance, step in pair
        ]
        for pair in Listed(AutoAugmentPolicy[policy.upper()]).policies
    ]


@augmentations.add(
    "auto_augment",
    "AutoAugment",
    AutoAugmentConfig,
    group="Policies",
    code=lambda c: f"paired(x, {_pairs(c.policy)}, {PADDING[c.fill]!r})",
)
class AutoAugment(Policy):
    """Applies one of 25 pairs of operations that a search found to help; the pair is drawn for each image.

    References:
        Cubuk et al., 2018, AutoAugment, https://arxiv.org/abs/1805.09501 (tables 7 to 9, as torchvision lists them)
    """

    def __init__(self, config: AutoAugmentConfig, context: Context) -> None:
        super().__init__(config, context)
        rows = [
            [(NAMES.index(name), chance, size) for name, chance, size in pair]
            for pair in _pairs(config.policy)
        ]
        self.table = torch.tensor(rows)  # (25, 2, 3): operation, probability, magnitude

    def draw(self, draws: Draws) -> Params:
        pair = (draws.uniform("pair") * len(self.table)).long().clamp(max=len(self.table) - 1)
        operation, chance, magnitude = self.table.to(pair.device)[pair].unbind(2)  # (N, 2) each
        operation = torch.where(draws.uniform("chance", 2) < chance, operation.long(), -1)
        return {
            "pair": pair.float(),
            "operation": operation,
            "magnitude": magnitude * draws.uniform("sign", 2).sub(0.5).sign(),
        }


class AugMixConfig(Config):
    """How strong the mixed chains are."""

    magnitude: float = knob(3.0, "Strength of the operations; 0 changes nothing.", ge=0, le=10)
    width: int = knob(3, "Chains that are mixed.", ge=1, le=5, advanced=True)
    fill: Fill = fill_knob()


@augmentations.add(
    "aug_mix",
    "AugMix",
    AugMixConfig,
    group="Policies",
    strength="magnitude",
    units={"kept": " of itself"},
    code=lambda c: (
        f"mixed(x, {_named(MIXED)}, {c.width}, {c.magnitude / 10:g}, {PADDING[c.fill]!r})"
    ),
)
class AugMix(Policy):
    """Mixes a few short chains of operations with the image; made for robustness to corruptions.

    References:
        Hendrycks et al., 2019, AugMix, https://arxiv.org/abs/1912.02781
    """

    DEPTH = 3

    def draw(self, draws: Draws) -> Params:
        width, depth = self.config.width, self.DEPTH
        operation = _chosen(draws, width * depth, MIXED).view(-1, width, depth)
        long = 1 + (draws.uniform("depth", width) * depth).long().clamp(max=depth - 1)
        beyond = torch.arange(depth, device=long.device) >= long[:, :, None]
        operation = torch.where(beyond, -1, operation)
        most = self.config.magnitude / 10
        magnitude = draws.uniform("magnitude", width, depth, low=-most, high=most)
        weights = -draws.uniform("weights", width).log()  # Dirichlet(1, …, 1) once they sum to 1
        return {
            "kept": draws.uniform("kept"),  # Beta(1, 1)
            "_operation": operation,
            "_magnitude": magnitude,
            "_weights": weights / weights.sum(1, keepdim=True),
        }

    def apply(self, x: Images, params: Params) -> Images:
        mixed = torch.zeros_like(x)
        for chain in range(self.config.width):
            part = self.in_turn(x, params["_operation"][:, chain], params["_magnitude"][:, chain])
            mixed = mixed + part * spread(params["_weights"][:, chain])
        return mixed.lerp(x, spread(params["kept"]))


def described(operation: Tensor, magnitude: Tensor) -> str:
    """Writes the operations of one image, (K,), with their magnitudes, (K,): ``rotate +0.4, colour -0.4``."""
    pairs = zip(operation.tolist(), magnitude.tolist(), strict=True)
    return ", ".join(f"{NAMES[i]} {size:+.2g}" for i, size in pairs if i >= 0) or "nothing"
