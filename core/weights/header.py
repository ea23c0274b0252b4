"""The header of safetensors: a length, JSON, and then nothing but numbers."""

from __future__ import annotations

import math

from core.catalog import UserError
from core.ground import untrusted
from core.weights import limits
from core.weights.contents import TYPES, StoredTensor, allow_part, counts
from core.weights.limits import allow

_DTYPE_OF = {name: dtype for _, name, dtype in TYPES}


def unreadable(why: str) -> UserError:
    """Says of a file that it holds no weights."""
    return UserError(
        f"This file holds no weights that can be read ({why}). "
        "Save them with safetensors.torch.save_file, or with torch.save(model.state_dict(), file)."
    )


def header(file: bytes) -> dict[str, StoredTensor]:
    """Reads what the header describes, without a number of it.

    Raises:
        UserError: If it is damaged, or describes more than the file holds or than is allowed.
    """
    size = int.from_bytes(file[:8], "little") if len(file) >= 8 else len(file)
    if not 2 <= size <= len(file) - 8:
        raise unreadable("it is neither safetensors nor a state dict, or is cut off")
    allow("A header", "bytes", size, limits.LIMITS.text)
    bounds = untrusted.Limits(
        characters=limits.LIMITS.text, depth=4, values=14 * limits.LIMITS.tensors + 200
    )
    try:
        described = untrusted.read_json(
            file[8 : 8 + size].decode(), "The header of weights", bounds
        )
    except (untrusted.NoData, UnicodeDecodeError):
        raise unreadable("its header is damaged") from None
    if not isinstance(described, dict):
        raise unreadable("its header is no list of tensors")
    described.pop("__metadata__", None)
    allow("A file of weights", "tensors", len(described), limits.LIMITS.tensors)
    room, parts, total = len(file) - 8 - size, {}, 0
    for name, entry in described.items():
        try:
            dtype, shape = _DTYPE_OF[entry["dtype"]], tuple(entry["shape"])
            start, end = entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise unreadable(f"the tensor {name[:80]!r} is described in an unknown way") from None
        if not counts((*shape, start, end)) or len(shape) > 8:
            raise unreadable(f"the tensor {name[:80]!r} has no plain shape")
        part = parts[name] = StoredTensor(dtype, shape, name, math.prod(shape))
        allow_part(name, part)
        if end - start != part.nbytes or end > room:
            raise unreadable(f"the tensor {name[:80]!r} claims more numbers than there are")
        total += part.nbytes
    if total != room:
        raise unreadable("its tensors do not fill it")
    if not parts:
        raise unreadable("it has no tensor")
    return parts
