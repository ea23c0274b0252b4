"""The entrance of the dashboard: ``streamlit run app.py``, or ``make app``."""

from pages.parts import shell, sidebar

page = shell.navigation()
try:
    with shell.guard():
        sidebar.draw(page)
        shell.told()
        shell.run(page)
finally:
    shell.warm()
