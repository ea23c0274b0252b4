"""Training further: what a run has learned goes on with another dataset."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import datasets, descent, jobs, kinds, runs
from core.ground.writing import duration
from core.kinds import train as training
from core.measure import learning
from core.media import media
from core.models import Spec, families
from pages.parts import form, shell
from pages.parts.data import load
from pages.parts.train.form import go_on_from

EARLY = 0.3  # share of a training after which no better quality ends it
WAYS = {
    "all": "All weights",
    "last": "The last layers",
    "lora": "Low-rank (LoRA)",
    "embeddings": "Classes only",
}


def button(run: jobs.Job) -> None:
    """Offers to train a run further on a dataset of the visitor's choice."""
    if st.button(
        "Train further",
        icon=":material/fork_right:",
        key="train.further",
        help="Goes on from what it has learned, also with another dataset of the same size: a new run.",
    ):
        ask(run.id)


def again(run: jobs.Job) -> bool:
    """Tells whether the form of the page Train could ask for a run like this one, as not for one that was brought."""
    known = (*families.names(), *training.trainers())
    return run.kind in training.trainers() and runs.family_of(run) in known


def fitting(run: jobs.Job, spec: Spec) -> dict[str, str]:
    """Lists the datasets that a run could go on with, by name: saved ones of its size, its own, then sources.

    A source stands here where it can be read at the size of the run.
    """
    importers, own = {medium.source for medium in media}, runs.dataset_of(run)
    saved, sources = {}, {}
    for name in datasets.names():
        about = datasets.describe(name)
        if name in importers or about.medium.name != spec.medium:
            continue
        if not about.saved:
            if name == own or spec.form != "picture" or of_size(name, run, spec):
                sources[name] = about.title
        elif about.size is not None and spec.form == "picture":
            if (about.size["channels"], about.size["size"]) == (spec.channels, spec.size):
                saved[name] = f"{about.title} ({about.size['images']:,})"
        else:
            saved[name] = about.title
    others = {n: t for n, t in saved.items() if n != own}
    return others | {n: t for n, t in {**saved, **sources}.items() if n == own} | sources


def of_size(name: str, run: jobs.Job, spec: Spec) -> dict[str, Any]:
    """Gives the parameters of a dataset, as the run had them where it is its own, else of the run's size."""
    if name == runs.dataset_of(run):
        return run.config["dataset"]["config"]
    knob = datasets.config_of(name).knobs().get("size")
    if knob is None or spec.form != "picture":
        return {}
    fits = (
        spec.size in knob.options
        if knob.options
        else (knob.low or 0) <= spec.size <= (knob.high or spec.size)
    )
    return {"size": spec.size} if fits else {}


@st.dialog("Train further", width="medium")
@shell.guard()
def ask(id: str) -> None:
    """Asks with what, which layers and how long, and starts it."""
    from core.training import further

    run = jobs.get(id)
    if why := descent.lacking(run):
        st.info(shell.plain(why), icon=":material/info:")
        return
    record = runs.record(run)
    spec, network = Spec.of(record["spec"]), runs.network(record)
    st.caption(
        f"A new run begins with the weights of **{shell.plain(run.name)}**, which stays as it is. Its pictures may "
        "show what either set holds, and the record names both."
    )
    names = fitting(run, spec)
    name = st.selectbox(
        "Dataset",
        list(names),
        key="further.data",
        format_func=names.__getitem__,
        help=f"Sets with {spec.channels} channel(s) of {spec.size} px. Import your pictures at this size on the page "
        "Data, and they stand here."
        if spec.form == "picture"
        else "Sets of the same shape.",
    )
    values = of_size(name, run, spec)
    able = [way for way in WAYS if way in further.ways(network)]
    layers = st.segmented_control(
        "Layers that learn",
        able,
        default=able[0],
        required=True,
        key="further.layers",
        format_func=WAYS.__getitem__,
        help="Fewer weights learn less, and copy less. The last layers are those that the image comes out of; a "
        "low-rank change (LoRA) moves every layer a little. New classes are learned with each.",
    )
    knobs = further.FineTuneConfig.knobs()
    asked: dict[str, Any] = {"further.layers": layers}
    if layers == "lora":
        for place, knob in zip(st.columns(2), ("rank", "alpha"), strict=True):
            with place:
                asked[f"further.{knob}"] = form.control(knobs[knob], "further")
    length, early = st.columns([1, 1], vertical_alignment="bottom")
    images = length.number_input(
        "Length (images)",
        value=max(1000, run.config["train"]["images"] // 4) if "train" in run.config else 20_000,
        step=1000,
        key="further.images",
        help="Images seen, repeats included. What it starts from saves most of a training.",
    )
    stops = early.toggle(
        "Stop early",
        value=True,
        key="further.early",
        help="Ends it when its samples copy more than real images do, or are no nearer to held-out images for "
        f"{EARLY:.0%} of its length. The best state is the one that is opened.",
    )
    said(run, name, values)
    foretell(run, int(images))
    asked |= {"train.images": images, "train.patience": EARLY if stops else 0.0}
    asked |= {f"dataset.{key}": value for key, value in values.items()}
    with st.container(horizontal=True):
        shell.press(
            st,
            "Start",
            start,
            run.id,
            name,
            asked,
            key="further.start",
            type="primary",
            icon=":material/play_arrow:",
            disabled=not shell.may_change(),
        )
        if again(run) and st.button(
            "All settings",
            key="train.from",
            icon=":material/tune:",
            type="tertiary",
            on_click=go_on_from,
            args=(run.id,),
            help="Fills the form of this page with its settings and its weights to start from, to change more of them.",
        ):
            st.rerun()


@shell.guard()
def said(run: jobs.Job, name: str, values: dict[str, Any]) -> None:
    """Says what a dataset brings: images, classes, and what to know of few; of a source only when it was read."""
    if not datasets.describe(name).saved and name != runs.dataset_of(run):
        return
    from core.training import further

    dataset = load(name, values)
    taken = further.lineage(runs.record(run)["dataset"]["classes"], dataset.classes)
    count, held = (len(dataset.splits[part]) for part in ("train", "valid"))
    text = f"{count:,} training images, {held:,} held out."
    if taken["new"] and runs.classes_of(run):
        shown = ", ".join(taken["new"][:6]) + (" …" if len(taken["new"]) > 6 else "")
        text += (
            f" Classes that are new to it, and begin as the mean of those that it knows: {shown}."
        )
    st.caption(shell.plain(text))
    if note := learning.few(count, held):
        st.caption(f":material/warning: {shell.plain(note)}")


def foretell(run: jobs.Job, images: int) -> None:
    """Says how long it takes, by the pace of the run that it starts from."""
    done, seconds = run.state.get("done") or 0, run.state.get("seconds")
    if done >= 1000 and seconds and images > 0:
        where = ", trained on another computer" if run.shipped else ""
        st.caption(
            f"About **{duration(images * seconds / done)}** at the pace of {shell.plain(run.name)}{where}, "
            "and what its samples take."
        )


def start(id: str, dataset: str, asked: dict[str, Any]) -> None:
    """Submits it, and follows the new run on the page Train."""
    run = jobs.get(id)
    choice, values = training.continued(run, dataset)
    job = kinds.submit("train", choice, values | asked, who=shell.who())
    st.session_state["data"] = dataset
    st.session_state["run"] = job.id
    st.session_state["_done"] = f"{job.name} goes on from {run.name}."
