"""The entrance of the dashboard: ``streamlit run app.py``, or ``make app``."""

from pages.ui import shell

shell.warm()
page = shell.navigation()
with shell.guard():
    shell.sidebar()
    shell.told()
    shell.run(page)
