"""A classifier that withstands more, made of the chosen one: a job, its price, its gain, and what to do with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import jobs, kinds, runs
from core.datasets import Dataset
from core.ground.writing import duration
from pages.parts import form, shell
from pages.parts.job import panel
from pages.parts.job import take as take_files
from pages.parts.robustness import TURNS, Question, blind, releases, target, there

if TYPE_CHECKING:
    from core.robustness.hardening import Pace

KEY = "robust.harden"
ICON = ":material/security:"


@shell.guard()
def draw(question: Question) -> None:
    """Offers to train the chosen classifier on against attacks, and shows what that did before."""
    if not there(question.classifier, question.dataset):
        with shell.empty("Train a classifier first, or bring your own.", ICON):
            return
    if blind(question):
        with shell.empty(
            "This classifier gives answers only, without gradients, so it cannot be trained against attacks. Choose "
            "another one.",
            ICON,
        ):
            return
    ask(question)
    of = listing(question)
    if not of:
        with shell.empty(
            "Shows the classifier attacked images until it withstands them (adversarial training). That costs some "
            "accuracy without an attack; both are measured before and after, on test images that it never learns from. "
            "The classifier itself stays as it is: what comes of it is another one.",
            ICON,
        ):
            return
    # a label that changes, as a state does, would stay as it was where it is chosen
    names = {
        job.id: f"{job.name}, {time.strftime('%H:%M', time.localtime(job.created))}" for job in of
    }
    if st.session_state.get("robust.hardened") not in names:
        st.session_state.pop("robust.hardened", None)  # of another classifier
    id = st.selectbox(
        "What was hardened",
        list(names),
        key="robust.hardened",
        format_func=lambda id: names[id],
    )
    shell.live(watch, 1 if jobs.get(id).active else None, id, question.classifier)


def ask(question: Question) -> None:
    """Draws the parameters, the time that it takes, and the button."""
    from core.norms import LINF, Budget
    from core.robustness.hardening import FurtherConfig, HardeningConfig

    of = question.dataset
    usual = Budget(LINF, of.shape, of.medium.name).usual
    # the slider shows the usual strength instead of the 0 that stands for it, of another dataset another one
    if f"{KEY}.eps" not in st.session_state or st.session_state.get(f"{KEY}.usual") != usual:
        st.session_state.update({f"{KEY}.eps": round(usual, 4), f"{KEY}.usual": usual})
    left, middle, right = st.columns(3, gap="medium")
    with left:
        images = int(form.control(FurtherConfig.knobs()["images"], f"{KEY}.train"))
    with middle:
        values = form.form({KEY: HardeningConfig}, omit={"classifier"})[KEY]
    with right:
        shell.press(
            st,
            "Harden it",
            start,
            question,
            values,
            images,
            type="primary",
            key=f"{KEY}.start",
            icon=ICON,
            disabled=not shell.may_change(),
            help="A job on the server. It goes on when you leave, and can be stopped and resumed.",
            width="stretch",
        )
        told = f"Against changes of up to {LINF.text(values['eps'] or usual)} per value."
        if shell.may_change():  # a visitor who cannot start it costs the server nothing
            steps, n = values["attack_steps"], values["n"]
            seconds = _pace(question.classifier, of.fingerprint, steps, n, of).seconds(images)
            told = f"About {duration(seconds)}, measuring included. {told}"
        st.caption(told)


@st.cache_data(max_entries=64, ttl="10m", show_spinner="Measuring how fast it learns")
def _pace(classifier: str, data: str, steps: int, n: int, _of: Dataset) -> Pace:
    from core.robustness import classifiers
    from core.robustness.hardening import FurtherConfig, HardeningConfig, pace

    opened = classifiers.open_model(classifier, _of)
    with TURNS:
        return pace(opened, _of, HardeningConfig(attack_steps=steps, n=n), FurtherConfig())


def start(question: Question, values: dict[str, Any], images: int) -> None:
    """Starts the hardening."""
    asked = {f"harden.{name}": value for name, value in values.items()}
    asked |= {"harden.classifier": question.classifier, "train.images": images}
    name = f"{target(question).name}, hardened"
    job = kinds.submit("harden", {"dataset": question.data}, asked, name=name, who=shell.who())
    st.session_state["robust.hardened"] = job.id


def listing(question: Question) -> list[jobs.Job]:
    """Lists the hardenings of this classifier, and the one that it came of, newest first."""
    return [
        job
        for job in jobs.listing("harden")
        if runs.dataset_of(job) == question.data
        and question.classifier in (job.config["harden"]["classifier"], job.id)
    ]


@shell.guard()
def watch(id: str, chosen: str) -> None:
    """Follows one hardening: how far it is; at its end price and gain, the classifier, the files."""
    from core.robustness import hardening

    job = jobs.get(id)
    release = job.result().release
    if job.status != "finished" or release is None:
        panel(job, KEY, "What it has learned is kept, and Resume goes on from there.")
    if job.active:
        st.caption("The curves of its training stand on the page Train.")
        return
    if release:
        releases.change(release, hardening.told(release))
    with st.container(horizontal=True):
        if (
            runs.checkpoints(job)
            and id != chosen
            and st.button(
                "Choose it",
                type="primary",
                key=f"{KEY}.choose",
                icon=":material/check:",
                help="Puts the hardened classifier under attack on this page.",
            )
        ):
            choose(id)
    take_files(job, KEY)


def choose(id: str) -> None:
    """Puts a classifier under attack; the whole page follows, not the panel alone that the button stands in."""
    st.session_state["robust.brought"] = id
    st.rerun()
