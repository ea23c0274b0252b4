"""The entrance of the dashboard: ``streamlit run app.py``, or ``make app``."""

import streamlit as st

from pages.ui import shell

st.set_page_config(
    page_title="Simulacra",
    page_icon=str(shell.PAGES / "ui" / "icon.png"),
    layout="wide",
    initial_sidebar_state=240,
)
shell.warm()
page = shell.navigation()
with shell.guard():
    shell.sidebar()
    shell.told()
    shell.run(page)
