"""What becomes of the decisions: their log with undo, a new version of the dataset, additions to it, and its ZIP."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from core import datasets, jobs, kinds, runs
from core.ground import scratch
from pages.parts import form, shell
from pages.parts import job as job_panel
from pages.parts.data import mending


def draw(dataset: Any, choice: str, prepared: Mapping[str, Any]) -> None:
    """Shows the decisions, and offers a version with them, one with additions, and the ZIP."""
    left, right = st.columns(2, gap="large")
    with left:
        decided(dataset)
    with right:
        add(choice, prepared)
        take(dataset)
        terms(dataset)


def decided(dataset: Any) -> None:
    """Lists the decisions, each with its undo, and makes a new version of them."""
    from core.quality import decisions

    book = mending.opened(dataset)
    st.markdown("**Decided**")
    if book.damaged:
        st.warning(shell.plain(book.damaged), icon=":material/warning:")
    st.caption(shell.plain(book.summary["sentence"]))
    if book.summary["warning"]:
        st.warning(shell.plain(book.summary["warning"]), icon=":material/warning:")
    mending.log(dataset, book)
    name = st.text_input(
        "Name of the new version",
        key="data.version.name",
        placeholder=decisions.version_name(dataset),
        max_chars=60,
    )

    shell.press(
        st,
        "Make the new version",
        make,
        dataset,
        name,
        type="primary",
        key="data.version",
        icon=":material/fork_right:",
        disabled=not shell.may_change() or not book.state,
        help="The dataset stays as it is; the version names it as its parent.",
    )


def make(dataset: Any, name: str) -> None:
    """Makes the new version, and chooses it."""
    from core.quality import decisions

    version = decisions.apply(dataset, name, shell.who())
    st.session_state["data.next"] = version.name
    st.session_state["_done"] = f"{version.name}: {len(version):,} images. It is chosen now."


def add(choice: str, prepared: Mapping[str, Any]) -> None:
    """Offers a version with augmented and synthetic images added."""
    from core import building

    st.markdown("**Add images**")
    with st.expander("Augmented and synthetic ones, to the training part"):
        pipeline, run = sources(choice)
        values = form.form({"data.build": building.BuildConfig}, omit={"pipeline", "run"})[
            "data.build"
        ]
        values |= {"pipeline": pipeline, "run": run}
        values = {f"build.{name}": value for name, value in values.items()}
        values |= {f"dataset.{name}": value for name, value in prepared.items()}
        shell.press(
            st,
            "Build it",
            begin,
            choice,
            values,
            key="data.build",
            icon=":material/construction:",
            disabled=not shell.may_change() or not (pipeline or run),
            help="As a job; the dataset stays as it is.",
        )
    builds = [job for job in jobs.listing("build") if job.config["dataset"]["name"] == choice]
    if builds:
        shell.live(built, 1 if builds[0].active else None, builds[0].id)


def begin(choice: str, values: Mapping[str, Any]) -> None:
    """Submits the build."""
    kinds.submit("build", {"dataset": choice}, values, who=shell.who())


def sources(choice: str) -> tuple[str, str]:
    """Asks for the chain that makes copies and the run that makes samples; either may be none."""
    from core import augment

    item = datasets.describe(choice).medium.item
    chains = {"": "none"} | {p.id: p.title for p in augment.presets() if p.pipeline.fits(item)}
    chains |= {o.id: f"{o.name} (saved)" for o in augment.saved() if o.pipeline.fits(item)}
    able = {run.id: shell.called(run) for run in runs.generators()}
    own = [id for id in able if runs.dataset_of(jobs.get(id)) == choice]
    able = {"": "none"} | {id: able[id] for id in [*own, *(id for id in able if id not in own)]}
    return (
        st.selectbox(
            "Augmented copies by the chain",
            list(chains),
            key="data.build.pipeline",
            format_func=lambda id: chains[id],
            help="A preset of Augment, or a chain that was saved there.",
        ),
        st.selectbox(
            "Synthetic images of the run",
            list(able),
            key="data.build.run",
            format_func=lambda id: able[id],
            help="Those that were trained on this dataset come first; one that has learned from held-out images is "
            "refused.",
        ),
    )


@shell.guard()
def built(id: str) -> None:
    """Follows the build, and says what became of it."""

    job = jobs.get(id)
    job_panel.panel(job, "data.build")
    result = job.result()
    if result:
        st.caption(shell.plain(result["sentence"]))


def take(dataset: Any) -> None:
    """Offers the dataset as a ZIP of class folders with a manifest."""
    from core import building

    st.markdown("**Take it away**")
    origins = building.origins(dataset)
    st.caption(
        "A ZIP with one folder per class and `manifest.csv` (file, label, split, origin, parent, run, seed, "
        f"parameters{', group' if dataset.group else ''}): "
        + shell.plain(
            ", ".join(f"{count:,} {origin}" for origin, count in origins.items() if count)
        )
        + "."
    )

    def archive() -> bytes:
        with scratch.temporary() as folder:
            file = folder / "dataset.zip"
            building.archive(dataset, file)
            return file.read_bytes()

    st.download_button(
        "Download as ZIP",
        archive,
        f"{datasets.slug(dataset.name)}.zip",
        "application/zip",
        key="data.zip",
        icon=":material/download:",
        on_click="ignore",
    )


def terms(dataset: Any) -> None:
    """Shows under which terms the images stand, and lets a person state them for an imported set."""
    st.markdown("**Licence and consent**")
    about = datasets.describe(dataset.name) if dataset.name in datasets.names() else None
    now = dataset.terms
    if about is None or not about.saved:
        st.caption(
            f"Licence: {shell.plain(now['licence'] or 'not stated')}. "
            f"Consent: {shell.plain(now['consent'] or 'not stated')}."
        )
        return
    licence = st.text_input("Licence", now["licence"], key="data.licence", max_chars=200)
    consent = st.text_input(
        "Consent of the people shown", now["consent"], key="data.consent", max_chars=200
    )
    shell.press(
        st,
        "Save",
        partial(datasets.state, licence=licence, consent=consent),
        dataset.name,
        key="data.terms",
        disabled=not shell.may_change(),
    )
