"""Components with a script of their own: one folder each, and what every one of them needs once.

A folder holds ``__init__.py``, ``NAME.js`` and ``NAME.css``. ``stage.js`` stands in front of its script, and says what
a script defines; ``stage.css`` stands in front of its style. What a browser tells may be anything that anybody wrote:
it is read with :func:`told`, :func:`numbers` and :func:`indices`, which give an empty value for anything else.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

FILM = (
    '<div class="film"><button type="button"></button><input type="range" min="0">'
    "<output></output></div>"
)
_HERE = Path(__file__).parent


def component(
    file: str, html: str, *states: str, width: str = "stretch"
) -> Callable[..., dict[str, dict[str, Any]]]:
    """Makes a component of the folder of a file, which gives the name.

    Args:
        file: The folder's ``__init__.py``, as ``__file__`` says.
        html: What stands inside the box.
        states: Names of what the script tells.
        width: Of its place, ``stretch`` or ``content``.

    Returns:
        A function of ``key`` (unique on the page), ``data`` (for JSON, or bytes) and a callback per state. It shows the
        component, and gives what :func:`told` reads of each state. Data for JSON say, too, how the visitor wants small
        pictures enlarged.
    """
    folder = Path(file).parent

    def joined(ending: str) -> str:
        parts = (_HERE / f"stage.{ending}", folder / f"{folder.name}.{ending}")
        return "\n".join(part.read_text("utf-8") for part in parts)

    mount = st.components.v2.component(  # pyright: ignore[reportAttributeAccessIssue]
        f"simulacra_{folder.name}",
        html=f'<div class="box">{html}</div>',
        css=joined("css"),
        js=joined("js"),
    )

    def show(key: str, data: Any, **called: Callable[[], None]) -> dict[str, dict[str, Any]]:
        answers = {f"on_{name}_change": called.get(name, lambda: None) for name in states}
        if isinstance(data, dict):
            # in a list: in each value of a dict, Streamlit would look for a table, for which it imports pandas
            data = [data | {"smooth": smooth()}]
        got = mount(key=key, data=data, width=width, **answers)
        return {name: told(got, name) for name in states}

    return show


def smooth() -> bool:
    """Tells whether the visitor wants small pictures enlarged smoothly; see the switch in the sidebar."""
    return bool(st.session_state.get("smooth", True))


def told(state: Any, name: str) -> dict[str, Any]:
    """Reads one state of a component; empty where it is no record of names and values."""
    value = state.get(name) if isinstance(state, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}


def numbers(value: Any, count: int, limit: float) -> tuple[float, ...] | None:
    """Takes so many finite numbers within plus and minus ``limit``; None of anything else."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        return None
    for each in value:
        if isinstance(each, bool) or not isinstance(each, int | float):
            return None
        if not math.isfinite(each) or abs(each) > limit:
            return None
    return tuple(float(each) for each in value)


def indices(value: Any, count: int) -> list[int]:
    """Takes the whole numbers from 0 to ``count`` - 1 out of a list, ascending and each once; none of anything else."""
    if not isinstance(value, list) or len(value) > count:
        return []
    return sorted({i for i in value if type(i) is int and 0 <= i < count})


def data_url(content: bytes) -> str:
    """Writes a picture, PNG or JPEG, as an address that needs no request."""
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
