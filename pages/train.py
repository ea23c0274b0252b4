"""Train a model, watch it learn, compare it with others."""

import streamlit as st

from core import runs
from pages.parts import shell
from pages.parts.train import actions, boards, bring, compare, follow, form, manage

TITLE = "Train"
ICON = ":material/model_training:"
ORDER = 3
RUN = True
shell.enter()

header = shell.header("What does a model learn, and how fast?")
form.draw()
bring.offer()
shown = shell.chosen_run()
if shown is None:
    with shell.empty(
        "Nothing is trained on this dataset yet. Press **Start training**: the first images appear within seconds.",
        ICON,
    ):
        pass
else:
    actions.draw(header, shown, "train")
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
shell.live(compare.table, 5 if st.session_state["_busy"] else None)
boards.draw()
