"""Weights for a network that a description describes: every tensor of both must meet, and nothing is built before."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from core import weights
from core.catalog import UserError
from core.weights.contents import Contents


class Bare(TorchFunctionMode):
    """Makes tensors that get their values from a file without memory; those that a network computes are real."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand):
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def filled(make: Callable[[], nn.Module], file: bytes, contents: Contents, what: str) -> nn.Module:
    """Makes a network and gives it the weights of a file, if each tensor of both meets one of its shape.

    It is made without memory first, so that nothing larger than the file is ever built.

    Args:
        make: Makes the network; its first weights do not matter.
        file: Of the weights.
        contents: What :func:`core.weights.look` found in it.
        what: Names the network, the object of a sentence.

    Raises:
        UserError: If a tensor is missing, left over, of another shape or kind, or not finite; the first is named.
    """
    with torch.random.fork_rng(devices=[]):
        with Bare():
            wanted = {
                name: (tuple(v.shape), v.is_floating_point())
                for name, v in make().state_dict().items()
            }
        held = contents.parts
        wrong = ""
        if missing := [name for name in wanted if name not in held]:
            wrong = f"{missing[0][:80]!r} is missing ({len(missing)} are)"
        elif extra := [name for name in held if name not in wanted]:
            wrong = f"{extra[0][:80]!r} belongs to no part of it ({len(extra)} do not)"
        for name, (shape, floats) in wanted.items():
            if wrong:
                break
            if held[name].shape != shape:
                wrong = f"{name[:80]!r} must have the shape {shape}, got {held[name].shape}"
            elif held[name].dtype.is_floating_point != floats:
                wrong = f"{name[:80]!r} is of {str(held[name].dtype).removeprefix('torch.')}"
        if wrong:
            raise UserError(
                f"The weights do not fit {what}: {wrong}. Every tensor must meet one of its shape. Bring the weights "
                "and the description as they were saved together."
            )
        net = make()
    given = weights.load(file, contents, {name: name for name in wanted})
    for name, value in given.items():
        if value.is_floating_point() and not bool(value.float().isfinite().all()):
            raise UserError(
                f"The tensor {name[:80]!r} holds a number too large for float32. All must be finite. Save the weights "
                "in float32."
            )
    net.load_state_dict(given)
    return net.eval().requires_grad_(False)
