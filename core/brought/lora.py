"""A LoRA on top of a text-to-image run that is here: a new run of its own, which names the one that it came from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from core import brought, runs
from core.brought import Seen, origins, text_to_image
from core.brought.text_to_image import TextToImage, TextToImageSampling
from core.catalog import Config, UserError, knob
from core.models import Spec
from core.runs import Opened
from core.tensors import fingerprint
from core.weights import Package, look
from core.weights import lora as changes

DESCRIBED = "adapter_config.json"  # by the library peft


class LoRAConfig(Config):
    """Which run a LoRA changes, and how strongly."""

    run: str = knob("", "The text-to-image run that it goes on top of: its name or id.")
    strength: float = knob(
        1.0,
        "What the change is multiplied by: 1 is as it was trained, less is weaker.",
        ge=-4,
        le=4,
    )


def _knows(package: Package) -> bool:
    only = len(package.tensors) == 1 and package.files.keys() <= {*package.tensors, DESCRIBED}
    return only and changes.holds(package.weights)


def _see(package: Package) -> Seen:
    return Seen(
        "A LoRA, low-rank changes of a text-to-image model",
        look(package.weights).parameters,
        sampler="that of the run that it goes on top of",
        notes=("It is nothing by itself: name the run that it changes (run=…).",),
    )


def _note(record: Mapping[str, Any]) -> str:
    base = record.get("facts", {}).get("from", {})
    return f"A LoRA on top of {base.get('name', 'another run')}; a text says what it draws."


@origins.add(
    "lora",
    "A LoRA for a text-to-image run",
    LoRAConfig,
    files=("safetensors",),
    sampling=TextToImageSampling,
    note=_note,
    knows=_knows,
    see=_see,
)
def build(
    config: LoRAConfig,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """A text-to-image run of this server, changed by a LoRA."""
    if package is None:
        assert record is not None
        plain = text_to_image.TextToImageConfig(prompt=record["facts"]["prompt"])
        return text_to_image.build(plain, None, spec, classes, record)
    alpha = _alpha(package.described(DESCRIBED))
    if not config.run:
        raise UserError(
            "A LoRA is nothing by itself: it changes a text-to-image model. Name the run that it goes on top of, for "
            "example run=NAME; bring that model first."
        )
    run = runs.find(config.run, generator=True)
    base = runs.open_model(run)
    if not isinstance(base.model, TextToImage):
        raise UserError(
            f"{run.name} is no text-to-image model, so a LoRA of one does not fit it. "
            "Choose the run of the model that it was trained for."
        )
    if base.spec.shape != spec.shape:
        raise UserError(
            f"{run.name} draws {' × '.join(map(str, base.spec.shape))}, and the dataset's items are "
            f"{' × '.join(map(str, spec.shape))}. Choose the dataset that {run.name} was brought for."
        )
    model = copy.deepcopy(base.model)  # the opened one is shared
    notes = [
        *runs.record(run).get("notes", []),
        text_to_image.adapted(model, package.weights, config.strength, alpha),
        f"On top of {run.name}, step {base.step:,}.",
    ]
    lineage = {"run": run.id, "name": run.name, "step": base.step, "hash": fingerprint(base.model)}
    facts = {
        **runs.record(run)["brought"]["facts"],
        "prompt": base.model.prompt,
        "from": lineage,
        "lora": package.digest,
    }
    about = {"kind": "brought", "facts": facts, "hash": fingerprint(model)}
    return brought.opened(model, spec, classes, about, notes, TextToImageSampling)


def _alpha(described: Mapping[str, Any]) -> float | None:
    """Reads the alpha that peft writes beside its weights.

    Raises:
        UserError: If single layers have their own, or it is of another kind.
    """
    for name in ("use_dora", "alpha_pattern", "rank_pattern", "use_rslora"):
        if described.get(name):
            raise UserError(
                f"{DESCRIBED} has {name}, which is not read. Save the LoRA with one alpha and one rank for all layers."
            )
    said = described.get("lora_alpha")
    if isinstance(said, int | float) and not isinstance(said, bool):
        return float(said)
    return None
