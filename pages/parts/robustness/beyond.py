"""Beyond small changes: weather and cameras, a guarantee instead of an attempt, and what fools others too."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import streamlit as st

from core.ground import files
from core.ground.writing import percent
from pages.parts import shell, show
from pages.parts.robustness import Question
from pages.parts.robustness.confirmed import confirm, listing, takes


def _newest(question: Question, name: str) -> dict[str, Any] | None:
    """Reads a result file of the newest job that has one."""
    for job in listing(question):
        if (job.path / name).exists():
            return files.read_json(job.path / name) | {"job": job.name}
    return None


def _start(label: str, help: str, question: Question, *, ready: bool = True, **values: Any) -> None:
    shell.press(
        st,
        label,
        partial(confirm, **values),
        question,
        type="primary",
        key=f"robust.start.{label}",
        disabled=not (shell.may_change() and ready),
        help=help,
    )
    if ready and (told := takes(question, **values)):
        st.caption(told)


def _shares(
    z: Sequence[Sequence[float]],
    x: Sequence[Any],
    y: Sequence[str],
    *,
    key: str,
    hover: str,
    alt: str,
    **layout: Any,
) -> None:
    """Draws a table of shares as colours, with the first row on top."""
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Heatmap(
            z=z,
            x=x,
            y=y,
            zmin=0,
            zmax=1,
            colorscale=show.sequence(),
            texttemplate="%{z:.0%}",
            hovertemplate=f"{hover}<extra></extra>",
            showscale=False,
        )
    )
    figure.update_layout(**layout)
    figure.update_yaxes(autorange="reversed")
    show.plot(figure, key=key, config={"displayModeBar": False}, alt=alt)


def corruptions(question: Question) -> None:
    """Draws accuracy per corruption and severity."""
    if not shell.has(question.dataset.medium, "corruptions"):
        return
    from core.robustness import corruptions as core

    _start(
        "Measure corruptions",
        f"{len(core.names())} kinds in five severities, as a job; ImageNet-C-style, not the published pictures.",
        question,
        **{"attack.corruptions": True, "attack.attacks": "noise"},
    )
    table = _newest(question, "corruptions.json")
    if table is None:
        with shell.empty(
            "Noise, blur, weather and digital faults, five severities each: how accuracy falls with what happens to "
            "pictures without any attacker. Nothing was measured for this classifier yet.",
            ":material/cloud:",
        ):
            return
    rows = table["accuracy"]
    _shares(
        list(rows.values()),
        [1, 2, 3, 4, 5],
        [name.replace("_", " ") for name in rows],
        key="robust.corruptions",
        hover="%{y}, severity %{x}: %{z:.1%}",
        alt="Accuracy per kind of corruption and severity",
        height=28 * len(rows) + 80,
        margin={"l": 130, "r": 8, "t": 10, "b": 40},
        xaxis={"title": {"text": "severity"}, "dtick": 1},
    )
    mean = sum(map(sum, rows.values())) / sum(map(len, rows.values()))
    st.caption(
        f"Mean over all: {percent(mean)}; clean {percent(table['clean'])}, n = {table['n']} "
        f"({shell.plain(table['job'])}). ImageNet-C-style: comparable between models here, not with published tables."
    )


def certified(question: Question) -> None:
    """Draws certified accuracy against the radius."""
    import plotly.graph_objects as go

    sigma = st.select_slider(
        "Noise (sigma)",
        [0.12, 0.25, 0.5, 1.0],
        value=0.25,
        key="robust.sigma",
        help="More noise certifies larger radii, and names fewer images rightly. Use what it was trained with.",
        width=260,
    )
    _start(
        "Certify",
        "Randomized smoothing: a guarantee, with probability, for the classifier averaged over noise. As a job.",
        question,
        **{"attack.certify": sigma, "attack.attacks": "noise"},
    )
    certificate = _newest(question, "certified.json")
    if certificate is None:
        with shell.empty(
            "An attack that fails proves little; a certificate proves. The classifier is asked many times under random "
            "noise, and its majority cannot change within a radius that follows from the counts. It works best for a "
            "classifier that was trained with noise (Train, against attacks: noise).",
            ":material/verified_user:",
        ):
            return
    figure = go.Figure(
        go.Scatter(
            x=certificate["radii"],
            y=certificate["accuracy"],
            mode="lines",
            line={"shape": "hv", "color": show.colour(0), "width": 2.5},
        )
    )
    figure.update_layout(
        height=300,
        margin={"l": 44, "r": 8, "t": 10, "b": 40},
        xaxis={"title": {"text": "certified radius (L2)"}, "rangemode": "tozero"},
        yaxis={"range": [-0.02, 1.02], "tickformat": ".0%"},
    )
    show.plot(
        figure,
        key="robust.certified",
        config={"displayModeBar": False},
        alt="Certified accuracy, falling with the radius",
    )
    st.caption(
        f"Sigma {certificate['config']['sigma']:g}, n = {certificate['n']}, "
        f"{certificate['config']['draws']:,} draws each. "
        f"Abstained on {certificate['abstained']}, which count as wrong. "
        f"{shell.plain(certificate['guarantee'])} ({shell.plain(certificate['job'])})"
    )


def transfer(question: Question) -> None:
    """Draws how images that fool one classifier fare with others."""
    from core.norms import norm_of
    from core.robustness import classifiers

    choices = {choice.id: choice for choice in classifiers.available(question.data)}
    others = st.multiselect(
        "Try them on",
        [id for id in choices if id not in ("", question.classifier)],
        key="robust.others",
        format_func=lambda id: choices[id].title,
        help="Adversarial images of each classifier are shown to every other one.",
    )
    _start(
        "Measure transfer",
        "Attacks each of them, and tries the images on all; as a job.",
        question,
        ready=bool(others),
        **{"attack.transfer": ",".join(others), "attack.attacks": "noise"},
    )
    if any(choices[id].answers_only for id in (question.classifier, *others) if id in choices):
        st.caption(
            "A classifier that gives answers only has no gradients: images against it are made by queries (Square)."
        )
    table = _newest(question, "transfer.json")
    if table is None:
        with shell.empty(
            "Images made against one model often fool another that the attacker never saw. "
            "Choose the others, then measure.",
            ":material/compare_arrows:",
        ):
            return
    models = [f"{number} {name}" for number, name in enumerate(table["names"], 1)]
    _shares(
        table["fooled"],
        [str(number) for number in range(1, 1 + len(models))],
        models,
        key="robust.transfer",
        hover="made against %{y}, shown to %{x}: %{z:.1%} fooled",
        alt="Share of adversarial images of each model that fool each other model",
        height=70 * len(models) + 60,
        xaxis={"title": {"text": "shown to"}, "type": "category"},
    )
    st.caption(
        f"Share fooled, of the images that both name rightly when clean ({min(map(min, table['n']))} to "
        f"{max(map(max, table['n']))} of them); eps {norm_of(table['norm']).text(table['eps'])} "
        f"({shell.plain(table['job'])})."
    )
