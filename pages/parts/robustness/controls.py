"""What is attacked, and how: the controls that make a question, and the buttons that answer it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import streamlit as st

from core.datasets import Dataset
from core.ground.writing import duration
from pages.parts import form, shell
from pages.parts.robustness import (
    Question,
    bring,
    expected,
    forget_stopped,
    teach,
    there,
)
from pages.parts.robustness.confirmed import confirm, takes


def ask(of: Dataset) -> Question:
    """Draws the controls, and gives the question that they ask."""
    from core import robustness
    from core.norms import norm_of
    from core.robustness import classifiers
    from core.robustness.attacks import attacks
    from core.robustness.config import BLIND

    choices = {c.id: c for c in classifiers.available(of.name) if there(c.id, of)}
    if not choices:
        choices = {"": classifiers.Choice("", "No classifier yet", "Train one, or bring your own.")}
    if brought := st.session_state.pop("robust.brought", None):
        st.session_state["robust.model"] = brought
    if st.session_state.get("robust.model", next(iter(choices))) not in choices:
        del st.session_state["robust.model"]  # that of another dataset, or none
    preferred = [st.session_state.get("run"), *(id for id in choices if id), ""]
    start = next(id for id in preferred if id in choices)
    linked = st.query_params.get("robust.model") is not None or "robust.model" in st.session_state
    begins: dict[str, Any] = {} if linked else {"index": list(choices).index(start)}
    classifier = st.selectbox(
        "Classifier",
        list(choices),
        **begins,
        key="robust.model",
        bind="query-params",
        format_func=lambda id: choices[id].title,
        help="Under attack: one that was trained here or ships with Simulacra, or your own.",
    )
    st.caption(shell.plain(choices[classifier].note))
    press = st.container()
    with st.expander("Settings"):
        ready = [attacks.get(name) for name in fitting(attacks.names(), of)]
        ready = [entry for entry in ready if not entry.missing]
        if choices[classifier].answers_only:
            ready = [entry for entry in ready if not entry.gradient]
            st.caption("It gives answers only, so only attacks without gradients are offered.")
        usual = BLIND if choices[classifier].answers_only else robustness.StudyConfig().attacks
        names, norms = [entry.name for entry in ready], of.medium.norms
        if not {*(chosen := st.session_state.get("robust.attacks", []))} <= {*names}:
            st.session_state["robust.attacks"] = [name for name in chosen if name in names]
        picked = st.multiselect(
            "Attacks",
            names,
            default=[name for name in usual.split(",") if name in names],
            key="robust.attacks",
            bind="query-params",
            format_func=lambda name: attacks.get(name).title,
            help="  \n".join(f"**{entry.title}**: {entry.caption}" for entry in ready),
        )
        norm = shell.view(
            "What is bounded",
            "robust.study.norm",
            {name: f"{norm_of(name).words.capitalize()} ({norm_of(name).title})" for name in norms},
            pills=True,
            help=robustness.StudyConfig.knobs()["norm"].help,
        )
        values = form.flat(
            {"robust.study": robustness.StudyConfig}, link=True, omit={"attacks", "norm"}
        )
    attacked = ",".join(picked) or usual
    config = shell.capped(
        robustness.StudyConfig.of(
            values["robust.study"] | {"attacks": attacked, "norm": norm}, "study"
        )
    )
    question = Question(of, classifier, config)
    with press:
        buttons(question, choices[classifier].answers_only)
    if st.button("Bring your own", key="robust.own", icon=":material/upload:", width="stretch"):
        bring.draw(of.name)
    return question


def fitting(names: Iterable[str], of: Dataset) -> list[str]:
    """Gives those of some attacks that take the items of a dataset."""
    from core.robustness.attacks import attacks

    return [name for name in names if of.medium.item in attacks.get(name).takes]


def buttons(question: Question, answers_only: bool = False) -> None:
    """Offers to screen at once and to confirm as a job, with the time that it takes."""
    from core.robustness.attacks import attacks
    from core.robustness.config import BLIND
    from core.robustness.verdict import CONFIRMING

    if not there(question.classifier, question.dataset):
        teach.draw(question.data)
        return
    cost = expected(question)
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
    st.caption(f"About {duration(cost.seconds)} for {cost.n:,} images.")
    if cost.fits < cost.n:
        st.button(
            f"Take {cost.fits:,}, a minute's worth",
            key="robust.fewer",
            type="tertiary",
            on_click=form.fill,
            args=("robust.study", {"n": cost.fits}),
            help="Attacks as many images as fit into a minute. Fewer images make the interval wider.",
        )
    names = fitting((BLIND if answers_only else CONFIRMING).split(","), question.dataset)
    missing = next(filter(None, (attacks.get(name).missing for name in names)), "")
    agreed = "autoattack" in names
    values = {"attack.attacks": ",".join(names)}
    if answers_only:
        values["attack.options"] = "square.queries=5000"
    shell.press(
        st,
        "Confirm with AutoAttack" if agreed else "Confirm",
        partial(confirm, **values),
        question,
        key="robust.confirm",
        icon=":material/verified_user:",
        disabled=not shell.may_change() or bool(missing),
        help=("Four attacks that the field agreed on, and two" if agreed else "Attacks")
        + " that a masked gradient does not mislead, as a job. It goes on when you leave."
        + (f" It needs the package {missing}, which is not installed." if missing else ""),
        width="stretch",
    )
    if not missing and (told := takes(question, **values)):
        st.caption(told)


def go(question: Question) -> None:
    """Screens at once, as the controls stand at the press."""
    forget_stopped(question)
    st.session_state.update({"robust.go": question.key, "robust.tool": "result"})


def again(values: Mapping[str, Any]) -> None:
    """Sets the controls to other values and screens at once, for the button of a check."""
    values = dict(values)
    if "attacks" in values:
        st.session_state["robust.attacks"] = str(values.pop("attacks")).split(",")
    form.fill("robust.study", values)
    st.session_state["robust.go"] = "again"
