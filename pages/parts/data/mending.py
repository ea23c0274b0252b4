"""What the Data page mends a dataset with: what was found, what a person decides about it, and what becomes of it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core.ground.writing import many
from pages.parts import shell

SIGNS = {"exclude": "left out", "relabel": "other label", "accept": "fine"}


def act(dataset: Any, what: str, images: list[int], label: Any = None, *, kind: str = "") -> None:
    """Decides about images, and says what was done or why not."""
    from core.quality import decisions

    done = f"{many(images, 'image')}: {SIGNS[what]}."
    _attempt(done, decisions.decide, dataset, what, images, label=label, kind=kind)


def settle(dataset: Any, images: list[int], label: int, one: bool) -> None:
    """Decides which label of copies is right, and says so."""
    from core.quality import decisions

    rest = "one is kept" if one else f"all {len(images)} copies have it"
    done = f"{dataset.classes[label]} is right, {rest}."
    _attempt(done, decisions.settle, dataset, images, label, one=one)


def undo(dataset: Any, entry: str) -> None:
    """Takes a decision back."""
    from core.quality import decisions

    _attempt("Taken back.", decisions.undo, dataset, entry)


def _attempt(done: str, decide: Any, dataset: Any, *args: Any, **choice: Any) -> None:
    """Decides upon the state that the visitor has seen; if another has changed it since, nothing is done."""
    seen = st.session_state.get(key := f"mend.seen.{dataset.fingerprint}", 0)
    book = shell.attempt(decide, dataset, *args, **choice, who=shell.who(), seen=seen)
    if book is not None:
        st.session_state[key] = book.version  # a second press is no other's
        new = not book.news.startswith("Nothing is new")
        st.session_state["_done"] = f"{done * new} {book.news}".strip()


def opened(dataset: Any) -> Any:
    """Opens the decisions about a dataset, and remembers which state of them the visitor sees."""
    from core.quality import decisions

    book = decisions.open(dataset)
    st.session_state[f"mend.seen.{dataset.fingerprint}"] = book.version
    return book
