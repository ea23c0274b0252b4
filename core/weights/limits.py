"""How much a file of weights may hold, and how it is said of one that holds more."""

from __future__ import annotations

from dataclasses import dataclass

from core.catalog import UserError


@dataclass(frozen=True)
class WeightLimits:
    """How much a file of weights may hold; its size is bounded by the server's limit for uploads.

    Attributes:
        tensors: Together, an optimiser's included.
        members: Parts of the ZIP.
        steps: Instructions of the pickle.
        depth: Collections inside each other.
        text: Bytes of the pickle, or of the header of safetensors.
        name: Characters of a tensor's name.
    """

    tensors: int = 10_000
    members: int = 10_100
    steps: int = 600_000
    depth: int = 12
    text: int = 4 * 2**20
    name: int = 500


LIMITS = WeightLimits()
ALONE = (
    "Open it where it was made, and save the weights alone: torch.save(model.state_dict(), file), or "
    "safetensors.torch.save_file(model.state_dict(), file)."
)


def allow(what: str, of: str, count: int, most: int) -> None:
    """Refuses more of something than is allowed.

    Raises:
        UserError: If there is.
    """
    if count > most:
        raise UserError(f"{what} may have at most {most:,} {of}, got {count:,}. {ALONE}")
