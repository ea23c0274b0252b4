"""The glossary: every term of art once, as ``docs/glossary.md`` explains it; for a dialog, and texts behind "?"."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import quote

import streamlit as st

FILE = Path(__file__).resolve().parents[2] / "docs" / "glossary.md"


@st.dialog("Glossary", width="large")
def show() -> None:
    """Shows the terms that pages use; those with a word in them, where one is looked for."""
    asked = st.text_input("Find", key="glossary.find", placeholder="a word").strip().lower()
    for part in FILE.read_text("utf-8").split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        head, rows = body.strip().split("\n")[:2], body.strip().split("\n")[2:]
        if rows := [row for row in rows if asked in row.lower()]:
            st.markdown("\n".join([f"**{title}**", "", *head, *rows]))


def asked() -> bool:
    """Tells whether the address asks for a term, which is looked for then, once."""
    term = st.query_params.pop("glossary", None)
    if term is not None:
        st.session_state["glossary.find"] = term[:60]
    return term is not None


def explained(help: str, label: str) -> str:
    """Lets a text behind "?" end with a link to the term that its label speaks of, where it speaks of one.

    Streamlit opens a link in a tab of its own, so that nothing on the page is lost.
    """
    return f"{help} [In the glossary]({address})" if (address := link(label)) else help


def link(label: str) -> str:
    """Gives the address of the term that a label speaks of, from any page; empty where it speaks of none."""
    found = [term for term, said in _terms().items() if said.search(label)]
    return f"?glossary={quote(max(found, key=len))}" if found else ""


@cache
def _terms() -> dict[str, re.Pattern[str]]:
    """Reads the terms, each with what a label says of it: its words, or its short form in brackets."""
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \|", FILE.read_text("utf-8"), re.MULTILINE)
    terms = {}
    for term in rows:
        forms = [form.strip(" )") for form in term.split("(") if form.strip(" )")]
        either = "|".join(re.escape(form) for form in forms)
        terms[term] = re.compile(rf"(?<!\w)(?:{either})s?(?!\w)", re.IGNORECASE)
    return terms
