"""The images one by one: which attack fools which, and what one of them looks like as the attack grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from core.ground.writing import percent
from pages.parts import shell, show
from pages.parts.robustness import BY_KEY, TURNS, Question, target

if TYPE_CHECKING:
    from core.robustness import AttackStudy, Report

SHOWN = 48  # images of the wall at a time
SIDE = 240  # CSS pixels of an image that is opened, at most


def matrix(report: Report, study: AttackStudy) -> None:
    """Draws images against attacks, sortable: the smallest eps at which each attack fools each image."""
    import pandas as pd

    from core.norms import norm_of

    norm = norm_of(report.norm)
    scale, unit = norm.scale, norm.unit
    columns: dict[str, list[float | None]] = {}
    for name, tried in study.fooled.items():
        hit = np.asarray(tried) == 1
        columns[name] = [
            scale * study.grid[int(hit[:, i].argmax())] if hit[:, i].any() else None
            for i in range(hit.shape[1])
        ]
    rows = report.images
    frame = pd.DataFrame(
        {
            "image": [row.index for row in rows],
            "class": [row.label for row in rows],
            "clean": [row.clean for row in rows],
            "smallest": [None if row.smallest is None else scale * row.smallest for row in rows],
            "by": [row.by for row in rows],
            **columns,
        }
    )
    st.dataframe(
        show.named(frame, "class", "clean"),
        hide_index=True,
        height=300,
        key="robust.matrix",
        column_config={
            "clean": st.column_config.TextColumn("said when clean"),
            "smallest": st.column_config.NumberColumn(
                f"smallest eps ({unit})",
                format="%.3g",
                help="At which any attack here fools it; empty: none does.",
            ),
            **{
                name: st.column_config.NumberColumn(
                    f"{name} ({unit})",
                    format="%.3g",
                    help=f"Smallest eps tried at which {name} fools it; empty: not fooled, or fooled by another first.",
                )
                for name in columns
            },
        },
        alt="Each image with the smallest eps at which each attack fools it",
    )
    st.caption(
        f"{len(rows)} images. Press the head of a column to sort. An image that is wrong already when clean counts as "
        "fooled; one that was fooled by an earlier attack is not tried again."
    )


def wall(report: Report, study: AttackStudy) -> int:
    """Shows clean images, those that fall first at the front, and gives the place of the one that was chosen."""
    rows = report.images

    def falls(i: int) -> tuple[bool, float]:
        smallest = rows[i].smallest
        return not rows[i].right, 9.0 if smallest is None else smallest

    order = sorted(range(len(rows)), key=falls)[:SHOWN]
    x = study.target.medium.drawn(study.x[order])
    chosen = st.session_state.get("robust.image", 0)
    clicked = show.pictures(
        x,
        columns=16,
        key="robust.wall",
        alt=f"{len(order)} images, those that fall first at the front",
        clickable=True,
        marks={min(chosen, len(order) - 1): "·"},
        max_height=170,
        titles=[f"image {rows[i].index}: {rows[i].label}" for i in order],
    )
    if clicked is not None and clicked[0] != st.session_state.get("robust.clicked"):
        st.session_state["robust.clicked"] = clicked[0]
        st.session_state["robust.image"] = chosen = clicked[1]
    return order[min(chosen, len(order) - 1)]


@st.fragment
@shell.guard()
def opened(question: Question, x: Any, label: int, key: str) -> None:
    """Opens one image, float (C, H, W): as it is, the change and what it makes of it in a row, and a slider below."""
    names = question.dataset.classes
    row = st.container()
    slide, choose = st.columns([2, 1], gap="medium")
    with choose:
        towards = st.selectbox(
            "Make it",
            [None, *(i for i in range(len(names)) if i != label)],
            key=f"{key}.towards",
            format_func=lambda i: "anything else" if i is None else names[i],
            help="Any wrong class, or one that you choose, which is harder.",
        )
    look = _look(question, x, label, towards)
    texts = look["texts"]
    fooled = [i for i, guess in enumerate(look["said"]) if guess != names[label]]
    with slide:
        step = st.select_slider(
            "How much may change (eps)",
            range(len(texts)),
            value=fooled[0] if fooled else len(texts) - 1,
            key=f"{key}.eps.{towards}",
            format_func=lambda i: texts[i],
            help=f"The budget: {look['bounds']}. Computed in advance, so the slider answers at once.",
        )
    with row:
        three(look, step, key)
    smallest = "; ".join(f"{bounds} {text}" for bounds, text in look["smallest"].items())
    st.caption(f"The smallest change found that fools it: {smallest}.")
    with st.expander("Its likeliest answers, and how sure it is"):
        guesses(
            {"as it is": look["top"][0], f"attacked ({texts[step]})": look["top"][step]},
            names[label],
            key,
        )
    if len(look["trace"]) > 1:
        trace(look["trace"], key)


def three(look: Mapping[str, Any], step: int, key: str) -> None:
    """Draws an image as it is, the change at one strength, and the attacked image, each with its words."""
    clean, moved = look["images"][0], look["images"][step]
    difference = moved.astype(np.int16) - clean.astype(np.int16)
    louder = max(1, 127 // max(1, int(np.abs(difference).max())))
    change = (128 + louder * difference).clip(0, 255).astype(np.uint8)
    before, after = (
        f"**{shell.plain(name)}**, {percent(sure)} sure"
        for name, sure in (look["top"][at][0] for at in (0, step))
    )
    shown = {
        "clean": (clean, "The image as it is", f"As it is: {before}"),
        "change": (change, "The change, amplified", f"The change, amplified {louder}×"),
        "moved": (moved, "The attacked image", f"Now it says: {after}"),
    }
    for column, (name, (x, alt, words)) in zip(st.columns(3), shown.items(), strict=True):
        with column:
            show.pictures(
                x[None],
                columns=1,
                key=f"{key}.{name}",
                alt=alt,
                max_height=SIDE,
                max_zoom=SIDE,
            )
            st.markdown(words)


@st.cache_data(max_entries=64, show_spinner="Attacking this image", hash_funcs=BY_KEY)
def _look(question: Question, x: Any, label: int, towards: int | None) -> dict[str, Any]:
    import torch

    from core import robustness
    from core.norms import norm_of

    norm = norm_of(question.config.norm)
    with TURNS:
        look = robustness.look(target(question), torch.as_tensor(x), label, norm, towards)
    return {
        "bounds": f"{norm.words} ({norm.title})",
        "texts": [norm.text(eps) for eps in look.eps],
        "images": question.dataset.medium.drawn(look.images),
        "said": look.said,
        "top": look.top,
        "trace": look.trace,
        "smallest": {
            f"{bound.words} ({bound.title})": "none found" if value is None else bound.text(value)
            for bound, value in ((norm_of(name), value) for name, value in look.smallest.items())
        },
    }


def guesses(top: Mapping[str, Any], right: str, key: str) -> None:
    """Draws the five likeliest classes before and after."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for number, (when, rows) in enumerate(top.items()):
        figure.add_bar(
            y=[name for name, _ in rows],
            x=[share for _, share in rows],
            orientation="h",
            name=when,
            marker_color=show.colour(number),
        )
    figure.update_layout(
        barmode="group",
        height=230,
        margin={"l": 60, "r": 8, "t": 26, "b": 26},
        xaxis={"range": [0, 1], "tickformat": ".0%"},
        yaxis={"type": "category", "autorange": "reversed"},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 11}},
    )
    show.plot(
        figure,
        key=f"{key}.guesses",
        config={"displayModeBar": False},
        alt=f"The five likeliest classes before and after; right is {right}",
    )


def trace(values: list[float], key: str) -> None:
    """Draws what the attack climbed, step by step."""
    import plotly.graph_objects as go

    figure = go.Figure(go.Scatter(y=values, mode="lines", line={"color": show.colour(0)}))
    figure.update_layout(
        height=150,
        margin={"l": 44, "r": 8, "t": 8, "b": 34},
        xaxis={"title": {"text": "step of the attack", "font": {"size": 11}}},
        yaxis={"title": {"text": "loss", "font": {"size": 11}}},
    )
    with st.expander("What the attack climbed"):
        show.plot(
            figure,
            key=f"{key}.trace",
            config={"displayModeBar": False},
            alt="The loss of the attack at each of its steps",
        )
