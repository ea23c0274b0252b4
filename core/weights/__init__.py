"""Weights that nobody vouches for: what a file says it holds is looked at first, and only then are numbers read.

A state dict is a ZIP with a pickle inside. The pickle is never run: its instructions are walked, and only those that
describe a tensor (of which storage, with which shape) have a meaning here. Everything that would be built is counted
before a single tensor is made.

References:
    The ZIP of torch.save, https://docs.pytorch.org/docs/stable/notes/serialization.html
    safetensors, https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import io
import math
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.catalog import UserError
from core.ground import untrusted
from core.ground.settings import settings
from core.weights.names import COPIES, clean


@dataclass(frozen=True)
class WeightLimits:
    """How much a file of weights may hold; its size is bounded by the server's limit for uploads.

    Attributes:
        tensors: Together, an optimiser's included.
        members: Parts of the ZIP.
        steps: Instructions of the pickle.
        depth: Collections inside each other.
        text: Bytes of the pickle, or of the header of safetensors.
        name: Characters of a tensor's name.
    """

    tensors: int = 10_000
    members: int = 10_100
    steps: int = 600_000
    depth: int = 12
    text: int = 4 * 2**20
    name: int = 500


LIMITS = WeightLimits()
ALONE = (
    "Open it where it was made, and save the weights alone: torch.save(model.state_dict(), file), or "
    "safetensors.torch.save_file(model.state_dict(), file)."
)
# where training programs keep the weights, in the order in which they are looked for
_KEYS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params"),
    *("model_state", "model_weights", "net_state_dict", "state", "classifier", "backbone"),
    *("ema", "model_ema", "state_dict_ema", "ema_state_dict", "ema_model", "params_ema"),
    "averaged",
)
_HEAD = re.compile(r"(?:^|\.)(?:fc|classifier|heads?)\b")  # of a name that ends in "bias"
_OTHERS = re.compile(r"optim|sched|scaler|loss|criterion|hyper|rng|callback|loop", re.IGNORECASE)
_TYPES = [  # the name of its storage in a pickle, its name in safetensors, and the type
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
_STORAGES = {f"torch.{storage}Storage": dtype for storage, _, dtype in _TYPES}
_SAFE_TYPES = {name: dtype for _, name, dtype in _TYPES}
_DTYPES = {str(dtype) for dtype in _SAFE_TYPES.values()}
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_PLAIN = ("collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device")
_ALLOWED = {*_STORAGES, *_DTYPES, _TENSOR, *_PARAMETERS, *_PLAIN}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as its file describes it.

    Attributes:
        dtype, shape: Its own.
        key: Of the storage that holds its numbers; the name in the file for safetensors.
        held: Numbers in that storage.
        offset, stride: Where its own stand among them.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    key: str
    held: int
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
        others: Other places of the checkpoint that hold a set of weights, and were left.
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
    def megabytes(self) -> float:
        """What they take once they are built."""
        return sum(part.nbytes for part in self.parts.values()) / 2**20

    @property
    def classes(self) -> int:
        """Outputs of the last layer, by the names that torchvision gives it; 0 where there is none of these."""
        heads = [
            name
            for name, part in self.parts.items()
            if len(part.shape) == 1
            and name.endswith("bias")
            and _HEAD.search(name)
            and "aux" not in name.lower()
        ]
        last = max(
            heads, key=lambda name: [int(part) for part in re.findall(r"\d{1,9}", name)], default=""
        )
        return self.parts[last].shape[0] if last else 0


def read(path: Path) -> bytes:
    """Reads a file of weights, or as much of one that is too large as :func:`look` needs to refuse it.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        with path.open("rb") as opened:
            return opened.read(settings().upload_mb * 2**20 + 1)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}). Give a .safetensors or .pt file."
        ) from None


def look(file: bytes) -> Contents:
    """Looks at what a file of weights describes, without building any of it.

    Raises:
        UserError: If it is a pickle, TorchScript, damaged, holds more than weights, or would build more than is
            allowed.
    """
    limit = settings().upload_mb
    if len(file) > limit * 2**20:
        raise UserError(
            f"Weights must be at most {limit} MB on this server, got {len(file) / 2**20:.0f} MB. Use a smaller network."
        )
    if file[8:9] == b"{" and int.from_bytes(file[:8], "little") < len(file):
        # looked at first: the length at the start can look like the first byte of anything
        found = Contents("safetensors", _header(file))
    elif file[:2] == b"PK":
        found = _checkpoint(file)
    elif file[:1] == b"\x80" or file[:2] == b"\x1f\x8b":
        raise UserError(
            "This file is a pickle, which can run any program when it is opened; PyTorch before 1.6 wrote weights so, "
            f"too. {ALONE}"
        )
    else:
        found = Contents("safetensors", _header(file))
    return replace(found, parts=_cleaned(found.parts))


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
            raise _unreadable(str(error)) from None
        made = {name: every[contents.parts[old].key] for name, old in chosen.items()}
    else:
        made = dict(_built(file, contents, chosen))
    for name, tensor in made.items():
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
    return made


def _cleaned(parts: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Takes the names of wrappers out of those of the tensors."""
    names: dict[str, str] = {}
    for name in parts:
        _allow("The name of a tensor", "characters", len(name), LIMITS.name)
        short = clean(name)
        if short in names:
            raise UserError(
                f"The entries {names[short][:80]!r} and {name[:80]!r} of this file name the same tensor. "
                f"One of each is allowed. {ALONE}"
            )
        names[short] = name
    return {short: parts[name] for short, name in names.items()}


# --- safetensors ----------------------------------------------------------------------------------------------------


def _unreadable(why: str) -> UserError:
    return UserError(
        f"This file holds no weights that can be read ({why}). "
        "Save them with safetensors.torch.save_file, or with torch.save(model.state_dict(), file)."
    )


def _header(file: bytes) -> dict[str, StoredTensor]:
    """Reads the header of safetensors: a length, JSON, and then nothing but numbers."""
    size = int.from_bytes(file[:8], "little") if len(file) >= 8 else len(file)
    if not 2 <= size <= len(file) - 8:
        raise _unreadable("it is neither safetensors nor a state dict, or is cut off")
    _allow("A header", "bytes", size, LIMITS.text)
    bounds = untrusted.Limits(characters=LIMITS.text, depth=4, values=14 * LIMITS.tensors + 200)
    try:
        header = untrusted.read_json(file[8 : 8 + size].decode(), "The header of weights", bounds)
    except (untrusted.NoData, UnicodeDecodeError):
        raise _unreadable("its header is damaged") from None
    if not isinstance(header, dict):
        raise _unreadable("its header is no list of tensors")
    header.pop("__metadata__", None)
    _allow("A file of weights", "tensors", len(header), LIMITS.tensors)
    room, parts, total = len(file) - 8 - size, {}, 0
    for name, entry in header.items():
        try:
            dtype, shape = _SAFE_TYPES[entry["dtype"]], tuple(entry["shape"])
            start, end = entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise _unreadable(f"the tensor {name[:80]!r} is described in an unknown way") from None
        if not _counts((*shape, start, end)) or len(shape) > 8:
            raise _unreadable(f"the tensor {name[:80]!r} has no plain shape")
        part = parts[name] = StoredTensor(dtype, shape, name, math.prod(shape))
        _allow_part(name, part)
        if end - start != part.nbytes or end > room:
            raise _unreadable(f"the tensor {name[:80]!r} claims more numbers than there are")
        total += part.nbytes
    if total != room:
        raise _unreadable("its tensors do not fill it")
    if not parts:
        raise _unreadable("it has no tensor")
    return parts


# --- state dicts ----------------------------------------------------------------------------------------------------


def _checkpoint(file: bytes) -> Contents:
    members, root = _members(file)
    pickle = members[root + "data.pkl"]
    _allow("A pickle of weights", "bytes", pickle.file_size, LIMITS.text)
    order = members.get(root + "byteorder")
    if order is not None and bytes(_record(file, order)[:8]) != b"little":
        raise UserError(
            f"This file was written with another order of bytes; only little-endian is read. {ALONE}"
        )
    sizes = {
        name.removeprefix(root + "data/"): info.file_size
        for name, info in members.items()
        if name.startswith(root + "data/")
    }
    whole = _Walk(sizes).walk(bytes(_record(file, pickle)))
    source, parts, others = _found(whole)
    for name, part in parts.items():
        _allow_part(name, part)
    built = sum(part.nbytes for part in parts.values())
    limit = settings().upload_mb
    if built > limit * 2**20:
        raise UserError(
            f"These weights would take {built / 2**20:.0f} MB of memory, and at most {limit} MB are allowed. {ALONE}"
        )
    return Contents("state dict", parts, source, others)


def _members(file: bytes) -> tuple[dict[str, zipfile.ZipInfo], str]:
    """Reads the ZIP's directory; gives its parts by name, and the folder that holds the pickle."""
    limit = settings().upload_mb
    _allow("A file of weights", "parts", file.count(b"PK\x01\x02"), LIMITS.members)
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


def _built(
    file: bytes, contents: Contents, chosen: Mapping[str, str]
) -> Iterator[tuple[str, Tensor]]:
    members, root = _members(file)
    held, key = bytearray(), ""
    for name, old in sorted(chosen.items(), key=lambda pair: contents.parts[pair[1]].key):
        part = contents.parts[old]
        if part.key != key:  # tensors that share a storage read it once
            held, key = bytearray(_record(file, members[f"{root}data/{part.key}"])), part.key
        flat = torch.frombuffer(held, dtype=part.dtype)
        view = flat.as_strided(part.shape, part.stride, part.offset)
        yield name, torch.empty(part.shape, dtype=part.dtype).copy_(view)


class _Walk:
    """Follows the instructions of a pickle without running any; what they would build is described."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes, self.tensors = sizes, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.levels: dict[int, int] = {}  # of each collection on the way, by its id

    def walk(self, code: bytes) -> Any:
        """Gives what the pickle would build: dicts, lists, tuples, plain values; for tensors :class:`StoredTensor`.

        Raises:
            UserError: If the pickle is damaged, too long, or asks for anything else.
        """
        steps = 0
        try:
            for opcode, value, _ in pickletools.genops(code):
                steps += 1
                _allow("A pickle of weights", "instructions", steps, LIMITS.steps)
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._step(opcode.name, value)
        except UserError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            raise UserError(
                f"This file is damaged: its pickle cannot be followed. {ALONE}"
            ) from None
        raise UserError(f"This file is damaged: its pickle has no end. {ALONE}")

    def _step(self, name: str, value: Any) -> None:
        stack = self.stack
        if name in _PUSHED:
            stack.append(value)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[value] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[value])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in _MADE:
            stack.append(_MADE[name]())
            self._holds(stack[-1], [], new=True)
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            many = self._marked() if name == "TUPLE" else self._last(int(name[-1]))
            stack.append(tuple(many))
            self._holds(stack[-1], many, new=True)
        elif name in ("APPEND", "APPENDS"):
            many = self._last(1) if name == "APPEND" else self._marked()
            stack[-1].extend(many)
            self._holds(stack[-1], many)
        elif name in ("SETITEM", "SETITEMS"):
            many = self._last(2) if name == "SETITEM" else self._marked()
            for key, last in zip(many[::2], many[1::2], strict=True):
                stack[-1][_key(key)] = last
            self._holds(stack[-1], many)
        elif name == "GLOBAL":
            stack.append(_name(*value.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            last, module = stack.pop(), stack.pop()
            stack.append(_name(module, last))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            given, what = stack.pop(), stack.pop()
            stack.append(self._made(what, given))
            if isinstance(stack[-1], dict | tuple):
                self._holds(stack[-1], [], new=True)
        elif name == "BUILD":  # what was added to a dict, such as its versions
            stack.pop()
            if not isinstance(stack[-1], dict):
                raise _more("an object with a state of its own")
        elif name not in ("PROTO", "FRAME"):
            raise _more(f"the instruction {name}")

    def _holds(self, holder: Any, parts: list[Any], new: bool = False) -> None:
        """Counts how many collections stand inside each other."""
        inner = [self.levels.get(id(p), 0) for p in parts if isinstance(p, dict | list | tuple)]
        before = 1 if new else self.levels.get(id(holder), 1)
        level = self.levels[id(holder)] = max(before, 1 + max(inner, default=0))
        _allow("A pickle of weights", "levels", level, LIMITS.depth)

    def _last(self, count: int) -> list[Any]:
        self.marks.append(len(self.stack) - count)
        return self._marked()

    def _marked(self) -> list[Any]:
        place = self.marks.pop()
        found = self.stack[place:]
        del self.stack[place:]
        return found

    def _storage(self, given: Any) -> StoredTensor:
        word, kind, key, _, held = given
        if word != "storage" or not isinstance(key, str) or not _counts((held,)):
            raise ValueError
        dtype = _STORAGES[kind.text]
        if self.sizes.get(key) != held * dtype.itemsize:
            raise UserError(
                f"The storage {key[:80]!r} of this file claims {held} numbers and holds fewer. {ALONE}"
            )
        return StoredTensor(dtype, (), key, held)

    def _made(self, what: Any, given: Any) -> Any:
        name = what.text
        if name in _PARAMETERS:
            if not isinstance(given[0], StoredTensor):
                raise ValueError
            return given[0]
        if name == _TENSOR:
            storage, offset, shape, stride = given[:4]
            self.tensors += 1
            _allow("A file of weights", "tensors", self.tensors, LIMITS.tensors)
            if not (
                isinstance(storage, StoredTensor)
                and len(shape) == len(stride) <= 8
                and _counts((offset, *shape, *stride))
            ):
                raise ValueError
            return replace(storage, shape=tuple(shape), offset=offset, stride=tuple(stride))
        if name == "torch.Size":
            (sizes,) = given
            if not isinstance(sizes, tuple) or len(sizes) > 8 or not _counts(sizes):
                raise ValueError  # one instruction must not copy what many have written
            return sizes
        if name == "collections.OrderedDict":
            if given:
                raise ValueError  # its entries are set one by one
            return {}
        if name in ("collections.Counter", "torch.device"):
            return None
        raise _more(f"a call of {name}")


@dataclass(frozen=True)
class _Name:
    """A name of another program's code, never looked up."""

    text: str


_MADE: dict[str, Any] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "NONE": lambda: None,
}
_PUSHED = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
}


def _name(module: Any, name: Any) -> _Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError
    text = f"{module}.{name}"
    if text not in _ALLOWED:
        raise _more(text)
    return _Name(text)


def _more(what: str) -> UserError:
    return UserError(
        f"This file holds more than weights: {what[:80]!r}, which would have to be run to open it. Only tensors, texts "
        f"and plain numbers are read (float(x) for a number of NumPy's, vars(args) for the arguments). {ALONE}"
    )


def _key(key: Any) -> str | int:
    if not isinstance(key, str) and not _counts((key,)):
        raise ValueError("a key is neither text nor a small number")
    return key


def _counts(values: tuple[Any, ...]) -> bool:
    return all(type(value) is int and 0 <= value < 2**40 for value in values)


def _allow(what: str, of: str, found: int, most: int) -> None:
    if found > most:
        raise UserError(f"{what} may have at most {most:,} {of}, got {found:,}. {ALONE}")


def _allow_part(name: str, part: StoredTensor) -> None:
    if part.numel > part.held:
        raise UserError(
            f"The tensor {name[:80]!r} claims {part.numel} numbers and holds fewer. {ALONE}"
        )
    if part.numel == 0:
        raise UserError(
            f"The tensor {name[:80]!r} has no numbers. Each needs at least one. {ALONE}"
        )
    last = sum((size - 1) * step for size, step in zip(part.shape, part.stride, strict=False))
    if part.offset + last >= part.held:
        raise UserError(f"The tensor {name[:80]!r} reads beyond its numbers. {ALONE}")


def _found(whole: Any) -> tuple[str, dict[str, StoredTensor], tuple[str, ...]]:
    """Finds the weights in what a checkpoint holds: where they stand, and where others do."""
    if not isinstance(whole, dict) or not whole:
        raise UserError(f"This file holds no state dict but {type(whole).__name__}. {ALONE}")
    if (plain := _weights(whole)) is not None:
        return "", plain, ()
    found: dict[str, dict[str, StoredTensor]] = {}
    seen, level = {id(whole)}, [("", whole)]
    for _ in range(3):
        below = []
        for path, place in level:
            for key, value in place.items():
                if not isinstance(value, dict) or id(value) in seen or _OTHERS.search(str(key)):
                    continue
                seen.add(id(value))
                where = f"{path}.{key}" if path else str(key)
                weights = _weights(value)
                if weights is None:
                    below.append((where, value))
                else:
                    found[where] = weights
        level = below
    if not found:
        odd = next((str(k) for k, v in whole.items() if not isinstance(v, StoredTensor)), "")
        raise UserError(f"The entry {odd[:80]!r} of this file is no plain tensor. {ALONE}")

    def rank(where: str) -> tuple[int, int, int]:
        words = where.split(".")
        places = [_KEYS.index(word) for word in words if word in _KEYS]
        copies = len(COPIES.findall(where))
        return max(places, default=len(_KEYS)), copies, -len(found[where])

    first, *others = sorted(found, key=rank)
    return first, found[first], tuple(others)


def _weights(place: dict[Any, Any]) -> dict[str, StoredTensor] | None:
    """Gives a dict of tensors, or None if it is something else."""
    plain = {key: value for key, value in place.items() if not str(key).endswith("_extra_state")}
    if not plain or not all(
        isinstance(key, str) and isinstance(value, StoredTensor) for key, value in plain.items()
    ):
        return None
    return plain
