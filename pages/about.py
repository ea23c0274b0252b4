"""One screen about one model, for somebody who got a link: what it learned from, what it can and cannot do."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from core import datasets, jobs, measure, runs
from core.ground import sheets
from core.ground.writing import percent
from pages.parts import evaluate, shell, show
from pages.parts.tiles import tiles

TITLE = "About this model"
ICON = ":material/info:"
ORDER = 3.7
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


def learned(run: jobs.Job, opened: runs.Opened) -> str:
    """Says what the model is, and what it learned from."""
    from core.models import families

    source, kind = runs.record(run)["dataset"], opened.family
    kind = families.get(kind).title if kind in families else kind
    name, images, classes = source["name"], source["images"]["train"], len(source["classes"])
    title = datasets.describe(name).title if name in datasets.names() else name
    times = opened.images / max(1, images)
    seen = f" and had looked at {opened.images:,} by step {opened.step:,}"
    seen += f": each one about {times:.0f} times." if times > 1.5 else "."
    return (
        f"**{shell.plain(run.name)}** · {kind} · "
        + ("learned from " if opened.images else "brought for images as of ")
        + f"**{shell.plain(title)}** ({opened.medium.describe(images, opened.blank.shape)}"
        + (f", {classes} classes" if classes > 1 else "")
        + (f"){seen}" if opened.images else ").")
    )


@shell.guard()
def about(run: jobs.Job) -> None:
    """Fills the one screen."""
    evaluation = measure.latest(run)
    saved = evaluation is not None and evaluation.step in runs.checkpoints(run)
    opened = runs.open_model(run, evaluation.step if evaluation is not None and saved else None)
    arrays = evaluation.arrays() if evaluation is not None else None
    how = drawn(opened, evaluation)
    st.markdown(learned(run, opened))
    if evaluation is not None and not saved:
        st.caption(
            f":material/info: Images and measures are of step {evaluation.step:,}, whose checkpoint was deleted since; "
            f"what you drag is of step {opened.step:,}."
        )
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"**The first {SAMPLES} images that it made**, none of them selected")
        show.pictures(
            evaluation.samples(slice(SAMPLES))
            if evaluation is not None and arrays is not None
            else samples(run.id, opened.step, how),
            columns=6,
            key="about.samples",
            alt=f"The first {SAMPLES} images of {run.name}",
            max_height=190,
            max_zoom=10,
        )
        drag(run, opened.step, how)
    with right:
        if evaluation is None:
            st.info("It has not been measured yet, so there is nothing to say about its quality.")
            shell.go("evaluate", "Measure it", ":material/speed:")
        else:
            judged(run, evaluation)
    shell.go("latent", "Explore what it learned")


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


def judged(run: jobs.Job, evaluation: measure.Evaluation) -> None:
    """Says what the measures say, and offers the report."""
    evaluate.sentences(evaluation)
    for warning in evaluation.warnings[:2]:
        st.caption(f":material/warning: {shell.plain(warning)}")
    st.caption(evaluate.conditions(evaluation))
    with st.container(horizontal=True, vertical_alignment="center"):
        evaluate.report(run, evaluation, "about.report")
        shell.go("evaluate", "Every number behind it", ":material/speed:")
    st.caption(
        ":material/link: The address of this page opens the same model for everybody who can reach this server."
    )


shell.header("What is this model, and what can it do?")
if (shown := shell.chosen_model()) is not None:
    about(shown)
