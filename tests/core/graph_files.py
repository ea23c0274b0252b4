"""Writes ONNX files by hand, the wire format and nothing else: good ones, and such as no exporter would write."""

from __future__ import annotations

import numpy as np

FLOAT, INT64 = 1, 7


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while True:
        out.append(value & 127 | (128 if value > 127 else 0))
        value >>= 7
        if not value:
            return bytes(out)


def part(number: int, content: int | bytes | str) -> bytes:
    """One field: a whole number, or bytes with their length."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name: str, value: np.ndarray, outside: str = "") -> bytes:
    kind = INT64 if value.dtype == np.int64 else FLOAT
    data = value if kind == INT64 else value.astype(np.float32)
    out = b"".join(part(1, side) for side in value.shape) + part(2, kind) + part(8, name)
    if outside:
        return out + part(13, part(1, "location") + part(2, outside)) + part(14, 1)
    return out + part(9, data.tobytes())


def value(name: str, shape: tuple[int | str, ...], kind: int = FLOAT) -> bytes:
    sides = b"".join(part(1, part(1 if isinstance(s, int) else 2, s)) for s in shape)
    return part(1, name) + part(2, part(1, part(1, kind) + part(2, sides)))


def ints(name: str, *numbers: int) -> bytes:
    if len(numbers) == 1:
        return part(1, name) + part(3, numbers[0]) + part(20, 2)
    return part(1, name) + b"".join(part(8, n) for n in numbers) + part(20, 7)


def node(operator: str, inputs: str, output: str, *attributes: bytes, domain: str = "") -> bytes:
    out = b"".join(part(1, name.strip()) for name in inputs.split(","))
    out += part(2, output) + part(4, operator) + b"".join(part(5, each) for each in attributes)
    return out + (part(7, domain) if domain else b"")


def model(
    nodes: list[bytes],
    inputs: list[bytes],
    outputs: list[bytes],
    weights: list[bytes] = [],  # noqa: B006
    opset: int = 17,
    more: bytes = b"",
) -> bytes:
    graph = b"".join(part(1, each) for each in nodes) + part(2, "g")
    graph += b"".join(part(5, each) for each in weights)
    graph += b"".join(part(11, each) for each in inputs)
    graph += b"".join(part(12, each) for each in outputs)
    return part(1, 8) + part(7, graph) + part(8, part(1, "") + part(2, opset)) + more


def decoder(
    line: np.ndarray,
    bias: np.ndarray,
    size: int = 8,
    batch: int | str = "n",
    squash: str = "Sigmoid",
) -> bytes:
    """Images of one channel: the sigmoid of a line (D, P) of latents."""
    shape = tensor("shape", np.array([-1, 1, size, size]))
    return model(
        [node("Gemm", "z,line,bias", "a"), node(squash, "a", "b"), node("Reshape", "b,shape", "x")],
        [value("z", (batch, line.shape[0]))],
        [value("x", (batch, 1, size, size))],
        [tensor("line", line), tensor("bias", bias), shape],
    )


def classifier(
    line: np.ndarray, bias: np.ndarray, shape: tuple[int, ...], batch: int | str = "n"
) -> bytes:
    """Logits: a line (P, K) of all pixels."""
    return model(
        [node("Flatten", "x", "a", ints("axis", 1)), node("Gemm", "a,line,bias", "y")],
        [value("x", (batch, *shape))],
        [value("y", (batch, line.shape[1]))],
        [tensor("line", line), tensor("bias", bias)],
    )
