"""The images of a dataset, page by page, beside what is known of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import datasets
from core.catalog import UserError
from core.ground import tables
from pages.parts import form, shell, show
from pages.parts.data import load, titles

PAGE = 60  # images on one page of the wall


def draw(name: str) -> None:
    """Shows the images beside what is known of them."""
    about = datasets.describe(name)
    left, right = st.columns([2.4, 1], gap="large")
    with right:
        values: dict[str, Any] = {}
        config = datasets.config_of(name)
        with st.expander("How it is prepared", expanded=False):
            if config.knobs():
                values = form.flat({f"data.{name}": config})[f"data.{name}"]
            else:
                st.caption("An imported dataset is kept as it was prepared.")
            if about.saved and st.button(
                "Delete",
                icon=":material/delete:",
                key="data.delete",
                disabled=not shell.may_change(),
            ):
                delete(name)
        st.session_state[f"data.values.{name}"] = values
        below = st.container()
    with left:
        st.markdown(f"**{shell.plain(about.title)}** · {shell.plain(about.caption)}")
        with shell.guard():
            dataset = load(name, values)
            wall(dataset)
            if dataset.refused:
                with st.expander("Files left out, and why", icon=":material/warning:"):
                    st.dataframe(
                        show.named(
                            pd.DataFrame(dataset.refused, columns=["file", "reason"]),
                            "file",
                            "reason",
                        ),
                        hide_index=True,
                        key="data.refused",
                        alt="Files that were left out, each with the reason",
                    )
            with below:
                summary(dataset)


def wall(dataset: datasets.Dataset) -> None:
    """Shows a page of images, of one class or all."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = st.segmented_control(
            "Part",
            ["all", *datasets.SPLITS],
            default="all",
            required=True,
            key="data.split",
            help="Models train on train, choices look at valid, reports use test.",
        )
        label = (
            st.selectbox(
                "Class",
                range(len(dataset.classes)),
                index=None,
                key=f"data.class.{dataset.name}",
                placeholder="all classes",
                format_func=lambda i: dataset.classes[i],
                width=220,
            )
            if dataset.labelled
            else None
        )
    index = np.arange(len(dataset)) if split == "all" else dataset.splits[split]
    if label is not None and dataset.y is not None:
        index = index[dataset.y[index] == label]
    if not len(index):
        st.caption("No image fits this choice.")
        return
    pages = -(-len(index) // PAGE)
    key = f"data.page.{dataset.name}.{split}.{label}"
    page = min(st.session_state.get(key, 1), pages)
    part = index[(page - 1) * PAGE : page * PAGE]
    x = dataset.pictures(part)
    show.pictures(
        x,
        columns=12,
        key="data.wall",
        titles=titles(dataset, part),
        clickable=True,
        max_height=380,
        max_zoom=6,
        alt=f"Images {(page - 1) * PAGE + 1} to {(page - 1) * PAGE + len(part)} of {dataset.name}",
    )
    if pages > 1:
        st.pagination(pages, key=key)
    if (tile := show.clicked("data.wall", len(part))) is not None:
        st.session_state["data.item"] = int(part[tile])
    chosen = st.session_state.get("data.item", -1)
    if chosen in part:
        st.caption(shell.plain(titles(dataset, [chosen])[0].capitalize()))
        name = f"{dataset.name}-{chosen}"
        show.item(
            dataset.x[chosen], dataset.medium, name, key="data.item.of", levels=dataset.levels
        )
    if dataset.attributes:
        with st.expander("True attributes of these images"):
            columns = dict(dataset.attributes)
            st.dataframe(
                show.named(
                    pd.DataFrame(
                        {name: np.asarray(column)[part] for name, column in columns.items()}, part
                    ),
                    *(name for name, column in columns.items() if column.dtype.kind in "OSU"),
                ),
                height=220,
                key="data.attributes",
                alt="The true attributes of the images above",
            )
            st.download_button(
                "All as CSV",
                lambda: tables.write(
                    ["", *columns],
                    zip(
                        range(len(dataset)),
                        *(np.asarray(column).tolist() for column in columns.values()),
                        strict=True,
                    ),
                ),
                f"{dataset.name}.csv",
                "text/csv",
                key="data.csv",
                on_click="ignore",
            )


def summary(dataset: datasets.Dataset) -> None:
    """Shows counts, what was left out, and what is worth knowing."""
    splits = ", ".join(f"{len(index):,} {name}" for name, index in dataset.splits.items())
    st.markdown(
        f"**{dataset.medium.describe(len(dataset), dataset.shape)}**, {dataset.levels} levels"
        + (f", **{len(dataset.classes)}** classes" if dataset.labelled else ", without labels")
        + f"  \n{splits}"
        + (f", kept together by **{shell.plain(dataset.group)}**" if dataset.group else "")
    )
    for note in dataset.notes:
        st.caption(f":material/info: {shell.plain(note)}")
    counts = dataset.counts()
    if dataset.labelled:
        if len(counts) <= 60:
            show.bars(counts, key=f"data.bars.{dataset.name}", height=230)
        else:
            table = pd.DataFrame([{"class": name, **parts} for name, parts in counts.items()])
            st.dataframe(
                show.named(table, "class"),
                hide_index=True,
                height=230,
                key="data.counts",
                alt="Images per class and split",
            )
    st.caption(
        shell.plain(
            f"Fingerprint {dataset.fingerprint[:16]}"
            + (f", made from {dataset.parent[:16]}" if dataset.parent else "")
        )
    )


@st.dialog("Delete this dataset?")
def delete(name: str) -> None:
    """Asks before it deletes."""
    st.markdown(
        f"This deletes the imported dataset **{shell.plain(name)}** for good. "
        "Runs that were trained on it stay, but cannot be resumed."
    )
    if st.button("Delete for good", type="primary", key="data.delete.yes"):
        try:
            datasets.delete(name)
            st.rerun()
        except UserError as error:
            shell.refuse(error)
