"""A visitor's own file or drawing as one item of a dataset, prepared as its items were."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from core.catalog import UserError
from core.datasets import pictures
from core.datasets.dataset import Dataset, Own, Source, datasets
from core.ground.settings import settings

if TYPE_CHECKING:
    from torch import Tensor

CANVAS = 256  # side to which ink is decoded before it is fitted into the size of a dataset


@dataclass(frozen=True, eq=False)
class PreparedItem:
    """An item as a dataset would hold it.

    Attributes:
        x: As it is stored, (…); of images uint8 levels (C, H, W).
        dataset: Whose item it could be.
        notes: What was done to it, as sentences.
    """

    x: np.ndarray = field(repr=False)
    dataset: Dataset
    notes: tuple[str, ...] = ()

    @property
    def item(self) -> Tensor:
        """The item alone, (1, …) in [0, 1]."""
        import torch

        return self.dataset.medium.read(torch.as_tensor(self.x[None]), self.dataset.levels)

    @property
    def seen(self) -> Tensor:
        """What a model sees of it, (1, …) in [0, 1]."""
        return self.dataset.medium.to_model(self.item)

    @property
    def picture(self) -> np.ndarray:
        """How it looks, uint8 (1 or 3, H, W)."""
        return self.dataset.medium.pictures(self.x[None], self.dataset.levels)[0]


def reader(dataset: Dataset) -> Source | None:
    """Finds the source that turns a visitor's own files into items of this dataset; None where there is none."""
    names = (dataset.origin, dataset.medium.source)
    sources = (datasets.get(name) for name in names if name in datasets)
    return next((source for source in sources if source.own), None)


def prepare(data: bytes | np.ndarray, dataset: Dataset) -> PreparedItem:
    """Prepares a visitor's own file or drawing as the dataset's items were.

    Args:
        data: A file, of images in any size, colour mode and EXIF rotation; or a drawing, uint8 (H, W), (H, W, 3) or
            (H, W, 4) with transparency.
        dataset: Digits are counted in blocks, MNIST is centred in a box; pictures of others are cut to a square.

    Raises:
        UserError: If it is too large, cannot be read or has no ink, or nothing reads files of this medium.
    """
    source = reader(dataset)
    if source is None or source.own is None:
        raise UserError(
            f"No file becomes an item of {dataset.name}: it holds {dataset.medium.title.lower()}, and nothing reads "
            "files of them yet. Take an item of the dataset."
        )
    most = settings().upload_mb
    if isinstance(data, bytes) and len(data) > most * 2**20:
        raise UserError(
            f"The file has {len(data) / 2**20:.0f} MB, and at most {most} MB are allowed. Send a smaller one."
        )
    x, notes = source.own(data, dataset)
    return PreparedItem(x, dataset, tuple(notes))


def _decoded(
    data: bytes | np.ndarray, dataset: Dataset, size: int, grey: bool
) -> tuple[np.ndarray, list[str]]:
    """Decodes a picture or a drawing to (1 or 3, size, size) in [0, 1]."""
    if isinstance(data, np.ndarray):
        if (
            data.dtype != np.uint8
            or data.ndim not in (2, 3)
            or data.shape[2:] not in ((), (3,), (4,))
        ):
            raise UserError(
                f"A drawing must be bytes of grey, RGB or RGBA, got {data.dtype} {data.shape}. Draw it again."
            )
        memory = io.BytesIO()
        Image.fromarray(data).save(memory, "PNG", compress_level=1)
        data = memory.getvalue()
    picture = pictures.decode(
        data,
        size,
        "grey" if grey else "colour",
        megapixels=settings().max_megapixels,
        span=pictures.span_of(dataset),
    )
    if isinstance(picture, str):  # why it cannot be read
        raise UserError(f"The picture {picture}. Use a {pictures.KINDS} file.")
    notes, (width, height) = list(picture.notes), picture.was
    if width != height:
        notes.append(f"The middle square of {width} × {height} pixels was taken.")
    return picture.pixels / 255, notes


def _levels(x: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Turns an image in [0, 1] into levels of the dataset."""
    import torch

    return dataset.medium.write(torch.as_tensor(x), dataset.levels)


def square(data: bytes | np.ndarray, dataset: Dataset) -> Own:
    """Cuts a picture to a square of the dataset's size."""
    x, notes = _decoded(data, dataset, dataset.size, dataset.channels == 1)
    if dataset.channels == 1 and _ground(x) > 0.5 and _dark(dataset):
        x = 1 - x
        notes.append("It was inverted, because the dataset's ground is dark.")
    notes.append(f"It was scaled to {dataset.size} × {dataset.size} pixels.")
    return _levels(x, dataset), notes


def ink(fit: Callable[[np.ndarray, int], tuple[np.ndarray, str]]) -> Callable[..., Own]:
    """Reads pictures of ink, which is brought to bright on dark in [0, 1], (H, W), and fitted into a size."""

    def read(data: bytes | np.ndarray, dataset: Dataset) -> Own:
        x, notes = _decoded(data, dataset, CANVAS, True)
        if _ground(x) > 0.5:
            x = 1 - x
            notes.append("Dark ink on bright ground was inverted.")
        drawn = (x[0] - _ground(x)).clip(0, 1)
        if drawn.max() < 0.1:
            raise UserError(
                "There is no ink in the drawing. Draw a thick stroke on an empty ground, and try again."
            )
        drawn = (drawn / np.quantile(drawn[drawn > drawn.max() / 2], 0.9)).clip(0, 1)
        x, note = fit(drawn, dataset.size)
        return _levels(x, dataset), [*notes, note]

    return read


def _ground(x: np.ndarray) -> float:
    """Gives the median brightness of the border of an image (C, H, W)."""
    return float(
        np.median(np.concatenate([x[:, [0, -1]].ravel(), x[:, 1:-1][:, :, [0, -1]].ravel()]))
    )


def _dark(dataset: Dataset) -> bool:
    """Tells whether the ground of the dataset's images is dark."""
    images = dataset.x[dataset.splits["train"][:200]] / (dataset.levels - 1)
    return float(np.mean([_ground(image) for image in images])) < 0.25


def _box(ink: np.ndarray) -> np.ndarray:
    """Cuts out the smallest box that holds the ink."""
    rows, columns = np.flatnonzero((ink > 0.3).any(1)), np.flatnonzero((ink > 0.3).any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _scaled(ink: np.ndarray, side: int) -> np.ndarray:
    """Scales ink to fit into a square, with its proportions."""
    factor = side / max(ink.shape)
    height, width = (max(1, round(length * factor)) for length in ink.shape)
    picture = Image.fromarray(ink.astype(np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX))


def counted(ink: np.ndarray, size: int = 8) -> tuple[np.ndarray, str]:
    """Fits ink into a bitmap of 32×32, and counts it in blocks of 4×4: levels 0 to 16, (1, 8, 8) over 16.

    References:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998
    """
    small = _scaled(_box(ink), 32)
    bitmap = np.zeros((32, 32))
    top, left = (32 - small.shape[0]) // 2, (32 - small.shape[1]) // 2
    bitmap[top : top + small.shape[0], left : left + small.shape[1]] = small > 0.5
    blocks = bitmap.reshape(8, 4, 8, 4).sum((1, 3)) / 16
    return blocks[None], "Its ink was fitted into 32 × 32 pixels and counted in blocks of 4 × 4."


def centred(ink: np.ndarray, size: int = 28) -> tuple[np.ndarray, str]:
    """Fits ink into a box of 20×20, and puts its centre of mass into the middle of 28×28; (1, size, size).

    References:
        LeCun et al., 1998, Gradient-based learning applied to document recognition (section III-A)
    """
    small = _scaled(_box(ink), 20)
    total = small.sum()
    row = (small.sum(1) * (np.arange(small.shape[0]) + 0.5)).sum() / total
    column = (small.sum(0) * (np.arange(small.shape[1]) + 0.5)).sum() / total
    field = np.zeros((28, 28), np.float32)
    top = int(np.clip(round(14 - row), 0, 28 - small.shape[0]))
    left = int(np.clip(round(14 - column), 0, 28 - small.shape[1]))
    field[top : top + small.shape[0], left : left + small.shape[1]] = small
    if size != 28:
        picture = Image.fromarray(field).resize((size, size), Image.Resampling.BICUBIC)
        field = np.asarray(picture).clip(0, 1)
    return (
        field[None],
        "Its ink was fitted into a box of 20 × 20 pixels, its centre of mass in the middle of 28 × 28.",
    )
