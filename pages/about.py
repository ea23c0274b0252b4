"""One screen about one model, for somebody who got a link: what it learned from, what it can and cannot do."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from core import jobs, measure, runs
from core.catalog import UserError
from core.ground import sheets
from core.ground.writing import percent
from core.measure import card
from core.measure.card import ModelCard
from pages.parts import evaluate, share, shell, show
from pages.parts.tiles import tiles

TITLE = "About this model"
ICON = ":material/info:"
ORDER = 3.7
RUN = True
shell.enter()
SAMPLES = 12  # the first ones, whatever they look like
MOMENTS = 17  # on the way from one sample to another


@dataclass(frozen=True)
class Drawn:
    """How the first samples were drawn.

    Attributes:
        seed: Theirs.
        sampling: The family's sampling parameters, as (name, value).
        labels: Their classes; None for a model that listens to none.
    """

    seed: int = 0
    sampling: tuple[tuple[str, Any], ...] = ()
    labels: tuple[int, ...] | None = None


def drawn(opened: runs.Opened, evaluation: measure.Evaluation | None) -> Drawn:
    """Says how the samples of an evaluation were drawn; without one, class by class of seed 0."""
    arrays = evaluation.arrays() if evaluation is not None else None
    count = len(opened.classes)
    if evaluation is None or arrays is None:
        return Drawn(labels=tuple(i % count for i in range(SAMPLES)) if count else None)
    conditions = evaluation.conditions
    y = tuple(int(k) for k in arrays.made_y[:SAMPLES]) if conditions["conditional"] else None
    return Drawn(conditions["seed"], tuple(conditions["sampling"].items()), y)


@st.cache_data(max_entries=32, show_spinner=False)
def samples(id: str, step: int, drawn: Drawn) -> np.ndarray:
    """Draws the first samples, uint8 (N, 1 or 3, H, W)."""
    import torch

    opened = runs.open_model(jobs.get(id), step)
    assert opened.sampling is not None
    sampling = opened.sampling.of(dict(drawn.sampling), "sampling")
    with torch.inference_mode():
        return opened.medium.shown(
            opened.model.sample(range(SAMPLES), labels(opened, drawn), drawn.seed, sampling)
        )


@st.cache_data(max_entries=16, show_spinner=False)
def ways(id: str, step: int, drawn: Drawn) -> list[bytes]:
    """Decodes the ways between six pairs of the samples, one sheet per moment; none where a model has no way."""
    from core import latent
    from core.models import Decodes

    opened = runs.open_model(jobs.get(id), step)
    if not isinstance(opened.model, Decodes):
        return []
    assert opened.sampling is not None
    y, sampling = labels(opened, drawn), opened.sampling.of(dict(drawn.sampling), "sampling")
    draw = opened.medium.pictures
    moments = [
        draw(latent.path(opened.model, (i, i + 1), y, drawn.seed, sampling, "slerp", MOMENTS))
        for i in range(0, SAMPLES, 2)
    ]
    return [sheets.png(np.stack(images), len(moments)) for images in zip(*moments, strict=True)]


def labels(opened: runs.Opened, drawn: Drawn) -> Any:
    """Gives the classes of the samples to a model; None for one that listens to none."""
    import torch

    if drawn.labels is None:
        return None
    return torch.tensor(drawn.labels, device=next(opened.model.parameters()).device)


@shell.guard()
def about(run: jobs.Job, actions: Any) -> None:
    """Fills the page, which fits one sheet of paper without what is to be pressed."""
    shown = card.of(run)
    evaluation = shown.evaluation
    saved = evaluation is not None and evaluation.step in runs.checkpoints(run)
    opened = runs.open_model(run, evaluation.step if evaluation is not None and saved else None)
    how = drawn(opened, evaluation)
    with actions:
        share.buttons(run, key="about.share")
        if evaluation is not None:
            evaluate.report(run, evaluation, "about.report")
        else:
            shell.go("evaluate", "Measure it", ":material/speed:")
    kind = shown.fact("Kind of model").text
    st.markdown(f"**{shell.plain(run.name)}** · {shell.plain(kind)}")
    st.subheader(shell.plain(shown.sentence), anchor=False)
    if evaluation is not None and not saved:
        st.caption(
            f":material/info: Images and measures are of step {evaluation.step:,}, whose checkpoint was deleted since; "
            f"what you drag is of step {opened.step:,}."
        )
    left, right = st.columns([1, 1.1], gap="large")
    with left:
        st.markdown(f"**The first {SAMPLES} images that it made**, none of them selected")
        show.pictures(
            evaluation.samples(slice(SAMPLES))
            if evaluation is not None and evaluation.arrays() is not None
            else samples(run.id, opened.step, how),
            columns=4,
            key="about.samples",
            alt=f"The first {SAMPLES} images of {run.name}",
            max_height=330,
            max_zoom=14,
        )
        with st.container(key="about.screen"):
            drag(run, opened.step, how)
    if evaluation is None:
        with right:
            facts(shown)
            said(run, shown)
    else:
        with right:
            evaluate.claims(shown.claims)
        words, record = st.columns([1, 1.1], gap="large")
        with words:
            said(run, shown)
        with record:
            facts(shown)
        evaluate.conditions(evaluation)
    with st.container(key="about.next.screen"):
        shell.go("latent", "Explore what it learned")


def said(run: jobs.Job, shown: ModelCard) -> None:
    """Says what it is for and what not, in its owner's words or by what was measured."""
    st.markdown(f"**Intended use.** {shell.plain(shown.use)}")
    limits = "\n".join(f"- {shell.plain(text)}" for text in shown.limits)
    st.markdown(f"**Limits**\n\n{limits}")
    if run.shipped:
        return
    with st.container(key="about.edit.screen", horizontal=True, vertical_alignment="center"):
        if st.button(
            "Edit",
            key="about.edit",
            icon=":material/edit:",
            type="tertiary",
            disabled=not shell.may_change(),
        ):
            edit(run.id)
        st.caption(
            "In its owner's words."
            if {"use", "limits"} <= set(shown.said)
            else "What its owner has not said follows from the measures."
        )


@st.dialog("About this model", width="medium")
@shell.guard()
def edit(id: str) -> None:
    """Asks its owner what it is for, what not, and who made it."""
    run = jobs.get(id)
    shown, now = card.of(run), card.words(run)
    use = st.text_area(
        "Intended use", now.get("use", ""), key="about.edit.use", placeholder=shown.use
    )
    limits = st.text_area(
        "Limits, a line each",
        now.get("limits", ""),
        key="about.edit.limits",
        placeholder="\n".join(shown.limits),
        height=180,
    )
    who = st.text_input("Made by", now.get("who", ""), key="about.edit.who")
    st.caption("What stays empty follows from the measures and the records.")
    if st.button("Save", type="primary", key="about.edit.save"):
        try:
            card.state(run, use=use, limits=limits, who=who)
            st.rerun()
        except UserError as error:
            shell.refuse(error)


def facts(shown: ModelCard) -> None:
    """Lists what is on record, and how what is not would be."""
    lines = []
    for fact in shown.facts:
        text = shell.plain(fact.text) + (f". {shell.plain(fact.remedy)}" if fact.remedy else "")
        lines.append(f"**{fact.name}:** {text}")
    st.markdown("  \n".join(lines))


def drag(run: jobs.Job, step: int, how: Drawn) -> None:
    """Gives one thing to drag: from sample to sample, or through the training where a model knows no way between."""
    frames = ways(run.id, step, how)
    if not frames:
        st.markdown("**Drag** to see how it learned")
        show.film(run, key="about.film", max_height=220)
        return
    st.markdown("**Drag** from each image to the next one: what lies between was in no dataset")
    layout = sheets.metadata(frames[0])
    tiles(
        frames,
        tile=layout["tile"],
        columns=layout["columns"],
        count=layout["count"],
        key="about.ways",
        alt=f"The ways between {layout['count']} pairs of images of {run.name}, in {MOMENTS} moments",
        labels=[f"{percent(i / (MOMENTS - 1), 0)}" for i in range(MOMENTS)],
        film="the way",
        max_height=100,
        max_zoom=10,
    )


actions = shell.header("What is this model, and what can it do?")
if (chosen := shell.chosen_model()) is not None:
    about(chosen, actions)
