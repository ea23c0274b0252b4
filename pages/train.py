"""Train a model, watch it learn, compare it with others."""

import streamlit as st

from core import runs
from pages.parts import shell
from pages.parts.train import compare, follow, form, manage

TITLE = "Train"
ICON = ":material/model_training:"
ORDER = 3
shell.enter()

shell.header("What does a model learn, and how fast?")
left, right = st.columns([1, 2.4], gap="large")
with left:
    form.draw()
with right:
    shown = shell.chosen_run()
    if shown is None:
        st.info(
            "Nothing is trained yet. Press **Start training**: the first images appear within seconds.",
            icon=":material/arrow_back:",
        )
    else:
        with st.container(border=True):
            follow.head(shown)
            shell.live(
                follow.live,
                1 if shown.active else None,
                shown.id,
                shown.status,
                bool(runs.samples(shown)),
            )
        manage.draw(shown)
        if runs.generates(shown) and runs.checkpoints(shown):
            words = (
                "Explore its newest checkpoint" if shown.active else "Walk through what it learned"
            )
            shell.go("latent", words)
shell.live(compare.table, 5 if st.session_state["_busy"] else None)
