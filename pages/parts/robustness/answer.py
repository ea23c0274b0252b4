"""The answer to a question: measured here and now, or found among what was measured before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from core.ground.writing import duration
from pages.parts import shell, show
from pages.parts.robustness import (
    Question,
    curve,
    expected,
    forget_stopped,
    known,
    screen,
    target,
    teach,
    there,
    verdict,
)
from pages.parts.robustness.confirmed import newest, read

if TYPE_CHECKING:
    from core.robustness import Report


def result(question: Question) -> None:
    """Shows the verdict, the number and the curve; measures first when that was asked for."""
    asked = st.session_state.get("robust.go")
    if asked == "again":
        forget_stopped(question)
    asked_for = asked in (question.key, "again")
    screening = known(question)
    if asked_for and not (screening and screening.done):
        st.session_state["robust.go"] = question.key
        shell.live(live, 0.2, question)
        return
    st.session_state.pop("robust.go", None)
    if screening and screening.report:
        answer(question, screening.report, live=False)
    else:
        invite(question)


@shell.guard()
def live(question: Question) -> None:
    """Does a slice of the screening at each turn, and draws what is known; the page runs again when it is done."""
    screening = screen(question, target(question))
    if screening.done:
        st.rerun()
    total = expected(question).seconds
    left = total - screening.seconds
    words = f"about {duration(left)} left" if left > 0.5 else "takes longer than expected"
    bar, stop = st.columns([4, 1], vertical_alignment="center")
    bar.progress(
        min(0.99, screening.seconds / max(total, 1)),
        text=f"Attacking {question.config.n:,} images: {words}",
    )
    stop.button(
        "Stop",
        key="robust.screening.stop",
        icon=":material/stop:",
        on_click=screening.stop,
        help="What it has found is shown.",
        width="stretch",
    )
    if screening.report:
        answer(question, screening.report, live=True)


def invite(question: Question) -> None:
    """Shows the newest job of this question; where there is none, says what a measurement does."""
    earlier = newest(question)
    if earlier and (report := read(earlier)):
        st.caption(
            f":material/history: {shell.plain(earlier.name)}, measured as a job. "
            "Press **Screen it** to measure anew."
        )
        answer(question, report, live=False)
        return
    if not there(question.classifier, question.dataset):
        with shell.empty(
            f"There is no classifier of {shell.plain(question.data)} to attack yet. **Train a classifier** starts one "
            "as a job: you see how far it is, can stop it, and it goes on when you leave. **Bring your own** needs "
            "none.",
            ":material/school:",
        ):
            return
    with shell.empty(
        "Nothing was measured with these settings yet. **Screen it** attacks the classifier here and now, and draws "
        "the curve as it comes; **Confirm** does it thoroughly, as a job. These are the first images that will be "
        "attacked, as they are.",
        ":material/shield:",
    ):
        dataset = question.dataset
        assert dataset.y is not None  # without labels there is no question
        first = dataset.splits[question.config.split][:48]
        show.pictures(
            dataset.pictures(first),
            columns=16,
            key="robust.ahead",
            alt=f"The first {len(first)} images that will be attacked",
            titles=[f"image {i}: {dataset.classes[int(dataset.y[i])]}" for i in first],
            max_height=170,
        )


def answer(question: Question, report: Report, live: bool) -> None:
    """Draws the verdict, the number beside the curve, and what to do about each doubt."""
    from core import robustness

    verdict.draw(report)
    left, right = st.columns([1, 2.2], gap="medium")
    with left:
        verdict.headline(report)
    with right:
        others = {} if live else rivals(question, report)
        published = robustness.references(question.data, report.norm, report.headline)
        curve.draw(report, others, published)
        if report.stopped:
            st.caption(f":material/stop: {shell.plain(report.stopped)} What it had is shown.")
    if report.complete:
        verdict.doubts(report)
        if report.identity and not report.identity.compared:
            st.caption(
                "There is no reference yet to compare its clean accuracy with: train a classifier of this dataset, "
                "then measure again."
            )
            teach.draw(question.data)


def rivals(question: Question, report: Report) -> Mapping[str, Report]:
    """Offers other classifiers measured on the same images, and says whether they differ by more than chance."""
    from core import robustness
    from core.robustness import classifiers

    measured = {}
    for choice in classifiers.available(question.data):
        other = known(replace(question, classifier=choice.id))
        if choice.id != question.classifier and other and other.done and other.report:
            measured[choice.title] = other.report
    if not measured:
        return {}
    picked = st.multiselect(
        "Compare with",
        list(measured),
        default=list(measured)[:2],
        key="robust.rivals",
        help="Measured with the same settings on the same images. Screen another classifier to add it.",
    )
    for name in picked:
        paired = robustness.compare(report, measured[name], report.headline)
        st.caption(
            f"Against {shell.plain(name)}: {paired.only_first} images only this one withstands, {paired.only_second} "
            f"only the other, of {paired.n}; "
            + (
                f"more than chance (p = {paired.p:.2g})."
                if paired.p < 0.05
                else f"a tie (p = {paired.p:.2g})."
            )
        )
    return {name: measured[name] for name in picked}
