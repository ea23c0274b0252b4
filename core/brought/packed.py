"""Runs of Simulacra that were packed where they were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from core import brought, models, packs, weights
from core.brought import Seen, TermsConfig, origins
from core.catalog import Config, UserError
from core.media import media
from core.models import Spec, families
from core.runs import Opened
from core.weights import Package, component


class PackedConfig(Config):
    """A pack says everything of its run."""


class AsPacked(Config):
    """How a run draws is said by its family."""


def _see(package: Package) -> Seen:
    pack = packs.read(package)
    count = weights.look(packs.whole(package)).parameters
    component.allow_parameters(count, "This pack")
    family = families.get(pack.family)
    consent = pack.terms["consent"]
    if consent not in TermsConfig.knobs()["consent"].options:
        consent = ""  # the words of another version, or of nobody
    name = str(pack.about.get("name", ""))[:80]
    return Seen(
        title=f"The run {name or package.name} · {family.title}",
        parameters=count,
        shape=pack.spec.shape,
        classes=pack.listens,
        names=pack.classes if pack.listens else (),
        sampler=", ".join(f"{key} {value}" for key, value in pack.sampling.items()) or "as usual",
        licence=pack.terms["licence"],
        consent=consent,
        notes=(f"After {min(pack.step * pack.batch, pack.images):,} images (step {pack.step:,}).",),
    )


def _recorded(package: Package, record: dict[str, Any]) -> dict[str, Any]:
    """Gives a job's record of what is brought: the family of the run, and what it was trained with."""
    pack = packs.read(package)
    facts = {
        "step": pack.step,
        "train": {"batch": pack.batch, "images": pack.images, "seed": pack.seed},
        "sampling": dict(pack.sampling),
        "packed": dict(pack.about),
    }
    return {"name": pack.family, "config": pack.config.record(), "facts": facts}


@origins.add(
    "packed",
    "A run of Simulacra that was packed",
    PackedConfig,
    files=("safetensors",),
    sampling=AsPacked,
    note=lambda record: f"a run of Simulacra that was packed ({record['name']}).",
    knows=lambda package: packs.RECORD in package,
    see=_see,
    recorded=_recorded,
    learned=packs.learned,
)
def generator(
    config: Config,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """A run of Simulacra as it was where it was packed: the same samples, bit for bit on the same kind of processor.

    Raises:
        UserError: If the pack is damaged, of a later version, or the dataset has other items or classes.
    """
    if package is None:
        assert record is not None
        model: Any = models.build(record["name"], record["config"], spec)
        return brought.opened(model, spec, classes, {}, (), families.get(record["name"]).sampling)
    pack = packs.read(package)
    ours, theirs = (str(s) for s in (spec, pack.spec))
    if (spec.medium, spec.shape) != (pack.spec.medium, pack.spec.shape):
        raise UserError(
            f"The run makes {theirs}, and the dataset has {ours}. Choose the dataset that it belongs to, or import "
            f"its {media.get(pack.spec.medium).title.lower()} at the same size."
            + (brought.beyond(pack.spec.size) if pack.spec.form == "picture" else "")
        )
    notes = []
    if pack.listens and tuple(classes) != pack.classes:
        if len(classes) != len(pack.classes) or set(classes) & set(pack.classes):
            raise UserError(
                f"The run makes the classes {_some(pack.classes)}, and the dataset has {_some(classes)}. Choose the "
                "dataset that it belongs to, with the same classes in the same order."
            )
        notes.append(
            f"It calls its classes {_some(pack.classes)}; they stand for those of the dataset in this order."
        )
    file = packs.whole(package)
    model: Any = component.build(
        lambda: models.build(pack.family, pack.config.record(), pack.spec),
        [(file, weights.look(file))],
        f"the {pack.family} of this pack",
    )
    with torch.no_grad():
        return brought.opened(
            model, pack.spec, classes, {}, notes, families.get(pack.family).sampling
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
