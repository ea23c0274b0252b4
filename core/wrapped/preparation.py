"""What is done to images before a classifier from outside, and to its answers after it; differentiable throughout.

It stands before the network, so that the strength of an attack is of the dataset's pixels, from 0 to 1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.catalog import UserError
from core.tensors import Images

MODES = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}


class Preparation(nn.Module):
    """A network behind its preprocessing: resize, cut the middle, repeat grey, normalise; then the classes in order.

    Args:
        net: Gives logits (N, K'), or an object that has ``logits``.
        done: What is done: ``resize`` and ``crop`` in px (-1 for neither), ``resample``, ``channels``, ``mean``,
            ``std``, all of pixels from 0 to 1; ``instead_of`` names what ``resample`` stands in for.
        outputs: Which of the K' answers belongs to each class of the dataset; empty for all, in order.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, net: nn.Module, done: Mapping[str, Any], outputs: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.net, self.outputs = net, list(outputs)
        self.resize, self.crop, self.channels = done["resize"], done["crop"], done["channels"]
        self.resample = done.get("resample", "bilinear")
        self.register_buffer("mean", torch.tensor(done["mean"]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(done["std"]).view(1, -1, 1, 1))

    def prepared(self, x: Tensor) -> Tensor:
        """Gives what the network sees of images in [0, 1]."""
        if self.resize > 0 and self.resize != x.shape[-1]:
            smooth = self.resample != "nearest"
            x = F.interpolate(
                x, (self.resize, self.resize), mode=MODES[self.resample], antialias=smooth
            ).clamp(0, 1)  # which a bicubic curve leaves
        if 0 < self.crop < x.shape[-1]:
            edge = (x.shape[-1] - self.crop) // 2
            x = x[..., edge : edge + self.crop, edge : edge + self.crop]
        if x.shape[1] == 1 < self.channels:
            x = x.expand(-1, self.channels, -1, -1)
        return (x - self.mean) / self.std

    def forward(self, x: Images) -> Tensor:
        """Gives logits (N, K) of images in [0, 1]."""
        out = self.net(self.prepared(x))
        out = getattr(out, "logits", out)
        return out[:, self.outputs] if self.outputs else out


def told(done: Mapping[str, Any]) -> str:
    """Says what is done to an image, as the end of a sentence."""
    size = "kept at their own size"
    if done["resize"] > 0:
        how = done.get("resample", "bilinear")
        if other := done.get("instead_of"):
            how += f" in place of its {other}, which has no gradients here"
        size = f"resized to {done['resize']} px ({how})"
    cut = f", {done['crop']} px are cut from the middle" if done["crop"] > 0 else ""
    means, stds = (", ".join(f"{v:g}" for v in done[name]) for name in ("mean", "std"))
    source = f" ({done['from']})" if done.get("from") else ""
    return f"Images are {size}{cut}; minus {means}, divided by {stds}{source}."


# --- Classes by name ------------------------------------------------------------------------------------------------


def guessed(classes: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """Finds for each class of a dataset the answer of its name; None where there is none, or not one alone.

    >>> guessed(["cat", "sea_lion", "cow"], ["Dog", "sea lion", "cat, tabby"])
    [2, 1, None]
    """
    whole = [_plain(name) for name in names]
    first = [_plain(name.split(",")[0]) for name in names]
    found: list[int | None] = []
    for name in map(_plain, classes):
        hits = [k for k, each in enumerate(whole) if each == name]
        hits = hits or [k for k, each in enumerate(first) if each == name]
        found.append(hits[0] if len(hits) == 1 else None)
    return found


def matched(
    classes: Sequence[str], names: Sequence[str], count: int, said: str
) -> tuple[list[int], str]:
    """Settles which answer belongs to each class of a dataset.

    Args:
        classes: Of the dataset.
        names: What the network calls its answers, in order; empty where it does not say.
        count: Of its answers.
        said: What a person wrote: ``cat = tabby; dog = 5``, by name or number; empty for nothing.

    Returns:
        A number for each class, and what to know of it in a sentence.

    Raises:
        UserError: If a class has no answer, or two have the same one.
    """
    found: list[int | None] = list(guessed(classes, names)) if names else [None] * len(classes)
    source = "matched by name"
    if not names and not said.strip():
        if count != len(classes):
            raise UserError(
                f"This network tells {count} classes apart and does not name them, and the dataset has {len(classes)}. "
                f"Each needs its answer. Write which number belongs to which, for example {_example(classes)}."
            )
        return list(
            range(count)
        ), "Its answers are taken to stand in the order of the dataset's classes."
    if said.strip():
        source = "matched as you wrote"
        for name, number in _written(said, classes, names, count):
            found[classes.index(name)] = number
    missing = [name for name, number in zip(classes, found, strict=True) if number is None]
    if missing:
        known = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
        raise UserError(
            f"No answer of this network is called {missing[0][:60]!r}"
            + (f" ({len(missing)} of {len(classes)} classes have none)" if len(missing) > 1 else "")
            + f". It knows {count}: {known or 'without names'}. Write which belongs to which, for example "
            f"{_example(missing)}."
        )
    numbers = [number for number in found if number is not None]
    if twice := next((n for n in numbers if numbers.count(n) > 1), None):
        two = [name for name, n in zip(classes, numbers, strict=True) if n == twice][:2]
        raise UserError(
            f"The classes {two[0][:60]!r} and {two[1][:60]!r} would have the same answer, number {twice}. "
            "Each needs its own. Write another number for one of them."
        )
    left = f", {count - len(numbers)} of its answers are left out" if count > len(numbers) else ""
    return numbers, f"Its classes are {source}{left}."


def _written(
    said: str, classes: Sequence[str], names: Sequence[str], count: int
) -> list[tuple[str, int]]:
    parts = re.split(r"[;\n]" if ";" in said or "\n" in said else ",", said)
    found = []
    for part in filter(None, map(str.strip, parts)):
        name, _, answer = (word.strip() for word in part.partition("="))
        if name not in classes:
            near = difflib.get_close_matches(name, classes, 1) or [classes[0]]
            raise UserError(
                f"The dataset has no class {name[:60]!r}. It has: {', '.join(classes[:8])}"
                f"{' …' if len(classes) > 8 else ''}. Write for example {near[0]}=0."
            )
        if answer in names:
            found.append((name, list(names).index(answer)))
        elif answer.isdecimal() and int(answer) < count:
            found.append((name, int(answer)))
        else:
            raise UserError(
                f"{answer[:60]!r} is no answer of this network. Give one of its names, or a number from 0 to "
                f"{count - 1}."
            )
    return found


def _example(classes: Sequence[str]) -> str:
    return "classes=" + ";".join(f"{name}={k}" for k, name in enumerate(classes[:3]))


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[_\-\s]+", " ", name).split()).casefold()


def given(name: str, text: str, channels: int) -> list[float]:
    """Reads the mean or the spread that a person wrote, one number or one per channel; empty for nothing.

    Raises:
        UserError: If it is no such row of finite numbers, or a spread is not above 0.
    """
    if not text.strip():
        return []
    try:
        numbers = [float(word) for word in text.replace(";", ",").split(",")]
    except ValueError:
        numbers = []
    wrong = len(numbers) not in (1, channels) or not all(abs(v) < 1e6 for v in numbers)
    if wrong or (name == "std" and min(numbers) <= 0):
        above = " above 0" if name == "std" else ""
        raise UserError(
            f"{name} must be one or {channels} numbers{above} with commas, got {text[:60]!r}. For example 0.5."
        )
    return numbers * (channels if len(numbers) == 1 else 1)
