"""Reads the outline of an ONNX file: which operators, inputs, outputs and tensors it has; no number of it.

A message of protocol buffers is a row of fields: a key (number and kind), then a varint, eight or four bytes, or a
length and as many bytes. Weights are stepped over by their length.

References:
    The wire format, https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

FIELDS = 2_000_000  # of all messages together
TEXT = 500  # bytes of a name
TYPES = {1: "float32", 6: "int32", 7: "int64", 10: "float16", 11: "float64"}  # of TensorProto


class BrokenGraph(ValueError):
    """Says why a file is no graph."""


@dataclass(frozen=True)
class Value:
    """An input or an output of a graph.

    Attributes:
        name: Its name.
        dtype: Of its numbers; empty for one that is not used here.
        shape: None stands for a side that may be any.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass
class Described:
    """What a graph says it is; no number of it has been read.

    Attributes:
        inputs, outputs: Without the weights.
        operators: How often each occurs.
        domains: Of the operators; empty is the standard.
        opset: Version of the standard that it follows.
        numbers: That its weights have.
        external: A tensor that lies in another file; empty if there is none.
        trains: An operator that behaves as in training; empty if there is none.
        nested: A graph or function inside; empty if there is none.
    """

    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    operators: Counter[str] = field(default_factory=Counter)
    domains: set[str] = field(default_factory=set)
    opset: int = 0
    numbers: int = 0
    external: str = ""
    trains: str = ""
    nested: str = ""


class _Message:
    """A part of a file that is a message."""

    def __init__(self, file: memoryview, count: list[int]) -> None:
        self.file, self.count = file, count

    def __iter__(self) -> Iterator[tuple[int, int | memoryview]]:
        """Yields number and content of each field: a whole number, or its bytes."""
        file, at = self.file, 0
        while at < len(file):
            self.count[0] += 1
            if self.count[0] > FIELDS:
                raise BrokenGraph("it has too many parts")
            key, at = _varint(file, at)
            number, kind = key >> 3, key & 7
            if not number:
                raise BrokenGraph("a field has no number")
            if kind == 0:
                value, at = _varint(file, at)
                yield number, value
                continue
            if kind == 2:
                size, at = _varint(file, at)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise BrokenGraph("a field is of an unknown kind")
            if size > len(file) - at:
                raise BrokenGraph("it is cut off")
            yield number, file[at : at + size]
            at += size

    def inside(self, content: int | memoryview) -> _Message:
        """Reads the content of a field as a message."""
        if isinstance(content, int):
            raise BrokenGraph("a part of it is a number")
        return _Message(content, self.count)


def described(file: bytes, nodes: int) -> Described:
    """Reads the outline of a graph.

    Args:
        file: The content of the file.
        nodes: Most operators that it may have.

    Raises:
        BrokenGraph: If it is none.
    """
    found = Described()
    model = _Message(memoryview(file), [0])
    graphs = 0
    for number, content in model:
        if number == 7:
            graphs += 1
            _graph(model.inside(content), found, nodes)
        elif number == 8:  # which version of which operators
            version = dict(model.inside(content))
            if _text(version.get(1, b"")) in ("", "ai.onnx"):
                found.opset = max(found.opset, _number(version.get(2, 0)))
        elif number in (20, 25):
            found.nested = "training_info" if number == 20 else "a function"
    if graphs != 1 or not found.operators:
        raise BrokenGraph("it holds no graph" if not graphs else "it holds several graphs")
    if not found.opset:
        raise BrokenGraph("it does not say which opset it follows")
    return found


def _graph(graph: _Message, found: Described, nodes: int) -> None:
    weights: set[str] = set()
    for number, content in graph:
        if number == 1:
            _node(graph.inside(content), found)
            if found.operators.total() > nodes:
                raise BrokenGraph(f"it has more than {nodes:,} operators")
        elif number == 5:
            weights.add(_tensor(graph.inside(content), found))
        elif number == 11:
            found.inputs.append(_value(graph.inside(content)))
        elif number == 12:
            found.outputs.append(_value(graph.inside(content)))
        elif number == 15:
            found.nested = "a sparse tensor"
    found.inputs[:] = [value for value in found.inputs if value.name not in weights]


def _node(node: _Message, found: Described) -> None:
    operator, inputs, settings = "", 0, {}
    drops = False
    for number, content in node:
        if number == 1:
            inputs += 1
            drops |= inputs == 3 and bool(_text(content))  # the third input of Dropout says so
        elif number == 4:
            operator = _text(content)
        elif number == 5:
            name, value = _attribute(node.inside(content), found)
            settings[name] = value
        elif number == 7:
            found.domains.add(_text(content))
    found.operators[operator] += 1
    if (operator == "Dropout" and drops) or settings.get("training_mode"):
        found.trains = operator


def _attribute(attribute: _Message, found: Described) -> tuple[str, int]:
    """Looks into an attribute, and gives its name and its whole number, 0 for one of another kind."""
    name, value = "", 0
    for number, content in attribute:
        if number == 1:
            name = _text(content)
        elif number == 3:
            value = _number(content)
        elif number in (5, 10):
            _tensor(attribute.inside(content), found)
        elif number in (6, 11):
            found.nested = found.nested or f"in the attribute {name}"
        elif number in (22, 23):
            found.nested = found.nested or "a sparse tensor"
    return name, value


def _tensor(tensor: _Message, found: Described) -> str:
    name, count, external = "", 1, False
    for number, content in tensor:
        if number == 1:
            for size in _numbers(content):
                count *= size
        elif number == 8:
            name = _text(content)
        elif number == 13 or (number == 14 and content):
            external = True
    if count < 0 or count > 2**40:
        raise BrokenGraph(f"the tensor {name[:80]!r} has no plain shape")
    if external:
        found.external = name or "without a name"
    found.numbers += count
    return name


def _value(value: _Message) -> Value:
    name, dtype, shape = "", "", []
    for number, content in value:
        if number == 1:
            name = _text(content)
        elif number == 2:
            for kind, tensor in value.inside(content):
                if kind != 1:  # a sequence, a map
                    continue
                for part, inner in value.inside(tensor):
                    if part == 1:
                        dtype = TYPES.get(_number(inner), "")
                    elif part == 2:
                        for dim, side in value.inside(inner):
                            if dim == 1:
                                shape.append(_side(value.inside(side)))
    if len(shape) > 8:
        raise BrokenGraph(f"{name[:80]!r} has {len(shape)} dimensions")
    return Value(name, dtype, tuple(shape))


def _side(dimension: _Message) -> int | None:
    for number, content in dimension:
        if number == 1 and isinstance(content, int):
            return content if 0 < content < 2**31 else None
    return None


def _varint(file: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(file):
            raise BrokenGraph("it is cut off")
        byte = file[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (2**64 - 1), at
    raise BrokenGraph("a number in it has no end")


def _numbers(content: int | memoryview) -> Iterator[int]:
    """Yields one number, or those of a packed row."""
    if isinstance(content, int):
        yield content
        return
    at = 0
    while at < len(content):
        value, at = _varint(content, at)
        yield value


def _number(content: object) -> int:
    if not isinstance(content, int):
        raise BrokenGraph("a number in it is none")
    return content


def _text(content: object) -> str:
    if isinstance(content, int) or len(content) > TEXT:  # type: ignore[arg-type]
        raise BrokenGraph("a name in it is none, or too long")
    try:
        return bytes(content).decode()  # type: ignore[call-overload]
    except UnicodeDecodeError:
        raise BrokenGraph("a name in it is no text") from None
