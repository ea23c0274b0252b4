"""Simulacra's engine: importable and scriptable, without a web page and, until needed, without torch.

What a script begins with has its name here, and is imported when it is first asked for; the rest is in its room.

>>> import core
>>> core.load("digits").classes[:3]
('0', '1', '2')
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.catalog import UserError
    from core.datasets import load
    from core.kinds import submit
    from core.latent import open_space
    from core.models import families
    from core.robustness import check
    from core.runs import open_model
    from core.training import TrainConfig, Trainer, spec_of

_ROOMS = {
    "UserError": "catalog",
    "load": "datasets",
    "families": "models",
    "spec_of": "training",
    "TrainConfig": "training",
    "Trainer": "training",
    "submit": "kinds",
    "open_model": "runs",
    "open_space": "latent",
    "check": "robustness",
}

__all__ = [
    "TrainConfig",
    "Trainer",
    "UserError",
    "check",
    "families",
    "load",
    "open_model",
    "open_space",
    "spec_of",
    "submit",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
