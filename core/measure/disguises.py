"""Copies in disguise: training images that were changed as augmentation changes them, and then called new.

An image is compared by its pattern: grey, coarse, without its edge, at the same light and contrast. Colour, brightness
and most of a noise are gone then; a mirror, a turn and a shift are tried, all of them, and the best one counts. The
same is done for held-out images in the place of the training images, so that images which look alike whichever way
they are turned, such as a ring or a face, count no more than they should.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from core.ground.stats import Estimate
from core.ground.watch import UNWATCHED, Watch
from core.measure import distances
from core.tensors import Images

PAIRS = 20_000_000  # samples times training images that are compared in all ways
MOST = 1000  # samples that are compared in all ways, and
FEWEST = 300  # as many at least
_FINEST = 32  # pixels a side that are looked at; a shift is found to one of them
_COARSE = 16  # pixels a side of a pattern, at most
_FLAT = 0.02  # contrast at which an image begins to have a pattern

_TURNS: dict[str, Callable[[Tensor], Tensor]] = {  # by the disguise, the map that undoes it
    "": lambda x: x,
    "mirrored": lambda x: x.flip(-1),
    "upside down": lambda x: x.flip(-2),
    "turned by 90°": lambda x: x.rot90(3, (-2, -1)),
    "turned by 180°": lambda x: x.rot90(2, (-2, -1)),
    "turned by 270°": lambda x: x.rot90(1, (-2, -1)),
    "mirrored and turned by 90°": lambda x: x.rot90(1, (-2, -1)).flip(-1),
    "mirrored and turned by 270°": lambda x: x.rot90(3, (-2, -1)).flip(-1),
}


@dataclass(frozen=True)
class Way:
    """One way in which a picture may have been moved.

    Attributes:
        turn: In words; empty for none.
        down, right: Pixels that it was shifted, of the pixels that are looked at.
    """

    turn: str
    down: int
    right: int

    def text(self, scale: float = 1.0) -> str:
        """Says what was done; empty for nothing. ``scale`` is how many pixels of the image one shift is."""
        far = max(abs(self.down), abs(self.right)) * scale
        shift = f"shifted by {far:.0f} px" if far else ""
        return " and ".join(part for part in (self.turn, shift) if part)


def looked_at(size: int) -> int:
    """Gives the pixels a side at which images of a size are compared."""
    return min(_FINEST, size)


def reach(size: int) -> int:
    """Gives the pixels by which a picture may have been shifted: one in sixteen of what is looked at."""
    return max(1, round(looked_at(size) / 16))


def ways(size: int) -> list[Way]:
    """Lists all ways that are tried: small shifts of the picture and of its mirror image, and the turns."""
    steps = range(-reach(size), reach(size) + 1)
    shifts = [
        Way(turn, down, right) for turn in ("", "mirrored") for down in steps for right in steps
    ]
    return shifts + [Way(turn, 0, 0) for turn in _TURNS if turn not in ("", "mirrored")]


def patterns(x: Images, way: Way = Way("", 0, 0)) -> Tensor:
    """Gives the patterns of images in [0, 1] after undoing a way, (N, D), of length one; shorter for flat images."""
    grey = x
    if x.shape[1] == 3:
        grey = (x * x.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    size = looked_at(x.shape[-1])
    edge = reach(x.shape[-1])
    fine = _TURNS[way.turn](F.adaptive_avg_pool2d(grey.mean(1, keepdim=True), size))
    top, left = edge + way.down, edge + way.right
    inner = size - 2 * edge
    part = fine[..., top : top + inner, left : left + inner]
    side = inner if inner <= _COARSE else math.ceil(inner / 2)
    flat = F.adaptive_avg_pool2d(part, side).flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    return flat / (flat.square().sum(1, keepdim=True) + flat.shape[1] * _FLAT**2).sqrt()


@dataclass(frozen=True)
class Disguised:
    """What is nearest to the first samples, whatever was done to them.

    Attributes:
        distance: Of the patterns, to the nearest and second nearest training image, (n, 2).
        index: Which training images these are, (n, 2).
        way: Which of :func:`ways` leads to the nearest one, (n,).
        share: Of samples nearer to a training image than to a held-out one; see
            :func:`core.measure.distances.nearer_to_training`.
    """

    distance: Tensor
    index: Tensor
    way: Tensor
    share: Estimate


def count(train: int, held_out: int) -> int:
    """Gives how many samples are compared in all ways with so many images."""
    return min(MOST, max(FEWEST, PAIRS // max(1, train + held_out)))


def compare(
    samples: Images,
    train: Tensor,
    held_out: Tensor,
    watch: Watch = UNWATCHED,
) -> Disguised:
    """Looks for each sample among the training images, in all ways.

    Args:
        samples: Images in [0, 1], (n, C, H, W).
        train, held_out: Patterns (N, D) and (M, D) of the real images as they are.
        watch: Asked before each piece of work.
    """
    held_out = held_out[: len(train)]
    tried = ways(samples.shape[-1])
    views = [patterns(samples, way) for way in tried]
    pieces = partial(_pieces, watch, views)
    limit, group = (part[:, 0] for part in distances.neighbours(pieces(held_out), views[0], 1))
    count = distances.Nearer(limit, group)

    def counted() -> distances.Pieces:
        for piece in pieces(train):
            count.take(*piece)
            yield piece

    near, index = distances.neighbours(counted(), views[0], min(2, len(train)))
    first = train[index[:, 0]]
    apart = torch.stack([(view - first).square().sum(1) for view in views])
    share = count.share(len(train), len(held_out))
    return Disguised(near.sqrt(), index, apart.argmin(0), share)


def _pieces(watch: Watch, views: Sequence[Tensor], real: Tensor) -> distances.Pieces:
    """Yields the smallest squared distance of all views of a sample to each real image, piece by piece."""
    side = 1024
    for top in range(0, len(views[0]), side):
        for left in watch.each(range(0, len(real), side)):
            columns = real[left : left + side]
            lengths = columns.square().sum(1)
            best = None
            for view in views:
                rows = view[top : top + side]
                # both are of length one at most and lie around 0, so that nothing is lost
                part = torch.addmm(rows.square().sum(1, keepdim=True), rows, columns.T, alpha=-2)
                best = part if best is None else torch.minimum(best, part, out=best)
            assert best is not None
            piece = slice(top, top + len(best)), slice(left, left + len(columns))
            yield *piece, best.add_(lengths).clamp_(min=0)
