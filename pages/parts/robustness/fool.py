"""Draw something, see the guess, press "Fool it": the story for people who have never heard of this."""

from __future__ import annotations

import numpy as np
import streamlit as st

from core import datasets
from core.ground.writing import percent
from pages.parts import shell, show
from pages.parts.canvas import canvas
from pages.parts.robustness import Question, images, target, there

OFFERED = 8  # images to take instead of a drawing


@shell.guard()
def draw(question: Question) -> None:
    """Takes a drawing or one of the dataset's images, names it, and attacks it on request."""
    import torch

    dataset = question.dataset
    if not there(question.classifier, dataset):
        with shell.empty(
            f"There is no classifier of {shell.plain(dataset.name)} to fool yet. Train one, or bring your own.",
            ":material/school:",
        ):
            return
    st.markdown("**1. Draw** one of: " + shell.plain(", ".join(dataset.classes[:12])))
    left, right = st.columns([1, 1.6], gap="large")
    drawn = None
    with left:
        if shell.has(dataset.medium, "drawing"):
            drawn = canvas(
                key="robust.canvas",
                alt="A dark sheet to draw on with light ink",
                side=200,
            )
    with right:
        offered = dataset.splits[question.config.split][:OFFERED]
        taken = show.pictures(
            dataset.pictures(offered),
            columns=OFFERED,
            key=f"robust.offered.{dataset.fingerprint[:8]}.{question.config.split}",
            alt=f"{len(offered)} images to take instead of a drawing",
            clickable=True,
            max_height=60,
        )
        st.caption("Or take one of these.")
    # both are numbered by the visitor's clock: the later one is meant
    if taken and (drawn is None or taken[0] > drawn[0]):
        number, index = taken[0], offered[taken[1] : taken[1] + 1]
        x, picture = dataset.items(index), dataset.pictures(index)
    elif drawn:
        prepared = datasets.prepare(drawn[1], dataset)
        number, x, picture = drawn[0], prepared.item, prepared.picture[None]
    else:
        right.markdown(
            "The classifier names it at once. Then a change that you can hardly see makes it say something else: that "
            "is an **adversarial attack**."
        )
        return
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
            on_click=lambda: st.session_state.update({"robust.fooled": number}),
            help="Looks for the smallest change after which it says something else.",
        )
    if st.session_state.get("robust.fooled") == number:
        images.opened(question, np.asarray(x[0].cpu()), guess, "robust.mine")
        return
    with right:
        show.pictures(
            picture,
            columns=1,
            key="robust.seen",
            alt="What the classifier sees of it",
            max_height=110,
            max_zoom=14,
        )
        st.caption("What it sees of it.")
