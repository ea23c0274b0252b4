"""Weights from untrusted files: what a file describes is checked before any number is read.

A state dict is a ZIP with a pickle inside. The pickle is never run: its instructions are walked, and only those that
describe a tensor (of which storage, with which shape) have a meaning here. Everything that would be built is counted
before a single tensor is tensors.

References:
    The ZIP of torch.save, https://docs.pytorch.org/docs/stable/notes/serialization.html
    safetensors, https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from core.catalog import UserError
from core.ground.settings import settings
from core.weights import limits
from core.weights.archive import built, checkpoint
from core.weights.contents import Contents, StoredTensor
from core.weights.header import header, unreadable
from core.weights.limits import ALONE, allow
from core.weights.names import clean
from core.weights.package import Package as Package
from core.weights.package import allow_size


def look(file: bytes) -> Contents:
    """Looks at what a file of weights describes, without building any of it.

    Raises:
        UserError: If it is a pickle, TorchScript, damaged, holds more than weights, or would build more than is
            allowed.
    """
    allow_size(len(file))
    if file[8:9] == b"{" and int.from_bytes(file[:8], "little") < len(file):
        # looked at first: the length at the start can look like the first byte of anything
        described = Contents("safetensors", header(file))
    elif file[:2] == b"PK":
        described = checkpoint(file)
    elif file[:1] == b"\x80" or file[:2] == b"\x1f\x8b":
        raise UserError(
            "This file is a pickle, which can run any program when it is opened; PyTorch before 1.6 wrote weights so, "
            f"too. {ALONE}"
        )
    else:
        described = Contents("safetensors", header(file))
    return replace(described, parts=_cleaned(described.parts))


def load(file: bytes, contents: Contents, chosen: Mapping[str, str]) -> dict[str, Tensor]:
    """Reads tensors, each with memory of its own.

    Args:
        file: What was looked at.
        contents: What :func:`look` found in it.
        chosen: The name that each gets: its name in ``contents``.

    Raises:
        UserError: If the file is damaged, or a number is not finite; the tensor is named.
    """
    if contents.kind == "safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load as opened

        try:
            every = opened(file)
        except (SafetensorError, ValueError, OverflowError, RuntimeError) as error:
            raise unreadable(str(error)) from None
        tensors = {name: every[contents.parts[old].key] for name, old in chosen.items()}
    else:
        tensors = dict(built(file, contents, chosen))
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(
                f"The tensor {name[:80]!r} of this file holds a number that is not finite (NaN or infinity). "
                "All must be finite. Train again from the last good checkpoint, and bring that one."
            )
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise UserError(
                f"The tensor {name[:80]!r} of this file is a variance and holds a number below 0. "
                "All must be at least 0. Bring the weights as they were saved."
            )
    return tensors


def _cleaned(parts: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Takes the names of wrappers out of those of the tensors."""
    names: dict[str, str] = {}
    for name in parts:
        allow("The name of a tensor", "characters", len(name), limits.LIMITS.name)
        short = clean(name)
        if short in names:
            raise UserError(
                f"The entries {names[short][:80]!r} and {name[:80]!r} of this file name the same tensor. "
                f"One of each is allowed. {ALONE}"
            )
        names[short] = name
    return {short: parts[name] for short, name in names.items()}
