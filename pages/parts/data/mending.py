"""What the Data page mends a dataset with: what was found, what a person decides about it, and what becomes of it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core.ground.writing import many
from pages.parts import shell

SIGNS = {"exclude": "left out", "relabel": "other label", "accept": "fine"}


def act(dataset: Any, what: str, images: list[int], label: Any = None, *, kind: str = "") -> None:
    """Decides about images, and says what was done or why not; what the visitor has seen guards against a clash."""
    from core.quality import decisions

    seen = st.session_state.get(f"mend.seen.{dataset.fingerprint}", 0)
    book = shell.attempt(
        decisions.decide,
        dataset,
        what,
        images,
        label=label,
        kind=kind,
        who=shell.who(),
        seen=seen,
    )
    _done(dataset, book, f"{many(images, 'image')}: {SIGNS[what]}.")


def settle(dataset: Any, images: list[int], label: int, one: bool) -> None:
    """Decides which label of copies is right, and says so."""
    from core.quality import decisions

    seen = st.session_state.get(f"mend.seen.{dataset.fingerprint}", 0)
    book = shell.attempt(
        decisions.settle, dataset, images, label, one=one, who=shell.who(), seen=seen
    )
    words = "one is kept" if one else f"all {len(images)} copies have it"
    _done(dataset, book, f"{dataset.classes[label]} is right, {words}.")


def undo(dataset: Any, entry: str) -> None:
    """Takes a decision back."""
    from core.quality import decisions

    seen = st.session_state.get(f"mend.seen.{dataset.fingerprint}", 0)
    book = shell.attempt(decisions.undo, dataset, entry, who=shell.who(), seen=seen)
    _done(dataset, book, "Taken back.")


def _done(dataset: Any, book: Any, words: str) -> None:
    if book is not None:
        st.session_state[f"mend.seen.{dataset.fingerprint}"] = (
            book.version
        )  # a second press is no other's
        new = not book.told.startswith("Nothing is new")
        st.session_state["_done"] = f"{words * new} {book.told}".strip()


def opened(dataset: Any) -> Any:
    """Opens the decisions about a dataset, and remembers which state of them the visitor sees."""
    from core.quality import decisions

    book = decisions.open(dataset)
    st.session_state[f"mend.seen.{dataset.fingerprint}"] = book.version
    return book
