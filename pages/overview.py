"""The first page: what Simulacra is, what is here, what runs now, and one button that trains the default."""

import numpy as np
import streamlit as st

from core import datasets, jobs, kinds, runs
from core.ground.writing import many
from core.models import DEFAULT_FAMILY
from pages.parts import job, shell, show
from pages.parts.latent.opening import opening

TITLE = "Overview"
ICON = ":material/home:"
ORDER = 1
FIRST = {"train.images": 30_000}  # faces that can be told apart, within two minutes on two cores
shell.enter()


@st.cache_data(max_entries=8, show_spinner=False)
def examples(name: str, count: int) -> np.ndarray:
    """Loads a few images of an embedded dataset, as wide as high."""
    values = {"count": 64} if name == "faces" else {}
    dataset = datasets.load(name, values)
    return dataset.pictures(slice(count))


def train_default() -> None:
    """Starts the default training and makes it the chosen run."""
    started = shell.attempt(
        kinds.submit,
        "train",
        {"dataset": "faces", "family": DEFAULT_FAMILY},
        FIRST,
        name="My first model",
        who=shell.who(),
    )
    if started is not None:
        st.session_state.update(run=started.id, data="faces")


@shell.guard()
def live(id: str, status: str, sampled: bool) -> None:
    """Shows one run large; runs again every second until it ends."""
    run = jobs.get(id)
    if run.status != status or sampled != bool(runs.samples(run)):
        st.rerun()  # what is around it changes too
    job.progress(run)
    if not show.film(run, key="overview.live", max_height=480, min_zoom=2):
        st.caption("The first images appear within seconds.")


def first(run: jobs.Job) -> None:
    """Gives one run the top of the page: while it learns, and when it is done."""
    from pages.parts.train import actions

    with st.container(border=True):
        with st.container(
            horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
        ):
            doing = "learns now" if run.active else run.status
            st.markdown(f"**{shell.plain(run.name)}**{shell.on(run)} · {doing}", width="content")
            actions.draw(st.container(horizontal=True, width="content"), run, "overview")
        picture, sentences = st.columns([1.75, 1], gap="medium")
        with picture:
            shell.live(live, 1 if run.active else None, run.id, run.status, bool(runs.samples(run)))
        with sentences:
            st.markdown(
                "Each picture begins as noise and stays the same one: you see it become what the model has learned."
                if run.active
                else "Move the slider, or press ▶, to see how it learned. **Explore** walks through what it learned, "
                "**Measure** says how good it is and whether it copies."
            )
            shell.go("train", "Watch it on the Train page")


def top(listed: list[jobs.Job]) -> jobs.Job | None:
    """Chooses the run that stands first: one that learns now, else the chosen one if it was trained here, else None."""
    here = [run for run in listed if not run.shipped and runs.generates(run)]
    here.sort(key=lambda run: (not run.active, run.id != st.session_state["run"]))
    first = next(iter(here), None)
    if first is None or first.active:
        return first
    return first if first.id == st.session_state["run"] and runs.samples(first) else None


def covers(shown: list[jobs.Job]) -> None:
    """Shows the last images of runs, four side by side."""
    for start in range(0, len(shown), 4):
        for run, column in zip(shown[start : start + 4], st.columns(4), strict=False):
            with column:
                _, file = runs.samples(run)[-1]
                show.cover(file, key=f"overview.cover.{run.id}", alt=f"Images made by {run.name}")
                about = (
                    "" if run.shipped else f" · {shell.plain(runs.family_of(run))}{shell.on(run)}"
                )
                st.caption(shell.plain(run.name) + about)
                shell.explore(run, key=f"overview.explore.{run.id}")


header = shell.header("Train a model that makes images, and see what it learned")
listed = runs.listing()
models = [run for run in listed if runs.generates(run) and runs.samples(run)]
active = any(run.active for run in listed)
st.markdown(
    "Simulacra trains generative models on this server, lets you watch them learn, and walk through what they learned."
    + (
        ""
        if active
        else " **The default model** draws faces, and takes one to two minutes on two cores."
    )
)
if not active:
    header.button(
        "Train the default model",
        type="primary",
        icon=":material/play_arrow:",
        key="overview.train",
        on_click=train_default,
        disabled=not shell.may_change(),
    )
if (leader := top(listed)) is not None:
    first(leader)
opening()

left, right = st.columns([3, 2], gap="large")
others = [run for run in models if run is not leader]
if others:
    newest = others[0]
    with left, st.container(border=True):
        st.markdown(
            ("**How it learns**: " if newest.shipped else "**Newest images**: ")
            + f"made by *{shell.plain(newest.name)}* "
            f"({shell.plain(runs.family_of(newest))}{shell.on(newest)}). Press ▶ to replay how it learned."
        )
        show.film(newest, key=f"overview.newest.{newest.id}", max_height=300)
        shell.explore(newest, "Walk through what it learned", key="overview.newest.explore")
with right:
    slot = st.container()

own = [run for run in listed if not run.shipped]
counts = {status: sum(run.status == status for run in own) for status in jobs.STATUSES}
by_status = [f"{number} {status}" for status, number in counts.items() if number]
st.markdown(
    f"**Trained here:** {many(own, 'run')}"
    + (f" ({', '.join(by_status)})." if by_status else " yet.")
)
covers([run for run in others[1:] if not run.shipped][:4])
if shipped := [run for run in models if run.shipped]:
    st.markdown(
        "**Trained for you**: these ship with Simulacra. Explore one, or train your own like it."
    )
    covers(shipped)
    shell.go("race", "See which family learns fastest")

with slot, st.container(border=True), shell.guard():
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
