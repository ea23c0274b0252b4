"""A first classifier of a dataset, to attack or to compare with: a job, pressed for, followed, stopped."""

from __future__ import annotations

import streamlit as st

from core import jobs, kinds, runs
from pages.parts import shell
from pages.parts.job import panel

IMAGES = 60_000  # seen by such a classifier, repeats included; the Train page trains longer ones


@shell.guard()
def draw(data: str) -> None:
    """Offers to train a classifier of a dataset; while one is trained, shows how far it is, and stops it."""
    active = [
        job for job in jobs.listing("classifier") if job.active and runs.dataset_of(job) == data
    ]
    if active:
        shell.live(follow, 1, active[0].id)
        return
    shell.press(
        st,
        f"Train a classifier on {data}",
        start,
        data,
        type="primary",
        key="robust.teach",
        icon=":material/school:",
        disabled=not shell.may_change(),
        help=f"A job on the server that shows it {IMAGES:,} images, repeats included. It goes on when you leave; "
        "the page Train offers longer and hardened ones.",
        width="stretch",
    )


def start(data: str) -> None:
    """Starts the training."""
    kinds.submit("classifier", {"dataset": data}, {"train.images": IMAGES}, who=shell.who())


@shell.guard()
def follow(id: str) -> None:
    """Shows how far a training is; when it ends, the page runs again and chooses what came of it."""
    job = jobs.get(id)
    if not job.active:
        if runs.checkpoints(job):
            st.session_state["robust.brought"] = id
        elif job.message:
            st.session_state["_refused"] = job.message
        st.rerun()
    st.caption("Training a classifier")
    panel(job, "robust.teach", "What it has learned is kept.")
