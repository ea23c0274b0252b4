"""What augmentation does to images, whether it is too much, and whether it helps."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts import augment as parts
from pages.parts import form, shell
from pages.parts.augment import experiment, recipes, screening, views

TITLE = "Augment"
ICON = ":material/auto_fix_high:"
ORDER = 6
shell.enter()

VIEWS = {
    "film": "Steps",
    "grid": "Draws",
    "before": "Compare",
    "sweep": "Strength",
    "classes": "Classes",
    "harm": "Too much?",
    "proof": "Helps?",
    "recipe": "Recipe",
}


@st.fragment(key="augment.page")
@shell.guard()
def page(data: str) -> None:
    """Draws the chain beside what it does; only this part runs again when a control moves."""
    shell.told()
    name = shell.view("What to look at", "augment.view", VIEWS, label_visibility="collapsed")
    chain_side, stage = st.columns([1, 2.2], gap="medium")
    with chain_side:
        parts.pipeline()  # the session has one from now on
        parts.builder()
        chain = parts.pipeline()
        parts.remember(chain)
    with stage, shell.guard():
        look(chain, data, name)
    if recipes.train():
        st.switch_page(shell.PAGES / "train.py")
    shell.release()


def look(chain: Any, data: str, name: str) -> None:
    """Draws one view."""
    if name == "recipe":
        recipes.draw(chain)
        return
    if name in ("harm", "proof"):
        {"harm": screening, "proof": experiment}[name].draw(chain, data)
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        on = parts.images(24) if name != "classes" else None
        seed = form.seed("augment.seed", "draws", width=130)
    if on is None:
        views.classes(chain, data, seed)
        return
    {"film": views.film, "grid": views.grid, "before": views.before, "sweep": views.sweep}[name](
        chain, on, seed
    )
    if on.credit:
        st.caption(on.credit)


shell.header("What does augmentation do to the images, and does it help?")
page(shell.chosen_dataset())
