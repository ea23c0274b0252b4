"""Measure a model, compare it with others, see where it fails and whether it copies."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from core import jobs, kinds, measure, runs
from core.catalog import UserError
from core.measure import Evaluation
from pages.parts import evaluate, form, shell, show
from pages.parts import job as job_panel
from pages.parts.evaluate import atlas, copies, failures, rivals

TITLE = "Evaluate"
ICON = ":material/speed:"
ORDER = 3.6
RUN = True
shell.enter()
VIEWS = ("How good", "Map", "Copies", "Failures", "Compare")  # as the address names them


# --- Asking for it ----------------------------------------------------------------------------------------------------


def start(run: str, values: Mapping[str, Any]) -> None:
    """Begins to measure a run, and follows it."""
    st.session_state["evaluate.job"] = evaluate.begin(run, values).id


def head(run: jobs.Job, listed: list[jobs.Job]) -> jobs.Job | None:
    """Draws the choice of the evaluation and what starts another; gives the chosen one, None before the first."""
    which, button, settings = st.columns([3, 1, 1], vertical_alignment="center")
    names = {job.id: label(job) for job in listed}
    with which:
        if listed:
            evaluate.remember("evaluate.job", "evaluation", list(names))
            picked = st.selectbox(
                "Evaluation",
                list(names),
                index=None,
                key="evaluate.job",
                format_func=names.__getitem__,
                placeholder=f"newest: {names[listed[0].id]}",
                label_visibility="collapsed",
            )
        else:
            picked = None
            st.markdown(f"**{shell.plain(run.name)}** has not been measured yet.")
    evaluate.link("evaluation", picked)
    family = runs.family_of(run)
    parts = kinds.parts("evaluate", {"sampling": family})
    keys = {"evaluate.set" if part == "evaluate" else f"evaluate.{family}": part for part in parts}
    with settings, st.popover("Settings", icon=":material/tune:", width="stretch"):
        filled = form.form({key: parts[part] for key, part in keys.items()}, link=True)
    values = {
        f"{keys[key]}.{name}": value for key, part in filled.items() for name, value in part.items()
    }
    if words := takes(run, values):
        which.caption(words)
    shell.press(
        button,
        "Measure again" if listed else "Measure it",
        start,
        run.id,
        values,
        type="secondary" if listed else "primary",
        icon=":material/speed:",
        key="evaluate.start",
        disabled=not shell.may_change(),
        width="stretch",
    )
    return next((job for job in listed if job.id == picked), listed[0] if listed else None)


def takes(run: jobs.Job, values: Mapping[str, Any]) -> str:
    """Says how long it takes to measure a run; nothing where that is not known, or a value is not allowed."""
    from core.kinds.evaluate import foretell

    try:
        known = foretell(run, values)
    except UserError:  # the start says it
        return ""
    before = jobs.get(known.job.target).name if known else ""
    return job_panel.pace(known, f"an evaluation of {before}")


def label(job: jobs.Job) -> str:
    """Names an evaluation among those of one run."""
    config = job.config["evaluate"]
    number = config["step"] or job.state.get("step")  # known from the first result on
    step = f"step {number:,}" if number else "best or newest step"
    return f"{shell.icon_of(job)} {step} · {config['samples']:,} images · {shell.since(job)}"


@shell.guard()
def follow(id: str, known: tuple[str, int, bool]) -> None:
    """Shows how far an evaluation is; the page runs again with each further result."""
    job = jobs.get(id)
    if standing(job) != known:
        st.rerun()
    job_panel.panel(job, "evaluate", "What is measured by then is kept.")


def standing(job: jobs.Job) -> tuple[str, int, bool]:
    """Says what of an evaluation would change the page: its status, its results, its images."""
    evaluation = evaluate.opened(job)
    return (
        job.status,
        len(evaluation.measurements) if evaluation else 0,
        bool(evaluation and evaluation.arrays()),
    )


# --- How good ---------------------------------------------------------------------------------------------------------


def good(evaluation: Evaluation) -> None:
    """Shows the answer in three sentences, then every measure."""
    evaluate.claims(measure.claims(evaluation))
    for warning in evaluation.warnings:
        st.caption(f":material/warning: {shell.plain(warning)}")
    evaluate.conditions(evaluation)
    evaluate.table(evaluation.measurements)


# --- The page ---------------------------------------------------------------------------------------------------------


def page(run: jobs.Job) -> None:
    """Draws everything about one run that can be measured."""
    if run.active:
        st.caption(
            f":material/info: {shell.plain(run.name)} is still learning; what is measured is its newest checkpoint."
        )
    listed = measure.listing(run)
    job = head(run, listed)
    if job is None:
        invite(run)
        return
    if job.active:
        shell.live(follow, 1, job.id, standing(job))
    else:
        job_panel.panel(job, "evaluate")
    evaluation = evaluate.opened(job)
    if evaluation is None and not job.active:
        evaluation = measure.latest(run)  # rather an older one than nothing
        if evaluation is not None:
            st.caption("What follows is the newest evaluation of this run that has results.")
    if evaluation is None:
        invite(run)
        return
    view = st.segmented_control(
        "View",
        VIEWS,
        default=VIEWS[0],
        required=True,
        key="evaluate.view",
        bind="query-params",
        label_visibility="collapsed",
    )
    if view == "Map":
        atlas.draw(evaluation)
    elif view == "Copies":
        copies.draw(evaluation)
    elif view == "Failures":
        failures.draw(evaluation)
    elif view == "Compare":
        rivals.draw(run, evaluation)
    else:
        good(evaluation)
    with st.container(horizontal=True, vertical_alignment="center"):
        evaluate.report(run, evaluation, "evaluate.report")
        shell.go("about", "A page about this model to share", ":material/share:")
    shell.go("latent", "Explore what it learned")


def invite(run: jobs.Job) -> None:
    """Says what measuring would tell, beside what there is to see already."""
    left, right = st.columns([1, 1.2], gap="large")
    left.markdown(
        "**Measure it** draws images, compares them with real ones that the model never saw, and tells:\n"
        "- how real and how varied they are, each number with its interval and with what real images reach;\n"
        "- whether they are copies of training images, and what it would take to believe that;\n"
        "- which classes and which real images it misses."
    )
    with right:
        show.film(run, key="evaluate.film", max_height=300)
    shell.go("latent", "Explore what it learned")


shell.header("How good is it, how sure are we, and is it a copy?")
if (shown := shell.chosen_model(" to measure")) is not None:
    page(shown)
