"""Reports as one HTML file that needs nothing else: one look, one table, one figure for all of them.

A report is a template beside its module that extends ``paper.html`` and takes tables and figures from
``paper_parts.html``; whatever it writes is escaped.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from core.ground import writing


@cache
def _environment() -> Environment:
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader([folder.parent, folder]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": writing.percent, "picture": picture}
    return environment


def picture(png: bytes) -> str:
    """Writes a PNG as the address of an image."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def render(template: str, title: str, **values: Any) -> str:
    """Fills a template.

    Args:
        template: Its path inside ``core``: ``measure/report.html``.
        title: Heading of the page.
        values: What the template asks for by name; a name that is missing is an error.
    """
    return _environment().get_template(template).render(title=title, **values)
