"""The run that is followed: how it stands, its images and its curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from core import jobs, runs
from core.ground import files
from core.ground.writing import duration, percent
from core.kinds import train as training
from core.measure import learning
from core.models import Curve
from pages.parts import job, shell, show


def head(run: jobs.Job) -> None:
    """Says which run this is."""
    standing = "ships with Simulacra, for looking only" if run.shipped else run.status
    st.markdown(
        f"**{shell.plain(run.name)}** · {shell.plain(runs.family_of(run))}{shell.on(run)} · {standing}"
    )


@shell.guard()
def live(id: str, status: str, sampled: bool) -> None:
    """Shows one run as it stands, with its images and curves; runs again every second while it is active."""
    run = jobs.get(id)
    if run.status != status or sampled != bool(runs.samples(run)):
        st.rerun()  # what is around this panel changes too
    records, damaged = files.Log(run.path).read()
    job.progress(run)
    if damaged:
        st.caption(
            f":material/warning: {damaged} damaged line(s) in {shell.plain(str(run.path / 'log.jsonl'))} were left out."
        )
    for warning in [r["warning"] for r in records if "warning" in r][-2:]:
        st.caption(f":material/warning: {shell.plain(str(warning))}")
    if "train" not in run.config:  # it was brought, and learned elsewhere
        return
    marks = runs.marks(run, records)
    log = {run.name: records}
    charts = show.charts(training.curves(run), log)
    key = keys(charts)
    if runs.generates(run):
        left, right = st.columns([1.75, 1], gap="medium")
        with left:
            if show.film(run, key=f"train.film.{id}", max_height=480, min_zoom=2):
                st.caption(
                    "The same noise at every step: move the slider to see the training again."
                )
            elif run.active:
                st.caption("The first images appear within seconds of the start.")
            else:
                st.caption("It ended before its first images.")
            figures(run, records)
        with right:
            show.curves(log, key, key=f"train.curves.{id}", height=200, marks=marks)
    else:
        for number, column in enumerate(st.columns(2, gap="medium")):
            with column:
                one = key[number : number + 1]
                show.curves(log, one, key=f"train.curves.{id}.{number}", height=260, marks=marks)
        figures(run, records)
    if marks and records:
        st.caption(
            "Dotted lines: "
            + "; ".join(f"{text}, at {images:,} images" for images, text in marks)
            + "."
        )
    rest = [chart for chart in charts if chart not in key]
    further(log, rest, key=f"train.more.{id}", open="train.all", marks=marks)


def further(
    log: dict[str, list[dict[str, Any]]],
    charts: list[Curve],
    *,
    key: str,
    open: str,
    marks: Sequence[tuple[int, str]] = (),
) -> None:
    """Keeps the other curves of one or several runs behind a line that opens them, whose key is ``open``."""
    with st.expander("More curves", on_change="rerun", key=open) as more:
        if more.open:
            for number, column in enumerate(st.columns(2, gap="medium")):
                with column:
                    show.curves(
                        log, charts[number::2], key=f"{key}.{number}", height=200, marks=marks
                    )


def keys(charts: list[Curve]) -> list[Curve]:
    """Chooses the two charts beside the images: distance and copying, else the first ones."""
    quality = {curve.key for curve in learning.QUALITY}
    order = ("first", "steering", "further")
    return sorted(charts, key=lambda c: (c.key not in quality, order.index(c.position)))[:2]


def figures(run: jobs.Job, records: list[dict[str, Any]]) -> None:
    """Says in numbers how far it came, what it took, and how good it was at the end."""
    last: dict[str, Any] = {}
    for record in records:
        last |= record
    if not last:
        return
    parts = []
    if run.status != "running":  # else the bar says it
        parts += [f"**{last.get('images', 0):,}** of {run.config['train']['images']:,} images"]
    parts += [f"**{duration(last['seconds'])}** of training"] if "seconds" in last else []
    if "test_accuracy" in last:
        parts += [
            f"accuracy on the test split **{percent(last['test_accuracy'])}** (n = {last['n_test']})"
        ]
    elif "valid_accuracy" in last:
        parts += [f"accuracy on held-out images **{percent(last['valid_accuracy'])}**"]
    for name, memory in (("peak_mb", "memory"), ("peak_gpu_mb", "memory of the GPU")):
        if name in run.state:
            parts += [f"at most **{run.state[name]:,} MB** of {memory}"]
    st.markdown(" · ".join(parts))
    if "copying" in last:
        st.markdown(quality(last))
    if not (run.path / "run.json").exists():
        return
    record = runs.record(run)
    if parent := record.get("parent"):
        from core.measure import card

        changed = ", ".join(
            f"{what} from {old} to {new}" for what, (old, new) in parent["changed"].items()
        )
        text = f"Started from {card.descent(record)}" + (f", with {changed}." if changed else ".")
        st.caption(shell.plain(text))


def quality(look: dict[str, Any]) -> str:
    """Says how near samples were to held-out images, and whether they were copies."""
    ratio = look["distance"] / look["distance_floor"]
    low, high = look["copying_low"], look["copying_high"]
    return (
        f"Distance to held-out images **{ratio:.2f} ×** that of real ones · copying "
        f"**{look['copying']:.2f}** ({low:.2f} to {high:.2f}; 0.5 is none; Evaluate tests it)"
    )
