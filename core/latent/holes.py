"""What is not known of a picture: what lies beyond its edges, and holes as boxes that a person can write."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.catalog import UserError
from core.tensors import Batch

PLACES = {  # where the picture stands in the frame, as shares of the free room: from the left, from the top
    "middle": (0.5, 0.5),
    "left": (0.0, 0.5),
    "right": (1.0, 0.5),
    "top": (0.5, 0.0),
    "bottom": (0.5, 1.0),
}
LEAST = 0.2  # of the frame's side that the picture takes


def framed(x: Batch, share: float, place: str = "middle") -> tuple[Batch, Tensor]:
    """Scales pictures down into a frame of their own size; the rest of it is 0, and not known.

    Args:
        x: Pictures, (N, C, H, W) in [0, 1].
        share: Of the frame's sides that they take, from :data:`LEAST` to 1.
        place: One of :data:`PLACES`.

    Returns:
        The frames, (N, C, H, W), and which of their pixels are known, bool (H, W).

    Raises:
        UserError: If the share or the place is not allowed, or these are no pictures.
    """
    if place not in PLACES:
        raise UserError(
            f"A picture stands at one of {', '.join(PLACES)} in its frame, got {place!r}. Choose one of them."
        )
    if not LEAST <= share <= 1:
        raise UserError(
            f"A picture takes {LEAST:g} to 1 of its frame's side, got {share:g}. Choose a share between."
        )
    if x.ndim != 4:
        raise UserError(
            "Only pictures have an edge to go beyond, and this is something else. Repair a part of it instead."
        )
    sides = x.shape[2:]
    height, width = (max(1, round(side * share)) for side in sides)
    top = round((sides[0] - height) * PLACES[place][1])
    left = round((sides[1] - width) * PLACES[place][0])
    frame, known = torch.zeros_like(x), torch.zeros(tuple(sides), dtype=torch.bool)
    inside = (slice(top, top + height), slice(left, left + width))
    frame[:, :, *inside] = F.interpolate(x, (height, width), mode="area")
    known[inside] = True
    return frame, known


def boxes(mask: np.ndarray) -> list[list[int]]:
    """Takes a mask, bool (H, W), apart into boxes: x, y, width and height each, together the mask and no more."""
    done: list[list[int]] = []
    growing: dict[tuple[int, int], list[int]] = {}
    for y, row in enumerate(mask):
        ends = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
        runs = {(int(a), int(b - a)) for a, b in zip(ends[::2], ends[1::2], strict=True)}
        done += [box for run, box in growing.items() if run not in runs]
        growing = {run: growing.get(run, [run[0], y, run[1], 0]) for run in sorted(runs)}
        for box in growing.values():
            box[3] += 1
    return sorted([*done, *growing.values()], key=lambda box: (box[1], box[0]))
