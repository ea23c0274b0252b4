"""The ZIP of torch.save: its parts, what a checkpoint holds, and which of that are the weights."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from core.catalog import UserError
from core.ground.settings import settings
from core.weights import limits
from core.weights.contents import Contents, StoredTensor, allow_part
from core.weights.limits import ALONE, allow
from core.weights.names import COPIES
from core.weights.pickled import Walk

# where training programs keep the weights, in the order in which they are looked for
_KEYS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params"),
    *("model_state", "model_weights", "net_state_dict", "state", "classifier", "backbone"),
    *("ema", "model_ema", "state_dict_ema", "ema_state_dict", "ema_model", "params_ema"),
    "averaged",
)
_OTHERS = re.compile(r"optim|sched|scaler|loss|criterion|hyper|rng|callback|loop", re.IGNORECASE)


def checkpoint(file: bytes) -> Contents:
    """Looks at what a state dict describes, or the one that a checkpoint holds.

    Raises:
        UserError: If it is a program, damaged, holds more than weights, or more than is allowed.
    """
    members, root = _members(file)
    pickle = members[root + "data.pkl"]
    allow("A pickle of weights", "bytes", pickle.file_size, limits.LIMITS.text)
    order = members.get(root + "byteorder")
    if order is not None and bytes(_record(file, order)[:8]) != b"little":
        raise UserError(
            f"This file was written with another order of bytes; only little-endian is read. {ALONE}"
        )
    folder = root + "data/"
    sizes = {
        name.removeprefix(folder): info.file_size
        for name, info in members.items()
        if name.startswith(folder)
    }
    source, parts, others = _weights_in(Walk(sizes).walk(bytes(_record(file, pickle))))
    for name, part in parts.items():
        allow_part(name, part)
    total = sum(part.nbytes for part in parts.values())
    limit = settings().upload_mb
    if total > limit * 2**20:
        raise UserError(
            f"These weights would take {total / 2**20:.0f} MB of memory, and at most {limit} MB are allowed. {ALONE}"
        )
    return Contents("state dict", parts, source, others)


def _members(file: bytes) -> tuple[dict[str, zipfile.ZipInfo], str]:
    """Reads the ZIP's directory; gives its parts by name, and the folder that holds the pickle."""
    limit = settings().upload_mb
    allow("A file of weights", "parts", file.count(b"PK\x01\x02"), limits.LIMITS.members)
    try:
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            listed = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, IndexError) as error:
        raise UserError(f"This file is damaged ({error}). {ALONE}") from None
    names = [member.filename for member in listed]
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise UserError(f"This file is TorchScript, which is a program. {ALONE}")
    if any(member.compress_type != zipfile.ZIP_STORED for member in listed):
        raise UserError(f"This file has compressed parts, which torch.save never writes. {ALONE}")
    total = sum(member.file_size for member in listed)
    if total > limit * 2**20:
        raise UserError(
            f"This file would unpack to {total / 2**20:.0f} MB; at most {limit} MB are allowed. {ALONE}"
        )
    twice = len(set(names)) < len(names)
    if twice or total > len(file) or any(m.file_size != m.compress_size for m in listed):
        raise UserError(f"This file has parts that lie inside each other. {ALONE}")
    roots = [name.removesuffix("data.pkl") for name in names if name.split("/")[-1] == "data.pkl"]
    if len(roots) != 1:
        raise UserError(f"This ZIP holds no state dict. {ALONE}")
    return dict(zip(names, listed, strict=True)), roots[0]


def _record(file: bytes, member: zipfile.ZipInfo) -> memoryview:
    """Gives the bytes of a stored part as they lie in the file; torch may have left its check sums out."""
    start = member.header_offset
    head = file[start : start + 30]
    if len(head) < 30 or head[:4] != b"PK\x03\x04":
        raise UserError(f"This file is damaged ({member.filename[:80]!r} is not there). {ALONE}")
    name, extra = struct.unpack("<HH", head[26:30])
    start += 30 + name + extra
    if start + member.file_size > len(file):
        raise UserError(f"This file is damaged ({member.filename[:80]!r} is cut off). {ALONE}")
    return memoryview(file)[start : start + member.file_size]


def built(
    file: bytes, contents: Contents, chosen: Mapping[str, str]
) -> Iterator[tuple[str, Tensor]]:
    """Reads the tensors that are chosen, as :func:`core.weights.load` does, by the names that they get."""
    members, root = _members(file)
    storage, key = bytearray(), ""
    for name, old in sorted(chosen.items(), key=lambda pair: contents.parts[pair[1]].key):
        part = contents.parts[old]
        if part.key != key:  # tensors that share a storage read it once
            storage, key = bytearray(_record(file, members[f"{root}data/{part.key}"])), part.key
        numbers = torch.frombuffer(storage, dtype=part.dtype)
        view = numbers.as_strided(part.shape, part.stride, part.offset)
        yield name, torch.empty(part.shape, dtype=part.dtype).copy_(view)


def _weights_in(checkpoint: Any) -> tuple[str, dict[str, StoredTensor], tuple[str, ...]]:
    """Finds the weights in what a checkpoint holds: under which key they stand, and under which others do."""
    if not isinstance(checkpoint, dict) or not checkpoint:
        raise UserError(f"This file holds no state dict but {type(checkpoint).__name__}. {ALONE}")
    if (plain := _weights(checkpoint)) is not None:
        return "", plain, ()
    by_path: dict[str, dict[str, StoredTensor]] = {}
    visited, level = {id(checkpoint)}, [("", checkpoint)]
    for _ in range(3):
        below = []
        for path, entries in level:
            for key, value in entries.items():
                if not isinstance(value, dict) or id(value) in visited or _OTHERS.search(str(key)):
                    continue
                visited.add(id(value))
                inner = f"{path}.{key}" if path else str(key)
                if (weights := _weights(value)) is None:
                    below.append((inner, value))
                else:
                    by_path[inner] = weights
        level = below
    if not by_path:
        odd = next((str(k) for k, v in checkpoint.items() if not isinstance(v, StoredTensor)), "")
        raise UserError(f"The entry {odd[:80]!r} of this file is no plain tensor. {ALONE}")

    def rank(path: str) -> tuple[int, int, int]:
        ranks = [_KEYS.index(key) for key in path.split(".") if key in _KEYS]
        copies = len(COPIES.findall(path))
        return max(ranks, default=len(_KEYS)), copies, -len(by_path[path])

    first, *others = sorted(by_path, key=rank)
    return first, by_path[first], tuple(others)


def _weights(entries: dict[Any, Any]) -> dict[str, StoredTensor] | None:
    """Gives a dict of tensors, or None if it is something else."""
    plain = {key: value for key, value in entries.items() if not str(key).endswith("_extra_state")}
    tensors = all(isinstance(k, str) and isinstance(v, StoredTensor) for k, v in plain.items())
    return plain if plain and tensors else None
