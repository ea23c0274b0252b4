"""Rows of a page that are dragged into another order by their grips; who uses keys has buttons beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from pages.parts.component import component, told

_show = component(__file__, "", "moved", width="content")


def order(rows: Sequence[str], *, key: str, on_move: Callable[[], None]) -> None:
    """Lets rows be dragged; in each, a container whose key ends in ``.grip`` is where it is taken.

    Args:
        rows: Keys of the containers, from top to bottom.
        key: Unique on the page.
        on_move: Called when one was dropped elsewhere; :func:`dropped` says which.
    """
    _show(key, {"rows": list(rows)}, moved=on_move)


def dropped(key: str, rows: Sequence[str]) -> tuple[int, int] | None:
    """Says which row was dropped last, and which place it is to have; None for anything else.

    Args:
        key: Of the order.
        rows: Keys of the containers, as they are now.
    """
    moved = told(st.session_state.get(key), "moved")
    row, to = moved.get("row"), moved.get("to")
    if not isinstance(row, str) or row not in rows:
        return None
    if type(to) is not int or not 0 <= to < len(rows):
        return None
    return list(rows).index(row), to
