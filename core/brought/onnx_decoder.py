"""A decoder as an ONNX graph: rows of normal numbers become images; it has no gradient, so it is searched without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core import brought, graphs
from core.brought import Seen, origins
from core.catalog import Config, UserError, knob
from core.graphs.network import GraphDecoder
from core.graphs.wire import Described
from core.models import Spec
from core.runs import Opened
from core.weights import Package
from core.weights.package import ending
from core.wrapped import admission
from core.wrapped.decoder import DecoderModel, DecoderSampling


class OnnxDecoderConfig(Config):
    """How a graph becomes a generative model."""

    centred: bool = knob(
        False, "Its images lie from -1 to 1, and are brought to 0 to 1.", title="From -1 to 1"
    )


def decodes(described: Described) -> bool:
    """Tells a graph that takes rows of numbers and gives something with sides."""
    first = described.inputs[0]
    flat = len(first.shape) == 2 or (len(first.shape) == 4 and first.shape[2:] == (1, 1))
    return flat and first.dtype.startswith("float") and len(described.outputs[0].shape) != 2


def knows(package: Package) -> bool:
    """Tells a graph that takes rows of numbers and gives something with sides."""
    if not package.lone or ending(package.tensors[0]) != "onnx":
        return False
    try:
        return decodes(graphs.look(package.weights))
    except UserError:
        return False


def see(package: Package) -> Seen:
    """Says what a graph is, before it runs.

    Raises:
        UserError: If it is not let in.
    """
    described = graphs.look(package.weights)
    sides = described.outputs[0].shape[1:]
    return Seen(
        f"ONNX decoder, opset {described.opset}, {described.operators.total()} operators",
        described.numbers,
        tuple(side for side in sides if side) if None not in sides else (),
        described.inputs[1].shape[1] or 0 if len(described.inputs) > 1 and len(described.inputs[1].shape) == 2 else 0,
        sampler=f"one pass from {described.inputs[0].shape[1] or '?'} numbers",
        notes=("It has no gradients: what needs them is not offered, and images are searched for without.",),
    )  # fmt: skip


@origins.add(
    "onnx_decoder",
    "An ONNX graph that decodes",
    OnnxDecoderConfig,
    files=("onnx",),
    sampling=DecoderSampling,
    note=lambda record: "an ONNX graph that decodes, without gradients.",
    knows=knows,
    see=see,
)
def decoder(
    config: OnnxDecoderConfig,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """A graph that turns rows of normal numbers, and perhaps a class, into images.

    Raises:
        UserError: If it is not let in, is no decoder of such images, or the package that runs it is missing.
    """
    if package is None:
        assert record is not None
        facts = record["facts"]
        net = GraphDecoder(b"", facts["latent_dim"], facts["classes"], config.centred)
        return brought.opened(
            DecoderModel(net, spec, facts["classes"]), spec, classes, {"facts": facts}, (), DecoderSampling
        )  # fmt: skip
    file = package.weights
    described = graphs.look(file)
    facts = fitted(described, len(classes))
    rows = admission.TRIED if described.inputs[0].shape[0] is None else 1
    feeds = {
        value.name: (value.dtype, [rows, *(side or 1 for side in value.shape[1:])])
        for value in described.inputs
    }
    graphs.tried(file, [feeds])
    net = GraphDecoder(file, facts["latent_dim"], facts["classes"], config.centred)
    model = DecoderModel(net, spec, facts["classes"]).eval()
    name = "This graph"
    admitted = admission.admit(model, name, DecoderSampling(), program=False)
    notes = [*admitted.notes, f"ONNX, opset {described.opset}; it has no gradients."]
    if facts["classes"] and len(described.inputs[1].shape) == 1:
        notes.append("It takes whole classes: of a blend it draws the larger one.")
    return brought.opened(model, spec, classes, {"facts": facts}, notes, DecoderSampling)


def fitted(described: Described, classes: int) -> dict[str, Any]:
    """Says what a graph decodes.

    Raises:
        UserError: If its inputs are not those of a decoder, for so many classes.
    """
    first, *rest = described.inputs
    rows, width = (*first.shape, None, None)[:2]
    if not decodes(described) or width is None or len(rest) > 1:
        shapes = "; ".join(
            f"{v.name[:40]} {v.dtype} {_shape(v.shape)}" for v in described.inputs[:4]
        )
        raise UserError(
            f"This graph is no decoder: it takes {shapes}. It must take z, floats (n, D) with D written in the graph, "
            "and at most one more input: classes, int64 (n) or floats (n, K). Export it so."
        )
    if rows not in (None, 1):
        raise UserError(
            f"This graph takes {rows} rows at once and no other number. It must take any number, or 1. "
            "Export it with a dynamic first dimension."
        )
    listens = 0
    if rest:
        shape, dtype = rest[0].shape, rest[0].dtype
        listens = classes if len(shape) == 1 and dtype.startswith("int") else (shape[1:] or (0,))[0]
        if len(shape) == 2 and dtype.startswith("float") and listens is None:
            listens = classes
        if not classes or listens != classes or (len(shape) == 2) != dtype.startswith("float"):
            raise UserError(
                f"The second input of this graph, {rest[0].name[:40]!r}, is {dtype or 'of another type'} "
                f"{_shape(shape)}; the dataset has {classes} classes. It must be int64 (n) or floats (n, {classes}). "
                "Choose the dataset that it belongs to."
            )
    return {"latent_dim": width, "classes": listens, "opset": described.opset}


def _shape(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("n" if side is None else str(side) for side in shape) + ")"
