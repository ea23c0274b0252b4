"""How much a classifier loses under attack, and whether that number can be believed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from core import jobs, runs, work
from core.writing import duration, percent, percents
from pages.ui import form, shell, show
from pages.ui.attack import (
    Question,
    curve,
    dataset,
    fool,
    further,
    generative,
    images,
    known,
    own,
    screen,
    target,
    teach,
    there,
    verdict,
)
from pages.ui.job import panel
from pages.ui.job import take as take_files

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
}
BEYOND = {"corruptions": "Corruptions", "certified": "Certificate", "transfer": "Transfer"}


def ask(data: str) -> Question:
    """Draws the controls, and gives the question that they ask."""
    from core import robustness
    from core.attacks import absent, attacks
    from core.robustness import foreign

    choices = {c.id: c for c in foreign.available(data) if there(c.id, data)}
    if not choices:
        choices = {"": foreign.Choice("", "No classifier yet", "Train one, or bring your own.")}
    if brought := st.session_state.pop("robust.brought", None):
        st.session_state["robust.model"] = brought
    if st.session_state.get("robust.model", next(iter(choices))) not in choices:
        del st.session_state["robust.model"]  # that of another dataset, or none
    preferred = [st.session_state.get("run"), *(id for id in choices if id), ""]
    start = next(id for id in preferred if id in choices)
    linked = st.query_params.get("robust.model") is not None or "robust.model" in st.session_state
    classifier = st.selectbox(
        "Classifier",
        list(choices),
        **({} if linked else {"index": list(choices).index(start)}),
        key="robust.model",
        bind="query-params",
        format_func=lambda id: choices[id].title,
        help="Under attack: one that was trained here or ships with Simulacra, or your own.",
    )
    st.caption(shell.plain(choices[classifier].note))
    press = st.container()
    with st.expander("Settings"):
        ready = [entry for entry in attacks if not absent(entry.name)]
        picked = st.multiselect(
            "Attacks",
            [entry.name for entry in ready],
            default=str(robustness.StudyConfig().attacks).split(","),
            key="robust.attacks",
            bind="query-params",
            format_func=lambda name: attacks.get(name).title,
            help="  \n".join(f"**{entry.title}**: {entry.caption}" for entry in ready),
        )
        values = form.flat({"robust.study": robustness.StudyConfig}, link=True, omit={"attacks"})
    attacked = ",".join(picked) or robustness.StudyConfig().attacks
    config = shell.capped(
        robustness.StudyConfig.of(values["robust.study"] | {"attacks": attacked}, "study")
    )
    question = Question(data, classifier, tuple(sorted(config.record().items())))
    with press:
        buttons(question, config)
    if st.button("Bring your own", key="robust.own", icon=":material/upload:", width="stretch"):
        own.draw(data)
    return question


def buttons(question: Question, config: Any) -> None:
    """Offers to screen at once and to confirm as a job, with the time that it takes."""
    from core.attacks import absent
    from core.robustness.verdict import CONFIRMING

    if not there(question.classifier, question.data):
        teach.draw(question.data)
        return
    expected = _expected(question)
    shell.press(
        st,
        "Screen it",
        go,
        question,
        type="primary",
        key="robust.screen",
        icon=":material/bolt:",
        help="Attacks it here and now; the curve grows as you watch.",
        width="stretch",
    )
    st.caption(f"About {duration(expected.seconds)} for {expected.n:,} images.")
    if expected.fits < expected.n:
        st.button(
            f"Take {expected.fits:,}, a minute's worth",
            key="robust.fewer",
            type="tertiary",
            on_click=form.fill,
            args=("robust.study", {"n": expected.fits}),
            help="Attacks as many images as fit into a minute. Fewer images make the interval wider.",
        )
    missing = absent("autoattack")
    shell.press(
        st,
        "Confirm with AutoAttack",
        partial(confirm, **{"attack.attacks": CONFIRMING}),
        question,
        key="robust.confirm",
        icon=":material/verified_user:",
        disabled=not shell.may_change() or bool(missing),
        help="Four attacks that the field agreed on, and two that a masked gradient does not mislead, as a job. "
        "It goes on when you leave."
        + (f" It needs the package {missing}, which is not installed." if missing else ""),
        width="stretch",
    )


def go(question: Question) -> None:
    """Screens at once, as the controls stand at the press."""
    st.session_state.update({"robust.go": question.key, "robust.tool": "result"})


def again(values: Mapping[str, Any]) -> None:
    """Sets the controls to other values and screens at once, for the button of a check."""
    values = dict(values)
    if "attacks" in values:
        st.session_state["robust.attacks"] = str(values.pop("attacks")).split(",")
    form.fill("robust.study", values)
    st.session_state["robust.go"] = "again"


def result(question: Question) -> None:
    """Shows the verdict, the number and the curve; measures first when that was asked for."""
    asked_for = st.session_state.get("robust.go") in (question.key, "again")
    found = known(question)
    if asked_for and (found is None or not found.done):
        st.session_state["robust.go"] = question.key
        shell.live(live, 0.2, question)
        return
    st.session_state.pop("robust.go", None)
    if found is None:
        invite(question)
    else:
        answer(question, found.report, live=False)


@shell.guard()
def live(question: Question) -> None:
    """Does a slice of the screening at each turn, and draws what is known; the page runs again when it is done."""
    found = screen(question)
    if found.done:
        st.rerun()
    if found.report:
        answer(question, found.report, live=True)
    else:
        st.caption("Attacking the first images …")


def invite(question: Question) -> None:
    """Says what will happen and how long it takes, before anything was measured; shows a measured one if there is."""
    earlier = newest(question)
    if earlier is not None:
        report = earlier.result()
        if report is not None:
            st.caption(
                f":material/history: {shell.plain(earlier.name)}, measured as a job. "
                "Press **Screen it** to measure anew."
            )
            answer(question, report, live=False)
            return
    if not there(question.classifier, question.data):
        st.info(
            f"There is no classifier of {shell.plain(question.data)} to attack yet. **Train a classifier** starts one "
            "as a job: you see how far it is, can stop it, and it goes on when you leave. **Bring your own** needs "
            "none.",
            icon=":material/school:",
        )
        return
    st.info(
        "Nothing was measured with these settings yet. **Screen it** attacks the classifier here and now, and draws "
        "the curve as it comes; **Confirm** does it thoroughly, as a job.",
        icon=":material/shield:",
    )
    found = dataset(question.data)
    some = found.splits[dict(question.values)["split"]][:48]
    show.pictures(
        show.as_bytes(found.x[some], found.levels),
        columns=16,
        key="robust.ahead",
        alt=f"The first {len(some)} images that will be attacked",
        titles=[f"image {i}: {found.classes[int(found.y[i])]}" for i in some],
        max_height=170,
    )
    st.caption("The first images that will be attacked, as they are.")


def answer(question: Question, report: Mapping[str, Any], live: bool) -> None:
    """Draws the verdict, the number beside the curve, and what to do about each doubt."""
    verdict.draw(report)
    left, right = st.columns([1, 2.2], gap="medium")
    with left:
        verdict.headline(report)
    with right:
        others = {} if live else rivals(question, report)
        curve.draw(report, others, references(question, report))
        if report.get("stopped"):
            st.caption(f":material/stop: {shell.plain(report['stopped'])} What it had is shown.")
    if report["complete"]:
        verdict.doubts(report, again)
        about = report.get("identity")
        if about and not about["compared"]:
            st.caption(
                "There is no reference yet to compare its clean accuracy with: train a classifier of this dataset, "
                "then measure again."
            )
            teach.draw(question.data)


def references(question: Question, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Finds published numbers that apply to this data, norm and eps."""
    from core import robustness

    return robustness.references(question.data, report["norm"], report["headline"])


def rivals(question: Question, report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Offers other classifiers measured on the same images, and says whether they differ by more than chance."""
    from core import robustness
    from core.robustness import foreign

    found = {}
    for choice in foreign.available(question.data):
        other = known(Question(question.data, choice.id, question.values))
        if choice.id != question.classifier and other is not None and other.done:
            found[choice.title] = other.report
    if not found:
        return {}
    picked = st.multiselect(
        "Compare with",
        list(found),
        default=list(found)[:2],
        key="robust.rivals",
        help="Measured with the same settings on the same images. Screen another classifier to add it.",
    )
    for name in picked:
        paired = robustness.compare(report, found[name], report["headline"])
        st.caption(
            f"Against {shell.plain(name)}: {paired.only_first} images only this one withstands, {paired.only_second} "
            f"only the other, of {paired.n}; "
            + (
                f"more than chance (p = {paired.p:.2g})."
                if paired.p < 0.05
                else f"a tie (p = {paired.p:.2g})."
            )
        )
    return {name: found[name] for name in picked}


# --- Confirmed, as a job --------------------------------------------------------------------------------------------


def asked(question: Question) -> list[jobs.Job]:
    """Lists the jobs about this classifier and data, newest first."""
    return [
        job
        for job in jobs.listing("attack")
        if job.config["dataset"]["name"] == question.data
        and job.config["attack"]["classifier"] == question.classifier
    ]


def newest(question: Question) -> jobs.Job | None:
    """Finds the newest job about this classifier and data that has something to show."""
    return next((job for job in asked(question) if (job.path / "report.json").exists()), None)


def confirm(question: Question, **values: Any) -> None:
    """Starts the thorough measurement as a job."""
    target_of = question.classifier if question.classifier in {r.id for r in runs.listing()} else ""
    values = question.job_values() | values
    work.submit("attack", {"dataset": question.data}, values, target=target_of, who=shell.who())


def thorough(question: Question) -> None:
    """Shows what was confirmed or is being confirmed, with its gap to the screening."""
    mine = asked(question)
    if not mine:
        return
    with st.expander(
        f"Measured as jobs ({len(mine)})",
        expanded=mine[0].active,
        icon=":material/verified_user:",
    ):
        id = st.selectbox(
            "Which one",
            [job.id for job in mine],
            key="robust.job",
            format_func=lambda id: next(
                f"{job.name}, {job.status}" for job in mine if job.id == id
            ),
            label_visibility="collapsed",
        )
        shell.live(watch, 1 if jobs.get(id).active else None, question, id)


@shell.guard()
def watch(question: Question, id: str) -> None:
    """Follows one job: progress, the numbers so far, the gap to the screening, and what can be taken away."""
    job = jobs.get(id)
    report = job.result()
    panel(job, "robust", "What it has found is kept and marked.")
    if report is None:
        st.caption("The first numbers arrive in a moment.")
        return
    at = next((row for row in report["results"] if row["eps"] == report["headline"]), None)
    if at is not None:
        words = (
            f"**{percent(at['robust'])}** ({percents(*at['interval'])}, "
            f"n = {at['n']}) at {shell.plain(at['text'])}, worst case over "
            + shell.plain(", ".join(row["title"] for row in report["attacks"]))
        )
        screened = known(question)
        before = screened and next(
            (row for row in screened.report["results"] if abs(row["eps"] - at["eps"]) < 1e-6), None
        )
        if before:
            gap = 100 * (before["robust"] - at["robust"])
            words += f"; the screening said {percent(before['robust'])}, a gap of {gap:.1f} points"
        st.markdown(words + ("." if report["complete"] else ", so far."))
    take_files(job, "robust")


def take(question: Question) -> None:
    """Offers the screening to take away, and the lines of Python that reproduce it."""
    from core.robustness.report import html, pictures, python

    found = known(question)
    if found is None or not found.done:
        return
    study = found.study
    with st.container(horizontal=True):
        st.download_button(
            "Report (HTML)",
            lambda: html(study.report, pictures(study)),
            f"robustness-{question.data}.html",
            "text/html",
            key="robust.html",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "Report (JSON)",
            lambda: json.dumps(study.report),
            f"robustness-{question.data}.json",
            "application/json",
            key="robust.json",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "Table (CSV)",
            lambda: curve.csv(study.report),
            f"robustness-{question.data}.csv",
            "text/csv",
            key="robust.csv",
            icon=":material/download:",
            on_click="ignore",
        )
    with st.expander("Copy as Python", icon=":material/code:"):
        st.caption("Reproduces the number without this page.")
        st.code(python(study.report), language="python")


def tool(question: Question, name: str) -> None:
    """Draws one of the tools."""
    found = known(question)
    screened = found is not None and found.done
    earlier = None if found is not None else newest(question)
    report = found.report if screened else earlier and earlier.result()
    if name == "result":
        result(question)
        take(question)
        if report:
            with st.expander("Per class"):
                curve.classes(report)
            with st.expander("Every attack, with its parameters and cost"):
                curve.effort(report)
    elif name == "fool":
        config = dict(question.values)
        fool.draw(question, str(config["norm"]), steps(question))
    elif name == "generative":
        generative.draw(question)
    elif name == "beyond":
        which = st.pills(
            "Beyond attacks",
            list(BEYOND),
            default="corruptions",
            required=True,
            key="robust.beyond",
            bind="query-params",
            format_func=lambda name: BEYOND[name],
            label_visibility="collapsed",
        )
        draws = {
            "corruptions": further.corruptions,
            "certified": further.certified,
            "transfer": further.transfer,
        }
        draws[which or "corruptions"](question, asked(question), confirm)
    elif name == "checks" and report:
        verdict.checks(report)
    elif not report or not screened:
        st.caption("Screen the classifier first: press **Screen it**.")
    else:
        study = found.study
        place = images.wall(report, study)
        row = report["images"][place]
        images.opened(
            question,
            study.x[place].cpu().numpy(),
            int(study.y[place]),
            report["norm"],
            steps(question),
            f"robust.opened.{row['index']}",
        )
        images.matrix(report, study)


def steps(question: Question) -> list[float]:
    """Gives the strengths that an opened image is attacked at."""
    from core import robustness

    found = dataset(question.data)
    return robustness.sweep(found.channels, found.size, str(dict(question.values)["norm"]))


@shell.guard()
def page(data: str) -> None:
    """Draws the controls and what they lead to."""
    if not dataset(data).labelled:
        st.info(
            "This dataset has no labels, so there is no classifier of it to attack. Choose another in the sidebar.",
            icon=":material/info:",
        )
        return
    controls, stage = st.columns([1, 3.2], gap="medium")
    with controls:
        question = ask(data)
    with stage:
        name = st.segmented_control(
            "What to look at",
            list(TOOLS),
            **({} if "robust.tool" in st.session_state else {"default": "result"}),
            key="robust.tool",
            required=True,
            bind="query-params",
            format_func=lambda name: TOOLS[name],
            label_visibility="collapsed",
        )
        with shell.guard():
            tool(question, name or "result")
        thorough(question)


@st.cache_data(max_entries=64, ttl="10m", show_spinner="Measuring how fast it is")
def _expected(question: Question) -> Any:
    from core import robustness

    config = robustness.StudyConfig.of(dict(question.values), "study")
    return robustness.estimate(target(question), dataset(question.data), config)


st.title("How does it stand up to attacks, and can you believe it?", anchor=False)
page(shell.chosen_dataset())
shell.go("train", "Train a classifier that withstands more")
