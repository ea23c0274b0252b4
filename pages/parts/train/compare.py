"""All runs in a table, and up to four of them side by side."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pandas as pd
import streamlit as st

from core import jobs, runs
from core.catalog import UserError
from core.ground import files
from core.kinds import train as training
from core.measure import learning
from pages.parts import shell, show
from pages.parts.train import follow

COLUMNS = (
    "id", "name", "status", "family", "dataset", "distance", "copying", "classes", "images/s",
    "done", "seconds", "started", "note",
)  # fmt: skip


def broken(sound: set[str]) -> None:
    """Names folders that are no readable runs, and offers to delete them."""
    for id, why in jobs.damaged(sound):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f":material/warning: {shell.plain(why)}")
            st.button(
                "Delete it",
                key=f"train.damaged.{id}",
                on_click=shell.attempt,
                args=(jobs.delete, id),
                disabled=not shell.may_change(),
            )


def changed(run: jobs.Job) -> tuple[int, ...]:
    """Gives what changes when a run has more to say: the sizes of its record and of its log."""
    files = (run.path / name for name in ("run.json", "log.jsonl"))
    return tuple(file.stat().st_size if file.exists() else 0 for file in files)


@st.cache_data(
    max_entries=5000, show_spinner=False
)  # fewer than runs would find none of them again
def summary(path: str, changed: tuple[int, ...]) -> dict[str, float | int | None]:
    """Reads the best distance of a run with the copying there, the classes of its network, and its speed."""
    records = files.Log(Path(path)).read()[0]
    look = learning.best(records)
    speeds = [r["images_per_second"] for r in records if "images_per_second" in r]
    try:
        classes = runs.classes_of(jobs.get(Path(path).name))
    except (UserError, KeyError, TypeError):  # it has no record yet, or a damaged one
        classes = None
    return {
        "distance": look["distance"] / look["distance_floor"] if look else None,
        "copying": look["copying"] if look else None,
        "classes": classes,
        "images/s": median(speeds) if speeds else None,
    }


@shell.guard()
def table() -> None:
    """Lists the runs with a search, and compares up to four."""
    every = jobs.listing()
    listed = [job for job in every if runs.is_run(job)]
    broken({job.id for job in every})
    if not listed:
        return
    st.subheader("Runs", anchor=False)
    sought = (
        st.text_input(
            "Search",
            key="train.search",
            placeholder="name, family, dataset, status or note",
            label_visibility="collapsed",
        )
        .lower()
        .split()
    )
    rows = [
        {
            "id": run.id,
            "name": run.name,
            "status": f"{shell.icon_of(run)} {'shipped' if run.shipped else run.status}",
            "family": runs.family_of(run),
            "dataset": runs.dataset_of(run),
            **summary(str(run.path), changed(run)),
            "done": run.share,
            "seconds": run.state.get("seconds", 0.0),
            "started": pd.Timestamp(run.created, unit="s"),
            "note": run.note,
        }
        for run in listed
        if all(
            any(
                word in text.lower()
                for text in (run.id, run.name, run.note, runs.family_of(run), runs.dataset_of(run))
            )
            or word in ("shipped" if run.shipped else run.status)
            for word in sought
        )
    ]
    number = st.column_config.NumberColumn
    chosen = st.dataframe(
        show.named(pd.DataFrame(rows, columns=COLUMNS), "name", "note"),
        hide_index=True,
        height=min(36 * (max(len(rows), 1) + 1) + 3, 300),
        key="train.table",
        on_select="rerun",
        selection_mode="multi-row",
        column_config={
            "id": None,
            "distance": number(
                "best distance",
                format="%.2f ×",
                help="The lowest one to held-out images, over that of real ones: 1 is as near as real ones. "
                "Compare within a dataset only.",
            ),
            "copying": number(
                format="%.2f",
                help="Share of samples of that moment nearer to a training image than to a held-out one; 0.5 is none.",
            ),
            "classes": number(
                help="That it listens to, or tells apart; 0 for a model without classes."
            ),
            "images/s": number(format="%.0f", help="Of training, the middle of its records."),
            "done": st.column_config.ProgressColumn(
                "done", min_value=0.0, max_value=1.0, format="percent", width="small"
            ),
            "seconds": number("seconds", format="%.0f"),
            "started": st.column_config.DatetimeColumn("started", format="D MMM, HH:mm"),
        },
        alt="All runs with their state",
    )
    picked = [rows[i]["id"] for i in chosen.selection.rows if i < len(rows)]
    if not picked:
        st.caption(f"{len(rows)} of {len(listed)} runs. Tick up to four to see them side by side.")
        return
    if len(picked) > 4:
        st.warning(
            f"Up to four runs fit side by side, {len(picked)} are ticked. The first four are shown."
        )
        picked = picked[:4]
    st.button(
        "Open it above",
        key="train.open",
        on_click=lambda: st.session_state.update(run=picked[0]),
        disabled=len(picked) != 1,
        help="Makes the one that is ticked the chosen run.",
    )
    several = [jobs.get(id) for id in picked]
    labels = {run.id: f"{run.name} ({run.id[-4:]})" for run in several}
    for run, column in zip(several, st.columns(len(several)), strict=True):
        with column:
            st.markdown(f"**{shell.plain(labels[run.id])}**")
            seen = f", {run.state.get('done', 0):,} images" if "train" in run.config else ""
            st.caption(f"{shell.plain(runs.family_of(run))}{shell.on(run)}{seen}")
            show.film(run, key=f"train.compare.{run.id}", max_height=260)
    log = {labels[run.id]: files.Log(run.path).read()[0] for run in several}
    known = show.charts([curve for run in several for curve in training.curves(run)], log)
    key = follow.keys(known)
    for chart, column in zip(key, st.columns(2, gap="medium"), strict=False):
        with column:
            names = len(chart.lines) * len(log)  # the legend has a line for each
            show.curves(log, [chart], key=f"train.compare.{chart.key}", height=220 + 20 * names)
    further = [chart for chart in known if chart not in key]
    follow.further(log, further, key="train.compare.more", open="train.compare.all")
