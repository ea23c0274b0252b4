"""A network of this machine that turns normal numbers into images: decode(z, y) and latent_dim, perhaps encode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core import brought
from core.brought import origins
from core.models import Spec
from core.runs import Opened
from core.weights import Package
from core.wrapped import program
from core.wrapped.decoder import DecoderSampling
from core.wrapped.program import ProgramConfig


@origins.add(
    "decoder",
    "A decoder by code",
    ProgramConfig,
    sampling=DecoderSampling,
    code=True,
    note=program.note,
)
def decoder(
    config: ProgramConfig,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """A network of this machine that turns normal numbers into images: decode(z, y) and latent_dim, perhaps encode.

    Raises:
        UserError: As :func:`core.wrapped.program.generator`.
    """
    model, facts, notes = program.generator(
        config, "decoder", spec, classes, record, DecoderSampling()
    )
    return brought.opened(model, spec, classes, {"facts": facts}, notes, DecoderSampling)
