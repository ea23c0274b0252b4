"""Two buttons: the link of a model to copy, and its page on paper."""

from __future__ import annotations

import streamlit as st

from core import jobs
from pages.parts import shell
from pages.parts.component import component

_show = component(
    __file__,
    '<button type="button" class="copy">Copy link</button>'
    '<button type="button" class="print">Print</button>',
    width="content",
)


def address(run: jobs.Job) -> str:
    """Gives the address of the page about a model, for everybody who can reach this server."""
    base = (st.context.url or "").partition("?")[0].rstrip("/")
    for page in shell.pages():
        base = base.removesuffix(f"/{page.name}")
    return f"{base}/about?run={run.id}"


def buttons(run: jobs.Job, *, key: str) -> None:
    """Offers the link to the page about a model, and to print what is shown."""
    _show(key, {"link": address(run)})
