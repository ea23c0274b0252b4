"""What can be done with a run: its settings taken over, a name, a note, its files, its end."""

from __future__ import annotations

import streamlit as st

from core import jobs, runs
from core.catalog import UserError
from core.models import families
from pages.parts import shell
from pages.parts.train import bring, further
from pages.parts.train.form import go_on_from, take_over


def draw(run: jobs.Job) -> None:
    """Offers what can be done with a run."""
    with st.container(horizontal=True):
        trains = further.again(run)
        if trains:
            st.button(
                "Use its settings",
                icon=":material/content_copy:",
                key="train.clone",
                on_click=take_over,
                args=(run.id,),
                help="Fills the form with them, to change something and train again.",
            )
        if runs.checkpoints(run) and runs.generates(run):
            further.button(run)
        elif trains and runs.checkpoints(run):
            st.button(
                "Start from it",
                icon=":material/fork_right:",
                key="train.from",
                on_click=go_on_from,
                args=(run.id,),
                help="Fills the form as well, and lets the new run begin with the weights that this one has learned.",
            )
        if not run.shipped and st.button(
            "Name and note",
            icon=":material/edit:",
            key="train.describe",
            disabled=not shell.may_change(),
        ):
            describe(run.id)
        if not run.shipped and st.button(
            "Delete",
            icon=":material/delete:",
            key="train.delete",
            disabled=not shell.may_change() or run.active,
        ):
            delete(run.id)
        bring.terms(run)
        if runs.generates(run) and runs.checkpoints(run) and runs.family_of(run) in families:
            st.download_button(
                "Pack",
                lambda: packed(run.id),
                f"{run.id}.zip",
                "application/zip",
                key="train.pack",
                icon=":material/package_2:",
                on_click="ignore",
                help="One file that opens on another machine with Bring your own generator: the same samples, bit for "
                "bit on the same kind of processor, and what it has learned from by digests alone.",
            )
        samples = runs.samples(run)
        if samples:
            st.download_button(
                "Images (PNG)",
                samples[-1][1].read_bytes,
                f"{run.id}.png",
                "image/png",
                key="train.png",
                icon=":material/download:",
                on_click="ignore",
            )
        if (run.path / "log.jsonl").exists():
            st.download_button(
                "Records (JSON lines)",
                (run.path / "log.jsonl").read_bytes,
                f"{run.id}.jsonl",
                key="train.log",
                icon=":material/download:",
                on_click="ignore",
            )
    if run.note:
        st.caption(shell.plain(run.note))


def packed(id: str) -> bytes:
    """Puts a run into one file, when somebody takes it."""
    from core import packs

    return packs.pack(jobs.get(id))


@st.dialog("Name and note")
@shell.guard()
def describe(id: str) -> None:
    """Asks for another name and note."""
    run = jobs.get(id)
    name = st.text_input("Name", run.name, key="train.describe.name", max_chars=80)
    note = st.text_area("Note", run.note, key="train.describe.note", max_chars=4000)
    if st.button("Save", type="primary", key="train.describe.save"):
        try:
            jobs.describe(id, name=name, note=note)
            st.rerun()
        except UserError as error:
            shell.refuse(error)


@st.dialog("Delete this run?")
@shell.guard()
def delete(id: str) -> None:
    """Asks before it deletes."""
    run = jobs.get(id)
    st.markdown(
        f"This deletes **{shell.plain(run.name)}** ({shell.plain(run.id)}) with all checkpoints and images, for good."
    )
    if st.button("Delete for good", type="primary", key="train.delete.yes"):
        try:
            jobs.delete(id)
            st.rerun()
        except UserError as error:
            shell.refuse(error)
