"""What was found of a training set, slice by slice and as a whole."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from core.building.coverage import FEWEST, Coverage
from core.ground.writing import many, percent, percents
from pages.parts import show, table

KEY = "build.gaps"


def draw(found: Coverage) -> None:
    """Shows each slice with its share, its target, the interval of the gap, and what failed in it."""
    rows = []
    for each in found.slices:
        gap = each.gap
        told = each.verdict != "cannot tell"
        rows.append(
            {
                **dict(zip(found.axes, each.values, strict=True)),
                "items": each.n,
                "held out": each.reference,
                "share": 100 * each.share.value,
                "should be": 100 * each.target,
                "points apart, 95 %": f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}"
                if told
                else f"n < {FEWEST}",
                "verdict": each.verdict,
                **{
                    failure.title: _failed(e)
                    for failure, e in zip(found.failures, each.failures, strict=True)
                },
            }
        )
    frame = pd.DataFrame(rows).rename(columns={"cluster": "kind of picture"})
    style = st.column_config.NumberColumn(format="%.1f %%")
    st.dataframe(
        show.named(frame, "class", *found.axes),
        hide_index=True,
        key=f"{KEY}.slices",
        column_config={"share": style, "should be": style},
        alt="Training items of each slice, their share, what it should be, and what failed",
    )
    if found.failures:
        st.caption(
            "What is got wrong is counted on held-out images: those that a model makes nothing like, and those that a "
            f"classifier names wrongly, or does under attack. Of fewer than {FEWEST} images nothing can be told."
        )


def _failed(estimate: Any) -> str:
    if estimate.n < FEWEST:
        return f"cannot tell (n = {estimate.n})"
    return f"{percent(estimate.value, 0)} ({percents(estimate.low, estimate.high, 0)}, n = {estimate.n:,})"


def whole(measures: list[Any]) -> None:
    """Shows variety, likeness to the world and authenticity, before and after something was added."""
    rows = []
    for each in measures:
        main = each.after or each.before
        if main is None:
            rows.append(
                table.Row(each.title, "–", note=f"Not measured: {each.why}.", why=each.means)
            )
            continue
        before = each.before if each.after else None
        rows.append(
            table.Row(
                each.title,
                _said(main.value, each.share),
                main.value,
                f"{_said(main.low, each.share)} to {_said(main.high, each.share)}, n = {main.n:,}",
                main.interval,
                _said(each.floor.value, each.share) if each.floor else "",
                each.floor.value if each.floor else None,
                1.0 if each.share else None,
                each.means,
                f"Before anything was added: {_said(before.value, each.share)} "
                f"({_said(before.low, each.share)} to {_said(before.high, each.share)}, n = {before.n:,})"
                if before
                else "",
            )
        )
    table.table(rows, alt="Measures of the training set as a whole")
    added = sum(each.after is not None for each in measures)
    if not added:
        st.caption(
            f"Nothing was added to this dataset yet: {many(len(rows), 'measure')} of its real images."
        )


def _said(value: float, share: bool) -> str:
    return percent(value) if share else f"{value:.1f}"
