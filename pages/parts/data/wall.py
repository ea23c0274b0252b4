"""The images of a dataset, page by page: sorted, searched and selected, above what is known of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import datasets
from core.catalog import UserError
from core.ground import tables
from pages.parts import form, shell, show
from pages.parts.data import load, mending, titles, viewer
from pages.parts.own import own

MARKS = {
    "exclude": "✕",
    "relabel": "✎",
    "accept": "✓",
    "repair": "✚",
}  # of what was decided, on its picture
SIDES = (32, 160)  # CSS pixels of a picture's height
SORTS = {
    "": "As stored",
    "label": "Class",
    "name": "File name",
    "dark": "Darkest first",
    "bright": "Brightest first",
    "doubt": "Most doubtful label first",
    "distance": "Least like the others first",
}


def draw(name: str) -> None:
    """Shows the images, and below them what is known of the set."""
    about = datasets.describe(name)
    above, below = st.container(), st.container()
    with below:
        left, right = st.columns([1.4, 1], gap="large")
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
    with above:
        st.markdown(f"**{shell.plain(about.title)}** · {shell.plain(about.caption)}")
        with shell.guard():
            dataset = load(name, values)
            part = wall(dataset)
            with left:
                summary(dataset)
            with right:
                attributes(dataset, part)
                refused(dataset)


def wall(dataset: datasets.Dataset) -> np.ndarray:
    """Shows a page of the images that are chosen, in their order; gives their indices."""
    index, scope = choose(dataset)
    if not len(index):
        with shell.empty("No image fits this choice."):
            return index
    side = st.session_state["data.side"]
    page = max(24, 12 * round(5 * (64 / side) ** 2))  # about as much of the screen at every size
    pages = -(-len(index) // page)
    key = f"data.page.{dataset.name}.{scope}"
    at = min(st.session_state.get(key, 1), pages)
    part = index[(at - 1) * page : at * page]
    chosen, of = selection(dataset, scope, part)
    book = mending.opened(dataset)
    acts = dict.fromkeys(book.repaired, "repair") | {at: act for at, (act, _) in book.state.items()}
    decided = {i: MARKS[acts[int(at)]] for i, at in enumerate(part) if at in acts}
    x = shrunk(beside(dataset, part), 2 * side)
    show.pictures(
        x,
        columns=min(12, max(2, round(12 * x.shape[2] / x.shape[3]))),  # wide ones take more room
        key="data.wall",
        titles=titles(dataset, part),
        clickable=True,
        side=side,
        picks=(of, [i for i, at in enumerate(part) if at in chosen]),
        marks=decided,
        alt=f"{len(part)} images of {dataset.name}, page {at} of {pages}",
    )
    selected(dataset, index, chosen)
    with st.container(horizontal=True, vertical_alignment="center"):
        if pages > 1:
            st.pagination(
                pages, key=key, width=min(7, pages) * 44 + 88
            )  # else numbers are left out
        meant = " · ✕ left out · ✎ relabelled · ✓ kept · ✚ repaired" * bool(decided)
        st.caption(
            f"{len(index):,} images. Click one to see it at large; select with the box in its corner, "
            f"with Shift all up to it.{meant}"
        )
    if (read := own(dataset.medium, "look")) is not None:
        read(dataset, part)
    mending.notice(dataset)
    if (tile := show.clicked("data.wall", len(part))) is not None:
        viewer.open(dataset, int(part[tile]), index)
    return part


def choose(dataset: datasets.Dataset) -> tuple[np.ndarray, str]:
    """Asks which images are shown, in which order and how large; gives their indices and a name of that choice."""
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
                width=150,
            )
            if dataset.labelled
            else None
        )
        words = st.text_input(
            "Find", key="data.find", placeholder="name or number", max_chars=200, width=150
        )
        sort = sorting(dataset)
        st.slider(
            "Size", *SIDES, 64, 16, key="data.side", bind="query-params", width=130, format="%d px"
        )
    index = np.arange(len(dataset)) if split == "all" else dataset.splits[split]
    if label is not None and dataset.y is not None:
        index = index[dataset.y[index] == label]
    if words := words.strip().lower():
        index = index[named(dataset, words)[index]]
    order = f"like-{st.session_state['data.like'][1]}" if sort == "like" else sort
    # words in quotes, so that none is taken for an order
    scope = [str(split), str(label), *filter(None, (words and repr(words), order))]
    return arranged(dataset, index, sort), ".".join(scope)


def named(dataset: datasets.Dataset, words: str) -> np.ndarray:
    """Finds the images whose file, number or class is called so, bool (N,)."""
    found = np.zeros(len(dataset), bool)
    # of longer ones, there is no such image; Python refuses to read thousands of digits
    if words.isdecimal() and len(words) < 20 and int(words) < len(dataset):
        found[int(words)] = True
    if (names := (dataset.attributes or {}).get("picture")) is not None:
        found |= np.char.find(np.char.lower(names.astype(str)), words) >= 0
    if dataset.y is not None:
        found |= np.array([words in name.lower() for name in dataset.classes])[dataset.y]
    return found


def sorting(dataset: datasets.Dataset) -> str:
    """Asks for the order of the images, among those that are known of the dataset."""
    scores = mending.scores(dataset)
    known = {
        "label": dataset.labelled,
        "name": "picture" in (dataset.attributes or {}),
        "dark": "inspection" in dataset.medium.parts,
        "bright": "inspection" in dataset.medium.parts,
        "doubt": "doubt" in scores,
        "distance": "distance" in scores,
    }
    offered = {name: title for name, title in SORTS.items() if known.get(name, True)}
    of, like = st.session_state.get("data.like", ("", 0))
    if of == dataset.fingerprint:
        offered["like"] = f"Most like image {like} first"
    if st.session_state.get("data.sort") not in offered:
        st.session_state["data.sort"] = ""
    return st.selectbox(
        "Order",
        list(offered),
        key="data.sort",
        format_func=lambda name: offered[name],
        width=210,
        help="By doubt and by distance once the dataset was inspected, see *What is wrong?*; by likeness from the "
        "large view of a picture.",
    )


def arranged(dataset: datasets.Dataset, index: np.ndarray, sort: str) -> np.ndarray:
    """Puts images into an order of :data:`SORTS`; equal ones stay as they are stored."""
    if sort in ("", None):
        return index
    if sort in ("dark", "bright", "like"):
        from core.quality.likeness import likeness

        bar = show.Bar()
        try:
            seen = likeness(dataset, bar)
        finally:
            bar.close()
        if sort == "like":
            order = seen.alike(st.session_state["data.like"][1])
            return order[np.isin(order, index)]
        values = seen.brightness[index] * (1 if sort == "dark" else -1)
    elif sort == "label":
        assert dataset.y is not None
        values = dataset.y[index]
    elif sort == "name":
        values = (dataset.attributes or {})["picture"][index]
    else:
        values = -mending.scores(dataset)[sort][index]  # nan, which nobody has judged, comes last
    return index[np.argsort(values, kind="stable")]


def selection(dataset: datasets.Dataset, scope: str, part: np.ndarray) -> tuple[set[int], str]:
    """Follows which images are selected, over all pages of one choice; another choice lets them go.

    Returns:
        Their indices, and what the pictures on this page are, for the browser.
    """
    mine = f"{dataset.fingerprint[:16]}.{scope}"
    kept = st.session_state.get("data.selected", {})
    if kept.get("of") != mine:
        kept = {"of": mine, "images": set(), "round": kept.get("round", 0) + 1}
    listed = hashlib.sha256(part.tobytes()).hexdigest()[
        :16
    ]  # the same choice can list others later
    of = f"{mine}.{listed}.{kept['round']}"
    told = show.picked("data.wall", of, len(part))
    if told is not None:
        kept["images"] = (kept["images"] - set(part.tolist())) | set(part[told].tolist())
    st.session_state["data.selected"] = kept
    return kept["images"], of


def select(images: Iterable[int]) -> None:
    """Selects these images instead of those that are selected."""
    kept = st.session_state["data.selected"]
    st.session_state["data.selected"] = kept | {
        "images": {int(image) for image in images},
        "round": kept["round"] + 1,  # the browser takes it over
    }


def selected(dataset: datasets.Dataset, index: np.ndarray, chosen: set[int]) -> None:
    """Offers what can be done with all that is selected; nothing where nothing is."""
    if not chosen:
        return
    with st.container(
        key="data.selected.bar", border=True, horizontal=True, vertical_alignment="center"
    ):
        st.markdown(f"**{len(chosen):,} selected**", width="content")
        mending.acts(dataset, sorted(chosen), "data.selected", then=lambda: select(()))
        if len(chosen) < len(index):
            st.button(
                f"Select all {len(index):,}",
                key="data.selected.all",
                type="tertiary",
                on_click=select,
                args=(index,),
            )
        st.button("Let go", key="data.selected.none", type="tertiary", on_click=select, args=((),))


def beside(dataset: datasets.Dataset, rows: np.ndarray) -> np.ndarray:
    """Shows items, uint8 (n, 1 or 3, H, W), each with its second image to the right where the dataset has any."""
    x = dataset.pictures(rows)
    if dataset.pair is None:
        return x
    both = (x, dataset.pair.pictures(rows))
    channels = max(each.shape[1] for each in both)
    return np.concatenate(
        [np.broadcast_to(each, (len(x), channels, *x.shape[2:])) for each in both], axis=3
    )


def shrunk(x: np.ndarray, most: int) -> np.ndarray:
    """Averages pictures, uint8 (N, C, H, W), over whole squares of pixels to not much over a height."""
    n, channels, height, width = x.shape
    by = height // most
    if by < 2:
        return x
    h, w = height // by, max(1, width // by)
    squares = x[:, :, : h * by, : w * by].reshape(n, channels, h, by, w, -1)
    return squares.mean((3, 5)).round().astype(np.uint8)


def attributes(dataset: datasets.Dataset, part: np.ndarray) -> None:
    """Lists what is known of the images on this page, and offers that of all as a file."""
    if not dataset.attributes:
        return
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


def refused(dataset: datasets.Dataset) -> None:
    """Lists the files that were left out at the import, each with the reason."""
    if not dataset.refused:
        return
    with st.expander("Files left out, and why", icon=":material/warning:"):
        table = pd.DataFrame(dataset.refused, columns=["file", "reason"])
        st.dataframe(
            show.named(table, "file", "reason"),
            hide_index=True,
            key="data.refused",
            alt="Files that were left out, each with the reason",
        )


def summary(dataset: datasets.Dataset) -> None:
    """Shows counts, what was left out, and what is worth knowing."""
    splits = ", ".join(f"{len(index):,} {name}" for name, index in dataset.splits.items())
    st.markdown(
        f"**{dataset.medium.describe(len(dataset), dataset.shape)}**"
        + (f", {dataset.levels} levels" if dataset.medium.dtype == "uint8" else "")
        + (f", **{len(dataset.classes)}** classes" if dataset.labelled else ", without labels")
        + f"  \n{splits}"
        + (f", kept together by **{shell.plain(dataset.group)}**" if dataset.group else "")
        + (
            f"  \nEach with a second image to its right: **{shell.plain(dataset.pair.name)}**, "
            f"{dataset.pair.levels} levels"
            if dataset.pair
            else ""
        )
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
