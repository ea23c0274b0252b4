"""What was measured: words, tables and charts that pages share, and one file per view of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import jobs, measure
from core.catalog import UserError
from core.ground.writing import percent, percents
from core.measure.features import extractors
from pages.parts import shell, show
from pages.parts import table as measures

if TYPE_CHECKING:
    from core.measure import Claim, Evaluation, Measurement

GROUPS = {  # of measures, as questions
    "quality": "How near is it to real images?",
    "variety": "Are they real, and does it show everything?",
    "classes": "Does it know the classes?",
    "likelihood": "How likely are real images to it?",
    "copying": "Does it copy?",
}
BETTER = {"higher": "↑", "lower": "↓", "": ""}
_FLOOR = "real images in its place"
_VALUE = "value, with its interval"
SYMBOLS = ("circle", "square", "triangle-up", "cross", "x")  # of measures, class by class
_PLAIN = {"displayModeBar": False}
_LEGEND = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 11}}


def number(value: float | None, scale: str) -> str:
    """Writes a value as its scale asks for: a share in percent, all else in three digits."""
    if value is None:
        return "–"
    if scale == "share":
        return percent(value)
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return text if "e" not in text or abs(value) < 1e-4 else f"{value:.4f}"


def span(measurement: Measurement) -> str:
    """Writes the interval of 95 %; empty where there is none."""
    if measurement.interval is None:
        return ""
    scale = measurement.entry.scale
    text = " to ".join(number(end, scale) for end in measurement.interval)
    if scale == "share":
        text = percents(*measurement.interval)
    return text.replace(" ", "\u00a0")


def claims(said: Sequence[Claim]) -> None:
    """Says what the model is good at, where it fails and whether it copies, each with its number and bar."""
    measures.table(
        [_claim(claim) for claim in said],
        alt="What it is good at, where it fails and whether it copies",
        heads=("What the measures say", "Value", "Real images"),
    )


def _claim(claim: Claim) -> measures.Row:
    if (m := claim.number) is None:
        return measures.Row(claim.sentence, "", group=claim.topic)
    note = " · ".join(filter(None, (name_of(m), m.note)))
    return replace(_row(m), name=claim.sentence, group=claim.topic, note=note)


def report(run: jobs.Job, evaluation: Evaluation, key: str) -> None:
    """Offers the report of an evaluation, which is written when it is asked for."""

    def write() -> bytes:
        from core.measure import report

        return report.html(evaluation)

    st.download_button(
        "Report (HTML)",
        write,
        f"{run.id}-step{evaluation.step}.html",
        "text/html",
        key=key,
        icon=":material/download:",
        on_click="ignore",
        help="One file with every measure, settings, versions and seeds; it opens anywhere.",
    )


def conditions(evaluation: Evaluation) -> None:
    """Says how the values were measured; what only somebody who compares them needs waits behind "?"."""
    shared = evaluation.conditions
    accuracy = shared.get("judge_accuracy")
    name, about = shared["extractor"], ""
    if name in extractors:
        name, about = extractors.get(name).title, f"{extractors.get(name).caption} "
    seen = f"seen through {name}"
    if accuracy:
        seen += f"; the judge, which tells the classes, names {percent(accuracy)} of the test images rightly"
    exact = [
        f"{shared['extractor']} {str(shared['hash'])[:8]}",
        *(f"{name} {value}" for name, value in shared["sampling"].items()),
        f"seed {shared['seed']}",
    ]
    state = f"step {evaluation.step:,} ({evaluation.images:,} training images seen)"
    if not evaluation.images:  # nobody here knows what it has seen
        state = "a model that was brought"
    st.caption(
        shell.plain(
            f"{shared['n']:,} generated images from {state} beside {shared['n_reference']:,} real ones "
            f"({shared['reference']} split of {shared['dataset']}), {seen}."
        ),
        help=shell.plain(f"{about}To measure the same again: {', '.join(exact)}."),
    )


def table(measurements: Sequence[Measurement]) -> None:
    """Lists measures by group: value, interval, floor, direction, n; what each means and when to doubt it on demand."""
    known = [m for group in GROUPS for m in measurements if m.entry.group == group and m.known]
    if known:
        measures.table(
            [_row(m) for m in known], alt="The measures, each beside what real images have"
        )
        st.caption("↑ higher is better, ↓ lower is better. The tick on a bar: real images instead.")
    refused = [m for m in measurements if not m.known]
    if refused:
        with st.expander(f"Not measured: {len(refused)}"):
            for m in refused:
                st.caption(f"**{shell.plain(name_of(m))}**: {shell.plain(m.note)}")


def name_of(measurement: Measurement) -> str:
    """Names a measure without what saw the images, where that is said beside it."""
    title = measurement.entry.title
    return title if measurement.title.startswith(f"{title}, ") else measurement.title


def _row(m: Measurement) -> measures.Row:
    """Writes a measure as one row of the table."""
    metric = m.entry
    bounded = m.value is not None and m.value >= 0
    return measures.Row(
        f"{name_of(m)}\u00a0{BETTER[metric.direction]}",
        number(m.value, metric.scale),
        m.value if bounded else None,
        " · ".join(filter(None, (span(m), f"n\u00a0=\u00a0{m.n:,}" if m.n else ""))),
        m.interval,
        number(m.floor, metric.scale),
        m.floor,
        1.0 if metric.scale == "share" else None,
        " ".join(f"{metric.means} {metric.doubt}".split()),
        m.note,
        GROUPS[metric.group],
    )


def dots(cells: Mapping[str, Measurement], *, key: str, axis: str = "") -> None:
    """Draws known values of one scale by name, one below the other, with intervals and floors."""
    import plotly.graph_objects as go

    measured = list(cells.values())
    scale = measured[0].entry.scale
    figure = go.Figure()
    figure.add_scatter(
        x=[m.floor for m in measured],
        y=list(cells),
        mode="markers",
        name=_FLOOR,
        marker={"size": 15, "symbol": "diamond-open", "color": "gray", "line": {"width": 2}},
    )
    figure.add_scatter(
        x=[m.value for m in measured],
        y=list(cells),
        mode="markers",
        name=_VALUE,
        marker={"size": 9, "color": show.colour(0)},
        error_x=_whiskers(measured),
    )
    figure.update_layout(
        height=(110 if axis else 80) + 30 * len(measured),
        margin={"l": 8, "r": 8, "t": 30, "b": 40 if axis else 24},
        xaxis={"title": {"text": axis, "font": {"size": 12}}},
        yaxis={"autorange": "reversed", "automargin": True, "type": "category"},
        legend=_LEGEND,
    )
    if scale == "share":
        low = min(x for m in measured for x in (m.value, m.low, m.floor) if x is not None)
        figure.update_xaxes(tickformat=".0%", range=[max(0.0, low - 0.1) - 0.02, 1.05])
    alt = "; ".join(f"{name} {number(m.value, scale)}" for name, m in cells.items())
    show.plot(figure, key=key, config=_PLAIN, alt=f"{axis} {alt}".strip())


def _whiskers(measured: Sequence[Measurement]) -> dict[str, Any]:
    """Gives plotly the way from each value to the ends of its interval."""
    ends = [
        (m.high - m.value, m.value - m.low)
        if m.value is not None and m.low is not None and m.high is not None
        else (0.0, 0.0)
        for m in measured
    ]
    above, below = zip(*ends, strict=True)
    return {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "thickness": 1.5,
    }


def advice(measurement: Measurement) -> str:
    """Names a measure and says which direction is better."""
    direction = measurement.entry.direction or "neither direction"
    return f"{measurement.title} ({direction} is better)"


def over_steps(points: Sequence[tuple[int, Measurement]], *, key: str) -> None:
    """Draws one measure of one run over the steps of its training, with intervals."""
    import plotly.graph_objects as go

    measured = [m for _, m in points]
    steps = [step for step, _ in points]
    first = measured[0]
    scale = first.entry.scale
    figure = go.Figure()
    figure.add_scatter(
        x=steps,
        y=[m.value for m in measured],
        mode="lines+markers",
        name=_VALUE,
        line={"width": 2, "color": show.colour(0)},
        error_y=_whiskers(measured),
    )
    if any(m.floor is not None for m in measured):
        figure.add_scatter(
            x=steps,
            y=[m.floor for m in measured],
            mode="lines",
            name=_FLOOR,
            line={"dash": "dot", "color": "gray"},
        )
    figure.update_layout(
        height=260,
        margin={"l": 40, "r": 8, "t": 30, "b": 40},
        xaxis={
            "title": {"text": "training step", "font": {"size": 12}},
            "rangemode": "tozero",
            "tickformat": ",d",
        },
        yaxis={
            "title": {"text": advice(first), "font": {"size": 12}},
            "tickformat": ".0%" if scale == "share" else "",
        },
        legend=_LEGEND,
    )
    alt = "; ".join(
        f"step {step} {number(m.value, scale)}" for step, m in zip(steps, measured, strict=True)
    )
    show.plot(figure, key=key, config=_PLAIN, alt=f"{first.title}: {alt}")


def per_class(classes: Sequence[Mapping[str, object]], *, key: str) -> None:
    """Draws what measures say of each class, and its share, beside what real images have."""
    from plotly.subplots import make_subplots

    names = [str(row["class"]) for row in classes]
    figure = make_subplots(
        1,
        2,
        horizontal_spacing=0.07,
        subplot_titles=("Within the class", "Share of all images"),
    )
    for i, metric in enumerate(measure.by_class(classes)):
        figure.add_scatter(
            x=names,
            y=[row.get(metric.name) for row in classes],
            name=metric.title.lower(),
            mode="markers",
            marker={
                "size": 10,
                "symbol": SYMBOLS[i % len(SYMBOLS)],
                "color": show.colour(i),
            },
            row=1,
            col=1,
        )
    figure.add_bar(
        x=names,
        y=[row["made_share"] for row in classes],
        name="share generated",
        marker={"color": show.colour(0)},
        row=1,
        col=2,
    )
    figure.add_scatter(
        x=names,
        y=[row["real_share"] for row in classes],
        name="share of real images",
        mode="markers",
        marker={"size": 10, "symbol": "diamond-open", "color": "gray", "line": {"width": 2}},
        row=1,
        col=2,
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(range=[-0.03, 1.05], row=1, col=1)
    figure.update_annotations(font_size=12)
    figure.update_layout(
        height=260,
        margin={"l": 36, "r": 8, "t": 28, "b": 44},
        legend={"orientation": "h", "y": -0.16, "yanchor": "top", "x": 0, "font": {"size": 11}},
    )
    show.plot(
        figure,
        key=key,
        config=_PLAIN,
        alt="Realism, variety and other measures of each class, and its share",
    )


# --- Evaluations, and which of them the address names ---------------------------------------------------------------


def kept(evaluation: Evaluation) -> None:
    """Says so where fewer samples are here to look at than were measured."""
    arrays, measured = evaluation.arrays(), evaluation.conditions.get("n_samples") or 0
    if arrays is not None and len(arrays.made) < measured:
        why = ", so that the code stays small" if jobs.get(evaluation.job).shipped else ""
        st.caption(
            f":material/info: All {measured:,} samples were measured; the first {len(arrays.made):,} are kept to look "
            f"at{why}."
        )


def waits() -> None:
    """Says when a view will appear that needs the images of an evaluation."""
    with shell.empty(
        "The images are being drawn. This view appears when they have been compared, before the slower measures.",
        ":material/hourglass_empty:",
    ):
        return


def begin(run: str, values: Mapping[str, Any]) -> jobs.Job:
    """Submits one evaluation."""
    from core.kinds import evaluate

    return evaluate.start(jobs.get(run), dict(values), who=shell.who())


def opened(job: jobs.Job) -> Evaluation | None:
    """Reads an evaluation as far as it has come; None before its first result."""
    try:
        return measure.read(job)
    except UserError:
        if job.status == "finished":
            raise
        return None


def remember(
    key: str, name: str, options: list[str], start: str | None = None, *, many: bool = False
) -> None:
    """Gives a choice without a state the one in the address, where that names what there is.

    Not Streamlit's own binding to the address: that one writes the words that a person sees, not the id behind them.
    """
    if many and key not in st.session_state and (text := st.query_params.get(name)):
        st.session_state[key] = [id for id in text.split() if id in options]
    elif not many and st.session_state.get(key) not in options:
        text = st.query_params.get(name) if key not in st.session_state else None
        st.session_state[key] = text if text in options else start


def link(name: str, text: str | None) -> None:
    """Writes a choice into the address, or takes it out."""
    if text:
        if st.query_params.get(name) != text:
            st.query_params[name] = text
    elif name in st.query_params:
        del st.query_params[name]
