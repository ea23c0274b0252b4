"""How a sample is made: for each kind of model a view of what happens between latent and image."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.catalog import UserError
from core.latent.directions import layers, private
from core.latent.encoding import checked_images
from core.latent.space import Space, remember
from core.models import Layered, Spells, Spreads, Traces, Unrolls
from core.tensors import Batch

UNUSED = 0.01  # variance of a latent's mean over images below which it is dead (Burda et al., 2015)
MOST_UNITS = 1024


def views(space: Space) -> list[str]:
    """Lists the views that a model offers: ``denoising``, ``unrolled``, ``codes``, ``posterior``, ``activations``."""
    offered = {
        "denoising": Traces,
        "unrolled": Unrolls,
        "codes": Spells,
        "posterior": Spreads,
        "activations": Layered,
    }
    return [name for name, kind in offered.items() if isinstance(space.model, kind)]


def _needs(space: Space, kind: type, what: str) -> Any:
    if not isinstance(space.model, kind):
        raise UserError(
            f"This model has no {what}. Choose a view that it offers: {', '.join(views(space)) or 'none'}."
        )
    return space.model


# --- Diffusion ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Moment:
    """A step from noise to an image.

    Attributes:
        time: 0 is noise, 1 is the image.
        noisy: The image at that time, uint8 (C, H, W).
        clean: The image that the model expects at the end, uint8 (C, H, W).
    """

    time: float
    noisy: np.ndarray = field(repr=False)
    clean: np.ndarray = field(repr=False)


def denoising(space: Space, id: int, label: int | None = None, seed: int = 0) -> list[Moment]:
    """Follows one sample from noise to image, in all steps of its sampling.

    Raises:
        UserError: If the model does not sample by steps, or knows no such class.
    """
    model = _needs(space, Traces, "steps from noise to image")
    y = None if label is None else torch.tensor([space.known(label)], device=space.device)
    draw = space.medium.shown
    with torch.no_grad():
        return [
            Moment(time, draw(noisy)[0], draw(clean)[0])
            for time, noisy, clean in model.states([id], y, seed, space.sampling)
        ]


# --- Flow -----------------------------------------------------------------------------------------------------------


def unrolled(space: Space, point: Any) -> list[tuple[str, np.ndarray]]:
    """Shows what a latent would be as an image after each map of a flow, as (name, uint8 (C, H, W)).

    Raises:
        UserError: If the model is no chain of maps, or the point does not belong to it.
    """
    model = _needs(space, Unrolls, "chain of maps")
    z, y = space.split(space.checked(point)[:1])
    with torch.no_grad():
        return [(name, space.medium.shown(x)[0]) for name, x in model.unroll(z, y)]


# --- Layers with units ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Layer:
    """The activations of a layer of a decoder for one point.

    Attributes:
        name: For people, and for :func:`without`.
        units: How many there are.
        maps: One per unit, uint8 (units, h, w): grey is 0, brighter above, darker below; the strongest activation of
            the layer is white or black.
    """

    name: str
    units: int
    maps: np.ndarray = field(repr=False)


def activations(space: Space, point: Any) -> list[Layer]:
    """Records the activations of every layer of the decoder for one point.

    Raises:
        UserError: If the decoder has no layers to look into, or the point does not belong to the model.
    """
    _needs(space, Layered, "layers to look into")
    point = space.checked(point)[:1]
    with private(space) as model, torch.no_grad():
        modules = layers(model)
        seen: dict[str, Tensor] = {}

        def watch(name: str) -> Any:
            def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
                seen[name] = output

            return record

        hooks = [module.register_forward_hook(watch(name)) for name, module in modules]
        try:
            _private_decode(space, model, point)
        finally:
            for hook in hooks:
                hook.remove()
        result = []
        for name, module in modules:
            maps = _maps(seen[name], _units(model, module, seen[name]))[0]
            scaled = maps / max(float(maps.abs().max()), 1e-12) * 127 + 128
            grey = scaled.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
            result.append(Layer(name, len(maps), grey))
        return result


def without(space: Space, point: Any, off: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Decodes a point with some units switched off, uint8 (C, H, W).

    Args:
        space: Of a model with layers.
        point: Shape (D + K,).
        off: Units by the layer's name; their activations become 0.

    Raises:
        UserError: If there is no such layer or unit.
    """
    _needs(space, Layered, "layers to look into")
    point = space.checked(point)[:1]
    with private(space) as model, torch.no_grad():
        modules = dict(layers(model))
        hooks = []
        try:
            for name, units in off.items():
                hooks.append(_switch(model, modules, name, [list(units)]))
            return space.medium.shown(_private_decode(space, model, point))[0]
        finally:
            for hook in hooks:
                hook.remove()


def effects(space: Space, point: Any, layer: str, count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Switches off each unit of a layer alone, and ranks the units by how far this changes the image.

    Returns:
        The units with the largest effects, (count,), and the root mean square change of the pixels in [0, 1], (count,).

    Raises:
        UserError: If there is no such layer.
    """
    _needs(space, Layered, "layers to look into")
    point = space.checked(point)[:1]
    with private(space) as model, torch.no_grad():
        modules = dict(layers(model))
        total = next((a.units for a in activations(space, point) if a.name == layer), None)
        if total is None:
            raise _no_layer(layer, modules)
        usual = _private_decode(space, model, point)
        changes = []
        for part in torch.arange(min(total, MOST_UNITS)).split(128):
            hook = _switch(model, modules, layer, [[int(unit)] for unit in part])
            try:
                x = _private_decode(space, model, point.expand(len(part), -1))
            finally:
                hook.remove()
            changes.append((x - usual).square().flatten(1).mean(1).sqrt().cpu())
        change = torch.cat(changes).numpy()
        order = np.argsort(-change, kind="stable")[:count]
        return order, change[order]


def _no_layer(name: str, modules: Mapping[str, Any]) -> UserError:
    return UserError(f"There is no layer {name!r}. Choose one of: {', '.join(modules)}.")


def _private_decode(space: Space, model: Any, points: Tensor) -> Batch:
    """Decodes points as the space does, with the copy of its model that has hooks."""
    return replace(space, model=model).decode(points)


def _switch(
    model: Layered, modules: Mapping[str, nn.Module], name: str, off: list[list[int]]
) -> Any:
    """Hooks a layer so that row i of a batch is computed without the units ``off[i]``."""
    if name not in modules:
        raise _no_layer(name, modules)
    module = modules[name]

    def silence(_: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        maps = _maps(output, _units(model, module, output)).clone()
        for row, units in enumerate(off):
            for unit in units:
                if not 0 <= unit < maps.shape[1]:
                    raise UserError(
                        f"{name} has the units 0 to {maps.shape[1] - 1}, got {unit}. Choose another."
                    )
            maps[row, units] = 0
        return maps.view(output.shape)

    return module.register_forward_hook(silence)


def _units(model: Layered, module: nn.Module, output: Tensor) -> int:
    """Counts the units of a layer: its channels; of a vector that is reshaped to a grid next, those of the grid."""
    if output.ndim > 2:
        return output.shape[1]
    modules = [m for m in model.layered().modules() if not list(m.children())]
    for after in modules[modules.index(module) + 1 :]:
        if isinstance(after, nn.Linear):
            break
        if isinstance(after, nn.Conv2d | nn.ConvTranspose2d):
            side = math.isqrt(output.shape[1] // after.in_channels)
            if side**2 * after.in_channels == output.shape[1]:
                return after.in_channels
            break
    return output.shape[1]


def _maps(output: Tensor, units: int) -> Tensor:
    """Views the output of a layer as maps, (N, units, h, w)."""
    if output.ndim > 2:
        return output
    side = math.isqrt(output.shape[1] // units)
    return output.reshape(len(output), units, side, side)


# --- Codes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Token:
    """One code of a vocabulary.

    Attributes:
        use: Its share among the codes of the training images, 0 to 1.
        dead: Whether no training image has it.
        neighbours: The codes with the nearest vectors, nearest first.
    """

    use: float
    dead: bool
    neighbours: tuple[int, ...]


def code_map(space: Space, point: Any) -> np.ndarray:
    """Gives the codes of a point as they lie on the image, int64 (g, g)."""
    _needs(space, Spells, "codes")
    codes = space.codes(space.checked(point)[:1])[0]
    side = math.isqrt(len(codes))
    return codes.view(side, side).cpu().numpy()


def repaint(space: Space, codes: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """Draws codes (g, g): the image, uint8 (C, H, W), and the point, (D,).

    Raises:
        UserError: If the codes are not those of one image.
    """
    model = _needs(space, Spells, "codes")
    count = len(model.use()[0])
    codes = np.asarray(codes)
    if (
        codes.size != space.tokens
        or codes.dtype.kind not in "iu"
        or codes.min() < 0
        or codes.max() >= count
    ):
        raise UserError(
            f"An image has {space.tokens} codes from 0 to {count - 1}, got {codes.size} from "
            f"{codes.min() if codes.size else '-'} to {codes.max() if codes.size else '-'}. Start from a sample."
        )
    point = model.vectors(
        torch.as_tensor(codes.reshape(1, -1), dtype=torch.int64, device=space.device)
    )
    point = point.flatten(1).float()[0]
    return space.image(point), point


def token(space: Space, number: int, count: int = 8) -> Token:
    """Describes a code: how often it is used, and which ones are like it.

    Raises:
        UserError: If there is no such code.
    """
    model = _needs(space, Spells, "codes")
    share, dead = model.use()
    if not 0 <= number < len(share):
        raise UserError(f"The codes are 0 to {len(share) - 1}, got {number}. Choose another.")
    table = model.vectors(torch.arange(len(share), device=space.device)).float()
    far = (table - table[number]).norm(dim=1)
    order = far.argsort()[1 : count + 1] if int(far.argmin()) == number else far.argsort()[:count]
    return Token(float(share[number]), bool(dead[number]), tuple(order.tolist()))


def vocabulary(space: Space) -> np.ndarray:
    """Draws each code, as the middle of an image full of it, uint8 (V, C, h, w)."""
    model = _needs(space, Spells, "codes")

    def draw() -> np.ndarray:
        codes = torch.arange(len(model.use()[0]), device=space.device)
        side = max(2, -(-model.spec.size // math.isqrt(space.tokens)))
        start = (model.spec.size - side) // 2
        middle = slice(start, start + side)
        tiles = []
        with torch.no_grad():
            for part in codes.split(256):
                x = model.restore(part[:, None].expand(-1, space.tokens))
                tiles.append(space.medium.shown(x)[:, :, middle, middle])
        return np.concatenate(tiles)

    return remember(space, "vocabulary", draw)


# --- Posterior ------------------------------------------------------------------------------------------------------


def posterior(
    space: Space, x: Batch, others: Tensor, labels: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Describes the latents of an image (1, C, H, W), and which dimensions are dead on others (N, C, H, W).

    Args:
        space: Of a model with a distribution of latents per image.
        x: The image.
        others: Some hundred images of the dataset; they are encoded once per checkpoint.
        labels: The classes of the image, then of the others, for a model that listens to classes.

    Returns:
        Information that each dimension holds about the image, its KL divergence from the prior in nats, (D,), and
        which dimensions have the same mean for all images, bool (D,).

    Raises:
        UserError: If the model has no such distribution, or an image is not of its shape.

    References:
        Burda et al., 2015, Importance weighted autoencoders (active units), https://arxiv.org/abs/1509.00519
    """
    model = _needs(space, Spreads, "distribution of latents for an image")
    x = checked_images(space, x)[:1]

    def shares(images: Tensor, part: Sequence[int] | None) -> Tensor | None:
        y = None
        if part is not None and space.classes:
            y = torch.as_tensor([space.known(label) for label in part], device=space.device)
        return space.split(space.join(images.new_zeros(len(images), space.latent), y))[1]

    def variance() -> np.ndarray:
        images = checked_images(space, others)
        y = shares(images, None if labels is None else labels[1:])
        with torch.no_grad():
            means = torch.cat(
                [
                    model.spread(images[i], None if y is None else y[i])[0]
                    for i in torch.arange(len(images), device=space.device).split(256)
                ]
            )
        return means.std(0).cpu().numpy() ** 2

    key = hashlib.blake2b(others.cpu().numpy().tobytes()).hexdigest()
    dead = remember(space, ("posterior", key), variance) < UNUSED
    with torch.no_grad():
        mean, log_var = model.spread(x, shares(x, None if labels is None else labels[:1]))
    mean, log_var = mean[0].double(), log_var[0].double()
    kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var)
    return kl.cpu().numpy(), dead
