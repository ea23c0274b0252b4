"""The map of a dataset, linked with its grid: a lasso on the map shows the images, a kind of issue marks the map."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from pages.ui import mend, shell, show

SHOWN = 60  # images of a lasso that are shown


def draw(dataset: Any) -> None:
    """Draws the map beside the images that are chosen on it."""
    from core import quality

    job = quality.newest(dataset)
    found = job.result() if job is not None and not job.active else None
    if found is None:
        st.caption(
            "The map is made by the inspection: choose **What is wrong?** and press Inspect."
        )
        return
    index, xy = found.map
    kinds = found.by_kind()
    marked = st.selectbox(
        "Mark",
        [None, *kinds],
        key="data.mark",
        format_func=lambda name: "nothing" if name is None else quality.checks.get(name).title,
        width=260,
        help="Rings the images of one kind of issue, and shows them beside the map.",
    )
    flagged = (
        np.isin(index, [issue.image for issue in kinds[marked]])
        if marked
        else np.zeros(len(index), bool)
    )
    left, right = st.columns([1.5, 1], gap="medium")
    with left:
        event = show.plot(
            figure(dataset, index, xy, flagged),
            key=f"data.map.{marked}",
            on_select="rerun",
            selection_mode=("lasso", "box"),
            config={"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "autoScale2d"]},
            alt="Every image as a point; near points are alike",
        )
    picked = [
        int(point["customdata"])
        for point in (event.selection.points if event else [])
        if point.get("customdata") is not None
    ]
    chosen = picked or list(index[flagged])
    with right:
        if not chosen:
            st.caption("Draw a lasso around points to see their images, or mark a kind of issue.")
            return
        if picked or not quality.checks.get(str(marked)).single:
            acts(dataset, chosen, "" if picked else str(marked))
        else:
            st.caption("These are decided one by one, under **What is wrong?**.")
        where = "in the lasso" if picked else "marked"
        more = f", the first {SHOWN}" if len(chosen) > SHOWN else ""
        st.caption(f"{len(chosen):,} images {where}{more}")
        some = np.asarray(chosen[:SHOWN])
        show.pictures(
            show.as_bytes(dataset.x[some], dataset.levels),
            columns=6,
            key="data.lasso",
            alt=f"{len(some)} images chosen on the map",
            titles=[
                f"image {i}"
                + (f": {dataset.classes[int(dataset.y[i])]}" if dataset.y is not None else "")
                for i in some
            ],
            max_height=420,
        )


def acts(dataset: Any, chosen: list[int], kind: str) -> None:
    """Offers to leave out or accept what is chosen; both are undone under Mend and take away."""
    mend.opened(dataset)
    with st.container(horizontal=True):
        for what, word, help in (
            ("exclude", "Leave out", "Not in the next version; undo it under Mend and take away."),
            ("accept", "Accept", "Nothing is wrong with them; they stay as they are."),
        ):
            st.button(
                f"{word} these {len(chosen):,}",
                key=f"data.lasso.{what}",
                on_click=mend.act,
                args=(dataset, what, [int(i) for i in chosen]),
                kwargs={"kind": kind},
                disabled=not shell.may_change(),
                help=help,
            )


def figure(dataset: Any, index: np.ndarray, xy: np.ndarray, flagged: np.ndarray) -> Any:
    """Draws points by class, ringing those that are flagged."""
    import plotly.graph_objects as go

    made = go.Figure()
    labels = np.zeros(len(index), int) if dataset.y is None else np.asarray(dataset.y[index])
    many = len(dataset.classes) > 12
    for k in np.unique(labels):
        here = labels == k
        made.add_scattergl(
            x=xy[here, 0],
            y=xy[here, 1],
            mode="markers",
            name=dataset.classes[k] if dataset.labelled else "images",
            customdata=index[here],
            marker={
                "size": 5,
                "opacity": 0.35 if flagged.any() else 0.8,
                **(
                    {}
                    if many
                    else {"color": show.colour(int(k)), "symbol": int(k) // len(show.palette()) * 2}
                ),
            },
            hovertemplate="image %{customdata}<extra>%{fullData.name}</extra>",
        )
    if flagged.any():
        made.add_scattergl(
            x=xy[flagged, 0],
            y=xy[flagged, 1],
            mode="markers",
            name="marked",
            customdata=index[flagged],
            marker={
                "size": 9,
                "symbol": "circle-open",
                "line": {"width": 2},
                "color": show.colour(4),
            },
            hovertemplate="image %{customdata}<extra>marked</extra>",
        )
    made.update_layout(
        height=470,
        dragmode="lasso",
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        xaxis={"visible": False},
        yaxis={"visible": False, "scaleanchor": "x"},
        legend={"font": {"size": 11}, "itemsizing": "constant"},
        showlegend=not many,
    )
    return made
