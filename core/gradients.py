"""Gradients passed through operations that have none, or a misleading one.

References (used throughout the code):
    [1] Athalye et al., 2018, Obfuscated gradients (BPDA, EOT), https://arxiv.org/abs/1802.00420
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from core.tensors import Batch

# correlation with the image above which the input of a part of the module counts as a changed image
ALIKE = 0.5

_FLAT = {torch.round, torch.floor, torch.ceil, torch.trunc, torch.fix, torch.sign}
_FLAT |= {getattr(Tensor, f.__name__) for f in _FLAT}
_WHOLE = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_CASTS = {Tensor.byte, Tensor.int, Tensor.long, Tensor.short, Tensor.char}


class StraightThrough(TorchFunctionMode):
    """Lets the gradient pass rounding, signs and casts to whole numbers as if they were not there ([1], sec. 4.1)."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        x = args[0] if args else None
        if not (isinstance(x, Tensor) and x.is_floating_point() and isinstance(out, Tensor)):
            return out
        cast = func in _CASTS or (func in (Tensor.to, Tensor.type) and out.dtype in _WHOLE)
        if x.requires_grad and (func in _FLAT or cast):
            return x + (out.to(x.dtype) - x).detach()
        return out


@contextmanager
def bypassed(module: nn.Module, x: Batch) -> Iterator[None]:
    """Lets the gradient skip whatever is done to images before a part of the module gets them ([1], sec. 4.1).

    A part whose input has the images' shape and is correlated with them gets the same values, but with the gradient of
    the images themselves: so a ripple, a rounding or a filter in front of a network hides nothing, whoever wrote it.
    What happens inside the first layers is left as it is.
    """
    parts = list(module.modules())[1:]

    def through(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        image = args[0] if args else None
        if not isinstance(image, Tensor) or image is x or image.shape != x.shape:
            return None
        if not image.is_floating_point():
            return None
        gain = _gain(image.detach(), x.detach())
        return (gain * x + (image - gain * x).detach(), *args[1:]) if gain else None

    hooks = [part.register_forward_pre_hook(through) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _gain(image: Tensor, x: Tensor) -> float:
    """Gives the slope of a part's input over the image, fitted to a batch; 0 where the two are not correlated."""
    a, b = image.flatten() - image.mean(), x.flatten() - x.mean()
    shared, size = float((a * b).sum()), float(b.square().sum())
    alike = abs(shared) > ALIKE * math.sqrt(float(a.square().sum()) * size)
    return shared / size if alike and size > 0 else 0.0


class Watched(TorchFunctionMode):
    """Notices whether a gradient is taken inside."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.seen |= func in (torch.autograd.grad, torch.autograd.backward, Tensor.backward)
        return func(*args, **(kwargs or {}))
