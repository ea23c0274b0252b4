"""A classifier as a folder of Hugging Face: config.json, model.safetensors, and what was done to its images.

The folder says numbers, never programs: its class is one of a list, its config is read key by key, and the network is
built by the library that is installed here.

References:
    The folder, https://huggingface.co/docs/transformers/main_classes/model
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from core import brought, weights
from core.brought import Seen, origins
from core.catalog import Config, UserError, knob, optional
from core.models import Spec
from core.runs import Opened
from core.target import laid_out
from core.tensors import fingerprint
from core.weights import Package
from core.wrapped import raised
from core.wrapped.preparation import Preparation, given, matched, told
from core.wrapped.strict import filled

NEEDS = "A classifier of Hugging Face"
CLASSES = (
    "BeitForImageClassification", "ConvNextForImageClassification", "ConvNextV2ForImageClassification",
    "DeiTForImageClassification", "Dinov2ForImageClassification", "MobileNetV2ForImageClassification",
    "RegNetForImageClassification", "ResNetForImageClassification", "SwinForImageClassification",
    "ViTForImageClassification",
)  # fmt: skip
# what every config may say that changes nothing of a classifier in evaluation mode
_SAID = frozenset({
    "_name_or_path", "architectures", "model_type", "id2label", "label2id", "num_labels", "problem_type",
    "transformers_version", "torch_dtype", "dtype", "finetuning_task", "return_dict", "output_attentions",
    "output_hidden_states", "chunk_size_feed_forward", "is_encoder_decoder", "torchscript", "use_cache",
    "out_features", "out_indices", "stage_names", "encoder_stride", "pooler_output_size", "pooler_act",
})  # fmt: skip
MOST = 100_000  # of any number of a config
SIDE = 2048  # px
NAMES = 100_000
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
RESAMPLES = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
REPLACED = {1: "lanczos", 4: "box", 5: "hamming"}  # by bicubic, and it is said


class HuggingfaceConfig(Config):
    """What a folder does not say, or is to be read in another way."""

    classes: str = knob(
        "",
        "Which of its answers belongs to each class of the dataset, by name or number: cat=tabby; dog=5. Empty matches "
        "them by name.",
        title="Classes",
    )
    resize: int = knob(
        0,
        "Side that images are resized to before it. 0 is what the folder says; -1 leaves them as they are.",
        ge=-1,
        le=SIDE,
        unit="px",
        log=True,
    )
    crop: int = knob(
        0,
        "Side of the square that is cut from the middle. 0 is what the folder says; -1 cuts nothing.",
        ge=-1,
        le=SIDE,
        unit="px",
        log=True,
    )
    mean: str = knob(
        "",
        "What is subtracted from each channel, for example 0.485,0.456,0.406; empty reads it from the folder.",
    )
    std: str = knob(
        "",
        "What each channel is divided by, for example 0.229,0.224,0.225; empty reads it from the folder.",
    )


def knows(package: Package) -> bool:
    """Tells a folder whose config names a network of transformers that classifies images."""
    config = package.described("config.json")
    named = config.get("architectures")
    return (
        isinstance(named, list)
        and bool(named)
        and isinstance(named[0], str)
        and named[0].endswith("ForImageClassification")
    )


def see(package: Package) -> Seen:
    """Says what a folder holds, before anything is built.

    Raises:
        UserError: If it is not let in.
    """
    config = package.json("config.json")
    name = class_of(config)
    names = names_of(config)
    done = prepared(package, HuggingfaceConfig(), config, 3)
    return Seen(
        f"{name} (Hugging Face)",
        weights.look(package.weights).parameters,
        classes=len(names),
        names=() if _nameless(names) else tuple(names),
        notes=(told(done),),
    )


@origins.add(
    "huggingface",
    "A classifier of Hugging Face",
    HuggingfaceConfig,
    files=("safetensors",),
    note=lambda record: f"{record['facts']['architecture']}. {told(record['preprocessing'])}",
    knows=knows,
    see=see,
)
def classifier(
    config: HuggingfaceConfig,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """A network of transformers out of a folder: config.json, model.safetensors and preprocessor_config.json.

    Raises:
        UserError: If it is not let in, does not fit, or the package that builds it is missing.
    """
    if record is not None:
        facts, done = record["facts"], record["preprocessing"]
        make = _maker(facts["architecture"], facts["config"])
        notes: list[str] = list(record.get("notes", []))
        net = rebuilt(make, package, facts["architecture"])
    else:
        assert package is not None
        said = package.json("config.json")
        name, names = class_of(said), names_of(said)
        file = package.weights
        contents = weights.look(file)
        built = checked(said, name, len(contents.parts), len(names))
        channels = built.get("num_channels", 3)
        if channels not in (spec.channels, 3 if spec.channels == 1 else spec.channels):
            raise UserError(
                f"{name} takes images of {channels} channels, and those of the dataset have {spec.channels}. Grey "
                "becomes colour, and nothing else. Choose another dataset."
            )
        done = prepared(package, config, said, channels)
        outputs, matching = matched(
            classes, () if _nameless(names) else names, len(names), config.classes
        )
        make = _maker(name, built)
        net = filled(make, file, contents, name)
        facts = {"architecture": name, "config": built, "outputs": outputs}
        notes = [matching]
    return prepended(net, done, facts, spec, classes, notes)


def rebuilt(make: Callable[[], nn.Module], package: Package | None, name: str) -> nn.Module:
    """Makes a network that was kept, with its weights where there are any."""
    if package is None:
        return make()
    return filled(make, package.weights, weights.look(package.weights), name)


def prepended(
    net: nn.Module,
    done: Mapping[str, Any],
    facts: Mapping[str, Any],
    spec: Spec,
    classes: Sequence[str],
    notes: Sequence[str],
) -> Opened:
    """Puts what is done to images before a network of weights, tries both, and gives what a run gives.

    Args:
        net: Gives logits of its own answers.
        done: What is done to images; see :class:`core.wrapped.preparation.Preparation`.
        facts: ``architecture``, and ``outputs``: which answer belongs to each class; kept with it.
        spec, classes: Of the dataset.
        notes: What to know of it, in sentences.

    Raises:
        UserError: If it does not take such images.
    """
    model = Preparation(net, done, facts["outputs"])
    tried(model, spec, facts["architecture"])
    about = {
        "kind": "brought",
        "architecture": facts["architecture"],
        "preprocessing": done,
        "facts": facts,
        "hash": fingerprint(net),
    }
    return laid_out(brought.opened(model, spec, classes, about, notes))


def class_of(config: Mapping[str, Any]) -> str:
    """Names the class of a config, one of :data:`CLASSES`.

    Raises:
        UserError: If it is none of them, or asks for programs.
    """
    if "auto_map" in config:
        raise UserError(
            "config.json asks for a program of the folder (auto_map), and nothing that is brought is ever run. Only "
            f"the networks of transformers itself are built: {', '.join(CLASSES)}. Bring it by code on your own "
            "machine."
        )
    if config.get("quantization_config"):
        raise UserError(
            "config.json describes quantised weights, which cannot be read. Weights must be float numbers. Save them "
            "before they are quantised."
        )
    named = config.get("architectures")
    name = named[0] if isinstance(named, list) and named else ""
    if name not in CLASSES:
        raise UserError(
            f"config.json names {str(name)[:80]!r} as its class. Choose from: {', '.join(CLASSES)}. Bring another one "
            "by code on your own machine, or as ONNX."
        )
    return name


def names_of(config: Mapping[str, Any]) -> list[str]:
    """Gives the names of a config's answers in order.

    Raises:
        UserError: If they are not numbered from 0 on.
    """
    known = config.get("id2label")
    if known is None:
        count = config.get("num_labels", 2)
        count = count if type(count) is int and 0 < count <= NAMES else 0
        known = {str(k): f"LABEL_{k}" for k in range(count)}
    sound = isinstance(known, dict) and 0 < len(known) <= NAMES
    if not sound or any(str(k) not in known for k in range(len(known))):
        raise UserError(
            "id2label of config.json must name the answers from 0 on, each once. Write it as the library does: "
            '{"0": "cat", "1": "dog"}.'
        )
    return [str(known[str(k)])[:200] for k in range(len(known))]


def _nameless(names: Sequence[str]) -> bool:
    return all(re.fullmatch(r"LABEL_\d+", name) for name in names)


def checked(config: Mapping[str, Any], name: str, tensors: int, answers: int) -> dict[str, Any]:
    """Reads what a network is built of out of its config, key by key, within bounds.

    Args:
        config: The content of config.json.
        name: Of its class.
        tensors: That the weights have: a network has no more layers than these.
        answers: How many it gives.

    Raises:
        UserError: If a key is not known, or a number is not allowed.
    """
    kind = getattr(optional("transformers", NEEDS), name).config_class
    known = _fields(kind)
    built: dict[str, Any] = {}
    for key, value in config.items():
        derived = (
            key in ("num_layers", "hidden_size") and key not in known
        )  # from depths and widths
        if key in _SAID or derived:
            continue
        if key not in known or key.startswith("_") or "implementation" in key:
            raise UserError(
                f"config.json holds {key[:60]!r}, which {kind.__name__} does not know, so that the network could be "
                "another one than was trained. Only its own keys are read. Take it out if it changes nothing."
            )
        _allow(key, value)
        built[key] = value
    deep = sum(
        sum(v for v in _numbers(value))
        for key, value in built.items()
        if re.search(r"layers|depths|blocks", key)
    )
    if deep > tensors:
        raise UserError(
            f"config.json asks for {deep:,} layers, and the weights hold {tensors:,} tensors. Each layer has some. "
            "Bring the config that belongs to these weights."
        )
    return built | {"num_labels": answers}


def _fields(kind: type[Any]) -> set[str]:
    """Lists what a class of configs is made of, without what all of them share."""
    import inspect

    names: set[str] = set()
    for each in kind.__mro__:
        if each.__module__.startswith("transformers.models."):
            names |= {
                *inspect.signature(each.__init__).parameters,
                *getattr(each, "__annotations__", {}),
            }
    return names - {"self", "kwargs", "args"}


def _numbers(value: Any) -> list[float]:
    if isinstance(value, list):
        return [number for each in value for number in _numbers(each)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def _allow(key: str, value: Any) -> None:
    numbers = _numbers(value)
    longest = len(value) if isinstance(value, list | str) else 0
    wrong = ""
    if isinstance(value, dict) or longest > 200:
        wrong = "a list of at most 200 numbers, a number or a word"
    elif not all(math.isfinite(v) and 0 <= v <= MOST for v in numbers):
        wrong = f"numbers from 0 to {MOST:,}"
    elif re.search(r"image_size", key) and any(v > SIDE for v in numbers):
        wrong = f"at most {SIDE} px"
    if wrong:
        raise UserError(
            f"{key[:60]} of config.json must be {wrong}, got {str(value)[:60]}. Bring the config as it was saved."
        )


def _maker(name: str, built: Mapping[str, Any]) -> Callable[[], nn.Module]:
    library = optional("transformers", NEEDS)
    if name not in CLASSES:  # of a record, which a person may have changed
        raise UserError(f"{name[:80]!r} is not built here. Choose from: {', '.join(CLASSES)}.")
    kind = getattr(library, name)

    def make() -> nn.Module:
        try:
            config = kind.config_class(**built)
            config._attn_implementation = (
                "eager"  # which is torch's own operations, with all derivatives
            )
            return kind(config)
        except UserError:
            raise
        except Exception as error:  # whatever the library says of numbers that do not go together
            raise UserError(
                f"{name} cannot be built of this config.json ({raised(error)}). Bring it as it was saved."
            ) from error

    return make


def prepared(
    package: Package, config: HuggingfaceConfig, said: Mapping[str, Any], channels: int
) -> dict[str, Any]:
    """Settles what is done to images, by preprocessor_config.json and what a person says instead.

    Raises:
        UserError: If the folder does not say it, or says what is not done here.
    """
    path = "preprocessor_config.json"
    mean, std = given("mean", config.mean, channels), given("std", config.std, channels)
    if path not in package:
        if not (mean and std):
            raise UserError(
                f"{package.name!r} has no {path}, which says what is done to images. Bring it too, or write mean and "
                "std (and resize): mean=0.5 std=0.5 for pixels from -1 to 1."
            )
        return _done(
            config.resize or -1, config.crop or -1, "bilinear", channels, mean, std, "as given"
        )
    steps = package.json(path)
    kind = str(steps.get("image_processor_type") or steps.get("feature_extractor_type") or "")
    for key, value in steps.items():
        if key.startswith("do_") and value and key not in _STEPS:
            raise UserError(
                f"{path} asks for {key[:40]}, which is not done here. Known are do_resize, do_center_crop, do_rescale "
                "and do_normalize. Bring it by code on your own machine, or as ONNX."
            )
    resize = crop = -1
    if steps.get("do_resize", True):
        resize, crop = _sides(steps, kind, path)
    if steps.get("do_center_crop", False) and resize > 0:
        crop = _side(steps.get("crop_size", resize), path)
    number = steps.get("resample", 2)
    resample = RESAMPLES.get(number if type(number) is int else 2, "bicubic")
    # what is done to bytes from 0 to 255, said of pixels from 0 to 1
    scale = 255.0
    if steps.get("do_rescale", True):
        scale *= _positive(steps.get("rescale_factor", 1 / 255), path)
    usual: tuple[list[float], list[float]] = [0.0] * channels, [1.0] * channels
    if steps.get("do_normalize", True):
        usual = (
            _row(steps.get("image_mean", [0.5] * 3), channels, path),
            [_positive(v, path) for v in _row(steps.get("image_std", [0.5] * 3), channels, path)],
        )
    own = [v / scale for v in usual[0]], [v / scale for v in usual[1]]
    source = "as given" if mean and std else f"from {path}"
    done = _done(
        config.resize or resize, config.crop or (crop if crop < (config.resize or resize) else -1),
        resample, channels, mean or own[0], std or own[1], source,
    )  # fmt: skip
    if type(number) is int and number not in RESAMPLES:
        done["instead_of"] = REPLACED.get(number, f"resampling {number}")
    return done


def _sides(steps: Mapping[str, Any], kind: str, path: str) -> tuple[int, int]:
    size = steps.get("size", 224)
    side = _side(size, path)
    if kind.startswith("ConvNext"):  # which cuts a share away where images are small
        if side >= 384:
            return side, -1
        share = _positive(steps.get("crop_pct") or 224 / 256, path)
        return min(SIDE, int(side / share)), side
    return side, -1


def _side(size: Any, path: str) -> int:
    """Reads a size as the library writes it; the sides are equal, since pictures here are square."""
    if isinstance(size, dict):
        names = ("height", "width") if "height" in size else ("shortest_edge",)
        sides = [size.get(name) for name in names]
        size = sides[0] if all(side == sides[0] for side in sides) else None
    if type(size) is not int or not 1 <= size <= SIDE:
        raise UserError(
            f"{path} says no size that can be used. It must be one side from 1 to {SIDE} px, or two equal ones. Write "
            "resize and crop yourself."
        )
    return size


def _positive(value: Any, path: str) -> float:
    if not isinstance(value, int | float) or not 0 < value < 1e6:
        raise UserError(
            f"{path} holds {str(value)[:40]} where a number above 0 is needed. Bring it as it was saved."
        )
    return float(value)


def _row(value: Any, channels: int, path: str) -> list[float]:
    numbers = value if isinstance(value, list) else [value]
    numbers = numbers * channels if len(numbers) == 1 else numbers
    if len(numbers) != channels or not all(
        isinstance(v, int | float) and abs(v) < 1e6 for v in numbers
    ):
        raise UserError(
            f"{path} holds {str(value)[:60]} where a number for each of {channels} channels is needed. Write mean and "
            "std yourself."
        )
    return [float(v) for v in numbers]


def _done(
    resize: int,
    crop: int,
    resample: str,
    channels: int,
    mean: list[float],
    std: list[float],
    source: str,
) -> dict[str, Any]:
    return {
        "resize": resize,
        "crop": crop,
        "resample": resample,
        "channels": channels,
        "mean": mean,
        "std": std,
        "from": source,
    }


def tried(model: Preparation, spec: Spec, name: str) -> None:
    try:
        with torch.no_grad():
            out = model.eval()(torch.full((2, *spec.shape), 0.5))
    except UserError:
        raise
    except Exception as error:  # whatever a network raises at images that it does not take
        raise UserError(
            f"{name} cannot take images of {spec.size} px so ({raised(error)}). Write in resize and crop what it was "
            "trained with."
        ) from error
    if not bool(out.isfinite().all()):
        raise UserError(
            f"{name} gives answers that are not finite for a grey image. All must be finite. Bring whole weights."
        )
