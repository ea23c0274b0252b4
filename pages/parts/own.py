"""What a page has for one medium alone: a function in the file of its name in ``pages/parts/media``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from core.media import Medium

FOLDER = "pages.parts.media"


def own(medium: Medium, part: str) -> Callable[..., Any] | None:
    """Finds what the file of a medium has for a part of a page, by the function's name; None for nothing.

    Args:
        medium: What the data is.
        part: Name of the function: ``issues`` for what stands in the place of the page's own issues.
    """
    if find_spec(f"{FOLDER}.{medium.name}") is None:
        return None
    return getattr(import_module(f"{FOLDER}.{medium.name}"), part, None)
