"""A job on a page: how far it is, how fast and how long it takes, its stop, and what to do when it failed."""

from __future__ import annotations

import mimetypes
from typing import Any

import streamlit as st

from core import jobs, kinds
from core.ground.writing import duration, percent
from pages.parts import shell


def words(job: jobs.Job) -> str:
    """Says how far an active job is: what it does, how much is done in its own unit, how fast, and the time left."""
    kind = jobs.kinds.get(job.kind)
    if job.stopping:
        return "Saving a checkpoint" if kind.trained else "Stopping…"
    if job.status == "queued":
        return shell.standing(job)
    done, total, speed = (job.state.get(name) or 0 for name in ("done", "total", "speed"))
    left = job.seconds_left
    parts = [
        job.message,
        percent(job.share, 0) if total else "",
        f"{done:,.0f} of {total:,.0f} {kind.unit}" if kind.unit and total else "",
        f"{speed:,.0f} {kind.unit}/s" if speed else "",
        f"{duration(left)} left" if left is not None else "",
    ]
    return " · ".join(filter(None, parts)) or shell.standing(job)


def progress(job: jobs.Job) -> None:
    """Draws the bar of an active job; of one that has ended, the reason if there is something to say."""
    if job.active:
        st.progress(job.share, text=shell.plain(words(job)))
    elif job.message or job.status != "finished":
        tell = {"failed": st.error, "finished": st.info}.get(job.status, st.warning)
        tell(shell.plain(job.message or f"It is {job.status}."))


def pace(known: kinds.Expected | None, of: str) -> str:
    """Says how long a job will take and how that is known; nothing where it is not.

    Args:
        known: What is known of it.
        of: The one of before at whose pace it goes.
    """
    if known is None:
        return ""
    return (
        f"It takes **about {duration(known.seconds)}** at the pace of {shell.plain(of)}"
        + ("" if known.alike else ", which had other settings")
        + (", on another computer." if known.job.shipped else ".")
    )


def stop(place: Any, job: jobs.Job, key: str, help: str = "") -> None:
    """Draws the button that asks an active job to end; it says so until the job follows."""
    place.button(
        "Stopping…" if job.stopping else "Stop",
        icon=":material/stop:",
        key=f"{key}.stop",
        on_click=shell.attempt,
        args=(jobs.stop, job.id),
        disabled=not shell.may_change() or job.stopping,
        width="stretch",
        help=help or None,
    )


def resume(place: Any, job: jobs.Job, key: str) -> None:
    """Draws the button that starts a job again which did not finish; of a training it says how long that takes."""
    kind, more = jobs.kinds.get(job.kind), job.seconds_more
    shell.press(
        place,
        f"Resume, {duration(more)}" if kind.trained and more else "Resume",
        kinds.resume,
        job.id,
        icon=":material/play_arrow:",
        key=f"{key}.resume",
        disabled=not shell.may_change(),
        width="stretch",
        help=kind.resumes,
    )


def panel(job: jobs.Job, key: str, help: str = "", again: bool = True) -> None:
    """Shows how a job stands: its bar and its stop, or why it ended and how to go on.

    Args:
        job: As it was read for this run of the page.
        key: Start of the keys of the buttons.
        help: What becomes of what it has when it is stopped.
        again: Whether it may be resumed; what would fail in the same way may not.
    """
    ended = not job.active and job.status != "finished" and not job.shipped
    if not job.active and not ended:
        progress(job)
        return
    bar, button = st.columns([4, 1], vertical_alignment="center")
    with bar:
        progress(job)
    if ended and again:
        resume(button, job, key)
    elif not ended:
        stop(button, job, key, help)


def take(job: jobs.Job, key: str) -> None:
    """Offers the results that can be taken away."""
    with st.container(horizontal=True):
        for name, title in jobs.kinds.get(job.kind).files.items():
            file = job.path / name
            if file.exists():
                st.download_button(
                    title,
                    file.read_bytes,
                    f"{job.id}-{name}",
                    mimetypes.guess_type(name)[0] or "application/octet-stream",
                    key=f"{key}.take.{name}",
                    icon=":material/download:",
                    on_click="ignore",
                )
