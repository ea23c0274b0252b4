"""Evaluations side by side, and one run over its training."""

import pandas as pd
import streamlit as st

from core import jobs, kinds, measure, runs
from core.measure import Evaluation
from pages.parts import evaluate, shell, show


def draw(run: jobs.Job, evaluation: Evaluation) -> None:
    """Sets evaluations side by side: ties are called ties, differing conditions are refused by name."""
    ready = {}
    for job in measure.listing()[:60]:
        other = evaluate.opened(job) if job.status != "queued" else None
        if other is not None and other.measurements:
            ready[job.id] = other
    newest = {
        other.run: id
        for id, other in reversed(ready.items())
        if other.dataset == evaluation.dataset
    }
    usual = [evaluation.job, *(id for id in newest.values() if id != newest.get(evaluation.run))][
        :4
    ]
    evaluate.remember("evaluate.among", "among", list(ready), many=True)
    st.session_state.setdefault("evaluate.among", usual)
    picked = st.multiselect(
        "Evaluations",
        list(ready),
        key="evaluate.among",
        format_func=lambda id: titled(ready[id]),
        max_selections=6,
        help="The newest one of each run on the same dataset, unless you choose others.",
    )
    evaluate.link("among", None if picked == usual else " ".join(picked))
    if not picked:
        with shell.empty("Choose at least one evaluation above.", ":material/compare:"):
            return
    chosen = [ready[id] for id in picked]
    names = unlike([titled(other) for other in chosen])
    result = measure.compare(chosen)
    for difference in result.differences:
        st.caption(f":material/warning: {shell.plain(difference)}")
    st.dataframe(
        show.named(pd.DataFrame([row_of(row, names) for row in result.rows])),
        hide_index=True,
        height=min(36 * (len(result.rows) + 1) + 3, 360),
        key="evaluate.table",
        alt="The measures of each evaluation, with intervals",
    )
    st.download_button(
        "Table (CSV)",
        result.csv,
        f"{run.id}-compare.csv",
        "text/csv",
        key="evaluate.csv",
        icon=":material/download:",
        on_click="ignore",
    )
    rows = {row.metric: row for row in result.rows if any(c and c.known for c in row.cells)}
    if not rows:
        return
    evaluate.remember("evaluate.metric", "metric", list(rows), next(iter(rows)))
    metric = st.selectbox(
        "Measure",
        list(rows),
        key="evaluate.metric",
        format_func=lambda name: rows[name].title,
    )
    evaluate.link("metric", metric)
    row = rows[metric]
    left, steps = st.columns(2, gap="large")
    with left:
        st.markdown("**Side by side**")
        if row.refused:
            st.info(shell.plain(row.refused), icon=":material/block:")
        else:
            cells = {n: c for n, c in zip(names, row.cells, strict=True) if c and c.known}
            first = next(iter(cells.values()))
            evaluate.dots(cells, key="evaluate.side", axis=evaluate.advice(first))
    with steps:
        st.markdown(f"**Over the training of {shell.plain(run.name)}**")
        over_training(run, evaluation, metric)
    watched(run)


def titled(evaluation: Evaluation) -> str:
    """Names an evaluation among those of all runs."""
    return f"{evaluation.name} · step {evaluation.step:,}"


def unlike(names: list[str]) -> list[str]:
    """Makes equal names differ, by a number."""
    seen: dict[str, int] = {}
    different = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        different.append(f"{name} ({seen[name]})" if seen[name] > 1 else name)
    return different


def row_of(row: measure.MetricRow, names: list[str]) -> dict[str, str]:
    """Writes one line of the comparison."""
    cells = {}
    several = sum(cell is not None and cell.known for cell in row.cells) > 1
    for number, (name, cell) in enumerate(zip(names, row.cells, strict=True)):
        text = "–"
        if cell is not None and cell.known:
            text = evaluate.number(cell.value, cell.entry.scale)
            text += f" ({interval})" if (interval := evaluate.span(cell)) else ""
        cells[name] = ("★ " if several and row.best == (number,) else "") + text
    verdict = row.refused
    if not verdict and several and row.direction and not row.best:
        verdict = "not ranked: an interval is missing"
    elif not verdict and several and row.best:
        best = ", ".join(names[i] for i in row.best)
        verdict = (
            f"{best} is better"
            if len(row.best) == 1
            else "tie"
            if len(row.best) == len(names)
            else f"tie: {best}"
        )
    return {
        "measure": row.title,
        "better": evaluate.BETTER[row.direction],
        **({"verdict": verdict} if len(names) > 1 else {}),
        **cells,
    }


def over_training(run: jobs.Job, evaluation: Evaluation, metric: str) -> None:
    """Draws a measure over the measured checkpoints of a run, and offers to measure more of them."""
    course = measure.trajectory(run).get(metric, [])
    known = [(step, m) for step, m in course if m.known]
    if known:
        evaluate.over_steps(known, key="evaluate.course")
    measured = {step for step, _ in course}
    left = [step for step in runs.checkpoints(run) if step not in measured]
    if left and not run.active:
        steps = st.multiselect(
            "Measure more checkpoints, under the same conditions",
            left,
            key="evaluate.steps",
            format_func=lambda step: f"step {step:,}",
            max_selections=8,
        )
        shell.press(
            st,
            "Measure these",
            begin_steps,
            run.id,
            steps,
            evaluation.job,
            icon=":material/speed:",
            key="evaluate.more",
            disabled=not steps or not shell.may_change(),
        )


def watched(run: jobs.Job) -> None:
    """Draws what the training itself saw of its quality."""
    from core.measure.learning import QUALITY

    looks = measure.watched(run)
    if looks:
        st.markdown(f"**What the training of {shell.plain(run.name)} saw of itself**")
        charts = show.charts(QUALITY, {run.name: looks})
        for chart, column in zip(charts, st.columns(len(charts), gap="large"), strict=True):
            with column:
                show.curves(
                    {run.name: looks}, [chart], key=f"evaluate.watched.{chart.key}", height=200
                )


def begin_steps(run: str, steps: list[int], like: str) -> None:
    """Measures further checkpoints of a run under the conditions of an evaluation."""
    _, values = kinds.flat(jobs.get(like).config)
    for step in steps:
        evaluate.begin(run, values | {"evaluate.step": step})
    st.session_state["_done"] = f"{len(steps)} evaluations are on their way."
    st.session_state["evaluate.steps"] = []
