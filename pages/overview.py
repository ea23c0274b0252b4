"""The first page: what Simulacra is, what is here, what runs now, and one button that trains the default."""

import numpy as np
import streamlit as st

from core import datasets, jobs, runs, work
from pages.ui import shell, show

TITLE = "Overview"
ICON = ":material/home:"
ORDER = 1
shell.enter()


@st.cache_data(max_entries=8, show_spinner=False)
def examples(name: str, count: int) -> np.ndarray:
    """Loads a few images of an embedded dataset, as wide as high."""
    values = {"count": 64} if name == "faces" else {}
    dataset = datasets.load(name, values)
    return show.as_bytes(dataset.x[:count], dataset.levels)


def train_default() -> None:
    """Starts the default training and makes it the chosen run."""
    job = shell.attempt(
        work.submit,
        "train",
        {"dataset": "digits", "family": "gan"},
        {},
        name="My first model",
        who=shell.who(),
    )
    if job is not None:
        st.session_state["run"] = job.id


@st.fragment(run_every="1s")
@shell.guard()
def live(id: str) -> None:
    """Follows one run until it ends."""
    job = jobs.get(id)
    if not job.active:
        st.rerun()
    st.progress(job.share, text=shell.plain(f"{job.name}: {job.message or shell.standing(job)}"))
    if not show.film(job, key="overview.live", max_height=300):
        st.caption("The first images appear within seconds.")


st.title("Train a model that makes images, and see what it learned", anchor=False)
st.markdown(
    "Simulacra trains generative models on this server, lets you watch them learn, and walk through what they learned."
)

left, right = st.columns([3, 2], gap="large")
with left:
    with st.container(border=True):
        listed = runs.listing()
        mine = [run for run in listed if run.kind == "train"]
        active = [run for run in listed if run.active]
        if active:
            st.markdown("**Learning now**")

            live(active[0].id)
            shell.go("train", "Watch it on the Train page")
        else:
            st.markdown(
                "**Start here**: train a model on handwritten digits. It takes about a minute, and you see every step."
            )
            st.button(
                "Train the default model",
                type="primary",
                icon=":material/play_arrow:",
                key="overview.train",
                on_click=train_default,
                disabled=not shell.may_change(),
            )
    if mine and not active:
        newest = next((run for run in mine if runs.samples(run)), None)
        if newest is not None:
            with st.container(border=True):
                st.markdown(
                    f"**Newest images**, made by *{shell.plain(newest.name)}* "
                    f"({runs.family_of(newest)} on {runs.dataset_of(newest)}). Press ▶ to replay how it learned."
                )
                show.film(newest, key=f"overview.newest.{newest.id}", max_height=300)
                shell.go("latent", "Walk through what it learned")
with right:
    slot = st.container()

counts = {status: sum(run.status == status for run in listed) for status in jobs.STATUSES}
words = [f"{number} {status}" for status, number in counts.items() if number]
st.markdown(
    f"**Trained here:** {len(listed)} run{'s' * (len(listed) != 1)}"
    + (f" ({', '.join(words)})." if words else " yet.")
)
others = [run for run in mine if runs.samples(run)][1:5]
if others:
    for run, place in zip(others, st.columns(4), strict=False):
        with place:
            _, file = runs.samples(run)[-1]
            show.cover(file, key=f"overview.cover.{run.id}", alt=f"Images made by {run.name}")
            st.caption(shell.plain(f"{run.name} · {runs.family_of(run)} on {runs.dataset_of(run)}"))

with slot, st.container(border=True):
    st.markdown("**Faces**: drawn by our own code, with the truth about each one known.")
    show.pictures(
        examples("faces", 32),
        columns=8,
        key="overview.faces",
        alt="Cartoon faces of the embedded dataset",
        max_zoom=2,
        max_height=220,
    )
    st.markdown("**Digits**: real handwriting of 8 × 8 pixels.")
    show.pictures(
        examples("digits", 40),
        columns=10,
        key="overview.digits",
        alt="Handwritten digits of the embedded dataset",
        max_zoom=4,
        max_height=170,
    )
    shell.go("data", "Look at the data")
