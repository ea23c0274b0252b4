"""A network of this machine that knows the way from noise to data: velocity(x, t, y)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core import brought
from core.brought import origins
from core.models import Spec
from core.models.diffusion import DiffusionSampling
from core.runs import Opened
from core.weights import Package
from core.wrapped import program
from core.wrapped.program import ProgramConfig


@origins.add(
    "velocity",
    "A velocity by code",
    ProgramConfig,
    sampling=DiffusionSampling,
    code=True,
    note=program.note,
)
def velocity(
    config: ProgramConfig,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """A network of this machine that knows the way from noise to data: velocity(x, t, y).

    Raises:
        UserError: As :func:`core.wrapped.program.generator`.
    """
    model, facts, notes = program.generator(
        config, "velocity", spec, classes, record, DiffusionSampling()
    )
    return brought.opened(model, spec, classes, {"facts": facts}, notes, DiffusionSampling)
