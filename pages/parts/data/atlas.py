"""The map of a dataset, linked with its grid: a lasso on the map shows the images, a kind of issue marks the map."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from pages.parts import show
from pages.parts.data import mending, titles, viewer
from pages.parts.map import Trait, pack, points

SHOWN = 60  # images of a lasso that are shown


def draw(dataset: Any) -> None:
    """Draws the map beside the images that are chosen on it."""
    from core import quality

    job = quality.newest(dataset)
    findings = job.result() if job is not None and not job.active else None
    if job is None or findings is None:
        st.caption(
            "The map is made by the inspection: choose **What is wrong?** and press Inspect."
        )
        return
    index, xy = findings.map
    kinds = findings.by_kind()
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
        answer = points(
            packed(dataset.fingerprint, job.id, marked, dataset, index, xy, flagged),
            key=f"data.map.{marked}",
            height=400,
            alt=f"{len(index):,} images as points; near points are alike",
        )
    picked = [int(index[i]) for i in answer.picked]
    chosen = picked or list(index[flagged])
    with right:
        if not chosen:
            st.caption("Draw a lasso around points to see their images, or mark a kind of issue.")
            return
        if picked or not quality.checks.get(str(marked)).single:
            mending.opened(dataset)
            with st.container(horizontal=True):
                mending.acts(dataset, chosen, "data.lasso", kind="" if picked else str(marked))
        else:
            st.caption("These are decided one by one, under **What is wrong?**.")
        where = "in the lasso" if picked else "marked"
        more = f", the first {SHOWN}" if len(chosen) > SHOWN else ""
        st.caption(f"{len(chosen):,} images {where}{more}")
        some = np.asarray(chosen[:SHOWN])
        show.pictures(
            dataset.pictures(some),
            columns=6,
            key="data.lasso",
            alt=f"{len(some)} images chosen on the map",
            titles=titles(dataset, some),
            clickable=True,
            side=48,
        )
    if (tile := show.clicked("data.lasso", len(some))) is not None:
        viewer.open(dataset, int(some[tile]), np.asarray(chosen))


@st.cache_data(max_entries=8, show_spinner=False)
def packed(
    fingerprint: str,
    job: str,
    marked: str | None,
    _dataset: Any,
    _index: np.ndarray,
    _xy: np.ndarray,
    _flagged: np.ndarray,
) -> bytes:
    """Packs the images of the map, coloured by class; those that are marked are rings, and the others faint."""
    from core import quality

    labels = np.zeros(len(_index), int) if _dataset.y is None else _dataset.y[_index]
    traits = [Trait("Class", labels, _dataset.classes if _dataset.labelled else ["images"])]
    if marked:
        kind = quality.checks.get(marked).title
        traits.insert(0, Trait("Marked", _flagged, ["not marked", kind], quiet=(0,)))
    return pack(
        {"": _xy * [1, -1]},  # y goes down on a screen
        traits,
        _dataset.pictures(_index),
        _flagged,
        titles=[f"image {i}" for i in _index],
    )
