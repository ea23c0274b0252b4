"""Generative models under attack, as attackers and as a defence: each trick with its numbers and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import streamlit as st

from core import jobs, runs
from pages.parts import form, shell, show
from pages.parts.robustness import TURNS, Question, blind, target
from pages.parts.table import Row, table


@shell.guard()
def draw(question: Question) -> None:
    """Offers the tricks that fit the chosen model, and shows one of them."""
    from core.norms import LINF
    from core.robustness.tricks import tricks

    of = runs.generators(question.data)
    if not of:
        with shell.empty(
            "There is no generative model of this dataset yet. Train one, or choose another dataset in the sidebar."
        ):
            shell.go("train", "Train one")
        return
    left, right = st.columns([1, 2.2], gap="large")
    with left:
        ids = [run.id for run in of]
        chosen = st.session_state.get("run")
        id = st.selectbox(
            "Generative model",
            ids,
            index=ids.index(chosen) if chosen in ids else 0,
            key="robust.generator",
            format_func=lambda id: next(run.name for run in of if run.id == id),
        )
        opened = runs.open_model(jobs.get(id))
        item = question.dataset.medium.item
        taking = [entry for entry in tricks if item in entry.takes]
        fitting = [entry for entry in taking if entry.fits(opened)]
        if blind(question):  # attacks on a classifier by a model follow its gradients
            left_out = [entry.title for entry in fitting if entry.classifier]
            fitting = [entry for entry in fitting if not entry.classifier]
            if left_out:
                st.caption(
                    f"The classifier gives answers only, without gradients, so this is left out: {', '.join(left_out)}."
                )
        if not fitting:
            what = "This family offers" if taking else f"For a {item}, there is"
            st.caption(f"{what} nothing to attack here. Choose another model, or dataset.")
            return
        name = st.selectbox(
            "What to try",
            [entry.name for entry in fitting],
            key=f"robust.trick.{opened.family}",
            format_func=lambda name: tricks.get(name).title,
        )
        entry = tricks.get(name)
        st.caption(shell.plain(entry.caption))
        key = f"robust.trick.{name}"
        if "eps" in entry.config.knobs():  # the slider shows the usual strength instead of 0
            usual = round(entry.strength(question.dataset), 4)
            st.session_state.setdefault(f"{key}.eps", usual)
        values = form.form({key: entry.config})[key]
        if "eps" in values:
            eps = entry.strength(question.dataset, values["eps"])
            st.caption(f"Runs at an attack strength of {LINF.text(eps)}.")
        pressed = st.button("Try it", type="primary", key="robust.try", icon=":material/bolt:")
    with right:
        key = (
            question.data,
            question.classifier,
            id,
            opened.step,
            name,
            tuple(sorted(values.items())),
        )
        done = st.session_state.get("robust.tricked")
        slot = st.empty()
        if pressed:
            config = shell.capped(entry.config.of(values, name))
            judge = target(question) if entry.classifier else None
            steps = iter(entry.make(config, opened, question.dataset, judge))
            last = None
            for number in count():
                with TURNS:
                    step = next(steps, None)
                if step is None:
                    break
                last = step
                with slot.container():
                    present(step, f"{name}.live.{number}")
            slot.empty()
            done = st.session_state["robust.tricked"] = {"key": key, "shown": last}
        if done is None or done["key"] != key or done["shown"] is None:
            if not pressed:
                with shell.empty(
                    "Press **Try it**: the numbers and pictures grow here as it works.",
                    ":material/bolt:",
                ):
                    pass
            return
        present(done["shown"], name)


def present(shown: Any, key: str) -> None:
    """Draws what came out: a sentence, numbers with intervals, pictures, a curve."""
    if shown.done < 1:
        st.progress(shown.done)
    st.markdown(shell.plain(shown.sentence))
    table(
        [
            Row(row["name"], row["value"], interval=sure(row), why=row["what"])
            for row in shown.numbers
        ],
        alt="What was measured, with intervals",
        heads=("Measure", "Value", ""),
    )
    for i, picture in enumerate(shown.pictures):
        st.caption(shell.plain(picture["title"]))
        show.pictures(
            picture["x"],
            columns=picture["columns"],
            key=f"robust.pictures.{key}.{i}",
            alt=picture["title"],
            max_height=150,
        )
    if shown.curve is not None:
        line(shown.curve, key)


def sure(row: Mapping[str, Any]) -> str:
    """Says how sure a number is: its interval, and of how many it is."""
    n = f"n = {row['n']}" if row.get("n") else ""
    if row.get("low") is None:
        return n
    return f"{row['low']} to {row['high']} (95 %), {n}"


def line(curve: Mapping[str, Any], key: str) -> None:
    """Draws lines over the strength of the attack."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, (name, values) in enumerate(curve["lines"].items()):
        figure.add_scatter(
            x=curve["x"],
            y=values,
            name=name,
            mode="lines+markers",
            line={"color": show.colour(i), "width": 2, "dash": "dot" if i else "solid"},
        )
    figure.update_layout(
        height=260,
        margin={"l": 50, "r": 8, "t": 26, "b": 40},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 11}},
        xaxis={"title": {"text": curve["x_title"]}},
        yaxis={"title": {"text": curve["y_title"]}},
    )
    show.plot(
        figure,
        key=f"robust.trick.curve.{key}",
        config={"displayModeBar": False},
        alt=f"{curve['y_title']} against {curve['x_title']}",
    )
