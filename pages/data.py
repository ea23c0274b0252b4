"""See a dataset, and bring your own pictures."""

import streamlit as st

from core import datasets
from pages.parts import shell
from pages.parts.data import atlas, importing, issues, load, mending, versions, wall
from pages.parts.own import own

TITLE = "Data"
ICON = ":material/photo_library:"
ORDER = 2
shell.enter()
VIEWS = {
    "look": "Look",
    "issues": "What is wrong?",
    "map": "Map",
    "version": "Mend and take away",
}
importing.offer(shell.header("What is in the data, and what is wrong with it?"))
name = shell.chosen_dataset()
view = shell.view("What to do", "data.view", VIEWS, label_visibility="collapsed")
if view == "look":
    wall.draw(name)
else:
    with shell.guard():
        prepared = st.session_state.get(f"data.values.{name}", {})
        dataset = load(name, prepared)
        if view == "version":
            versions.draw(dataset)
        elif (part := own(dataset.medium, view)) is not None:
            part(dataset)
        elif shell.has(dataset.medium, "inspection"):
            if view == "map":
                atlas.draw(dataset)
            else:
                issues.draw(dataset, name, prepared)
            mending.notice(dataset)
shell.go("train", f"Train a model on {shell.plain(datasets.describe(name).title)}")
