"""The sidebar: the dataset and the run that a visit is about, what is running now, and the glossary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from core import datasets, jobs, runs
from core.catalog import UserError
from core.ground.settings import settings
from core.media import media
from pages.parts import glossary
from pages.parts.shell import (
    PAGES,
    choose,
    icon_of,
    live,
    on,
    pages,
    plain,
    since,
    standing,
    wanted,
)


def draw(page: Any) -> None:
    """Draws the choice of dataset, of the run where the page is about one, and what is running now.

    The runs are those of the dataset, and the one that a link or another page has named.
    """
    with st.sidebar:
        importers = {medium.source for medium in media}  # sources without anything of their own
        options = [name for name in datasets.names() if name not in importers]
        if imported := st.session_state.pop("data.next", None):
            st.session_state["data"] = imported
            _forget_run()
        if brought := st.session_state.pop("run.next", None):
            st.session_state["run"] = brought
        every = jobs.listing()
        listed = [job for job in every if runs.is_run(job)]
        linked = next((run for run in listed if run.id == wanted("run")), None)
        learning = next((run for run in listed if run.active), None)
        usual = runs.dataset_of(run) if (run := linked or learning) is not None else ""
        choose("data", options, usual if usual in options else options[0])
        st.selectbox(
            "Dataset",
            options,
            key="data",
            format_func=lambda name: datasets.describe(name).title,
            on_change=_forget_run,
            help="What the Data page shows and the Train page trains on.",
        )
        own = {
            run.id: run
            for run in listed
            if run is linked or runs.dataset_of(run) == st.session_state["data"]
        }
        ready = (run.id for run in own.values() if runs.generates(run) and runs.checkpoints(run))
        choose("run", list(own), next(ready, next(iter(own), None)))
        if any(each.run for each in pages() if each.title == page.title):
            _choose_run(own)
        for key in ("data", "run"):
            if st.session_state[key] and st.query_params.get(key) != st.session_state[key]:
                st.query_params[key] = st.session_state[key]
        active = [job for job in every if job.active]
        st.session_state["_busy"] = bool(active)
        if active:
            live(_running, 2, tuple((job.id, job.status) for job in active[:3]))
        if settings().view_only:
            st.caption(":material/visibility: This server is for viewing only.")
        st.toggle(
            "Smooth pixels",
            value=True,
            key="smooth",
            bind="query-params",
            help="Small pictures are enlarged smoothly, as a photograph is; off, each pixel is a square of its own.",
        )
        pressed = st.button(
            "Glossary", key="glossary", icon=":material/menu_book:", type="tertiary"
        )
        if glossary.asked() or pressed:
            glossary.show()


def _choose_run(of: Mapping[str, jobs.Job]) -> None:
    """Draws the choice of one of these runs, and below it what its line has no room for."""
    st.selectbox(
        "Run",
        list(of),
        key="run",
        disabled=not of,
        format_func=lambda id: f"{icon_of(of[id])} {of[id].name}" if id in of else str(id),
        placeholder="Nothing trained yet",
        help="The trained model that this page is about. The address names it, so a copied link opens the same one.",
    )
    if (run := of.get(st.session_state["run"])) is not None:
        name = f"{plain(run.name)}, " if len(run.name) > 16 else ""
        began = "brought" if run.kind == "bring" else "begun"
        when = "ships with Simulacra" if run.shipped else f"{began} {since(run)}"
        st.caption(f"{name}{plain(runs.family_of(run))}{on(run)}, {when}")
    if st.button(
        "Bring your own",
        key="run.bring",
        icon=":material/upload_file:",
        type="tertiary",
        help="A generator of diffusers, or a run that was packed elsewhere: on the page Train.",
    ):
        st.session_state["train.bringing"] = True
        st.switch_page(PAGES / "train.py")


def _forget_run() -> None:
    """Lets the newest run of another dataset be chosen."""
    for key in ("run", "chosen.run"):
        st.session_state.pop(key, None)
    st.query_params.pop("run", None)


def _running(known: tuple[tuple[str, str], ...]) -> None:
    """Follows the active jobs; when one begins or ends, the whole page runs again."""
    for id, status in known:
        try:
            job = jobs.get(id)
        except UserError:
            st.rerun()  # deleted meanwhile
        if job.status != status:
            st.rerun()
        st.progress(job.share, text=plain(f"{job.name}: {standing(job)}"))
