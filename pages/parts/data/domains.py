"""Joins a dataset with another one as the two classes of a third, so that a model learns the way between them."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import datasets
from core.building.optout import staying
from pages.parts import shell, show


def draw(dataset: Any) -> None:
    """Asks for the other set, and joins both."""
    others = [
        name
        for name in datasets.names()
        if name != dataset.name
        and datasets.describe(name).medium.name == dataset.medium.name
        and not importer(name)
    ]
    if dataset.medium.name != "image" or not others:
        return
    st.markdown("**Translate to and from another set**")
    st.caption(
        "Joined as two classes, a diffusion model learns the way from one set to the other; then use Translate in "
        "Latent space. Pictures of the other set take the size and the frame of this one."
    )
    chosen, called = st.columns(2, gap="small")
    with chosen:
        other = st.selectbox(
            "The other set",
            others,
            index=None,
            key=f"data.domains.{dataset.name}",
            placeholder="Choose a set",
            format_func=lambda name: datasets.describe(name).title,
            help="Its items keep their splits and their licence; their class becomes the attribute content.",
        )
    with called:
        name = st.text_input(
            "Name of the joined set",
            datasets.suggest(f"{other}-{dataset.name}") if other else "",
            key=f"data.domains.name.{dataset.name}.{other}",
            max_chars=60,
            disabled=other is None,
        )
    shell.press(
        st,
        "Join both",
        join,
        dataset,
        other,
        name,
        key="data.domains.join",
        icon=":material/join:",
        disabled=not (other and name and shell.may_change()),
    )


def importer(name: str) -> bool:
    """Tells whether a dataset is only a way to import one."""
    entry = datasets.describe(name).entry
    return entry is not None and entry.preview is not None


def join(dataset: Any, other: str, name: str) -> None:
    """Joins the sets, keeps the result, and chooses it."""
    from core.building import domains

    name = datasets.free(name)
    bar = show.Bar("Joining")
    try:
        first = datasets.load(other, {}, bar)
        saved = datasets.save(name, domains.joined(first, dataset, watch=bar))
    finally:
        bar.close()
    st.session_state["data.next"] = saved.name
    note = " ".join(filter(None, (staying(first), staying(dataset))))
    st.session_state["_done"] = (
        f"{saved.name}: {saved.notes[-1]} It is chosen now: train a diffusion model on it. {note}"
    ).strip()
