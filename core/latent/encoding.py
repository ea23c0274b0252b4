"""Somebody's own image: prepared as the dataset's were, then found in the latent space."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core.catalog import UserError
from core.datasets import Dataset, pictures
from core.ground.settings import settings
from core.latent.space import Space, remember
from core.tensors import Images, to_bytes, to_float

CANVAS = 256  # pixels of a drawing that is looked at before it is made small
STARTS = 8  # samples that an inversion starts from
STEPS = 160  # of an inversion
LONGEST = 1.2  # length that a latent may reach in an inversion, over that of the draws


# --- What the model sees --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as the model sees it.

    Attributes:
        x: uint8 levels of the dataset, (C, H, W).
        levels: Of the dataset.
        notes: What was done to it, as sentences.
    """

    x: np.ndarray = field(repr=False)
    levels: int
    notes: tuple[str, ...] = ()

    @property
    def images(self) -> Images:
        """The image in [0, 1], (1, C, H, W)."""
        return to_float(torch.as_tensor(self.x[None]), self.levels)

    @property
    def seen(self) -> np.ndarray:
        """The image in bytes, uint8 0 … 255, (C, H, W)."""
        return to_bytes(self.images)[0]


def prepare(data: bytes | np.ndarray, dataset: Dataset) -> PreparedImage:
    """Prepares a picture in the way that the dataset's images were.

    Args:
        data: An uploaded picture (in any size, colour mode and EXIF rotation), or a drawing,
            uint8 (H, W), (H, W, 3) or (H, W, 4) with transparency.
        dataset: Digits are counted in blocks, MNIST is centred in a box; pictures of others are cut to a square.

    Raises:
        UserError: If it is no picture, too large, or a drawing without ink.
    """
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
    most = settings().upload_mb
    if len(data) > most * 2**20:
        raise UserError(
            f"The picture has {len(data) / 2**20:.0f} MB, and at most {most} MB are allowed. Send a smaller one."
        )
    preparation = PREPARATIONS.get(dataset.origin)
    found = pictures.decode(
        data,
        CANVAS if preparation else dataset.size,
        "grey" if preparation or dataset.channels == 1 else "colour",
        megapixels=settings().max_megapixels,
        span=pictures.span_of(dataset),
    )
    if isinstance(found, str):
        raise UserError(f"The picture {found}. Use a {pictures.KINDS} file.")
    image, (width, height) = found.pixels, found.was
    notes = list(found.notes)
    if width != height:
        notes.append(f"The middle square of {width} × {height} pixels was taken.")
    if preparation is None:
        x = image / 255
        if dataset.channels == 1 and _ground(x) > 0.5 and _dark(dataset):
            x = 1 - x
            notes.append("It was inverted, because the dataset's ground is dark.")
        notes.append(f"It was scaled to {dataset.size} × {dataset.size} pixels.")
    else:
        ink = image[0] / 255
        if _ground(ink[None]) > 0.5:
            ink = 1 - ink
            notes.append("Dark ink on bright ground was inverted.")
        ink = (ink - _ground(ink[None])).clip(0, 1)
        if ink.max() < 0.1:
            raise UserError(
                "There is no ink in the drawing. Draw a thick stroke on an empty ground, and try again."
            )
        ink = (ink / np.quantile(ink[ink > ink.max() / 2], 0.9)).clip(0, 1)
        x, note = preparation(ink, dataset.size)
        notes.append(note)
    return PreparedImage(to_bytes(torch.as_tensor(x), dataset.levels), dataset.levels, tuple(notes))


def _ground(x: np.ndarray) -> float:
    """Gives the median brightness of the border of an image (C, H, W)."""
    return float(
        np.median(np.concatenate([x[:, [0, -1]].ravel(), x[:, 1:-1][:, :, [0, -1]].ravel()]))
    )


def _dark(dataset: Dataset) -> bool:
    some = dataset.x[dataset.splits["train"][:200]] / (dataset.levels - 1)
    return float(np.mean([_ground(image) for image in some])) < 0.25


def _box(ink: np.ndarray) -> np.ndarray:
    """Cuts out the smallest box that holds the ink."""
    rows, columns = np.flatnonzero((ink > 0.3).any(1)), np.flatnonzero((ink > 0.3).any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _scaled(ink: np.ndarray, height: int, width: int, longest: bool = True) -> np.ndarray:
    """Scales ink to fit, with its proportions."""
    factor = min(height / ink.shape[0], width / ink.shape[1])
    size = (max(1, round(ink.shape[1] * factor)), max(1, round(ink.shape[0] * factor)))
    picture = Image.fromarray(ink.astype(np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(picture)


def counted(ink: np.ndarray, size: int = 8) -> tuple[np.ndarray, str]:
    """Fits ink into a bitmap of 32×32, and counts it in blocks of 4×4: levels 0 to 16, (1, 8, 8) over 16.

    References:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998
    """
    small = _scaled(_box(ink), 32, 32)
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
    small = _scaled(_box(ink), 20, 20)
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


PREPARATIONS: dict[str, Callable[[np.ndarray, int], tuple[np.ndarray, str]]] = {
    "digits": counted,
    "mnist": centred,
}
"""How the images of a source were made of pictures of ink, bright on dark in [0, 1], (H, W), with the size."""


# --- Encoding -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Encoded:
    """Images in the latent space.

    Attributes:
        points: Shape (N, D + K).
        original: The images, uint8 (N, C, H, W).
        recon: What the points decode to, uint8 (N, C, H, W).
        error: Mean squared error of the pixels in [0, 1], (N,).
        seconds: How long it took.
    """

    points: Tensor = field(repr=False)
    original: np.ndarray = field(repr=False)
    recon: np.ndarray = field(repr=False)
    error: np.ndarray
    seconds: float


def checked_images(space: Space, x: Images) -> Images:
    """Brings images onto the device.

    Raises:
        UserError: If their shape is not the model's, or a number is not finite.
    """
    spec = space.model.spec
    if x.ndim != 4 or x.shape[1:] != (spec.channels, spec.size, spec.size):
        raise UserError(
            f"This model makes images of {spec.channels} × {spec.size} × {spec.size} numbers, got "
            f"{' × '.join(map(str, x.shape[1:]))}. Prepare the picture for its dataset first."
        )
    if not bool(x.isfinite().all()):
        raise UserError("The image holds nan or infinity. Use one with numbers from 0 to 1.")
    return x.to(space.device, torch.float32).clamp(0, 1)


def encode(space: Space, x: Images, labels: Sequence[int] | None = None) -> Encoded:
    """Finds the latents of images in [0, 1], (N, C, H, W), by the model's own encoder, and decodes them again.

    Args:
        space: Of a model that encodes.
        x: The images.
        labels: Their classes, which a model that listens to classes should be told.

    Raises:
        UserError: If the model has no encoder, or the images are not of its shape.
    """
    x = checked_images(space, x)
    start = time.perf_counter()
    points = space.encode(x, labels)
    with torch.no_grad():
        recon = torch.cat([space.decode(part) for part in points.split(256)])
    error = (recon - x).square().flatten(1).mean(1).cpu().numpy()
    return Encoded(points, to_bytes(x), to_bytes(recon), error, time.perf_counter() - start)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Shows where images differ: the absolute difference, uint8, same shape."""
    return np.abs(a.astype(np.int16) - b).astype(np.uint8)


# --- Inversion ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SearchStep:
    """A state of the search for an image.

    Attributes:
        point: The best so far, (D + K,).
        image: What it decodes to, uint8 (C, H, W).
        error: Mean squared error of the pixels in [0, 1].
        done: Share of the search, 0 to 1.
        seconds: Since the search began.
    """

    point: Tensor = field(repr=False)
    image: np.ndarray = field(repr=False)
    error: float
    done: float
    seconds: float


def find(space: Space, x: Images, label: int | None = None, **options: int) -> Iterator[SearchStep]:
    """Finds an image (1, C, H, W): encodes it where the model can, which is one step, and else searches for it."""
    if not space.encodes:
        yield from invert(space, x, label, **options)
        return
    found = encode(space, x, None if label is None else [label] * len(x))
    yield SearchStep(found.points[0], found.recon[0], float(found.error[0]), 1.0, found.seconds)


def bank(space: Space) -> tuple[Tensor, Tensor]:
    """Decodes many draws once: points (M, D + K), and their images in [0, 1] as float16, (M, P)."""

    def make() -> tuple[Tensor, Tensor]:
        points = space.studied()
        with torch.no_grad():
            parts = [space.decode(part, quick=True).flatten(1) for part in points.split(256)]
        return points, torch.cat(parts).half()

    return remember(space, "bank", make)


def invert(
    space: Space,
    x: Images,
    label: int | None = None,
    *,
    steps: int = STEPS,
    every: int = 10,
    starts: int = STARTS,
) -> Iterator[SearchStep]:
    """Searches for the point of an image (1, C, H, W) in [0, 1]; yields the best so far, again and again.

    It starts from the draws that look most like the image, and follows the gradient of the squared error; the worse
    half of them is dropped at every third of the way. A latent stays near the lengths that are drawn.

    Args:
        space: Of any model that can be differentiated.
        x: The image.
        label: Its class; without one, whatever class the most similar draws have.
        steps: Of the gradient descent.
        every: Steps between two looks.
        starts: Draws to start from.

    Raises:
        UserError: If the image is not of the model's shape, or there is no such class.

    References:
        Zhu et al., 2016, Generative visual manipulation on the natural image manifold, https://arxiv.org/abs/1609.03552
    """
    began = time.perf_counter()
    x = checked_images(space, x)[:1]
    points, images = bank(space)
    if label is not None and space.classes:
        label = space.known(label)
        mine = points[:, space.latent + label] > 0.5
        if int(mine.sum()) < 100:  # a rare class is drawn anew
            points = space.draw(range(256), [label] * 256, seed=1)
            with torch.no_grad():
                images = space.decode(points, quick=True).flatten(1).half()
        else:
            points, images = points[mine], images[mine]
    flat = x.flatten(1)
    errors = (images.float() - flat).square().mean(1)
    best = errors.topk(min(starts, len(errors)), largest=False).indices
    z, shares = points[best].split([space.latent, space.classes], 1)
    longest = LONGEST * space.studied()[:, : space.latent].norm(dim=1).mean()
    if float(longest) == 0:  # a truncation of 0 leaves a single latent
        longest = torch.tensor(float(space.latent) ** 0.5)

    first, second = torch.zeros_like(z), torch.zeros_like(z)
    kept: tuple[float, Tensor] | None = None
    for step in range(steps + 1):
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            found = space.smooth(torch.cat([z, shares], 1)).flatten(1)
            error = (found - flat).square().mean(1)
            (slope,) = torch.autograd.grad(error.sum(), z)
        error = error.detach()
        lowest = int(error.argmin())
        if kept is None or float(error[lowest]) < kept[0]:
            kept = float(error[lowest]), torch.cat([z[lowest], shares[lowest]]).detach()
        if step % every == 0 or step == steps:
            image = space.image(kept[1])
            yield SearchStep(kept[1], image, kept[0], step / steps, time.perf_counter() - began)
        with torch.no_grad():  # Adam (Kingma and Ba, 2014) with a rate that falls along a cosine
            first = 0.9 * first + 0.1 * slope
            second = 0.99 * second + 0.01 * slope.square()
            unit = (first / (1 - 0.9 ** (step + 1))) / (
                (second / (1 - 0.99 ** (step + 1))).sqrt() + 1e-10
            )
            rate = 0.15 * (0.05 + 0.95 * (1 + np.cos(np.pi * step / steps)) / 2)
            z = z - rate * unit
            z = z * (longest / z.norm(dim=1, keepdim=True)).clamp_max(1)
            if step in (steps // 3, 2 * steps // 3) and len(z) > 1:
                keep = error.topk(len(z) // 2, largest=False).indices
                z, shares, first, second = z[keep], shares[keep], first[keep], second[keep]
