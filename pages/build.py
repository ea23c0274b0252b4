"""Make a better dataset, prove that it helps, and take it away."""

from __future__ import annotations

from importlib import import_module

import streamlit as st

from core import datasets
from pages.parts import shell
from pages.parts.data import load

TITLE = "Build"
ICON = ":material/construction:"
ORDER = 8
shell.enter()

VIEWS = {  # a key is the file in pages/parts/build/ that draws the view
    "improve": "Improve",
    "gaps": "What is missing?",
    "mix": "Mix",
    "proof": "Proof",
    "drift": "Drift",
    "take": "Take away",
    "door": "Card and checks",
    "where": "Where from?",
}
shell.header("What would make this dataset better, and does it help?")
name = shell.chosen_dataset()
view = shell.view("What to do", "build.view", VIEWS, label_visibility="collapsed")
with shell.guard():
    prepared = st.session_state.get(f"data.values.{name}", {})
    dataset = load(name, prepared)
    import_module(f"pages.parts.build.{view}").draw(dataset, name, prepared)
shell.go("data", f"Look at {shell.plain(datasets.describe(name).title)}")
