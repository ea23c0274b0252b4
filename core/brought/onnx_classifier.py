"""A classifier as an ONNX graph: it answers, and has no gradients, so it is attacked without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core import brought, graphs, weights
from core.brought import Seen, origins
from core.brought.onnx_decoder import decodes
from core.catalog import Config, UserError, knob
from core.graphs.network import GraphClassifier
from core.graphs.wire import Described
from core.models import Spec
from core.runs import Opened
from core.tensors import fingerprint
from core.weights import Package
from core.weights.package import ending
from core.wrapped.preparation import Preparation, given, matched, told

NOTE = "It gives answers only, without gradients: attacks that need them are not offered."


class OnnxClassifierConfig(Config):
    """How a graph becomes a classifier."""

    classes: str = knob(
        "",
        "Which of its answers belongs to each class of the dataset, by number: zero=0; one=1. Empty takes its order.",
        title="Classes",
    )
    resize: int = knob(
        0,
        "Side that images are resized to before it. 0 is the side that the graph takes; -1 leaves them as they are.",
        ge=-1,
        le=2048,
        unit="px",
        log=True,
    )
    mean: str = knob(
        "", "What is subtracted from each channel, for example 0.485,0.456,0.406; empty is 0."
    )
    std: str = knob(
        "", "What each channel is divided by, for example 0.229,0.224,0.225; empty is 1."
    )


def _classifies(described: Described) -> bool:
    first = described.inputs[0]
    return (
        len(described.inputs) == 1
        and len(first.shape) == 4
        and len(described.outputs[0].shape) == 2
    )


def knows(package: Package) -> bool:
    """Tells a graph that decodes nothing."""
    if not package.lone or ending(package.tensors[0]) != "onnx":
        return False
    try:
        return not decodes(graphs.look(package.weights))
    except UserError:
        return True  # whose refusal is the one to read


def see(package: Package) -> Seen:
    """Says what a graph is, before it runs.

    Raises:
        UserError: If it is not let in.
    """
    described = graphs.look(package.weights)
    sides = described.inputs[0].shape[1:]
    return Seen(
        f"ONNX classifier, opset {described.opset}, {described.operators.total()} operators",
        described.numbers,
        tuple(side for side in sides if side) if None not in sides else (),
        described.outputs[0].shape[-1] or 0,
        notes=(NOTE,),
    )


@origins.add(
    "onnx_classifier",
    "An ONNX graph that classifies",
    OnnxClassifierConfig,
    files=("onnx",),
    note=lambda record: f"an ONNX graph. {told(record['preprocessing'])} {NOTE}",
    knows=knows,
    see=see,
)
def classifier(
    config: OnnxClassifierConfig,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """A graph that gives logits of images, behind what is done to its images.

    Raises:
        UserError: If it is not let in, does not take such images, or the package that runs it is missing.
    """
    if package is None:
        raise UserError(
            "An ONNX graph has no gradients, so it cannot be trained further. Only attacked. Bring its weights instead."
        )
    if record is not None:
        done, outputs = record["preprocessing"], record["facts"]["outputs"]
        contents = weights.look(package.weights)
        net = GraphClassifier()
        net.load_state_dict(weights.load(package.weights, contents, {"graph": "graph"}))
        notes: list[str] = list(record.get("notes", []))
    else:
        file = package.weights
        described = graphs.look(file)
        done, count = fitted(described, config, spec)
        side = done["resize"] if done["resize"] > 0 else spec.size
        first = described.inputs[0]
        rows = [4, 1] if first.shape[0] is None else [1]
        ran = graphs.tried(
            file, [{first.name: (first.dtype, [n, done["channels"], side, side])} for n in rows]
        )
        count = count or ran.shapes[0][-1]
        if any(
            len(shape) != 2 or shape != (n, count)
            for n, shape in zip(rows, ran.shapes, strict=True)
        ):
            raise UserError(
                f"This graph gives {ran.shapes[0]} for {rows[0]} images. It must give one row of logits for each, "
                f"({rows[0]}, {len(classes)}). Export it so."
            )
        outputs, said = matched(classes, (), count, config.classes)
        notes, net = [f"ONNX, opset {described.opset}.", said, NOTE], GraphClassifier(file)
    about = {
        "kind": "brought",
        "architecture": "ONNX graph",
        "preprocessing": done,
        "facts": {"outputs": outputs, "answers_only": True},
        "answers_only": True,
        "hash": fingerprint(net),
    }
    return brought.opened(Preparation(net, done, outputs), spec, classes, about, notes)


def fitted(
    described: Described, config: OnnxClassifierConfig, spec: Spec
) -> tuple[dict[str, Any], int]:
    """Settles what is done to images before a graph, and says how many answers it names, 0 for any.

    Raises:
        UserError: If it takes no such images.
    """
    if not _classifies(described):
        shapes = "; ".join(
            f"{v.name[:40]} {v.shape}" for v in [*described.inputs[:3], described.outputs[0]]
        )
        raise UserError(
            f"This graph is no classifier of images: {shapes}. It must take images (n, C, H, W) and give logits (n, "
            "K). Export it so."
        )
    batch, channels, height, width = described.inputs[0].shape
    if batch not in (None, 1):
        raise UserError(
            f"This graph takes {batch} images at once and no other number. It must take any number, or 1. Export it "
            "with a dynamic first dimension."
        )
    channels = channels or spec.channels
    if (
        channels not in (spec.channels, 3 if spec.channels == 1 else spec.channels)
        or height != width
    ):
        raise UserError(
            f"This graph takes images of {channels} × {height} × {width}; those of the dataset are "
            f"{' × '.join(map(str, spec.shape))}. Grey becomes colour, and the sides must be equal. Choose another "
            "dataset."
        )
    resize = config.resize or (height or -1)
    if height and resize != height and not (resize < 0 and spec.size == height):
        raise UserError(
            f"This graph takes images of {height} px, and resize is {config.resize}. It must be 0, or {height}."
        )
    done = {
        "resize": resize,
        "crop": -1,
        "resample": "bilinear",
        "channels": channels,
        "mean": given("mean", config.mean, channels) or [0.0] * channels,
        "std": given("std", config.std, channels) or [1.0] * channels,
        "from": "as given" if config.mean or config.std else "",
    }
    return done, described.outputs[0].shape[-1] or 0
