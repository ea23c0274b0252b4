"""From a sketch to a picture: what a person draws or uploads as a condition, and what a model makes of it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core.catalog import UserError
from core.datasets import Dataset, SecondImages, pictures, prepare
from core.ground.settings import settings
from core.models import Renders
from core.runs import Opened

FAR = 40  # of 255, that two colours of pencils differ at least in one channel
SAME = 1 / 255  # up to which two images count as one
LOOKED = 200  # second images whose colours are looked at


@dataclass(frozen=True, eq=False)
class Rendered:
    """A condition, what a model has made of it, and the truth where it is known.

    Attributes:
        condition: float32 (1 or 3, H, W) in [0, 1].
        image: float32 (C, H, W) in [0, 1].
        truth: The same; None for a condition that nobody knows the image of.
    """

    condition: np.ndarray = field(repr=False)
    image: np.ndarray = field(repr=False)
    truth: np.ndarray | None = field(default=None, repr=False)

    @property
    def error(self) -> float | None:
        """Mean squared difference to the truth, of a pixel in [0, 1]; None where it is not known."""
        if self.truth is None:
            return None
        return float(np.square(self.image - self.truth).mean())


def renders(model: Any) -> bool:
    """Says whether a model turns a second picture into an image."""
    return isinstance(model, Renders)


def render(opened: Opened, condition: Tensor, sampling: Any = None, seed: int = 0) -> Tensor:
    """Turns conditions (N, K, H, W) in [0, 1] into images (N, C, H, W), numbered from 0.

    Raises:
        UserError: If the model takes none, or conditions of another size or number of channels.
    """
    model = _able(opened)
    channels, size = model.conditions([0], 0).shape[1:3]
    if condition.shape[1:] != (channels, size, size):
        given = " × ".join(map(str, condition.shape[1:]))
        raise UserError(
            f"{opened.family} takes conditions of {channels} × {size} × {size}, got {given}. Scale it first."
        )
    where = next(model.parameters()).device
    return model.render(
        condition.to(where), range(len(condition)), None, seed, sampling or opened.usual
    ).cpu()


def held_out(
    opened: Opened, dataset: Dataset, index: int, sampling: Any = None, seed: int = 0
) -> Rendered:
    """Renders the condition of one item of a dataset, beside its truth.

    Args:
        opened: The model.
        dataset: What it was trained on.
        index: Of the item.
        sampling: How it draws; as the family advises if left out.
        seed: Of what it draws by chance.

    Raises:
        UserError: If the model takes none, or the dataset has no second images and it was trained on some.
    """
    told = condition_of(opened, dataset, np.array([index]))
    return Rendered(
        told[0].numpy(),
        render(opened, told, sampling, seed)[0].numpy(),
        dataset.images(np.array([index]))[0].numpy(),
    )


def condition_of(opened: Opened, dataset: Dataset, index: np.ndarray) -> Tensor:
    """Gives the conditions of items of a dataset, rows (n,), as (n, K, H, W).

    Raises:
        UserError: As :func:`held_out`.
    """
    model = _able(opened)
    if model.told and (dataset.pair is None or dataset.pair.channels != model.told):
        raise UserError(
            f"{opened.family} was trained on second images, and {dataset.name} has none that it could be "
            "told. Choose the dataset that it was trained on."
        )
    where = next(model.parameters()).device
    x = dataset.told(index, where) if model.told else dataset.images(index, where)
    return model.condition(x).cpu()


def drawn(
    opened: Opened,
    dataset: Dataset,
    data: bytes | np.ndarray,
    sampling: Any = None,
    seed: int = 0,
) -> Rendered:
    """Renders what a person has drawn or uploaded.

    A model that makes its conditions of images takes a file for an image, of which it makes one; a drawing is always
    the condition itself.

    Args:
        opened: The model.
        dataset: What it was trained on.
        data: A picture file; or a drawing, uint8 (H, W) or (H, W, 3).
        sampling, seed: As in :func:`held_out`.

    Raises:
        UserError: If it cannot be read, or the model takes none.
    """
    model = _able(opened)
    if isinstance(data, bytes) and not model.told:
        image = prepare(data, dataset).seen.to(next(model.parameters()).device)
        told = model.condition(image).cpu()
    else:
        channels, size = model.conditions([0], 0).shape[1:3]
        told = torch.as_tensor(_read(data, channels, size))[None]
    return Rendered(told[0].numpy(), render(opened, told, sampling, seed)[0].numpy())


def _read(data: bytes | np.ndarray, channels: int, size: int) -> np.ndarray:
    """Scales a condition, float32 (1 or 3, size, size) in [0, 1]."""
    if isinstance(data, np.ndarray):
        memory = io.BytesIO()
        # as thin lines of a fine drawing are drawn: each pixel is the mean of what it covers
        Image.fromarray(data).resize((size, size), Image.Resampling.BOX).save(memory, "PNG")
        data = memory.getvalue()
    if len(data) > settings().upload_mb * 2**20:
        raise UserError(
            f"The file has {len(data) / 2**20:.0f} MB, and at most {settings().upload_mb} MB are allowed. "
            "Send a smaller one."
        )
    kind = "grey" if channels == 1 else "colour"
    picture = pictures.decode(data, size, kind, megapixels=settings().max_megapixels)
    if isinstance(picture, str):
        raise UserError(f"The picture {picture}. Use a {pictures.KINDS} file.")
    return picture.pixels.astype(np.float32) / 255


def ground(conditions: np.ndarray) -> str:
    """Finds the colour of the paper: the most usual one of conditions, uint8 (N, 1 or 3, H, W), as ``#rrggbb``."""
    return _hex(_counted(conditions)[0])


def inks(conditions: np.ndarray, count: int = 16) -> list[str]:
    """Finds the colours of the pencils: the most usual ones of conditions that differ from the paper and each other.

    Args:
        conditions: uint8 (N, 1 or 3, H, W).
        count: At most.

    Returns:
        As ``#rrggbb``, the one that is seen best on the paper first; of grey ones only that.
    """
    colours = _counted(conditions)
    paper = colours[0]
    if conditions.shape[1] == 1:
        return ["#ffffff" if paper[0] < 128 else "#000000"]
    kept = [paper]
    for colour in colours[1:]:
        if all(np.abs(colour - other).max() >= FAR for other in kept):
            kept.append(colour)
        if len(kept) > count:
            break
    kept[1:] = sorted(kept[1:], key=lambda colour: -np.abs(colour - paper).sum())
    return [_hex(colour) for colour in kept[1:]] or ["#000000"]


def _counted(conditions: np.ndarray) -> np.ndarray:
    """Gives the colours of conditions, int (n, 1 or 3), the most usual first; alike ones are counted as one."""
    flat = conditions.transpose(0, 2, 3, 1).reshape(-1, conditions.shape[1])
    coarse, where, count = np.unique(flat >> 4, axis=0, return_inverse=True, return_counts=True)
    sums = np.stack(
        [np.bincount(where.ravel(), flat[:, c], len(coarse)) for c in range(flat.shape[1])], 1
    )
    order = np.argsort(-count, kind="stable")
    return (sums / count[:, None])[order].round().astype(int)


def _hex(colour: np.ndarray) -> str:
    values = np.broadcast_to(colour, 3)
    return "#" + "".join(f"{int(value):02x}" for value in values)


def sketches(opened: Opened, dataset: Dataset) -> np.ndarray:
    """Gives some conditions as they look, uint8 (n, 1 or 3, H, W), for :func:`ground` and :func:`inks`."""
    few = dataset.splits["train"][:LOOKED]
    return (condition_of(opened, dataset, few) * 255).round().to(torch.uint8).numpy()


def means(opened: Opened, dataset: Dataset | None) -> str:
    """Names what the model is told, for people: ``sketch``, ``edges``."""
    model = _able(opened)
    pair: SecondImages | None = dataset.pair if dataset is not None else None
    return pair.name if model.told and pair is not None else model.means


def varies(opened: Opened) -> bool:
    """Tells whether another seed makes another image of the same condition, by trying a few seeds."""
    told = torch.as_tensor(_able(opened).conditions([0], 0)).cpu()
    first, *others = (render(opened, told, seed=seed) for seed in range(4))
    return any(float((other - first).abs().max()) > SAME for other in others)


def _able(opened: Opened) -> Any:
    if not renders(opened.model):
        raise UserError(
            f"A {opened.family} is told no picture, so nothing can be made of one. Choose a run of a family that "
            "turns pictures into pictures."
        )
    return opened.model
