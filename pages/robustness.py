"""How much a classifier loses under attack, and whether that number can be believed."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import jobs
from core.ground.writing import percent, percents
from pages.parts import shell
from pages.parts.job import panel
from pages.parts.job import take as take_files
from pages.parts.robustness import (
    Question,
    answer,
    beyond,
    controls,
    curve,
    dataset,
    fool,
    generative,
    harden,
    images,
    known,
    releases,
    take,
    there,
    verdict,
)
from pages.parts.robustness.confirmed import listing, newest, read

TITLE = "Robustness"
ICON = ":material/shield:"
ORDER = 7
shell.enter()

TOOLS = {
    "result": "Result",
    "fool": "Fool it",
    "images": "Images",
    "checks": "Checks",
    "beyond": "Beyond attacks",
    "generative": "Generative",
    "releases": "Releases",
    "harden": "Harden",
}
BEYOND = {
    "corruptions": ("Corruptions", beyond.corruptions),
    "certified": ("Certificate", beyond.certified),
    "transfer": ("Transfer", beyond.transfer),
}


@shell.guard()
def page(data: str) -> None:
    """Draws the controls and what they lead to."""
    of = dataset(data)
    if not of.labelled:
        with shell.empty(
            "This dataset has no labels, so there is no classifier of it to attack. Choose another in the sidebar.",
            ":material/label_off:",
        ):
            shell.go("data", "Look at the data")
        return
    left, stage = st.columns([1, 2.7], gap="medium")
    with left:
        question = controls.ask(of)
    with stage:
        first: dict[str, Any] = {} if "robust.tool" in st.session_state else {"default": "result"}
        name = st.segmented_control(
            "What to look at",
            list(TOOLS),
            **first,
            key="robust.tool",
            required=True,
            wrap=True,
            bind="query-params",
            format_func=lambda name: TOOLS[name],
            label_visibility="collapsed",
        )
        with shell.guard():
            tool(question, name or "result")
        thorough(question)


def tool(question: Question, name: str) -> None:
    """Draws one of the tools."""
    screening = known(question)
    screened = screening.report if screening and screening.done else None
    report = screened if screening else read(newest(question))
    if name == "result":
        answer.result(question)
        take.take(question)
        if report:
            with st.expander("Per class"):
                curve.classes(report)
            with st.expander("Every attack, with its parameters and cost"):
                curve.effort(report)
    elif name == "fool":
        fool.draw(question)
    elif name == "generative":
        generative.draw(question)
    elif name == "releases":
        releases.draw(question)
    elif name == "harden":
        harden.draw(question)
    elif name == "beyond":
        which = st.pills(
            "Beyond attacks",
            list(BEYOND),
            default="corruptions",
            required=True,
            key="robust.beyond",
            bind="query-params",
            format_func=lambda name: BEYOND[name][0],
            label_visibility="collapsed",
        )
        BEYOND[which or "corruptions"][1](question)
    elif name == "checks" and report:
        verdict.checks(report)
    elif not (screening and report):
        with shell.empty(
            "Each image opens here once it was attacked. With these settings, none was screened yet.",
            ":material/shield:",
        ):
            if there(question.classifier, question.dataset):
                shell.press(st, "Screen it", controls.go, question, key="robust.screen.first")
    else:
        study = screening.study
        position = images.wall(report, study)
        images.opened(
            question,
            study.x[position].cpu().numpy(),
            int(study.y[position]),
            f"robust.opened.{report.images[position].index}",
        )
        images.matrix(report, study)


def thorough(question: Question) -> None:
    """Shows what was confirmed or is being confirmed, with its gap to the screening."""
    measured = listing(question)
    if not measured:
        return
    with st.expander(
        f"Measured as jobs ({len(measured)})",
        expanded=measured[0].active,
        icon=":material/verified_user:",
    ):
        id = st.selectbox(
            "Which one",
            [job.id for job in measured],
            key="robust.job",
            format_func=lambda id: next(
                f"{job.name}, {job.status}" for job in measured if job.id == id
            ),
            label_visibility="collapsed",
        )
        shell.live(watch, 1 if jobs.get(id).active else None, question, id)


@shell.guard()
def watch(question: Question, id: str) -> None:
    """Follows one job: progress, the numbers so far, the gap to the screening, and what can be taken away."""
    job = jobs.get(id)
    report = read(job)
    panel(job, "robust", "What it has found is kept and marked.")
    if report is None:
        st.caption("The first numbers arrive in a moment.")
        return
    at, screened = report.head, known(question)
    attacked = shell.plain(", ".join(row.title for row in report.attacks))
    text = (
        f"**{percent(at.robust)}** ({percents(*at.interval)}, n = {at.n}) at {shell.plain(at.text)}, worst case over "
        f"{attacked}"
    )
    if screened and screened.report and (before := screened.report.at(at.eps)):
        gap = 100 * (before.robust - at.robust)
        text += f"; the screening said {percent(before.robust)}, a gap of {gap:.1f} points"
    st.markdown(text + ("." if report.complete else ", so far."))
    take_files(job, "robust")


shell.header("How does it stand up to attacks, and can you believe it?")
page(shell.chosen_dataset())
shell.go("train", "Train a classifier that withstands more")
