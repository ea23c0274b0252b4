"""A release against the one before it: which report is the baseline, what has changed, what a pipeline takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import jobs
from core.catalog import UserError
from core.ground.cache import Cache
from core.ground.settings import settings
from core.ground.writing import percent
from pages.parts import shell, show
from pages.parts.robustness import Question, answer, controls, known
from pages.parts.robustness.confirmed import newest, read
from pages.parts.table import Row, table

if TYPE_CHECKING:
    from core.robustness import Report
    from core.robustness.releases import PairedChange, Release

FILE = "a file"  # the choice of a baseline that is uploaded
OFFERED = 60  # baselines; each is read before it is
_titles = Cache[str](1000)


@shell.guard()
def draw(question: Question) -> None:
    """Compares what was measured of this classifier with the report of an earlier one."""
    from core.robustness import releases

    baseline = _baseline(question)
    screening = known(question)
    done = bool(screening and screening.done)
    if st.session_state.get("robust.go") in (question.key, "again") and not done:
        answer.result(question)  # measures; the page runs again when it is done
        return
    st.session_state.pop("robust.go", None)
    report = screening.report if screening and done else read(newest(question))
    if baseline is None:
        with shell.empty(
            "Has the new model become worse? Choose what was measured of the old one: a job of this server, or the "
            "`report.json` of any attack. Both are compared on the same images under the same attacks.",
            ":material/balance:",
        ):
            return
    try:
        releases.whole(baseline)
        if report is None:
            raise UserError("This classifier was not measured yet.")
        compared = releases.against(baseline, report)
    except UserError as error:
        st.info(shell.plain(str(error)), icon=":material/info:")
        with shell.guard():
            _repeat(baseline)
        return
    change(compared, compared.sentence)
    _take(compared, question)


def _baseline(question: Question) -> Report | None:
    """Asks for the report of the release before; None before one is chosen."""
    done = [job for job in jobs.listing("attack") if job.config["dataset"]["name"] == question.data]
    names = {job.id: title for job in done[:OFFERED] if (title := _title(job))}
    picked = st.selectbox(
        "Baseline: the release before",
        [*names, FILE],
        index=None,
        key="robust.baseline",
        placeholder="Choose what was measured of the old model",
        format_func=lambda id: names.get(id, "A report from a file …"),
        help="Its images, attacks and strengths are repeated on the classifier that is chosen at the left. "
        f"Of more than {OFFERED} that were measured on this server, the newest are offered.",
    )
    if picked is None:
        return None
    if picked != FILE:
        return read(jobs.get(picked))
    upload = st.file_uploader(
        "report.json", type="json", key="robust.baseline.file", max_upload_size=settings().upload_mb
    )
    return None if upload is None else _uploaded(upload.name, upload.getvalue())


def _title(job: jobs.Job) -> str:
    """Names what a job has measured; empty where there is nothing to compare with. Read once, until it changes."""
    file = job.path / "report.json"
    try:
        return _titles.get((file, file.stat().st_mtime_ns), lambda: _titled(job))
    except FileNotFoundError:
        return ""


def _titled(job: jobs.Job) -> str:
    try:
        report = read(job)
    except UserError:  # damaged: the list of jobs says so
        return ""
    if report is None or not report.complete or not report.headline:
        return ""
    return f"{report.model['name']}, {report.head.text}, {percent(report.head.robust)} robust"


def _uploaded(name: str, content: bytes) -> Report:
    from core.robustness import store

    try:
        record: Any = json.loads(content)
    except (ValueError, RecursionError):
        record = None
    return store.parsed(record if isinstance(record, dict) else {}, name)


def _repeat(baseline: Report) -> None:
    """Offers to attack the chosen classifier as the baseline was."""
    from core.robustness import releases

    values = releases.study_of(baseline).record()
    values.pop("batch")
    st.button(
        "Measure it as the baseline was",
        type="primary",
        key="robust.repeat",
        icon=":material/replay:",
        on_click=controls.again,
        args=(values,),
        help="Sets attacks, strengths and images to those of the baseline, and attacks here and now.",
    )


def change(release: Release, sentence: str) -> None:
    """Shows in a sentence and in numbers what has changed, what decides first; each class with its interval."""
    robust = release.robust
    tell, icon = (
        (st.error, ":material/trending_down:")
        if robust.worse
        else (st.success, ":material/trending_up:")
        if robust.better
        else (st.info, ":material/trending_flat:")
    )
    tell(shell.plain(sentence), icon=icon)
    left, right = st.columns([1.25, 1], gap="medium")
    with left:
        table(
            [
                _row(robust, f"Under attacks of {release.strength}"),
                _row(release.clean, "Without an attack"),
            ],
            alt=f"Shares of the same {robust.change.n} images that are right, now and before",
            heads=("Right", "Now", "Before"),
        )
    with right:
        _classes(release)
    with st.expander("Each class in numbers"):
        table(
            [_row(row, row.name, f", {row.chance}, n = {row.change.n}") for row in release.classes],
            alt=f"Share of each class that withstands {release.strength}, now and before",
            heads=("Class", "Now", "Before"),
        )
    for note in release.notes:
        st.caption(f":material/info: {shell.plain(note)}")


def _row(row: PairedChange, name: str, more: str = "") -> Row:
    return Row(
        name,
        percent(row.after.value),
        at=row.after.value,
        ends=row.after.interval,
        real=percent(row.before.value),
        real_at=row.before.value,
        top=1.0,
        note=row.text + more,
    )


def _classes(release: Release) -> None:
    import plotly.graph_objects as go

    rows = release.classes
    figure = go.Figure(
        go.Scatter(
            x=[row.name for row in rows],
            y=[100 * row.change.value for row in rows],
            mode="markers",
            marker={"size": 9, "color": show.colour(0)},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [100 * (row.change.high - row.change.value) for row in rows],
                "arrayminus": [100 * (row.change.value - row.change.low) for row in rows],
                "thickness": 1.2,
            },
            customdata=[[row.text, row.chance, row.change.n] for row in rows],
            hovertemplate="%{x}: %{customdata[0]}<br>%{customdata[1]}, n = %{customdata[2]}<extra></extra>",
        )
    )
    figure.add_hline(0, line={"width": 1, "color": show.ink()}, opacity=0.6)
    figure.update_layout(
        height=240,
        xaxis={"type": "category", "title": {"text": "class"}},
        yaxis={"title": {"text": "change under attack, points", "standoff": 14}},
    )
    show.plot(
        figure,
        key="robust.release.classes",
        config={"displayModeBar": False},
        alt="Change of the share that withstands, per class, with its interval",
    )


def _take(release: Release, question: Question) -> None:
    """Offers what a pipeline takes, and the line that makes it there."""
    from core.robustness import releases

    with st.container(horizontal=True):
        for title, write, file, mime in (
            ("Summary (Markdown)", releases.markdown, "robustness.md", "text/markdown"),
            ("JUnit (XML)", releases.junit, "robustness.xml", "application/xml"),
        ):
            st.download_button(
                title,
                lambda write=write: write(release),
                file,
                mime,
                key=f"robust.release.{file}",
                icon=":material/download:",
                on_click="ignore",
            )
    with st.expander("In a pipeline", icon=":material/terminal:"):
        st.caption(
            "Repeats the baseline's study on another classifier, and ends with 1 if the interval of the change lies "
            "wholly below 0; with 0 if not."
        )
        st.code(
            f"python -m core attack --baseline report.json --classifier {question.classifier or 'NEW'} "
            "--junit robustness.xml --markdown robustness.md",
            language="bash",
            wrap_lines=True,
        )
        st.caption(shell.plain(releases.METHOD))
