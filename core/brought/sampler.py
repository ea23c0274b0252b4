"""A network of this machine that draws images and tells nothing of how: sample(ids, y, seed, sampling)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core import brought
from core.brought import origins
from core.models import Spec
from core.runs import Opened
from core.weights import Package
from core.wrapped import program
from core.wrapped.program import ProgramConfig
from core.wrapped.sampler import SamplerSampling


@origins.add(
    "sampler",
    "A sampler by code",
    ProgramConfig,
    sampling=SamplerSampling,
    code=True,
    note=program.note,
)
def sampler(
    config: ProgramConfig,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """A network of this machine that draws images and tells nothing of how: sample(ids, y, seed, sampling).

    Raises:
        UserError: As :func:`core.wrapped.program.generator`.
    """
    model, facts, notes = program.generator(
        config, "sampler", spec, classes, record, SamplerSampling()
    )
    return brought.opened(model, spec, classes, {"facts": facts}, notes, SamplerSampling)
