"""The pickle of a state dict, followed without being run: what its instructions would build is described."""

from __future__ import annotations

import pickletools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.catalog import UserError
from core.weights import limits
from core.weights.contents import TYPES, StoredTensor, counts
from core.weights.limits import ALONE, allow

_STORAGES = {f"torch.{storage}Storage": dtype for storage, _, dtype in TYPES}
_DTYPES = {str(dtype) for *_, dtype in TYPES}
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_PLAIN = ("collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device")
_ALLOWED = {*_STORAGES, *_DTYPES, _TENSOR, *_PARAMETERS, *_PLAIN}


class Walk:
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
        try:
            for step, (opcode, value, _) in enumerate(pickletools.genops(code), start=1):
                allow("A pickle of weights", "instructions", step, limits.LIMITS.steps)
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
        elif name in _NEW:
            stack.append(_NEW[name]())
            self._holds(stack[-1], [], new=True)
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            items = self._pop(name)
            stack.append(tuple(items))
            self._holds(stack[-1], items, new=True)
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(name)
            stack[-1].extend(items)
            self._holds(stack[-1], items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop(name)
            for key, item in zip(items[::2], items[1::2], strict=True):
                stack[-1][_key(key)] = item
            self._holds(stack[-1], items)
        elif name == "GLOBAL":
            stack.append(_name(*value.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_name(module, attribute))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._call(function, arguments))
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
        allow("A pickle of weights", "levels", level, limits.LIMITS.depth)

    def _pop(self, name: str) -> list[Any]:
        """Takes what an instruction works on from the stack: a fixed number of items, or all since the last mark."""
        count = _ITEMS.get(name)
        start = len(self.stack) - count if count else self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _storage(self, id: Any) -> StoredTensor:
        word, kind, key, _, count = id
        if word != "storage" or not isinstance(key, str) or not counts((count,)):
            raise ValueError
        dtype = _STORAGES[kind.text]
        if self.sizes.get(key) != count * dtype.itemsize:
            raise UserError(
                f"The storage {key[:80]!r} of this file claims {count} numbers and holds fewer. {ALONE}"
            )
        return StoredTensor(dtype, (), key, count)

    def _call(self, function: Any, arguments: Any) -> Any:
        """Describes what one of the few functions that may stand in a pickle would give."""
        name = function.text
        if name in _PARAMETERS:
            if not isinstance(arguments[0], StoredTensor):
                raise ValueError
            return arguments[0]
        if name == _TENSOR:
            storage, offset, shape, stride = arguments[:4]
            self.tensors += 1
            allow("A file of weights", "tensors", self.tensors, limits.LIMITS.tensors)
            if not (
                isinstance(storage, StoredTensor)
                and len(shape) == len(stride) <= 8
                and counts((offset, *shape, *stride))
            ):
                raise ValueError
            return replace(storage, shape=tuple(shape), offset=offset, stride=tuple(stride))
        if name == "torch.Size":
            (sizes,) = arguments
            if not isinstance(sizes, tuple) or len(sizes) > 8 or not counts(sizes):
                raise ValueError  # one instruction must not copy what many have written
            return sizes
        if name == "collections.OrderedDict":
            if arguments:
                raise ValueError  # its entries are set one by one
            return {}
        if name in ("collections.Counter", "torch.device"):
            return None
        raise _more(f"a call of {name}")


@dataclass(frozen=True)
class _Name:
    """A name of another program's code, never looked up."""

    text: str


_NEW: dict[str, Any] = {  # instructions that push something new: what makes it
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "NONE": lambda: None,
}
_ITEMS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2}
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
    if not isinstance(key, str) and not counts((key,)):
        raise ValueError("a key is neither text nor a small number")
    return key
