"""Draw something, see the guess, press "Fool it": the story for people who have never heard of this."""

from __future__ import annotations

import numpy as np
import streamlit as st

from core import datasets
from core.ground.writing import percent
from pages.parts import shell, show
from pages.parts.canvas import canvas
from pages.parts.robustness import Question, images, target


@shell.guard()
def draw(question: Question) -> None:
    """Takes a drawing, names it, and attacks it on request."""
    import torch

    dataset = question.dataset
    if not shell.has(dataset.medium, "drawing"):
        return
    left, right = st.columns([1, 1.6], gap="large", vertical_alignment="center")
    with left:
        st.markdown("**1. Draw** one of: " + shell.plain(", ".join(dataset.classes[:12])))
        got = canvas(
            key="robust.canvas",
            alt="A dark sheet to draw on with light ink",
            side=200,
        )
    if got is None:
        right.markdown(
            "The classifier names your drawing at once. Then a change that you can hardly see makes it say "
            "something else: that is an **adversarial attack**."
        )
        return
    prepared = datasets.prepare(got[1], dataset)
    x = prepared.item
    with torch.inference_mode():
        shares = target(question).probabilities(x)[0]
    guess = int(shares.argmax())
    with right:
        st.markdown(
            f"**2. It says: {shell.plain(dataset.classes[guess])}**, {percent(float(shares[guess]))} sure."
        )
        st.button(
            "3. Fool it",
            type="primary",
            key="robust.fool",
            icon=":material/bolt:",
            on_click=lambda: st.session_state.update({"robust.fooled": got[0]}),
            help="Looks for the smallest change after which it says something else.",
        )
    if st.session_state.get("robust.fooled") == got[0]:
        images.opened(question, np.asarray(x[0].cpu()), guess, "robust.mine")
        return
    with right:
        show.pictures(
            prepared.picture[None],
            columns=1,
            key="robust.seen",
            alt="What the classifier sees of the drawing",
            max_height=110,
            max_zoom=14,
        )
        st.caption("What it sees of the drawing.")
