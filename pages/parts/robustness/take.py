"""Downloads of a screening: the report, its numbers, the program that repeats them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import streamlit as st

from pages.parts.robustness import Question, curve, known


def take(question: Question) -> None:
    """Offers the screening to take away, and the lines of Python that reproduce it."""
    from core.robustness.report import html, pictures, python

    screening = known(question)
    if screening is None or not screening.done:
        return
    study = screening.study
    name = re.sub(r"[^\w]+", "-", study.report.model["name"]).strip("-").lower()
    offers: list[tuple[str, str, str, Callable[[], str]]] = [
        ("Report (HTML)", "html", "text/html", lambda: html(study.report, pictures(study))),
        ("Report (JSON)", "json", "application/json", lambda: json.dumps(study.report.record())),
        ("Table (CSV)", "csv", "text/csv", lambda: curve.csv(study.report)),
    ]
    with st.container(horizontal=True):
        for title, kind, mime, content in offers:
            st.download_button(
                title,
                content,
                f"robustness-{name}-on-{question.data}.{kind}",
                mime,
                key=f"robust.{kind}",
                icon=":material/download:",
                on_click="ignore",
            )
    with st.expander("Copy as Python", icon=":material/code:"):
        st.caption("Reproduces the number without this page.")
        st.code(python(study.report), language="python")
