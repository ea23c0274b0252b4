"""The entrance of the dashboard: ``streamlit run app.py``, or ``make app``."""

from pages.parts import shell

page = shell.navigation()
try:
    with shell.guard():
        shell.sidebar()
        shell.told()
        shell.run(page)
finally:
    shell.warm()
