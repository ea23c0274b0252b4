"""Leaderboards of a dataset: models by what evaluations measured, classifiers by what they withstood."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from core import datasets, jobs, measure, runs
from core.catalog import UserError
from core.ground.writing import many, percent, percents
from core.measure import Comparison, MetricRow, metrics
from core.norms import norm_of
from core.robustness import Report
from pages.parts import evaluate, shell, show

# measures beside the one that ranks, and their heads
MORE = {"coverage": "Coverage", "accuracy": "Right class", "nearer": "Nearer to training"}
ROWS = 60  # evaluations and reports that are read, the newest


def draw() -> None:
    """Draws the leaderboards of the chosen dataset, when they are asked for."""
    dataset = shell.chosen_dataset()
    title = shell.plain(datasets.describe(dataset).title)
    with st.expander(
        f"Leaderboards of {title}",
        icon=":material/leaderboard:",
        on_change="rerun",
        key="train.boards",
    ) as shown:
        if shown.open:
            with shell.guard():
                models(dataset)
                classifiers(dataset)


def models(dataset: str) -> None:
    """Ranks the evaluations of a dataset, each group of equal conditions by itself."""
    st.markdown("**Models**")
    of = {run.id: runs.dataset_of(run) for run in runs.listing()}
    here = [job for job in measure.listing() if of.get(job.target, dataset) == dataset]
    ready = [evaluate.opened(job) for job in here[:ROWS] if job.status != "queued"]
    known = [each for each in ready if each is not None and each.dataset == dataset]
    boards = [board for board in measure.boards(known) if board.leading is not None]
    if not boards:
        st.caption("None is measured yet. **Measure** above does it for the chosen run.")
    for number, board in enumerate(boards):
        assert board.leading is not None
        first, several = board.evaluations[0].conditions, len(board.evaluations) > 1
        st.caption(
            f"{many(len(board.evaluations), 'model')}{', the best first' if several else ''}, by "
            f"{shell.plain(board.leading.title)}: {first.get('n_samples', 0):,} samples each beside "
            f"{first.get('n_reference', 0):,} real images of the {first.get('reference')} split."
            + " ★: the best, and all that its interval does not tell apart from it."
            * several
        )
        shares = [row for row in board.rows if metrics.get(row.metric).scale == "share"]
        st.dataframe(
            show.named(pd.DataFrame(rows(board)), "model"),
            hide_index=True,
            key=f"train.board.{number}",
            column_config={
                head(row): st.column_config.NumberColumn(format="percent") for row in shares
            },
            placeholder="–",
            alt="Models from the best to the worst",
        )


def rows(board: Comparison) -> list[dict[str, Any]]:
    """Writes a board's lines, the best model first."""
    lead = board.leading
    assert lead is not None
    beside = [row for row in board.rows if row.metric in MORE and row is not lead]
    lines = []
    for rank, k in enumerate(lead.order, 1):
        evaluation, cell = board.evaluations[k], lead.cells[k]
        line = {
            "": "★" if k in lead.best else "",
            "rank": rank,
            "model": evaluation.name,
            "family": evaluation.family,
            "step": evaluation.step,
            head(lead): cell.value if cell else None,
            "95 % interval": evaluate.span(cell) if cell else "",
        }
        for row in beside:
            other = row.cells[k]
            line[head(row)] = other.value if other else None
        lines.append(line)
    return lines


def head(row: MetricRow) -> str:
    """Names a column; what sees the images stands above the table."""
    title = MORE.get(row.metric) or row.title.partition(",")[0]
    return f"{title} {evaluate.BETTER[row.direction]}"


def classifiers(dataset: str) -> None:
    """Ranks the classifiers that were attacked, each group of equal images, strength and attacks by itself."""
    from core import robustness

    st.markdown("**Classifiers**")
    listed = jobs.listing("attack")
    here = [job for job in listed if runs.dataset_of(job) == dataset]
    boards = robustness.boards(filter(None, map(report, here[:ROWS])))
    if not boards:
        st.caption("None is attacked yet.")
        shell.go("robustness", "Attack a classifier")
    for number, board in enumerate(boards):
        first = board[0]
        st.caption(
            f"{many(len(board), 'classifier')}, by the share of {first.head.n:,} images that withstands "
            f"{shell.plain(str(first.config.get('attacks', 'every attack')).replace(',', ', '))} at "
            f"{norm_of(first.norm).text(first.headline)}."
        )
        st.dataframe(
            show.named(
                pd.DataFrame(
                    [
                        {
                            "rank": rank if each.verdict.believable else None,
                            "classifier": each.model.get("name"),
                            "withstands ↑": percent(each.head.robust),
                            "95 % interval": percents(*each.head.interval),
                            "right without attack": percent(each.clean.value),
                            "believable": "yes" if each.verdict.believable else "no",
                        }
                        for rank, each in enumerate(board, 1)
                    ]
                ),
                "classifier",
            ),
            hide_index=True,
            key=f"train.board.attacked.{number}",
            alt="Classifiers from the most robust to the least",
        )


def report(job: jobs.Job) -> Report | None:
    """Reads the report of an attack; None where it is damaged or not there yet."""
    try:
        return job.result()
    except UserError:
        return None
