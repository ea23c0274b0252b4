"""One table for measured values: each with its interval, real images' value and a small bar; the prose behind "?"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import streamlit as st

from pages.parts.glossary import link


@dataclass(frozen=True)
class Row:
    """One measured value.

    Attributes:
        name: What was measured.
        value: As it is read; the number in ``at``.
        at: Where the value lies on the bar; None draws none.
        interval: As it is read; its ends in ``ends``.
        real: What real images have instead, as it is read; its number in ``real_at``.
        top: Right end of the bar, which begins at 0; without one, the largest number of the row has room.
        why: What it means and when to doubt it, behind "?".
        note: What is to be said of this value, below its name.
        group: Rows of one group stand together below this head.
    """

    name: str
    value: str
    at: float | None = None
    interval: str = ""
    ends: tuple[float, float] | None = None
    real: str = ""
    real_at: float | None = None
    top: float | None = None
    why: str = ""
    note: str = ""
    group: str = ""


def table(
    rows: Sequence[Row],
    *,
    alt: str,
    heads: tuple[str, str, str] = ("Measure", "Value", "Real images"),
) -> None:
    """Draws the rows in their order; every text is shown letter by letter."""
    cells = [f"<th scope=col>{escape(head)}</th>" for head in (*heads[:2], "", heads[2])]
    lines, group = [f"<thead><tr>{''.join(cells)}</tr></thead>"], ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append(f"<tr><th scope=rowgroup colspan=4>{escape(group)}</th></tr>")
        lines.append(_line(row))
    st.html(f'<table class="measures"><caption>{escape(alt)}</caption>{"".join(lines)}</table>')


def _line(row: Row) -> str:
    name = escape(row.name)
    if row.why:
        mark = f'<span role=img aria-label="What {name} means">?</span>'
        more = (
            f" <a href='{at}' target=_blank>In the glossary</a>" if (at := link(row.name)) else ""
        )
        name = f"<details><summary>{name}{mark}</summary>{escape(row.why)}{more}</details>"
    note = f"<small>{escape(row.note)}</small>" if row.note else ""
    interval = f"<small>{escape(row.interval)}</small>" if row.interval else ""
    return (
        f"<tr><td>{name}{note}</td><td><b>{escape(row.value)}</b> {interval}</td>"
        f"<td>{_bar(row)}</td><td>{escape(row.real)}</td></tr>"
    )


def _bar(row: Row) -> str:
    """Draws a value, its interval and the real images', for the eye only: the numbers beside it say the same."""
    if row.at is None:
        return ""
    numbers = [n for n in (row.at, row.real_at, *(row.ends or ())) if n is not None]
    top = row.top or 1.08 * max(numbers) or 1.0
    at = {name: _share(n, top) for name, n in (("value", row.at), ("real", row.real_at))}
    parts = [f'<i class=value style="width:{at["value"]:.1f}%"></i>']
    if row.ends:
        low, high = (_share(end, top) for end in row.ends)
        parts.append(f'<i class=ends style="left:{low:.1f}%;width:{high - low:.1f}%"></i>')
    if row.real_at is not None:
        parts.append(f'<i class=real style="left:{at["real"]:.1f}%"></i>')
    return f"<span class=scale aria-hidden=true>{''.join(parts)}</span>"


def _share(number: float | None, top: float) -> float:
    return 100 * min(max((number or 0.0) / top, 0.0), 1.0)
