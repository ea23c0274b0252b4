"""Images that lie as numbers one behind the other in a file, read one at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from core.datasets.container import Container, File, Rows, Volume
from core.datasets.formats import written
from core.datasets.pictures import Refused


@dataclass
class Stack:
    """Images that lie one behind the other in a stream.

    Attributes:
        stream: Where they lie.
        start: Of the first, in bytes.
        shape: Of all, (N, …).
        dtype: Of a number.
        moved: Whether the colours come before the rows: (N, 3, H, W).
        step: Bytes from one to the next; 0 where nothing lies between.
    """

    stream: BinaryIO
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    moved: bool = False
    step: int = 0

    def image(self, row: int) -> np.ndarray:
        """Reads one, (H, W) or (H, W, 3).

        Raises:
            Refused: If the stream ends before.
        """
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        self.stream.seek(self.start + row * (self.step or size))
        data = self.stream.read(size)
        if len(data) < size:
            raise Refused("is cut off (truncated)")
        image = np.frombuffer(data, self.dtype).reshape(self.shape[1:])
        if self.moved:
            image = image.transpose(1, 2, 0)
        if image.ndim == 3 and image.shape[-1] == 1:
            image = image[..., 0]
        if image.dtype.kind == "b":
            return image.astype(np.uint8)
        return image.astype(image.dtype.newbyteorder("="), copy=False)


class StackContainer(Container):
    """Images of stacks, each written as a file when it is read; what is known of them comes with them."""

    def __init__(
        self, volume: Volume, stacks: Sequence[Stack], files: Sequence[File], rows: Rows
    ) -> None:
        self.volume, self.stacks, self.files, self.rows = volume, stacks, files, rows
        self.refused = []

    def close(self) -> None:
        """Closes all streams, which the volume keeps."""
        self.volume.close()

    def read(self, file: File, most: int, count: bool = True) -> bytes:
        """Reads an image, as a file.

        Raises:
            Refused: If it is larger than allowed, or cut off.
        """
        number, row = file.key
        return written(self.stacks[number].image(row))[:most]
