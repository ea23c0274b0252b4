"""Proof: the paired experiment whose arms are what a version holds, by one referee or several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from core import jobs, kinds
from core.ground.writing import duration
from pages.parts import form, shell
from pages.parts.augment import experiment as panel
from pages.parts.glossary import explained

KEY = "build.proof"
SETTINGS = ("steps", "width", "test_images", "robust", "seed")


def draw(dataset: Any, name: str, prepared: Mapping[str, Any]) -> None:
    """Asks who judges, says how long it takes, and shows what was found about this very version."""
    from core.building import experiment

    if not dataset.labelled:
        with shell.empty("A proof measures a classifier, so this needs a dataset with labels."):
            shell.go("data", "Look at the data")
        return
    config = experiment.ExperimentConfig
    head = st.container(horizontal=True, vertical_alignment="bottom")
    with head:
        referee, backbone = judge(dataset, name)
        st.session_state.setdefault(f"{KEY}.quick", False)
        quick = form.control(config.knobs()["quick"], KEY)
    press = head.container(width="content")
    values = {**experiment.implied(dataset), "referee": referee, "backbone": backbone}
    with st.expander("Settings", icon=":material/tune:"):
        knobs = config.knobs()
        for arm in arms(values):
            st.session_state.setdefault(f"{KEY}.{name}.{arm}", values[arm])
            values[arm] = form.control(knobs[arm], f"{KEY}.{name}")
        values |= {key: form.control(knobs[key], KEY) for key in SETTINGS}
        st.session_state.setdefault(f"{KEY}.{name}.per_class", values["per_class"])
        values["per_class"] = form.control(knobs["per_class"], f"{KEY}.{name}")
    values["quick"] = quick
    with shell.guard():
        values["per_class"], said = experiment.along(dataset, values)
        if said:
            st.caption(said)
    why = shell.refusal(lambda: experiment.check(dataset, config.of(values)))
    if why:
        shell.refuse(why)
    shell.press(
        press,
        "Prove it",
        start,
        name,
        values,
        prepared,
        type="primary",
        key=f"{KEY}.start",
        icon=":material/science:",
        disabled=not shell.may_change() or bool(why),
        help=why or "As a job; it goes on when you leave, and fills the chart as it comes.",
    )
    titles = [arm.title for arm in config.of(values).arms]
    if not why:
        seconds = expected(name, tuple(sorted(prepared.items())), tuple(sorted(values.items())))
        st.caption(
            f"It compares, with the same seeds and steps: {shell.plain('; '.join(titles))}. "
            f"Expected time: about {duration(seconds)}."
        )
    proofs = experiment.proofs(dataset)
    if said := experiment.agreement(proofs):
        st.markdown(f"**{shell.plain(said)}**")
    found = [job for job in jobs.listing("experiment") if job.config["dataset"]["name"] == name]
    measured = [proof for proof in proofs if proof["job"] not in {job.id for job in found}]
    for proof in measured[:1]:
        st.markdown(
            f"Improve has measured this version: **{shell.plain(proof['verdict'])}** "
            f"n = {proof['n_test']:,} test images."
        )
    if not found:
        with shell.empty(
            "The same training is done again and again: with the real images alone, with a placebo of as many steps, "
            "and with what was added. Only real test images judge, and every difference has its interval.",
            ":material/science:",
        ):
            return
    id = found[0].id
    if len(found) > 1:
        id = st.selectbox(
            "Proof",
            [job.id for job in found],
            key=f"{KEY}.chosen.{name}",
            format_func=lambda id: next(called(job) for job in found if job.id == id),
            label_visibility="collapsed",
        )
    shell.live(panel.watch, 1 if jobs.get(id).active else None, id, not why)


def arms(values: Mapping[str, Any]) -> list[str]:
    """Lists the arms that can be switched: those of the items that a version has, or those that make their own."""
    from core.building.experiment.arms import ordered

    items = [arm.name for arm in ordered() if arm.origins and values[arm.name]]
    own = [arm.name for arm in ordered() if arm.help and not arm.origins]
    return ["placebo", *items] if items else own


def called(job: jobs.Job) -> str:
    """Names a proof by its referee and its time."""
    from core.building.experiment.referees import referees

    name = job.config["experiment"].get("referee", "small")
    title = referees.get(name).title if name in referees else name
    return f"{title}, {shell.called(job)}"


def judge(dataset: Any, name: str) -> tuple[str, str]:
    """Asks what learns: the small net, or a network that was brought for this dataset; gives the referee and its id."""
    from core import brought
    from core.building.experiment.referees import referees

    able = brought.listing(name) or brought.listing(dataset.origin)
    options = ["small", *(["probe", "tune"] if able else [])]
    referee = st.selectbox(
        "Referee",
        options,
        key=f"{KEY}.referee",
        width=320,
        format_func=lambda name: referees.get(name).title,
        help=explained(
            "What learns. What helps only one of them is worth less: bring a network on Robustness for two more, or "
            "give your own training to the command line (experiment --trainer package.module:fit).",
            "Referee",
        ),
    )
    if referee == "small" or not able:
        return "small", ""
    titles = {model.id: model.name for model in able}
    chosen = st.selectbox(
        "Brought network",
        list(titles),
        key=f"{KEY}.backbone",
        width=220,
        format_func=lambda id: shell.plain(titles[id]),
    )
    return referee, chosen


def start(name: str, values: Mapping[str, Any], prepared: Mapping[str, Any]) -> None:
    """Submits the experiment."""
    given = {f"experiment.{key}": value for key, value in values.items()}
    given |= {f"dataset.{key}": value for key, value in prepared.items()}
    job = kinds.submit("experiment", {"dataset": name}, given, who=shell.who())
    st.session_state[f"{KEY}.chosen.{name}"] = job.id  # the list would stay at the one before


@st.cache_data(max_entries=64, show_spinner="Measuring how fast it is")
def expected(
    name: str, prepared: tuple[tuple[str, Any], ...], values: tuple[tuple[str, Any], ...]
) -> float:
    """Gives the seconds that a proof will take, by doing a few steps of it.

    Raises:
        UserError: If it cannot be done.
    """
    from core import datasets
    from core.building import experiment

    dataset = datasets.load(name, dict(prepared))
    return experiment.expected_seconds(dataset, experiment.ExperimentConfig.of(dict(values)))
