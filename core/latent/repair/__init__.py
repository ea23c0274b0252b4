"""Repair: what is not known of an item is filled in by a model, several times, so that it shows what cannot be known.

What is known is an orthogonal projection of the item (:class:`Known`): some of its pixels, or the mean of every block
of pixels, which is a smaller picture of it. So filling a hole, going on beyond an edge and enlarging are one problem,
and a method asks for nothing but that projection. One file in this folder is one method, of the file's name; it says
which models it fits, and :func:`fill` takes the first that does. Fill number k of a seed is the same, whatever is made
beside it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.catalog import Entry, Registry, UserError
from core.datasets import Dataset, pictures, prepare
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.latent.encoding import candidates, checked_images
from core.latent.projection import neighbours
from core.latent.space import Space
from core.media import Medium
from core.nets import labels_for
from core.tensors import Batch, noise

MOST = 64  # fills at once
TOGETHER = 8  # fills in one batch, always as many: the last digits of a result depend on the size of its batch
FACTORS = (2, 4)  # by how much a picture can be enlarged
FINEST = 0.02  # smallest error that a decoder is believed to make in a pixel
SETTLED = 1e-6  # largest error of a smaller picture when a fill is brought to it


# --- What is known --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of an item; made by :meth:`mask` or :meth:`smaller`.

    Attributes:
        pixels: Which pixels are known, bool: (H, W) of a picture, (T,) of a sequence, (D,) of a vector; None where the
            smaller picture is known.
        factor: How many pixels of the item a pixel of the smaller picture spans on each side; 1 for a mask.
    """

    pixels: Tensor | None = field(default=None, repr=False)
    factor: int = 1

    @classmethod
    def mask(cls, mask: Tensor | np.ndarray) -> Known:
        """Knows the pixels where a mask is true; the others are the hole.

        Raises:
            UserError: If it is no mask of true and false.
        """
        mask = torch.as_tensor(mask)
        if mask.dtype != torch.bool:
            raise UserError(
                f"A mask must hold true and false, got {str(mask.dtype).removeprefix('torch.')}. "
                "Compare the numbers with a threshold first."
            )
        return cls(mask.cpu())

    @classmethod
    def smaller(cls, factor: int) -> Known:
        """Knows the mean of every block of so many by so many pixels.

        Raises:
            UserError: If there is no such factor.
        """
        if factor not in FACTORS:
            raise UserError(
                f"A picture is enlarged by {' or '.join(map(str, FACTORS))}, got {factor}. Choose one of them."
            )
        return cls(None, factor)

    def check(self, shape: Sequence[int]) -> None:
        """Refuses items of a shape (…) that this cannot be known of.

        Raises:
            UserError: If the mask is of another size, or the blocks do not fit into the picture.
        """
        if self.pixels is not None:
            wanted = tuple(shape[1:]) or tuple(shape)
            if tuple(self.pixels.shape) != wanted:
                raise UserError(
                    f"The mask must have {' × '.join(map(str, wanted))} places, as the items of this model have, got "
                    f"{' × '.join(map(str, self.pixels.shape))}. Scale the mask first."
                )
        elif len(shape) != 3:
            raise UserError(
                "Only pictures can be enlarged, and this model makes something else. Repair a part of it instead."
            )
        elif any(side % self.factor for side in shape[1:]):
            raise UserError(
                f"Pictures of {shape[1]} × {shape[2]} pixels do not consist of blocks of {self.factor} × "
                f"{self.factor}. Choose another factor, or a model of another size."
            )

    def part(self, x: Batch) -> Batch:
        """Gives the known part of items (N, …), an orthogonal projection: 0 in a hole, each block's mean in it."""
        if self.pixels is not None:
            return x * self.pixels.to(x.device)
        return spread(F.avg_pool2d(x, self.factor), self.factor)

    def put(self, made: Batch, x: Tensor) -> Batch:
        """Brings items (N, …) to what is known of ``x`` (1, …): pixels exactly, means of blocks up to rounding."""
        if self.pixels is not None:
            return torch.where(self.pixels.to(x.device), x, made)
        wanted = self.part(x)
        for _ in range(200):  # in turns, the right means and the range of 0 to 1
            missing = wanted - self.part(made)
            if float(missing.abs().max()) < SETTLED:
                break
            made = (made + missing).clamp(0, 1)
        return made

    def error(self, made: Batch, x: Tensor) -> Tensor:
        """Gives how far items (N, …) are from what is known of ``x``: root mean square of pixels or of means, (N,)."""
        square = (self.part(made) - self.part(x)).square().flatten(1).mean(1)
        if self.pixels is not None:  # zeros of the hole do not count
            square = square / max(self.share(x.shape[1:]), 1e-12)
        return square.sqrt()

    def share(self, shape: Sequence[int]) -> float:
        """Gives the share of an item's numbers (…) that is known, 0 to 1."""
        return 1 / self.factor**2 if self.pixels is None else float(self.pixels.float().mean())

    def hole(self, shape: Sequence[int]) -> Tensor:
        """Tells which pixels of items of a shape (…) are not known themselves, bool, as a mask; all when enlarging."""
        if self.pixels is not None:
            return ~self.pixels
        return torch.ones(tuple(shape[1:]), dtype=torch.bool)


def spread(small: Batch, factor: int) -> Batch:
    """Makes a block of each pixel of pictures, (N, C, H, W) to (N, C, factor H, factor W)."""
    return small.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def holes(shape: Sequence[int], boxes: Sequence[Sequence[int]]) -> Known:
    """Knows all of a picture (C, H, W) but some boxes.

    Args:
        shape: Of what the model sees.
        boxes: Left, top, width and height of each, in pixels from the top left.

    Raises:
        UserError: If a box reaches out of the picture or is empty, or the model makes no pictures.
    """
    if len(shape) != 3:
        raise UserError(
            "A hole of x,y,w,h is one in a picture, and this model makes something else. In Python, Known.mask takes a "
            "mask of any items."
        )
    height, width = shape[1:]
    mask = torch.ones(height, width, dtype=torch.bool)
    for left, top, wide, high in boxes:
        if min(left, top) < 0 or min(wide, high) < 1 or left + wide > width or top + high > height:
            raise UserError(
                f"A hole must lie in the picture of {width} × {height} pixels, got {left},{top},{wide},{high}. "
                f"Write x,y,w,h from 0,0,1,1 to 0,0,{width},{height}."
            )
        mask[top : top + high, left : left + wide] = False
    return Known.mask(mask)


def painted(content: bytes, shape: Sequence[int]) -> Known:
    """Reads a mask from a picture file, white where the hole is; it is cut to a square and scaled to the model's size.

    Raises:
        UserError: If it cannot be read, or the model makes no pictures.
    """
    if len(shape) != 3:
        raise UserError(
            "A mask from a file is one of a picture, and this model makes something else. In Python, Known.mask takes "
            "a mask of any items."
        )
    picture = pictures.decode(content, shape[-1], "grey", megapixels=settings().max_megapixels)
    if isinstance(picture, str):
        raise UserError(
            f"The mask {picture}. Use a {pictures.KINDS} file, white where the hole is."
        )
    return Known.mask(picture.pixels[0] < 128)


def read_smaller(content: bytes, dataset: Dataset, factor: int) -> tuple[Batch, tuple[str, ...]]:
    """Reads a picture file that is to be enlarged: what the model sees (1, …), and what was done to it, as sentences.

    A file of exactly the smaller size is taken pixel by pixel; another one is prepared as the dataset's pictures were,
    and only the means of its blocks count.

    Raises:
        UserError: If it cannot be read, or is too large.
    """
    Known.smaller(factor).check(dataset.seen)
    small = dataset.size // factor
    kind = "grey" if dataset.channels == 1 else "colour"
    limit = settings()
    if len(content) <= limit.upload_mb * 2**20:
        picture = pictures.decode(content, small, kind, megapixels=limit.max_megapixels)
        if not isinstance(picture, str) and picture.was == (small, small):
            x = torch.as_tensor(picture.pixels[None] / np.float32(255), dtype=torch.float32)
            return spread(x, factor), (*picture.notes, f"Its {small} × {small} pixels were taken.")
    prepared = prepare(content, dataset)
    note = f"What is known of it are {small} × {small} means of {factor} × {factor} pixels."
    return prepared.seen, (*prepared.notes, note)


# --- Methods --------------------------------------------------------------------------------------------------------


# fills as the model makes them, (fills or more, …), and the share of the work that is done
Made = Iterator[tuple[Batch, float]]


@dataclass(frozen=True, eq=False)
class Incomplete:
    """An item with what is known of it, and the fills that are asked for.

    Attributes:
        space: Of the model.
        x: The item, (1, …) in [0, 1] on the model's device; only its known part counts.
        known: What is known of it.
        fills: How many fills; their ids are 0, 1, ….
        label: Its class; None where nobody says.
        seed: Of the fills.
        watch: Checked between two passes through the model.
    """

    space: Space
    x: Batch = field(repr=False)
    known: Known
    fills: int
    label: int | None
    seed: int
    watch: Watch

    def y(self, count: int) -> Tensor | None:
        """Gives the class as labels (N,); None where nobody says."""
        if self.label is None:
            return None
        return torch.full((count,), self.label, device=self.space.device)

    @property
    def numbers(self) -> float:
        """How many numbers of the item are known."""
        return self.known.share(self.x.shape[1:]) * self.x[0].numel()

    def off(self, made: Batch) -> Tensor:
        """Gives the sum of squares by which items (N, …) miss what is known, (N,); differentiable."""
        return (self.known.part(made) - self.known.part(self.x)).square().flatten(1).sum(1)

    def starts(self, ids: Sequence[int], count: int) -> Tensor:
        """Chooses those of a fill's own half of the draws that agree best with what is known, (N, count, D + K)."""
        points, images = candidates(self.space, self.label if self.space.classes else None)
        parts = (part.float().view(-1, *self.x.shape[1:]) for part in images.split(256))
        off = torch.cat([self.off(part) for part in parts])  # (M,)
        halves = noise(self.seed, ids, (len(points),), "repair half", uniform=True).to(off)
        off = off.expand(len(ids), -1).masked_fill(halves > 0.5, math.inf)  # (N, M)
        return points[off.topk(min(count, len(points)), largest=False).indices]

    def by_batches(self, make: Callable[[list[int]], Made]) -> Made:
        """Makes the fills in batches of :data:`TOGETHER` ids, of which the last may reach beyond what is asked for."""
        ready: list[Batch] = []
        batches = [list(range(i, i + TOGETHER)) for i in range(0, self.fills, TOGETHER)]
        for number, ids in enumerate(batches):
            for made, done in make(ids):
                rest = [made] * (len(batches) - number - 1)  # stands in for those to come
                yield torch.cat([*ready, made, *rest]), (number + done) / len(batches)
            ready.append(made)


@dataclass(frozen=True, kw_only=True)
class Repair(Entry):
    """A method; ``make(item) -> Made``: fills of the same ids again and again, the last ones are the result.

    Attributes:
        fits: Tells whether it can work with a model's space.
        needs: What that takes, the end of a sentence.
        order: The first that fits is taken.
        preview: Name of a method whose fills stand in for those that are not made yet; empty for none.
    """

    fits: Callable[[Space], bool]
    needs: str
    order: int
    preview: str = ""


repairs = Registry("method of repair", Repair, "core.latent.repair")


def methods(space: Space) -> list[Repair]:
    """Lists the methods that fit a model, the one that is taken first."""
    fitting = [entry for entry in repairs if entry.fits(space)]
    return sorted(fitting, key=lambda entry: entry.order)


def method_of(space: Space, name: str = "") -> Repair:
    """Finds a method by its name; the best that fits without one.

    Raises:
        UserError: If there is none of that name, it does not fit, or nothing does.
    """
    fitting = methods(space)
    if not fitting:
        raise UserError(
            "This model cannot repair anything: it neither decodes points nor follows a path from noise. "
            "Choose a run of another family."
        )
    if not name:
        return fitting[0]
    entry = repairs.get(name)
    if entry not in fitting:
        raise UserError(
            f"{entry.title} needs {entry.needs}, which this is not. "
            f"Choose from: {', '.join(each.name for each in fitting)}."
        )
    return entry


# --- Filling --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Filled:
    """Fills, as far as they are made.

    Attributes:
        images: What the model sees of them, float32 (fills, …) in [0, 1] on the CPU. What is known is in them: pixels
            bit by bit, of a smaller picture the means.
        done: Share of the work, 0 to 1; what comes before 1 is a preview.
        seconds: Since the work began.
        method: Name of the method that made them.
        missed: How far the model's own images are from what is known, before that is put back: root mean square,
            (fills,).
    """

    images: Batch = field(repr=False)
    done: float
    seconds: float
    method: str
    missed: np.ndarray = field(repr=False)


@torch.no_grad()
def fill(
    space: Space,
    x: Batch,
    known: Known,
    *,
    fills: int = 8,
    label: int | None = None,
    seed: int = 0,
    method: str = "",
    watch: Watch = UNWATCHED,
) -> Iterator[Filled]:
    """Fills in what is not known of an item; yields the best until then, the first of them soon.

    Args:
        space: Of the model that fills.
        x: The item as the model sees it, (1, …) in [0, 1]; or the smaller picture, where that is known.
        known: What is known of it.
        fills: How many; number k of a seed is the same, however many are asked for.
        label: Its class, for a model that listens to classes; None lets the model find out.
        seed: Of the fills.
        method: A name of :data:`repairs`; the best that fits the model without one.
        watch: Told how far it is, and asked whether to go on.

    Raises:
        UserError: If the item, the mask or the number is not allowed, or no method fits.
        Stopped: If nobody wants it any longer.
    """
    began = time.perf_counter()
    if not 1 <= fills <= MOST:
        raise UserError(
            f"Between 1 and {MOST} fills can be made at once, got {fills}. Ask for fewer."
        )
    shape, factor = space.model.spec.shape, known.factor
    known.check(shape)
    if factor > 1 and tuple(x.shape[1:]) == (shape[0], shape[1] // factor, shape[2] // factor):
        x = spread(x, factor)
    x = checked_images(space, x)[:1]
    if label is not None:
        label = space.known(label)
    item = Incomplete(space, x, known, fills, label, seed, watch)

    def filled(made: Batch, done: float, name: str) -> Filled:
        made = made[:fills].to(torch.float32).nan_to_num(0.0).clamp(0, 1)
        missed = known.error(made, x).cpu().numpy()
        return Filled(known.put(made, x).cpu(), done, time.perf_counter() - began, name, missed)

    share = known.share(shape)
    if share == 1:  # there is no hole
        yield filled(x.expand(fills, *x.shape[1:]), 1.0, "nothing")
        return
    if share == 0:  # nothing but the hole: samples
        for made, done in item.by_batches(lambda ids: iter([(_samples(item, ids), 1.0)])):
            yield filled(made, done, "samples")
            watch.check()
        return
    entry = method_of(space, method)
    early: Any = None
    if entry.preview:
        for early, _ in repairs.get(entry.preview).make(item):  # noqa: B007
            watch.check()
        yield filled(early, 0.0, entry.preview)
    for made, done in entry.make(item):
        made = made if early is None else torch.cat([made, early[len(made) :]])
        yield filled(made, done, entry.name)
        watch.say("Filling the hole", done)
        watch.check()


def _samples(item: Incomplete, ids: Sequence[int]) -> Batch:
    model = item.space.model
    y = labels_for(model, ids, item.y(len(ids)), item.seed)
    return model.sample(ids, y, item.seed, item.space.sampling)


def last(steps: Iterator[Filled]) -> Filled:
    """Gives the finished fills."""
    *_, end = steps
    return end


# --- What fills say -------------------------------------------------------------------------------------------------


def disagreement(images: Batch) -> Tensor:
    """Gives where fills (fills, C, H, W) disagree: the standard deviation between them, mean of the channels, (H, W).

    0 where they are all alike, as what is known is; at most 0.5. Of sequences (T,), of vectors (D,).
    """
    spread = images.float().std(0, correction=0)
    return spread.mean(0) if spread.ndim > 1 else spread


def sheet(medium: Medium, x: Batch, known: Known, images: Tensor) -> np.ndarray:
    """Draws what is known of an item, its fills and where they disagree, uint8 (fills + 2, 1 or 3, H, W).

    In the first a hole is grey; in the last white is the largest disagreement.
    """
    hole = known.hole(x.shape[1:]).to(x.device)
    bare = known.part(x) if known.pixels is None else torch.where(hole, 0.5, x)
    drawn = medium.shown(torch.cat([bare.cpu(), images]))
    apart = disagreement(images).expand(images.shape[1:])[None]
    apart = medium.shown(apart / apart.max().clamp_min(1e-6))
    return np.concatenate([drawn, apart])


def nearest(
    dataset: Dataset, images: Batch, known: Known, *, most: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the training item whose hole is most like that of each fill: what a copied fill would be copied from.

    Args:
        dataset: What the model was trained on.
        images: The fills as the model sees them, (fills, …) in [0, 1].
        known: What was known of them, which does not count; where nothing was filled, all counts.
        most: Looks at this many training items, evenly chosen; 0 looks at all.

    Returns:
        Indices in the dataset, int64 (fills,), and distances: root mean square of the numbers in the hole, (fills,).

    Raises:
        UserError: If the fills are not of the dataset's shape.
    """
    known.check(dataset.seen)
    share = known.share(dataset.seen)
    if share == 1:
        index, far = neighbours(dataset, images, 1, most=most)
        return index[:, 0], far[:, 0]
    index, far = neighbours(dataset, images, 1, most=most, only=lambda x: x - known.part(x))
    return index[:, 0], far[:, 0] / np.sqrt(1 - share)
