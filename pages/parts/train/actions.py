"""What comes next with a run: explore, measure, share, train longer; while it runs: explore it now, stop it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import streamlit as st

from core import jobs, runs
from core.ground.writing import duration
from core.kinds import train as training
from pages.parts import job, shell
from pages.parts.share import address


def draw(actions: Any, run: jobs.Job, key: str) -> None:
    """Fills the place of a header, or of a card's head.

    Not from a fragment: a click on a fragment is lost when the server was restarted meanwhile.

    Args:
        actions: The place, a horizontal container.
        run: Whose.
        key: Start of the keys of the buttons.
    """
    ready = runs.generates(run) and bool(runs.checkpoints(run))
    with actions:
        if ready:
            label = "Explore now" if run.active else "Explore"
            to("latent", label, ":material/explore:", run, f"{key}.explore", type="primary")
        if run.active:
            job.stop(st, run, key, "What it has learned is kept.")
            return
        if ready:
            to("evaluate", "Measure", ":material/speed:", run, f"{key}.measure")
            share(run, key)
        if run.status != "finished":
            job.resume(st, run, key)
        elif not run.shipped and runs.resumable(run):
            longer(run, key)


def to(page: str, label: str, icon: str, run: jobs.Job, key: str, **look: Any) -> None:
    """Offers to make a run the chosen one and to go to a page about it."""

    def choose() -> None:
        st.session_state["run"] = run.id

    if st.button(label, icon=icon, key=key, on_click=choose, **look):
        st.switch_page(shell.PAGES / f"{page}.py")


def share(run: jobs.Job, key: str) -> None:
    """Offers the address of the page about a model."""
    with st.popover("Share", icon=":material/share:", key=f"{key}.share"):
        link = address(run)
        here = urlsplit(link).hostname in ("localhost", "127.0.0.1", "::1")
        st.caption(
            "One page about this model, for everybody who can reach this server:"
            if not here
            else "One page about this model. This address works on this computer only; for others, start the server "
            "where they can reach it (README, Deploy)."
        )
        st.code(link, language=None, wrap_lines=True)
        to("about", "Open it", ":material/info:", run, f"{key}.about")


def longer(run: jobs.Job, key: str) -> None:
    """Asks for how many images a run is to go on."""
    with st.popover(
        "Train longer",
        icon=":material/fast_forward:",
        disabled=not shell.may_change(),
        key=f"{key}.longer.open",
        on_change="rerun",
    ) as asked:
        images = st.number_input(
            "Images in all",
            value=2 * run.config["train"]["images"],
            key=f"{key}.longer.images.{run.id}",
            help="Those it has seen included. The schedule goes on as if it had been that long from the start.",
        )
        if asked.open:  # the network is built for it
            foretell(run, int(images))
        shell.press(
            st, "Go on", training.extend, run.id, images, key=f"{key}.longer", type="primary"
        )


@shell.guard()
def foretell(run: jobs.Job, images: int) -> None:
    """Says how long a run will take that is given more images, and what becomes of its learning rate."""
    done, seconds = run.state.get("done") or 0, run.state.get("seconds")
    if images <= done:
        return
    if done and seconds:
        st.caption(
            f"About {duration((images - done) * seconds / done)} more, at the pace that it had."
        )
    if sentence := training.lengthened(run.id, images):
        st.caption(shell.plain(sentence))
