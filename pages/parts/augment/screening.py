"""Is the chain too much: how far it leads from the data, and how a small referee that was trained with it does."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from core import jobs, runs
from core.ground.writing import percent, percents
from pages.parts import shell
from pages.parts.augment import dataset, recipes
from pages.parts.job import panel
from pages.parts.table import Row, table

DRIFT = (
    "how far a picture's features move, in the middle; 1 is as far as another picture of its class."
)
OFF = (
    "A picture is far from every real one (off the data) when its features are farther from all training pictures "
    "than those of 95 % of the untouched ones are."
)


def draw(chain: Any, data: str) -> None:
    """Measures the drift at once, and the referees as a job."""
    if not dataset(data).labelled:
        with shell.empty("This needs a dataset with labels. Choose another in the sidebar."):
            shell.go("data", "Look at the data")
        return
    if not chain.steps:
        with shell.empty("The chain is empty. Add a step.", ":material/auto_fix_high:"):
            return
    st.markdown("**At once: how far does it lead away?**")
    quick(chain, data)
    st.markdown("**With a referee: what does it cost or bring?**")
    generators = runs.generators(data)
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    leak = left.selectbox(
        "Look for leaks into the samples of",
        ["", *[run.id for run in generators]],
        key="augment.leak",
        format_func=lambda id: next((run.name for run in generators if run.id == id), "no model"),
        help="A generator that was trained with augmentation may draw augmented images instead of real ones.",
    )
    shell.press(
        right,
        "Train the referees",
        recipes.start,
        "screening",
        data,
        chain,
        {"run": leak},
        type="primary",
        key="augment.screen",
        icon=":material/balance:",
        disabled=not shell.may_change(),
        help="Small classifiers trained with and without each step, tried on clean images; as a job.",
    )
    screenings = recipes.newest("screening", data)
    if not screenings:
        with shell.empty(
            "The agreement of a finished classifier misleads: a shift by one pixel confuses it, and helps one that "
            "learns with it. So small referees are trained, with each step and with the whole chain.",
            ":material/balance:",
        ):
            return
    shell.live(watch, 1 if screenings[0].active else None, screenings[0].id)


@shell.guard()
def quick(chain: Any, data: str) -> None:
    """Draws how far every step leads by itself, and the chain."""
    rows = _strain(data, chain.hash, chain)
    table(
        [
            Row(
                row.title,
                percent(row.off.value, 0),
                at=row.off.value,
                interval=f"{percents(row.off.low, row.off.high, 0)} (95 %)",
                ends=(row.off.low, row.off.high),
                real=percent(row.floor, 0),
                real_at=row.floor,
                top=1.0,
                why=f"Drift {row.drift:.2f}: {DRIFT}",
                note=reading(row),
            )
            for row in rows
        ],
        alt="Share of pictures that a step leads far from every real one, per step and for the chain",
        heads=("Step", "Far from every real picture", "Untouched"),
    )
    st.caption(f"{OFF} n = {rows[0].off.n} held-out pictures, the same for each step.")


def reading(row: Any) -> str:
    """Says in a word or two whether a step leads too far."""
    if row.off.low > row.floor and row.off.value > 2 * row.floor:
        return "too much"
    return "look at it" if row.drift > 0.7 else "fine"


@st.cache_data(max_entries=32, show_spinner="Measuring how far it leads away")
def _strain(data: str, _hash: str, _chain: Any) -> list[Any]:
    from core.augment import screening

    return screening.strain(screening.Manifold(dataset(data)), _chain)


@shell.guard()
def watch(id: str) -> None:
    """Shows the referees as they come in."""
    job = jobs.get(id)
    panel(job, "augment.screening", "What it has measured is kept.")
    if (result := job.result()) is None:
        return
    slow = [row["title"] for row in result["rows"] if result["done"] and row["accuracy"] is None]
    st.dataframe(
        pd.DataFrame(
            [
                {
                    "step": row["title"],
                    "accuracy with it": row["accuracy"],
                    "without": row["plain"],
                    "change (points)": row["change"],
                    "95 %": None
                    if row["low"] is None
                    else f"{row['low']:+.1f} to {row['high']:+.1f}",
                    "referees": row["n_seeds"],
                    "test images": row["n_test"],
                }
                for row in result["rows"]
                if row.get("accuracy") is not None
            ]
        ).dropna(axis=1, how="all"),
        hide_index=True,
        key="augment.referees",
        column_config={
            "step": st.column_config.TextColumn(width=140),
            "accuracy with it": st.column_config.NumberColumn(format="%.1f %%"),
            "without": st.column_config.NumberColumn(format="%.1f %%"),
            "change (points)": st.column_config.NumberColumn(format="%+.1f"),
        },
        alt="Accuracy of referees on clean images, with each step and without",
    )
    if slow:
        st.caption(
            f"No referee can learn with {shell.plain(', '.join(slow))}: too slow for a training, or it mixes labels."
        )
    if result.get("leak"):
        st.markdown(shell.plain(result["leak"]["sentence"]))
    st.caption(f"{shell.plain(job.name)}, {job.status}.")
