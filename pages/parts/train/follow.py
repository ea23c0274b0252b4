"""The run that is followed: how it stands, its images and its curves."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import jobs, runs
from core.ground import files
from core.ground.writing import duration, percent
from core.kinds import train as training
from pages.parts import job, shell, show


def head(run: jobs.Job) -> None:
    """Says which run this is, and offers to stop or resume it.

    Not part of the fragment below: a click on a fragment is lost when the server was restarted meanwhile.
    """
    longer = not run.active and not run.shipped and runs.resumable(run)
    stopped = not run.active and run.status != "finished"
    title, *places = (
        st.columns([3, *[1.3] * (run.active + stopped + longer)], vertical_alignment="center")
        if run.active or stopped or longer
        else [st]
    )
    standing = "ships with Simulacra, for looking only" if run.shipped else run.status
    title.markdown(
        f"**{shell.plain(run.name)}** · {shell.plain(runs.family_of(run))}{shell.on(run)} · {standing}"
    )
    if run.active:
        job.stop(places[0], run, "train", "What it has learned is kept.")
    if stopped:
        job.resume(places[0], run, "train")
    if longer:
        with places[-1].popover(
            "Train longer",
            disabled=not shell.may_change(),
            width="stretch",
            key="train.longer.open",
            on_change="rerun",
        ) as asked:
            images = st.number_input(
                "Images in all",
                value=2 * run.config["train"]["images"],
                key=f"train.longer.images.{run.id}",
                help="Those it has seen included. The schedule goes on as if it had been that long from the start.",
            )
            if asked.open:  # the network is built for it
                foretell(run, int(images))
            shell.press(
                st, "Go on", training.extend, run.id, images, key="train.longer", type="primary"
            )


@shell.guard()
def foretell(run: jobs.Job, images: int) -> None:
    """Says what becomes of the learning rate when a run is given more images."""
    if images > run.state.get("done", 0) and (words := training.lengthened(run.id, images)):
        st.caption(shell.plain(words))


@shell.guard()
def live(id: str, status: str, sampled: bool) -> None:
    """Shows one run as it stands, with its images and curves; runs again every second while it is active."""
    run = jobs.get(id)
    if run.status != status or sampled != bool(runs.samples(run)):
        st.rerun()  # what is around this panel changes too
    records, damaged = files.Log(run.path).read()
    last: dict[str, Any] = {}
    for record in records:
        last |= record
    job.progress(run)
    if damaged:
        st.caption(
            f":material/warning: {damaged} damaged line(s) in {shell.plain(str(run.path / 'log.jsonl'))} were left out."
        )
    for warning in [r["warning"] for r in records if "warning" in r][-2:]:
        st.caption(f":material/warning: {shell.plain(str(warning))}")
    if "train" not in run.config:  # it was brought, and learned elsewhere
        return
    if last:
        facts = []
        if run.status != "running":  # else the bar says it
            facts += [f"**{last.get('images', 0):,}** of {run.config['train']['images']:,} images"]
        facts += [f"**{duration(last['seconds'])}** of training"] if "seconds" in last else []
        if "test_accuracy" in last:
            facts += [
                f"accuracy on the test split **{percent(last['test_accuracy'])}** (n = {last['n_test']})"
            ]
        elif "valid_accuracy" in last:
            facts += [f"accuracy on held-out images **{percent(last['valid_accuracy'])}**"]
        for name, place in (("peak_mb", "memory"), ("peak_gpu_mb", "memory of the GPU")):
            if name in run.state:
                facts += [f"at most **{run.state[name]:,} MB** of {place}"]
        st.markdown(" · ".join(facts))
        if (run.path / "run.json").exists() and (parent := runs.record(run).get("parent")):
            changed = ", ".join(
                f"{what} from {old} to {new}" for what, (old, new) in parent["changed"].items()
            )
            st.caption(
                shell.plain(f"Started from {parent['name']} at step {parent['step']}")
                + (shell.plain(f", with {changed}.") if changed else ".")
            )
        if "copying" in last:
            ratio = last["distance"] / last["distance_floor"]
            low, high = last["copying_low"], last["copying_high"]
            st.markdown(
                f"Distance to held-out images **{ratio:.2f} ×** that of real ones · copying "
                f"**{last['copying']:.2f}** ({low:.2f} to {high:.2f}; 0.5 is none; Evaluate tests it)"
            )
    left, right = st.columns(2, gap="medium")
    marks = runs.marks(run, records)
    log = {run.name: records}
    known = show.charts(training.curves(run), log)
    first, steering, further = (
        [chart for chart in known if chart.position == position]
        for position in ("first", "steering", "further")
    )
    if runs.generates(run):
        with left:
            if show.film(run, key=f"train.film.{id}", max_height=330):
                st.caption(
                    "The same noise at every step: move the slider to see the training again."
                )
            elif run.active:
                st.caption("The first images appear within seconds of the start.")
            else:
                st.caption("It ended before its first images.")
            if steering:
                show.curves(log, steering, key=f"train.beside.{id}", height=200, marks=marks)
        with right:
            show.curves(log, first, key=f"train.curves.{id}", height=200, marks=marks)
    else:
        for number, place in enumerate((left, right)):
            with place:
                show.curves(
                    log,
                    first[number::2],
                    key=f"train.curves.{id}.{number}",
                    height=260,
                    marks=marks,
                )
    if marks and records:
        st.caption(
            "Dotted lines: "
            + "; ".join(f"{words}, at {images:,} images" for images, words in marks)
            + "."
        )
    with st.expander("More curves", on_change="rerun", key="train.all") as more:
        if more.open:
            show.curves(log, further, key=f"train.more.{id}", height=200, marks=marks)
