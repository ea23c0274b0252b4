"""Accuracy against the strength of the attack, and who falls first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.ground.writing import percent
from pages.parts import shell, show

if TYPE_CHECKING:
    from core.robustness import Report


def draw(
    report: Report,
    others: Mapping[str, Report],
    lines: Sequence[Mapping[str, Any]],
) -> None:
    """Draws accuracy under attack against eps, with its interval, clean, chance, the placebo, and other models.

    Each strength that was tried has the same room, as in the report that is taken away: they double.

    Args:
        report: Of the model in question.
        others: Reports of other models on the same images, by name.
        lines: Published numbers that apply here.
    """
    import plotly.graph_objects as go

    from core.norms import norm_of

    rows = [row for row in report.results if report.done or row.eps == 0 or row.attacks]
    if len(rows) < 2:
        st.caption("The curve begins with the first attack that has ended.")
        return
    figure = go.Figure()
    norm = norm_of(report.norm)

    def place(eps: float) -> str:
        return norm.text(eps).removesuffix(norm.unit)

    x = [place(row.eps) for row in rows]
    all_rows = [*rows, *(row for other in others.values() for row in other.results)]
    places = [place(eps) for eps in sorted({row.eps for row in all_rows})]
    main = show.colour(0)
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[row.interval[1] for row in rows] + [row.interval[0] for row in rows[::-1]],
        fill="toself",
        fillcolor=main,
        opacity=0.18,
        line={"width": 0},
        hoverinfo="skip",
        name="95 % interval",
        showlegend=False,
    )
    figure.add_scatter(
        x=x,
        y=[row.robust for row in rows],
        mode="lines+markers",
        line={"color": main, "width": 2.5},
        name="worst case over all attacks",
    )
    placebo = [(place(row.eps), row.attacks["noise"]) for row in rows if "noise" in row.attacks]
    if placebo:
        placebo.insert(0, (x[0], report.clean.value))
        figure.add_scatter(
            x=[strength for strength, _ in placebo],
            y=[share for _, share in placebo],
            mode="lines",
            line={"color": show.colour(1), "width": 1.5, "dash": "dot"},
            name="random noise (placebo)",
        )
    for number, (name, other) in enumerate(others.items()):
        figure.add_scatter(
            x=[place(row.eps) for row in other.results],
            y=[row.robust for row in other.results],
            mode="lines+markers",
            line={"color": show.colour(2 + number), "width": 2, "dash": "dash"},
            name=name,
        )
    if place(report.headline) in places:
        figure.add_vline(
            places.index(place(report.headline)),
            line={"dash": "dash", "width": 1, "color": show.ink()},
            opacity=0.6,
            annotation={
                "text": "budget",
                "font": {"size": 11, "color": show.ink()},
                "opacity": 0.8,
            },
            annotation_position="top left",
        )
    figure.add_hline(
        report.chance,
        line={"dash": "dot", "width": 1, "color": show.ink()},
        opacity=0.6,
        annotation={"text": "chance", "font": {"size": 11, "color": show.ink()}, "opacity": 0.6},
    )
    for line in lines:
        figure.add_scatter(
            x=[place(report.headline)],
            y=[line["robust"]],
            mode="markers",
            marker={"symbol": "diamond", "size": 9, "color": show.colour(5)},
            name=line["model"],
            hovertext=line["source"],
        )
    figure.update_layout(
        height=330,
        margin={"l": 44, "r": 8, "t": 30, "b": 40},
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 11}},
        xaxis={
            "type": "category",
            "categoryarray": places,
            "title": {"text": f"budget (eps): {norm.axis}", "font": {"size": 12}},
        },
        yaxis={
            "range": [-0.02, 1.02],
            "tickformat": ".0%",
            "title": {"text": "accuracy", "font": {"size": 12}},
        },
    )
    show.plot(
        figure,
        key="robust.curve",
        config={"displayModeBar": False},
        alt="Accuracy under attack, falling with the strength of the attack",
    )


def csv(report: Report) -> str:
    """Writes the numbers behind the curve as CSV, one row per eps."""
    import pandas as pd

    from core.ground import tables

    frame = pd.DataFrame(
        [
            {
                "eps": row.text,
                "accuracy": row.robust,
                "low": row.interval[0],
                "high": row.interval[1],
                "n": row.n,
                **{f"{name} alone": share for name, share in row.attacks.items()},
            }
            for row in report.results
        ]
    )
    return tables.write(list(frame.columns), frame.to_numpy().tolist())


def classes(report: Report) -> None:
    """Draws how each class stands at the headline eps."""
    import plotly.graph_objects as go

    rows = report.head.classes
    figure = go.Figure()
    figure.add_bar(
        x=[row.name for row in rows],
        y=[row.robust for row in rows],
        marker_color=show.colour(0),
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [row.interval[1] - row.robust for row in rows],
            "arrayminus": [row.robust - row.interval[0] for row in rows],
            "thickness": 1,
        },
        customdata=[row.n for row in rows],
        hovertemplate="%{x}: %{y:.1%} (n = %{customdata})<extra></extra>",
    )
    figure.update_layout(
        height=280,
        margin={"l": 44, "r": 8, "t": 10, "b": 30},
        xaxis={"type": "category"},
        yaxis={"range": [0, 1], "tickformat": ".0%"},
    )
    show.plot(
        figure,
        key="robust.classes",
        config={"displayModeBar": False},
        alt="Accuracy under attack per class",
    )
    worst = min(rows, key=lambda row: row.robust)
    st.caption(
        f"At {shell.plain(report.head.text)}. Falls first: **{shell.plain(worst.name)}**, "
        f"{percent(worst.robust)} of {worst.n}."
    )


def effort(report: Report) -> None:
    """Lists every attack with its parameters and what it cost."""
    import pandas as pd

    st.dataframe(
        pd.DataFrame(
            [
                {
                    "attack": row.title,
                    "parameters": ", ".join(f"{k} {v}" for k, v in row.parameters.items()),
                    "seconds": row.seconds,
                    "forward passes": row.forward,
                    "backward passes": row.backward,
                    "code": row.library,
                }
                for row in report.attacks
            ]
        ),
        hide_index=True,
        key="robust.effort",
        alt="The attacks that were run, with their parameters and cost",
    )
