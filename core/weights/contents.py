"""What a file of weights says it holds; no number of it has been read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from core.catalog import UserError
from core.weights.limits import ALONE

TYPES = [  # the name of its storage in a pickle, its name in safetensors, and the type
    ("Double", "F64", torch.float64),
    ("Float", "F32", torch.float32),
    ("Half", "F16", torch.float16),
    ("BFloat16", "BF16", torch.bfloat16),
    ("Long", "I64", torch.int64),
    ("Int", "I32", torch.int32),
    ("Short", "I16", torch.int16),
    ("Char", "I8", torch.int8),
    ("Byte", "U8", torch.uint8),
    ("Bool", "BOOL", torch.bool),
]
_HEAD = re.compile(r"(?:^|\.)(?:fc|classifier|heads?)\b")  # of a name that ends in "bias"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as its file describes it.

    Attributes:
        dtype, shape: Its own.
        key: Of the storage that holds its numbers; the name in the file for safetensors.
        stored: How many numbers that storage has.
        offset, stride: Where its own are among them.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    key: str
    stored: int
    offset: int = 0
    stride: tuple[int, ...] = ()

    @property
    def numel(self) -> int:
        """Numbers that it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes once it is built."""
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True)
class Contents:
    """What a file of weights says it holds; no number of it has been read.

    Attributes:
        kind: ``safetensors`` or ``state dict``.
        parts: The tensors by name, without the names of wrappers.
        source: Where in a checkpoint they stand, ``state_dict`` for example; empty for a plain file.
        others: Other entries of the checkpoint that hold a set of weights, and were left.
    """

    kind: str
    parts: Mapping[str, StoredTensor]
    source: str = ""
    others: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: part.shape for name, part in self.parts.items()}

    @property
    def parameters(self) -> int:
        """How many numbers they hold together."""
        return sum(part.numel for part in self.parts.values())

    @property
    def megabytes(self) -> float:
        """What they take once they are built."""
        return sum(part.nbytes for part in self.parts.values()) / 2**20

    @property
    def classes(self) -> int:
        """Outputs of the last layer, by the names that torchvision gives it; 0 where there is none of these."""
        biases = [
            name
            for name, part in self.parts.items()
            if len(part.shape) == 1 and name.endswith("bias") and "aux" not in name.lower()
        ]
        heads = filter(_HEAD.search, biases)
        last = max(heads, key=lambda name: [*map(int, re.findall(r"\d{1,9}", name))], default="")
        return self.parts[last].shape[0] if last else 0


def counts(values: tuple[Any, ...]) -> bool:
    """Tells whether all of these are whole numbers that count something."""
    return all(type(value) is int and 0 <= value < 2**40 for value in values)


def allow_part(name: str, part: StoredTensor) -> None:
    """Refuses a tensor that is not within its storage.

    Raises:
        UserError: If it is empty, or claims numbers that are not there.
    """
    if part.numel > part.stored:
        raise UserError(
            f"The tensor {name[:80]!r} claims {part.numel} numbers and holds fewer. {ALONE}"
        )
    if part.numel == 0:
        raise UserError(
            f"The tensor {name[:80]!r} has no numbers. Each needs at least one. {ALONE}"
        )
    last = sum((size - 1) * step for size, step in zip(part.shape, part.stride, strict=False))
    if part.offset + last >= part.stored:
        raise UserError(f"The tensor {name[:80]!r} reads beyond its numbers. {ALONE}")
